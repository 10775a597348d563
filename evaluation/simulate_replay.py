"""A recorded session led again: the same inputs and the same order of answers, with the model computing anew, must give the
same events (`serving/recording.py` writes recordings).

No tool runs and no voice speaks: their answers stand in the recording. Everything in it has a moment of virtual time of its
own, and the event loop comes to rest in between.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import zlib
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..agent.relay import relayed_engine
from ..agent.runtime import Runtime
from ..agent.session import Session
from ..agent.session_settings import SessionSettings
from ..agent.tools import Tool, Toolbox, unchecked
from ..engine import Entry
from ..models.errors import EngineError, InputError, TextProError
from ..streaming.audio import mono_from_array
from ..streaming.resample import resample
from ..streaming.synthesis import AS_SET, Manner, SpeechChunk, WordTime
from .simulate_settings import session_settings
from .simulated_time import SimulatedTime

Line = dict[str, Any]
NEAR = 1e-4
"""Numbers of two runs may differ so much: which rows share a step is no part of a recording."""
UNTIMED = ("metrics",)
"""Events that tell real durations and are not compared."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recording that was read: its head, what reached the session, in order and each at a time of its own, and events."""

    path: Path
    head: Line
    stimuli: tuple[Line, ...]
    queued: tuple[int, ...]
    events: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Replay:
    """`difference` says where the events first differ, None where they are the same."""

    recorded: Recorded
    events: tuple[Line, ...]
    difference: str | None
    wall_s: float


