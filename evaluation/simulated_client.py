"""Between the simulated user and the session: sends the user's sound frame by frame, plays the replies, notes what happens
and when.

It stands where a transport stands: the session sees nothing but `send_audio`, `played` and the buttons.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import soxr
from numpy.typing import NDArray

from ..agent import events
from ..agent.session import Session
from ..streaming.clock import SAMPLE_RATE, SAMPLES_PER_MS, ms_to_samples
from .scenario import Line
from .simulated_ear import Ear
from .simulated_time import SimulatedTime

Samples = NDArray[np.float32]
FRAME_MS = 20


@dataclass(frozen=True, slots=True)
class Moment:
    """Something happened `at_ms` after the conversation began: an event of the session, or one of the simulation's own."""

    at_ms: int
    type: str
    values: Mapping[str, object]
    event: events.Event | None = None


class _Echo:
    """What a microphone in the room hears of the loudspeaker: later, at another level, with the room's tail."""

    def __init__(self, level_db: float, delay_ms: int, room_ms: int) -> None:
        tail = np.random.default_rng(1).standard_normal(max(1, ms_to_samples(room_ms))) if room_ms else np.ones(1)
        tail *= 10 ** (-3 * np.arange(len(tail)) / len(tail))
        if room_ms:
            tail[0] = np.linalg.norm(tail[1:])  # as much comes directly as by way of the walls
        self._room = (10 ** (level_db / 20) * tail / np.linalg.norm(tail)).astype(np.float32)
        self._sounded = np.zeros(ms_to_samples(delay_ms) + len(self._room) - 1, np.float32)

    def of(self, frame: Samples) -> Samples:
        """What is heard while this sounds, float32 [n] each."""
        sounded = np.concatenate([self._sounded, frame])
        self._sounded = sounded[len(frame) :]
        late = np.convolve(sounded[: len(self._room) - 1 + len(frame)], self._room, "valid")
        return np.asarray(late, np.float32)


class Client:
    """One conversation's; give it its session, then enter it."""

    session: Session

    def __init__(self, line: Line, time: SimulatedTime) -> None:
        self._line, self._time = line, time
        self._start = time.now_samples()
        self._sent = 0
        self._room = np.random.default_rng(0)
        self._out = None if line.rate == SAMPLE_RATE else soxr.ResampleStream(SAMPLE_RATE, line.rate, 1, dtype="float32")
        self._pieces: list[Samples] = []
        self._echo = None if line.echo_db is None else _Echo(line.echo_db, line.echo_delay_ms, line.echo_room_ms)
        self._said: list[Samples] = []
        self._heard: list[Samples] = []
        self.moments: list[Moment] = []
        self.ear = Ear(self._played, lambda name, turn_id: self.note(name, turn_id=turn_id))
        self._open_turn = False
        self._awaited: int | None = None

    async def __aenter__(self) -> Self:
        self._start = self._time.now_samples()
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reader
        for event in self.session.said():
            self._take(event)

    @property
    def now_ms(self) -> int:
        """Since the conversation began."""
        return (self._time.now_samples() - self._start) // SAMPLES_PER_MS

    @property
    def happened(self) -> list[events.Event]:
        """The events of the session so far."""
        return [moment.event for moment in self.moments if moment.event is not None]

    @property
    def user_sound(self) -> Samples:
        """What the user said so far, with the silence around it, float32 [n] at 16 kHz."""
        return np.concatenate([np.zeros(0, np.float32), *self._said])

    @property
    def agent_sound(self) -> Samples:
        """What was heard of the agent on the same time line."""
        return np.concatenate([np.zeros(0, np.float32), *self._heard])

    @property
    def is_idle(self) -> bool:
        """Whether no turn is open and every reply was heard or cut off."""
        return not self._open_turn and self._awaited is None and not self.ear.is_hearing

    def note(self, kind: str, /, **values: object) -> None:
        """Something of the simulation's own happened now."""
        self.moments.append(Moment(self.now_ms, kind, values))

    async def tick(self, frame: Samples | None = None) -> None:
        """20 ms pass, in which the user makes this sound, float32 [320]."""
        frame = np.zeros(ms_to_samples(FRAME_MS), np.float32) if frame is None else frame
        self._sent += len(frame)
        await self._time.sleep_until(self._start + self._sent)
        heard = self.ear.play(FRAME_MS)
        self._said.append(frame)
        self._heard.append(heard)
        line = self._line
        sound = frame + np.float32(10 ** (line.noise_db / 20)) * self._room.standard_normal(len(frame)).astype(np.float32)
        if self._echo is not None:
            sound = sound + self._echo.of(heard)
        self._pieces.append(np.clip(sound, -1, 1) if self._out is None else self._out.resample_chunk(np.clip(sound, -1, 1)))
        if len(self._pieces) * FRAME_MS >= line.piece_ms:
            piece, self._pieces = np.concatenate(self._pieces), []
            if len(piece):
                await self.session.send_audio(piece, line.rate)

    def _played(self, total_ms: float) -> None:
        if self._line.acknowledges:
            self.session.played(total_ms)

    async def _read(self) -> None:
        async for event in self.session:
            self._take(event)

    def _take(self, event: events.Event) -> None:
        values = {name: value for name, value in event.to_dict().items() if name != "type"}
        self.moments.append(Moment(self.now_ms, event.type, values, event))
        match event:
            case events.TurnStart():
                self._open_turn = True
            case events.TurnResumed():
                self._open_turn, self._awaited = True, None
            case events.TurnEnd():
                self._open_turn, self._awaited = False, event.turn_id
            case events.TurnDropped():
                self._open_turn = False
            case events.ReplyDone() if self._awaited is not None and event.turn_id >= self._awaited:
                self._awaited = None
        self.ear.take(event)
