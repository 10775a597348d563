"""A session written down so that it can be led again: inputs with their times, settings, when each answer of the engine, the
voice and the tools came, and the events. One file of JSON lines, readable by its owner alone (docs/scenarios.md has the form).

Whatever reaches the session from outside passes a turnstile: one thing at a time, the next when the event loop has come to
rest. The order in the file is thus the order in which things took effect, and a replay in that order gives the same events.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import os
import secrets
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..agent.events import Event
from ..agent.relay import RelayedVoice, relayed_engine, relayed_tools
from ..agent.session import Session
from ..agent.session_settings import SessionSettings
from ..agent.tools import Toolbox
from ..models.errors import InputError
from ..streaming.clock import MonotonicClock
from ..streaming.synthesis import SpeechChunk

FORMAT, VERSION = "textpro-recording", 1
CONSENT = (
    "This conversation is recorded: what you say, how it sounds, what you type and what is answered. "
    "Record people only if they agreed to it."
)
_ROUNDS = 24
"""Turns of the event loop in which what one thing sets off comes to rest, before the next is let in."""


class Recording:
    """One session's file in the folder `into`, and the `Timekeeper` of its relays. InputError if it cannot be written."""

    def __init__(self, into: Path, model: str) -> None:
        self._model = model
        started = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        self.path = into / f"{started}-{secrets.token_hex(3)}.jsonl"
        try:
            into.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.fdopen(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8")
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written ({error.strerror}); give a folder of yours") from None
        self._clock = MonotonicClock()
        self._turnstile = asyncio.Lock()
        self._reopening: set[asyncio.Task[None]] = set()
        self._tickets = 0
        self._open: dict[int, tuple[str, int]] = {}
        self._keeps_sound = False

    @property
    def notice(self) -> str:
        """What people are told before it begins."""
        return f"{CONSENT} It is kept in {self.path}."

    def begin(self, settings: SessionSettings, toolbox: Toolbox, voice_rate: int | None) -> None:
        """The first line. What was played is kept as sound where its echo is looked for."""
        self._keeps_sound = settings.echo.mode != "off"
        values = dataclasses.asdict(dataclasses.replace(settings, history=()))
        values["history"] = [
            [entry.token_id, None if entry.vector is None else [float(value) for value in entry.vector]]
            for entry in settings.history
        ]
        tools = [_tool_values(toolbox, name) for name in toolbox.names]
        head = {"format": FORMAT, "version": VERSION, "model": self._model, "consent": CONSENT, "voice_rate": voice_rate}
        self._write({**head, "settings": values, "tools": tools})

    def close(self) -> None:
        """The last line."""
        if not self._file.closed:
            self._write({"end": True})
            self._file.close()

    async def put_in(self, kind: str, **values: object) -> None:
        """An input is about to reach the session."""
        await self._pass()
        self.note_input(kind, **values)

    def note_input(self, kind: str, **values: object) -> None:
        """An input that takes effect at once."""
        self._write({"in": kind, **values})

    def note_event(self, event: Event) -> None:
        """The session said something."""
        self._write({"event": event.to_dict()})

    def asked(self, kind: str, size: int) -> int:
        """Work was asked for."""
        self._tickets += 1
        self._open[self._tickets] = (kind, self._clock.now_samples())
        return self._tickets

    async def answered(self, ticket: int, value: object) -> None:
        """Write down when, and what cannot be computed again."""
        kind, began = self._open.pop(ticket)
        await self._pass()
        line: dict[str, object] = {"did": ticket, "kind": kind, "cost": self._clock.now_samples() - began}
        if kind.endswith("chunk"):
            line["chunk"] = _chunk_values(value, self._keeps_sound) if isinstance(value, SpeechChunk) else None
        elif kind.startswith("tool "):
            line |= {"fault": f"{type(value).__name__}: {value}"} if isinstance(value, Exception) else {"result": value}
        self._write(line)

    def dropped(self, ticket: int) -> None:
        """Nobody waited any more: nothing to write."""
        del self._open[ticket]

    def queued(self, count: int) -> int:
        """The session sees `count` pieces of work waiting."""
        self._write({"queued": count})
        return count

    async def _pass(self) -> None:
        await self._turnstile.acquire()
        task = asyncio.get_running_loop().create_task(self._reopen())
        self._reopening.add(task)
        task.add_done_callback(self._reopening.discard)

    async def _reopen(self) -> None:
        try:
            for _ in range(_ROUNDS):
                await asyncio.sleep(0)
        finally:
            self._turnstile.release()

    def _write(self, values: Mapping[str, object]) -> None:
        if not self._file.closed:
            at = {"at": self._clock.now_samples()}
            self._file.write(json.dumps({**at, **values}, ensure_ascii=False, default=_plain) + "\n")
            self._file.flush()


class RecordedSession(Session):
    """`session`, which was not entered yet, with a recording of it. Enter this one in its place."""

    def __init__(self, session: Session, recording: Recording) -> None:
        voice = session._synthesizer
        super().__init__(
            relayed_engine(session._engine, recording),
            session._checkpoint,
            None if voice is None else RelayedVoice(voice, recording),
            relayed_tools(session._toolbox, recording),
            session._settings,
        )
        self._recording = recording
        self._outbox = _NotedEvents(recording)
        recording.begin(session._settings, session._toolbox, None if voice is None else voice.sample_rate)

    async def __aexit__(self, *error: object) -> None:
        try:
            await super().__aexit__(*error)
        finally:
            self._recording.close()

    async def send_audio(self, samples: NDArray[np.generic], sample_rate: int) -> None:
        await self._recording.put_in("audio", rate=sample_rate, **_sound_values(samples))
        await super().send_audio(samples, sample_rate)

    async def send_text(self, text: str) -> None:
        await self._recording.put_in("text", text=text)
        await super().send_text(text)

    async def commit(self) -> None:
        await self._recording.put_in("commit")
        await super().commit()

    async def interrupt(self, turn_id: int | None = None) -> None:
        await self._recording.put_in("interrupt", turn_id=turn_id)
        await super().interrupt(turn_id)

    async def respond(self) -> None:
        await self._recording.put_in("respond")
        await super().respond()

    async def confirm(self, call_id: str, accepted: bool) -> None:
        await self._recording.put_in("confirm", call_id=call_id, accepted=accepted)
        await super().confirm(call_id, accepted)

    async def end_audio(self) -> None:
        await self._recording.put_in("end_audio")
        await super().end_audio()

    def played(self, total_ms: float, estimated: bool = False) -> None:
        self._recording.note_input("played", ms=total_ms, estimated=estimated)
        super().played(total_ms, estimated)


class _NotedEvents(asyncio.Queue[Event | None]):
    """The events on their way to the owner, written down as they are said."""

    def __init__(self, recording: Recording) -> None:
        super().__init__()
        self._recording = recording

    def put_nowait(self, item: Event | None) -> None:
        if item is not None:
            self._recording.note_event(item)
        super().put_nowait(item)


def _sound_values(samples: NDArray[np.generic]) -> dict[str, object]:
    """Any samples [n] or [n, channels] as they are."""
    return {"dtype": str(samples.dtype), "shape": list(samples.shape), "pcm": _packed(samples)}


def _packed(samples: NDArray[np.generic]) -> str:
    return base64.b64encode(zlib.compress(np.ascontiguousarray(samples).tobytes(), 1)).decode()


def _chunk_values(chunk: SpeechChunk, keeps_sound: bool) -> dict[str, object]:
    sound = {"pcm": _packed(chunk.pcm)} if keeps_sound else {}
    return {"samples": len(chunk.pcm), "words": [list(dataclasses.astuple(word)) for word in chunk.words], **sound}


def _tool_values(toolbox: Toolbox, name: str) -> dict[str, Any]:
    tool = toolbox.get(name)
    names = ("name", "description", "parameters", "time_limit_s", "confirm", "filler", "cancel_on_interrupt")
    return {field: getattr(tool, field) for field in names}


def _plain(value: object) -> object:
    """What JSON does not know, as text; a number of numpy as a number."""
    return value.item() if isinstance(value, np.generic) else str(value)