def read_recording(path: Path) -> Recorded:
    """InputError for what is no recording; one whose end is missing is taken as far as it goes."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); give a recording, as --record writes them") from None
    lines: list[Line] = []
    for number, written in enumerate(text.splitlines(), 1):
        try:
            lines.append(json.loads(written))
        except ValueError:
            if number == 1 or number < text.count("\n"):
                raise InputError(f"{path}:{number}: no JSON; give a recording, as --record writes them") from None
    if not lines or lines[0].get("format") != "textpro-recording" or lines[0].get("version") != 1:
        raise InputError(f"{path}: no recording of version 1; give one that --record of this version wrote")
    stimuli: list[Line] = []
    last = -1
    for line in lines[1:]:
        if "in" in line or "did" in line:
            last = max(line["at"], last + 1)
            stimuli.append({**line, "at": last})
    queued = tuple(line["queued"] for line in lines if "queued" in line)
    return Recorded(path, lines[0], tuple(stimuli), queued, tuple(line["event"] for line in lines if "event" in line))


class Turns:
    """The `Timekeeper` of a replay: each answer at its recorded moment, one that never came never."""

    def __init__(self, time: SimulatedTime, recorded: Recorded) -> None:
        self._time, self._start = time, time.now_samples()
        self._due = {line["did"]: line for line in recorded.stimuli if "did" in line}
        self._queued = iter(recorded.queued)
        self._tickets = 0
        self._running: set[int] = set()

    def asked(self, kind: str, size: int) -> int:
        """Time stands still until the model has it."""
        ticket = self.next_ticket()
        self._running.add(ticket)
        self._time.work_started()
        return ticket

    def next_ticket(self) -> int:
        """For work whose answer is in the recording."""
        self._tickets += 1
        return self._tickets

    async def answered(self, ticket: int, value: object) -> None:
        """Hold it back until its moment."""
        self._running.discard(ticket)
        self._time.work_done()
        await self.moment(ticket)

    def dropped(self, ticket: int) -> None:
        """Nobody waits."""
        if ticket in self._running:
            self._running.discard(ticket)
            self._time.work_done()

    def queued(self, count: int) -> int:
        """As recorded."""
        return next(self._queued, 0)

    async def moment(self, ticket: int) -> Line:
        """Wait for the recorded answer and give its line."""
        line = self._due.get(ticket)
        if line is None:
            await asyncio.get_running_loop().create_future()  # until it is cancelled, as it was
            raise EngineError("an answer that never came has come")
        await self._time.sleep_until(self._start + line["at"])
        return line


class _Voice:
    """Speaks what was spoken, or silence as long as that where the sound was not kept."""

    def __init__(self, sample_rate: int, turns: Turns) -> None:
        self.sample_rate, self._turns = sample_rate, turns

    async def synthesize(self, text: str, *, manner: Manner = AS_SET) -> AsyncGenerator[SpeechChunk, None]:
        while (chunk := (await self._turns.moment(self._turns.next_ticket())).get("chunk")) is not None:
            pcm = np.frombuffer(_unpacked(chunk["pcm"]), np.int16) if "pcm" in chunk else np.zeros(chunk["samples"], np.int16)
            yield SpeechChunk(pcm, tuple(WordTime(*word) for word in chunk["words"]))

    def cancel(self) -> None:
        """Nothing sounds."""


def _tools(recorded: Recorded, turns: Turns) -> Toolbox:
    """The recorded tools: they do nothing and give what was given."""

    async def run(**arguments: Any) -> Any:
        line = await turns.moment(turns.next_ticket())
        if "fault" in line:
            raise _named(*str(line["fault"]).split(": ", 1))
        return line.get("result")

    return Toolbox([Tool(**{**values, "function": run, "check": unchecked}) for values in recorded.head["tools"]])


def _named(name: str, message: str = "") -> Exception:
    """An exception whose class has that name, as a fault tells it."""
    kind: type[Exception] = type(name, (Exception,), {})
    return kind(message)


def _settings(values: Mapping[str, Any]) -> SessionSettings:
    history = [Entry(token, None if vector is None else np.asarray(vector, np.float32)) for token, vector in values["history"]]
    return session_settings({**values, "history": history})


async def replay(recorded: Recorded, runtime: Runtime, time: SimulatedTime) -> Replay:
    """Lead it again, with the model of the runtime."""
    began = perf_counter()
    turns = Turns(time, recorded)
    rate = recorded.head["voice_rate"]
    session = Session(
        relayed_engine(runtime.engine, turns),
        runtime.checkpoint,
        None if rate is None else _Voice(rate, turns),
        _tools(recorded, turns),
        _settings(recorded.head["settings"]),
    )
    happened: list[Line] = []
    start = time.now_samples()
    async with session:
        for line in recorded.stimuli:
            await time.sleep_until(start + line["at"])
            if "in" in line:
                with contextlib.suppress(TextProError):  # refused to the caller then as now
                    await _put_in(session, line, recorded, happened)
            happened += [event.to_dict() for event in session.said()]
        await time.sleep_until(time.now_samples() + 1)
    happened += [event.to_dict() for event in session.said()]
    return Replay(recorded, tuple(happened), first_difference(recorded.events, happened), perf_counter() - began)


async def _put_in(session: Session, line: Line, recorded: Recorded, happened: Sequence[Line]) -> None:
    match line["in"]:
        case "audio":
            await session.send_audio(_sound(line), line["rate"])
        case "text":
            await session.send_text(line["text"])
        case "played":
            session.played(line["ms"], line["estimated"])
        case "confirm":
            then = [event["call_id"] for event in recorded.events if event["type"] == "confirmation_request"]
            now = [event["call_id"] for event in happened if event["type"] == "confirmation_request"]
            index = then.index(line["call_id"]) if line["call_id"] in then else len(now)
            await session.confirm(str(now[index]) if index < len(now) else "", line["accepted"])
        case "commit":
            await session.commit()
        case "interrupt":
            await session.interrupt(line.get("turn_id"))
        case "respond":
            await session.respond()
        case "end_audio":
            await session.end_audio()


def _sound(line: Line) -> NDArray[Any]:
    return np.frombuffer(_unpacked(line["pcm"]), np.dtype(line["dtype"])).reshape(line["shape"])


def _unpacked(packed: str) -> bytes:
    return zlib.decompress(base64.b64decode(packed))


def said_in(recorded: Recorded) -> NDArray[np.float32]:
    """What the user's side sent, float32 [n] at 16 kHz, without the time between the pieces."""
    sounds = [(_sound(line), line["rate"]) for line in recorded.stimuli if line.get("in") == "audio"]
    return np.concatenate([np.zeros(0, np.float32), *(resample(mono_from_array(sound), rate) for sound, rate in sounds)])


def first_difference(then: Sequence[Line], now: Sequence[Line]) -> str | None:
    """Where two runs' events first differ; names of calls are compared by their order, numbers by `NEAR`."""
    before, after = list(_compared(then)), list(_compared(now))
    for index, (old, new) in enumerate(zip(before, after, strict=False)):
        for name in {**old, **new}:
            if not _near(old.get(name), new.get(name)):
                return (
                    f"event {index + 1}: {name} was {old.get(name)!r} and is {new.get(name)!r}; "
                    f"{old['type']} at {old['t_ms']} ms then, {new['type']} at {new['t_ms']} ms now"
                )
    if len(before) != len(after):
        longer, which = (before, "then") if len(before) > len(after) else (after, "now")
        extra = longer[min(len(before), len(after))]
        return f"{len(before)} events then, {len(after)} now; the first only {which}: {extra['type']} at {extra['t_ms']} ms"
    return None


def _compared(events: Sequence[Line]) -> Iterator[Line]:
    names: dict[str, str] = {}
    for event in events:
        if event["type"] in UNTIMED:
            continue
        plain: Line = json.loads(json.dumps(event))
        if "call_id" in plain:
            plain["call_id"] = names.setdefault(plain["call_id"], f"call {len(names) + 1}")
        yield plain


def _near(old: object, new: object) -> bool:
    if isinstance(old, float) and isinstance(new, float):
        return abs(old - new) <= NEAR
    return old == new
