"""The streaming way: spoken questions through real sessions, with the times at which things came back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from textpro.agent import events
from textpro.agent.runtime import Runtime
from textpro.agent.session import Session
from textpro.streaming.espeak_worker import EspeakVoice
from textpro.training.speech_corpus import Speech
from textpro.training.voices import TONE_SETTINGS, Speaker

RATE = 16_000
FRAME_MS = 20
FRAME = RATE * FRAME_MS // 1000
LEAD_MS = 400
LONGEST_WAIT_MS = 30_000
QUESTIONS = (
    ("what is twenty three plus forty eight", "plain"),
    ("i lost my keys", "sad"),
    ("what is the capital of france", "plain"),
    ("how much is seven times eight", "happy"),
    ("my phone is broken", "angry"),
    ("hello how are you today", "plain"),
)
ACCENTS = ("en-us", "en-gb", "en-gb-scotland")


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """Audio float32 [n] at 16 kHz that begins with a little silence; the user's last sample is `last`."""

    text: str
    samples: NDArray[np.float32]
    last: int

    @property
    def last_ms(self) -> float:
        """The last sample on the audio clock."""
        return self.last * 1000 / RATE


@dataclass(frozen=True, slots=True)
class Streamed:
    """One question through a session. `decision_ms`: last user sample to end-of-turn decision; `after_ms`:
    from there to the first reply sample; `silence_ms`: the first of them on the audio clock, without any
    compute."""

    words: str
    reply: str
    start_ms: int
    end_ms: int
    silence_ms: float
    decision_ms: float
    after_ms: float
    stages_ms: dict[str, float]

    @property
    def factor(self) -> float:
        """Compute of all stages over the turn's audio."""
        return sum(self.stages_ms.values()) / (self.end_ms - self.start_ms)


@dataclass(frozen=True, slots=True)
class Cost:
    """The whole process with the voice's worker: CPU seconds for a second of audio, resident megabytes."""

    cpu_factor: float
    resident_mb: float


def ask(count: int) -> list[Question]:
    """Spoken questions; beyond the list they repeat in other accents."""
    speech, found = Speech(0), []
    for index in range(count):
        text, tone = QUESTIONS[index % len(QUESTIONS)]
        rate, pitch, spread, amplitude = (round(setting) for setting in TONE_SETTINGS[tone])
        accent = ACCENTS[index // len(QUESTIONS) % len(ACCENTS)]
        said = speech.say(text, Speaker(EspeakVoice(accent, None, rate, pitch, spread, amplitude), tone))
        lead = LEAD_MS * RATE // 1000
        found.append(Question(text, np.pad(said.samples, (lead, 0)), lead + said.ends[-1]))
    return found


class Feeder:
    """Feeds one question to a session and notes when what came back; `seen` holds (seconds, event)."""

    def __init__(self, session: Session, question: Question) -> None:
        self._session, self._question = session, question
        self._loop = asyncio.get_running_loop()
        self.seen: list[tuple[float, events.Event]] = []
        self.fed_ms = 0

    def first(self, kind: type[events.Event]) -> tuple[float, events.Event] | None:
        """The first event of a kind, with its time."""
        return next((entry for entry in self.seen if isinstance(entry[1], kind)), None)

    async def feed(self, fast: bool) -> float:
        """Returns the time at which the first sample was spoken."""
        reader = asyncio.create_task(self._read())
        start = self._loop.time()
        samples = self._question.samples
        while not self._is_over():
            at = self.fed_ms * RATE // 1000
            frame = samples[at : at + FRAME]
            self.fed_ms += FRAME_MS
            if not fast:
                await asyncio.sleep(start + self.fed_ms / 1000 - self._loop.time())
            await self._session.send_audio(np.pad(frame, (0, FRAME - len(frame))), RATE)
            if fast:
                await self._session.settled()
                await asyncio.sleep(0)
        reader.cancel()
        return start

    def _is_over(self) -> bool:
        ended = self.first(events.Metrics) or self.first(events.TurnDropped) or self.first(events.Failed)
        return ended is not None or self.fed_ms > self._question.last_ms + LONGEST_WAIT_MS

    async def _read(self) -> None:
        async for event in self._session:
            if not isinstance(event, events.VoiceActivity):
                self.seen.append((self._loop.time(), event))


async def stream(runtime: Runtime, question: Question, fast: bool) -> tuple[Streamed | None, int]:
    """One question in a session of its own: None where no turn with a spoken reply came of it; milliseconds
    fed."""
    async with runtime.session() as session:
        feeder = Feeder(session, question)
        start = await feeder.feed(fast)
    found = [feeder.first(kind) for kind in (events.TurnStart, events.TurnEnd, events.Audio, events.Metrics)]
    done = feeder.first(events.ReplyDone)
    match found, done:
        case (
            [(_, events.TurnStart() as begun), (ended_at, events.TurnEnd() as ended), (heard_at, _),
             (_, events.Metrics() as metrics)],
            (_, events.ReplyDone() as reply),
        ):  # fmt: skip
            silence = ended.t_ms - question.last_ms
            decision = silence if fast else (ended_at - start) * 1000 - question.last_ms
            after = metrics.first_audio_ms if fast else (heard_at - ended_at) * 1000
            assert after is not None
            streamed = Streamed(
                ended.text,
                reply.text.strip(),
                begun.start_ms,
                ended.t_ms,
                silence,
                decision,
                after,
                metrics.stages_ms,
            )
            return streamed, feeder.fed_ms
    return None, feeder.fed_ms


async def measure_streaming(
    folder: Path, questions: Sequence[Question], fast: bool, threads: int | None
) -> tuple[list[Streamed | None], Cost]:
    """All questions, one after the other, after one that only warms up."""
    async with Runtime(folder, threads=threads) as runtime:
        await stream(runtime, questions[0], fast=True)
        before, fed_ms, found = _cpu_seconds(), 0, []
        for question in questions:
            streamed, milliseconds = await stream(runtime, question, fast)
            found.append(streamed)
            fed_ms += milliseconds
        cpu = _cpu_seconds() - before
        resident = sum(process.memory_info().rss for process in _processes()) / 1e6
    return found, Cost(cpu * 1000 / fed_ms, resident)


def _processes() -> list[psutil.Process]:
    own = psutil.Process()
    return [own, *own.children(recursive=True)]


def _cpu_seconds() -> float:
    times = [process.cpu_times() for process in _processes()]
    return float(sum(time.user + time.system for time in times))
