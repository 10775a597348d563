"""A load test: callers with real speech against a server of the OpenAI Realtime API, each over a websocket of its own and at the
pace of real time. What a caller does is in `load_caller.py`; here are the sockets, the pace, and the bounds of the whole run.

Every caller's microphone has a schedule; by how much this program itself was late is measured beside everything else, because
figures of a load generator that cannot keep up say nothing about the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import ssl
import time
from array import array
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from ..models.errors import InputError
from .load_caller import Caller, CallerSettings, Turn, Utterance, shuffled
from .load_report import Fault, LoadReport

MAX_CALLERS, MAX_MINUTES = 2_000, 24 * 60
CONNECT_S = 15.0
READY_S = 15.0
"""From the handshake to the server's word that the session is as asked for."""
CLOSE_S = 2.0
_PATHS = ("", "/v1", "/openai", "/openai/v1")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSettings:
    """`callers` talk, `idle` connections only stay open; `minutes` bounds the run; callers begin `ramp_ms` apart."""

    url: str
    callers: int = 1
    idle: int = 0
    minutes: float = 10.0
    key: str | None = field(default=None, repr=False)
    model: str | None = None
    seed: int = 0
    ramp_ms: int = 200
    caller: CallerSettings = field(default_factory=CallerSettings)
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.callers + self.idle <= MAX_CALLERS or self.callers < 1 or self.idle < 0:
            raise InputError(f"{self.callers} callers and {self.idle} idle connections: expected 1 to {MAX_CALLERS} in all")
        if not 0 < self.minutes <= MAX_MINUTES:
            raise InputError(f"{self.minutes:g} minutes: expected more than 0 and at most {MAX_MINUTES}")


class Status(StrEnum):
    """How a connection stands."""

    WAITING = "waiting"
    OPEN = "open"
    DONE = "done"
    REFUSED = "refused"
    LOST = "lost"


@dataclass(slots=True, eq=False)
class _Line:
    """One connection; `caller` None where it only stays open."""

    number: int
    caller: Caller | None
    status: Status = Status.WAITING
    reason: str = ""
    late_ms: array[float] = field(default_factory=lambda: array("f"))


class _NotServed(Exception):
    """The other side does not speak the protocol."""


