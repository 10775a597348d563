"""Sessions whose connection was lost: kept as they are for a while, kept as logs for longer, and given back to who has the token.

Every conversation of a server is registered here with a token of its own, which only a client learns that asks for it. A token
counts for the key of its session alone. A kept session takes a place; when the places are needed, the one that was lost first
becomes a log. With a folder for logs, they are also written while the conversation goes on, so that they outlive the process.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..models.errors import InputError
from .realtime.connection import After, RealtimeConnection
from .realtime.extensions import ResumeOffer
from .realtime.live import Live
from .server_access import Caller
from .session_log import HeardMark, SessionLog
from .session_store import Bounds, SessionStore

if TYPE_CHECKING:
    from ..models.checkpoint import Checkpoint

_log = logging.getLogger(__name__)
SAVE_S = 0.25
"""How long what a log has to have may wait before it is written."""
SETTLE_S = 1.5
"""A log is written once more when nothing has happened for so long: the model's part may follow its events."""
PRUNE_S = 60.0
HANDSHAKE_S = 10.0
TAKEN_OVER = 4001
"""The close code of a connection whose session another one has resumed."""
UNKNOWN = "there is no session to resume with this token: its time may be over; this is a new session"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeSettings:
    """Seconds that a session waits for its client (0: not at all); with `state` a folder for logs, which are deleted
    `retention_s` after their last change."""

    keep_s: float = 60.0
    state: Path | None = None
    retention_s: float = 86_400.0
    bounds: Bounds = field(default_factory=Bounds)


@dataclass(slots=True, eq=False)
class Held:
    """A conversation of the server. Without a connection it waits for its client."""

    token_hash: str
    live: Live
    caller: Caller
    connection: RealtimeConnection | None = None
    is_stored: bool = False
    is_reserved: bool = False
    saved_changes: int = 0
    saved_mark: HeardMark | None = None
    saved_at_s: float = 0.0
    is_settled: bool = True
    left: asyncio.Event = field(default_factory=asyncio.Event)
    timer: asyncio.TimerHandle | None = None
    parking: asyncio.Task[None] | None = None


