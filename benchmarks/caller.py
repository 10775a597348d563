"""A simulated caller: speaks questions into a session in real time and notes when the first reply token comes.

All times are from the last sample of a question. It is known where that sample is in the audio, and frames are handed over
when their last sample would have been recorded, so a session that falls behind is seen in the figures. The silence by which
the turn rule decides that the turn is over is part of each figure and told by itself, too.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from textpro.agent import events
from textpro.agent.gate import DraftSettings
from textpro.agent.runtime import Runtime
from textpro.agent.session import Session
from textpro.agent.turns import TurnSettings

RATE, FRAME = 16_000, 320
LEAD_SAMPLES = RATE * 2 // 5
BEHIND_MS = 500
"""As the server has it: sound that may wait before recognition during speech is left out."""
SILENCE_MS = 320
"""Silence that ends a turn here, in all ways alike. Between the soft end at 100 ms and it, a reply can be drafted."""
RECORDED = Path(__file__).parents[1] / "examples" / "audio"


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """Audio float32 [n] at 16 kHz that begins with a little silence; the user's last sample is `last`."""

    text: str
    samples: NDArray[np.float32]
    last: int


@dataclass(frozen=True, slots=True)
class Answered:
    """One question: `silence_ms` from its last sample to the decision that the turn is over, on the audio clock, without any
    compute; `late_ms` from when that decision was due to the first reply token, in real time; where the turn lies in the
    caller's audio, in samples."""

    silence_ms: float
    late_ms: float
    words: str
    start: int
    end: int

    @property
    def total_ms(self) -> float:
        """From the last user sample to the first reply token."""
        return self.silence_ms + self.late_ms


@dataclass(frozen=True, slots=True, eq=False)
class Script:
    """What a caller says: its audio, and where each question begins and has its last sample."""

    samples: NDArray[np.float32]
    questions: tuple[tuple[int, int], ...]


def questions(count: int) -> list[Question]:
    """Spoken questions, by espeak-ng; without it the two recordings of the examples."""
    if importlib.util.find_spec("espeakng_loader") is not None:
        from streaming_way import ask

        return [Question(one.text, one.samples, one.last) for one in ask(count)]
    from textpro.streaming.wav import read_wav

    found = []
    for index in range(count):
        file = sorted(RECORDED.glob("*.wav"))[index % 2]
        samples = np.concatenate([frame.samples for frame in read_wav(file).frames]).astype(np.float32)
        last = int(np.flatnonzero(np.abs(samples) > 0.01)[-1])
        found.append(Question(file.stem, np.pad(samples[: last + 1], (LEAD_SAMPLES, 0)), LEAD_SAMPLES + last))
    return found


def spoken_script(said: Sequence[Question], seconds: float, share: float, offset: int) -> Script:
    """Questions one after the other for `seconds`, speaking `share` of the time, each with its silence behind it; the first
    one begins after `offset` samples of silence. At least one question."""
    pieces, places, at = [np.zeros(offset, np.float32)], list[tuple[int, int]](), offset
    for index in range(10_000):
        question = said[index % len(said)]
        spoken = question.last - LEAD_SAMPLES
        length = max(round(spoken / share), question.last + RATE)
        if places and at + length > seconds * RATE:
            break
        pieces.append(np.pad(question.samples[: question.last + 1], (0, length - question.last - 1)))
        places.append((at, at + question.last))
        at += length
    return Script(np.concatenate(pieces), tuple(places))


def session_of(runtime: Runtime, *, drafts: bool = True, eager: bool = False) -> Session:
    """A session in text only whose turns end by `SILENCE_MS` alone; `eager`: each soft end is drafted, whatever P(end)."""
    p_end = None if drafts and not eager else 0.0 if drafts else 2.0
    turns = TurnSettings(endpointing="vad", end_silence_ms=SILENCE_MS)
    return runtime.session(speak=False, turns=turns, drafts=DraftSettings(p_end), behind_ms=BEHIND_MS)


class Caller:
    """Says one script to one session."""

    def __init__(self, session: Session, script: Script) -> None:
        self._session, self._script = session, script
        self._loop = asyncio.get_running_loop()
        self._ends: dict[int, tuple[events.TurnEnd, float]] = {}
        self._starts: dict[int, int] = {}
        self.skipped_ticks = 0
        self.failed: str | None = None

    async def call(self) -> list[Answered | None]:
        """To the end of the script and until its last reply has begun; None for a question that was not answered."""
        reading = asyncio.create_task(self._read())
        samples = np.pad(self._script.samples, (0, -len(self._script.samples) % FRAME))
        began = self._loop.time()
        for index, frame in enumerate(np.split(samples, len(samples) // FRAME)):
            due = began + (index + 1) * FRAME / RATE
            if (early := due - self._loop.time()) > 0:
                await asyncio.sleep(early)
            if self.failed is not None:
                break
            await self._session.send_audio(frame, RATE)
        if self.failed is None:
            await self._session.settled()
        await asyncio.sleep(0)
        reading.cancel()
        return [self._answer(began, first, last) for first, last in self._script.questions]

    def _answer(self, began: float, first: int, last: int) -> Answered | None:
        """The last turn that ended behind the question and before the next one."""
        later = [place for place, _ in self._script.questions if place > first]
        until_ms = min(later, default=len(self._script.samples)) * 1000 / RATE
        last_ms = last * 1000 / RATE
        for turn_id in reversed(self._ends):
            end, token_s = self._ends[turn_id]
            if last_ms <= end.t_ms < until_ms and token_s:
                total_ms = (token_s - began) * 1000 - last_ms
                silence_ms = end.t_ms - last_ms
                start = self._starts.get(turn_id, first)
                return Answered(silence_ms, total_ms - silence_ms, end.text, start, end.t_ms * RATE // 1000)
        return None

    async def _read(self) -> None:
        async for event in self._session:
            match event:
                case events.TurnStart():
                    self._starts[event.turn_id] = event.start_ms * RATE // 1000
                case events.TurnEnd():
                    self._ends[event.turn_id] = (event, 0.0)
                case events.ReplyDelta() if event.turn_id in self._ends:
                    end, token_s = self._ends[event.turn_id]
                    self._ends[event.turn_id] = (end, token_s or self._loop.time())
                case events.Metrics():
                    self.skipped_ticks = event.skipped_ticks
                case events.Failed():
                    self.failed = event.reason