class LoadRun:
    """`run` leads it to its end; its properties say how it stands meanwhile."""

    def __init__(self, settings: LoadSettings, utterances: Sequence[Utterance]) -> None:
        if not utterances:
            raise InputError("there is nothing to say: give at least one utterance")
        self._settings = settings
        self._url = realtime_url(settings.url, settings.model)
        self._began = time.monotonic()
        self._lines = []
        for number in range(settings.callers + settings.idle):
            chance = random.Random(f"{settings.seed} {number}")
            talks = number < settings.callers
            script = shuffled(utterances, chance)
            self._lines.append(_Line(number, Caller(number, script, settings.caller, chance) if talks else None))

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._began

    @property
    def turns(self) -> list[Turn]:
        """Those that are over, in the order of their beginning."""
        return sorted((turn for line in self._lines if line.caller for turn in line.caller.turns), key=lambda turn: turn.began_ms)

    @property
    def in_turn(self) -> int:
        """Callers that speak, wait or listen."""
        return sum(line.caller is not None and line.caller.is_in_turn for line in self._lines)

    def count(self, status: Status) -> int:
        """Connections that stand so."""
        return sum(line.status is status for line in self._lines)

    async def run(self, stop: asyncio.Event, watch: Callable[[LoadRun], None] = lambda _: None) -> LoadReport:
        """Until all callers have said everything, time is up, or `stop` is set; then the report. `watch` is called some
        times a second."""
        self._began = time.monotonic()
        callers = [asyncio.create_task(self._lead(line)) for line in self._lines if line.caller is not None]
        idle = [asyncio.create_task(self._lead(line)) for line in self._lines if line.caller is None]
        async with _cancelled_at_end(stop.wait()) as stopped, _cancelled_at_end(self._watch(watch)):
            spoken = asyncio.ensure_future(asyncio.wait(callers))
            await asyncio.wait((spoken, stopped), timeout=self._settings.minutes * 60, return_when=asyncio.FIRST_COMPLETED)
            is_whole = spoken.done()
            spoken.cancel()
        seconds = self.seconds
        for task in (*callers, *idle):
            task.cancel()
        ended = await asyncio.gather(*callers, *idle, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error
        return self._report(seconds, is_whole)

    def _report(self, seconds: float, is_whole: bool) -> LoadReport:
        callers = [line.caller for line in self._lines if line.caller is not None]
        bad = (Status.REFUSED, Status.LOST)
        errors: dict[str, int] = {}
        for caller in callers:
            for code, count in caller.errors.items():
                errors[code] = errors.get(code, 0) + count
        late = array("f")
        for line in self._lines:
            late.extend(line.late_ms)
        return LoadReport(
            url=self._url,
            callers=len(callers),
            idle=len(self._lines) - len(callers),
            seconds=seconds,
            is_whole=is_whole,
            turns=tuple(self.turns),
            unfinished=self.in_turn,
            faults=tuple(Fault(line.number, line.status.value, line.reason) for line in self._lines if line.status in bad),
            errors=errors,
            false_starts=sum(caller.false_starts for caller in callers),
            sent_s=sum(caller.sent_ms for caller in callers) / 1000,
            late_ms=tuple(late),
        )

    async def _watch(self, watch: Callable[[LoadRun], None]) -> None:
        while True:
            watch(self)
            await asyncio.sleep(0.25)

    async def _lead(self, line: _Line) -> None:
        """One connection from its turn to begin to its end."""
        await asyncio.sleep(line.number * self._settings.ramp_ms / 1000)
        headers = {"Authorization": f"Bearer {self._settings.key}"} if self._settings.key else {}
        try:
            socket = await connect(
                self._url,
                additional_headers=headers,
                ssl=self._settings.tls,
                max_size=None,
                compression=None,
                open_timeout=CONNECT_S,
                close_timeout=CLOSE_S,
            )
        except InvalidStatus as error:
            line.status, line.reason = Status.REFUSED, _why_refused(error)
            return
        except (OSError, TimeoutError, InvalidHandshake) as error:
            line.status, line.reason = Status.REFUSED, f"no connection: {str(error) or type(error).__name__}"
            return
        line.status = Status.OPEN
        try:
            await (self._talk(socket, line, line.caller) if line.caller is not None else self._stay(socket))
            line.status = Status.DONE
        except (ConnectionClosed, _NotServed) as error:
            reason = _why_closed(error) if isinstance(error, ConnectionClosed) else str(error)
            was_ready = line.caller is None or line.caller.is_ready
            line.status, line.reason = (Status.LOST if was_ready else Status.REFUSED), reason
            if line.caller is not None:
                line.caller.lost(reason)
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await socket.close()

    async def _talk(self, socket: ClientConnection, line: _Line, caller: Caller) -> None:
        await socket.send(json.dumps(caller.open()))
        async with _cancelled_at_end(self._hear(socket, caller)) as hearing:
            opened = due = time.monotonic()
            step_s = self._settings.caller.piece_ms / 1000
            while not caller.is_done:
                due += step_s
                await asyncio.sleep(max(due - time.monotonic(), 0))
                if hearing.done():
                    hearing.result()
                late_ms = (time.monotonic() - due) * 1000
                line.late_ms.append(late_ms)
                await socket.send(json.dumps(caller.piece(self._now_ms())))
                if not caller.is_ready and time.monotonic() - opened > READY_S:
                    raise _NotServed(f"the session was not taken within {READY_S:g} s: expected session.updated")

    async def _hear(self, socket: ClientConnection, caller: Caller) -> None:
        while True:
            try:
                event = json.loads(await socket.recv())
            except ValueError:
                raise _NotServed("the server sent a message that is no JSON: is this the Realtime API?") from None
            if isinstance(event, dict):
                for answer in caller.receive(event, self._now_ms()):
                    await socket.send(json.dumps(answer))

    async def _stay(self, socket: ClientConnection) -> None:
        while True:
            await socket.recv()

    def _now_ms(self) -> float:
        return (time.monotonic() - self._began) * 1000


def realtime_url(url: str, model: str | None = None) -> str:
    """The websocket of a server, from its websocket's URL or its HTTP base URL. InputError for anything else."""
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in ("ws", "wss") or not parts.hostname:
        raise InputError(f"{url}: expected the URL of a Realtime server, as ws://127.0.0.1:8765/v1/realtime or its /v1")
    path = parts.path.rstrip("/")
    if path in _PATHS:
        path = f"{path or '/v1'}/realtime"
    query = dict(parse_qsl(parts.query))
    if model is not None:
        query["model"] = model
    return parts._replace(scheme=scheme, path=path, query=urlencode(query), fragment="").geturl()


def _why_refused(error: InvalidStatus) -> str:
    """Status, code and message of a refusal, as far as the server gives them."""
    status, body = error.response.status_code, error.response.body or b""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        told = json.loads(body)["error"]
        return f"HTTP {status}, {told.get('code') or told.get('type')}: {told['message']}"[:300]
    return f"HTTP {status}"


def _why_closed(error: ConnectionClosed) -> str:
    received = error.rcvd
    return "the connection broke off" if received is None else f"closed with {received.code}: {received.reason or 'no reason'}"


@contextlib.asynccontextmanager
async def _cancelled_at_end(work: Coroutine[Any, Any, Any]) -> AsyncIterator[asyncio.Task[Any]]:
    """A task that has ended when the block is left. What it raised counts only inside the block."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