class Keeper:
    """Of one server. `checkpoint` is what the logs' entries belong to."""

    def __init__(self, settings: ResumeSettings, checkpoint: Checkpoint) -> None:
        self._settings, self._checkpoint = settings, checkpoint
        self._model: str | None = None
        self._held: dict[str, Held] = {}
        self._claiming = asyncio.Lock()
        self._endings: set[asyncio.Task[None]] = set()
        self._pushed: set[asyncio.Task[None]] = set()  # those of them that somebody waits for who needs the place
        self._thread = ThreadPoolExecutor(1, "session-logs")
        self._store = SessionStore(settings.state, settings.bounds)
        self._upkeep = asyncio.create_task(self._keep_up())
        self.is_draining = self._is_closed = False

    def places(self, caller: Caller | None = None) -> int:
        """Places that kept sessions take: all, or those of one caller."""
        return len(self._kept(caller))

    def offer(self) -> ResumeOffer | None:
        """A new token; None where nothing is kept."""
        return self._offer(secrets.token_urlsafe(32)) if self._settings.keep_s or self._persists else None

    def hold(self, live: Live, caller: Caller, offer: ResumeOffer | None) -> Held:
        """Register a new conversation."""
        held = Held(_hash(secrets.token_urlsafe() if offer is None else offer.token), live, caller)
        self._held[held.token_hash] = held
        return held

    def reserve(self, token: str | None, caller: Caller) -> bool:
        """Whether the token's session has a place already; then it is not given away during a handshake."""
        held = None if token is None else self._held.get(_hash(token))
        if held is None or held.caller is not caller or held.parking is not None or not _is_wanted(held):
            return False
        if held.connection is None:
            held.is_reserved = True
            self._wait(held, HANDSHAKE_S)
        return True

    async def claim(self, token: str, caller: Caller, restored: Callable[[SessionLog, ResumeOffer], Live]) -> Held:
        """The conversation of this token without a connection: the one that was kept, taken from another connection, or
        restored from its log. InputError where there is none for this caller."""
        token_hash = _hash(token)
        async with self._claiming:
            held = self._held.get(token_hash)
            if held is not None and (held.caller is not caller or not _is_wanted(held)):
                raise InputError(UNKNOWN)
            if held is not None and held.connection is not None:
                held.connection.end(TAKEN_OVER, "another connection has resumed this session", After.KEPT)
                await held.left.wait()
            if held is not None and held.parking is not None:
                await asyncio.wait({held.parking})
            if (held := self._held.get(token_hash)) is not None:
                self._stop_waiting(held)
                held.is_reserved = False
                return held
            log = await self._in_thread(self._store.load, token_hash, caller.id, time.time())
            if log is None:
                raise InputError(UNKNOWN)
            offer = self._offer(token)
            held = self.hold(restored(self._readable(log), offer), caller, offer)
            held.is_stored = True
            return held

    def connect(self, held: Held, connection: RealtimeConnection) -> None:
        """It has a connection."""
        held.connection = connection
        held.left.clear()

    async def release(self, held: Held, after: After) -> None:
        """It has lost its connection."""
        keep_s = self._settings.keep_s
        held.connection = None
        held.live.leave()
        if after is After.KEPT and keep_s and _is_wanted(held) and not self.is_draining:
            self._held[held.token_hash] = self._held.pop(held.token_hash)  # the last one that was lost
            self._wait(held, keep_s)
        elif after in (After.OVER, After.FAILED) or not _is_wanted(held):
            held.parking = self._later(self._end(held, forget=after is After.OVER))
        else:
            held.parking = self._later(self._park(held))
        held.left.set()
        if held.parking is not None:
            await asyncio.wait({held.parking})

    def push_out(self, caller: Caller | None = None) -> bool:
        """Make the session that was lost first a log, so that there is a place; False if none is kept (of this caller)."""
        held = next((held for held in self._kept(caller) if not held.is_reserved), None)
        if held is None:
            return False
        self._stop_waiting(held)
        held.parking = self._later(self._park(held))
        self._pushed.add(held.parking)
        held.parking.add_done_callback(self._pushed.discard)
        return True

    async def settled(self) -> None:
        """Until the sessions that were pushed out so far have ended."""
        if self._pushed:
            await asyncio.wait(set(self._pushed))

    def drain(self) -> None:
        """Kept sessions end, and are logs if those outlive the process."""
        self.is_draining = True
        while self.push_out():
            pass

    async def close(self) -> None:
        """End what is kept; no connection is open any more."""
        if self._is_closed:
            return
        self._is_closed = True
        self.drain()
        while self._endings:
            await asyncio.wait(self._endings)
        self._upkeep.cancel()
        await asyncio.gather(self._upkeep, return_exceptions=True)
        for held in list(self._held.values()):
            await self._park(held)
        await self._in_thread(self._store.close)
        self._thread.shutdown()

    def _kept(self, caller: Caller | None) -> list[Held]:
        """Those without a connection, the one that was lost first in front."""
        waiting = (held for held in self._held.values() if held.connection is None and held.parking is None)
        return [held for held in waiting if caller is None or held.caller is caller]

    def _wait(self, held: Held, seconds: float) -> None:
        self._stop_waiting(held)
        held.timer = asyncio.get_running_loop().call_later(seconds, self._expired, held)

    def _stop_waiting(self, held: Held) -> None:
        if held.timer is not None:
            held.timer.cancel()
            held.timer = None

    def _expired(self, held: Held) -> None:
        """Nobody has come back."""
        held.timer = None
        if held.connection is None and held.parking is None:
            held.parking = self._later(self._park(held) if self._persists else self._end(held, forget=True))

    def _later(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)
        return task

    async def _park(self, held: Held) -> None:
        """From here on it is a log."""
        self._stop_waiting(held)
        await self._save(held)
        await self._end(held, forget=False)

    async def _end(self, held: Held, *, forget: bool) -> None:
        self._stop_waiting(held)
        await held.live.close()
        self._held.pop(held.token_hash, None)
        if forget and held.is_stored:
            await self._guarded(self._store.delete, held.token_hash)

    @property
    def _persists(self) -> bool:
        return self._settings.state is not None

    def _offer(self, token: str) -> ResumeOffer:
        return ResumeOffer(token, self._settings.keep_s, self._settings.retention_s if self._persists else 0.0)

    async def _keep_up(self) -> None:
        """Delete what has had its time and write what has changed, for as long as the server runs."""
        pruned_s = 0.0
        while True:
            await asyncio.sleep(SAVE_S)
            now_s = time.monotonic()
            if now_s - pruned_s > PRUNE_S:
                pruned_s = now_s
                await self._guarded(self._store.expire, time.time())
            for held in [held for held in self._held.values() if self._persists and _is_wanted(held)]:
                if self._held.get(held.token_hash) is held and held.parking is None:
                    try:
                        await self._write(held, now_s)
                    except Exception:  # one conversation's log is not worth those of the others
                        _log.exception("the log of a session could not be made")

    async def _write(self, held: Held, now_s: float) -> None:
        """Write what has changed of one."""
        codec = held.live.codec
        is_due = not held.is_settled and now_s - held.saved_at_s > SETTLE_S
        if codec.changes != held.saved_changes or not held.is_stored or is_due:
            held.is_settled = codec.changes == held.saved_changes and held.is_stored
            await self._save(held)
        elif codec.resuming.mark not in (None, held.saved_mark):
            held.saved_mark, now = codec.resuming.mark, time.time()
            await self._guarded(self._store.mark, held.token_hash, held.saved_mark, now, now + self._settings.retention_s)

    async def _save(self, held: Held) -> None:
        codec = held.live.codec
        held.saved_changes, held.saved_mark, held.saved_at_s = codec.changes, codec.resuming.mark, time.monotonic()
        if self._model is None:
            self._model = fingerprint(self._checkpoint)
        log, now = held.live.log(self._model), time.time()
        seconds = self._settings.retention_s if self._persists else self._settings.keep_s
        write = self._store.update if held.is_stored else self._store.add
        held.is_stored = True  # what others have deleted since is not written again
        await self._guarded(write, held.token_hash, held.caller.id, log, now, now + seconds)

    async def _guarded(self, work: Callable[..., object], *values: object) -> None:
        """Do it; a disk that fails ends no conversation."""
        try:
            await self._in_thread(work, *values)
        except InputError as error:
            _log.error("%s", error)

    async def _in_thread(self, work: Callable[..., Any], *values: object) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *values)

    def _readable(self, log: SessionLog) -> SessionLog:
        """The log for this checkpoint: what another one has read is read again from the items, as text."""
        if self._model is None:
            self._model = fingerprint(self._checkpoint)
        if log.model == self._model:
            return log
        return replace(log, entries=(), unread=tuple(item["id"] for item in log.items))


def fingerprint(checkpoint: Checkpoint) -> str:
    """What tells checkpoints apart whose token ids or prosody vectors mean different things."""
    digest = hashlib.sha256(repr(sorted(checkpoint.config.items())).encode())
    for model in (checkpoint.backbone.model, checkpoint.speech.model):
        for name, parameter in model.named_parameters():
            some = parameter.detach().flatten()[:8].float().cpu().numpy()
            digest.update(f"{name} {tuple(parameter.shape)}".encode() + some.tobytes())
    return digest.hexdigest()


def _is_wanted(held: Held) -> bool:
    return held.live.codec.resuming.is_wanted


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
