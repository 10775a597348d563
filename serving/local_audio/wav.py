"""The file transport: sound files as consecutive turns of one conversation, in frames of 20 ms as a
microphone would deliver them. After a file comes silence until its turn is over and the reply has been
played, then the next file; the reply plays on the same audio time. The pace is real time, or as fast as the
session works: time is only ever counted in frames sent, so both give the session the same samples in the same
order.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from ...models.errors import EngineError
from ...streaming.audio import Samples
from ...streaming.clock import SAMPLE_RATE, ms_to_samples
from ...streaming.wav import read_wav
from ..conversation import Conversation

FRAME_MS = 20
TAIL_MS = 1_000
"""Silence after a file that is always fed: words at its very end are known to the detector by then."""
NO_SPEECH_MS = 5_000
"""Silence after a file without a turn that shows that it held no speech."""
STUCK_MS = 30_000
"""Audio time without any event, while a turn or a reply is open, after which the session is taken for
stuck."""


class Pace(Protocol):
    """How fast frames follow one another."""

    async def frame_sent(self) -> None:
        """Returns when the next frame may be sent."""
        ...


class RealTimePace:
    """One frame each 20 ms of a monotonic clock, counted from the first: a late frame does not delay those
    after it."""

    def __init__(
        self,
        now_s: Callable[[], float] = time.monotonic,
        sleep_s: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._now_s = now_s
        self._sleep_s = sleep_s
        self._start_s: float | None = None
        self._frames = 0

    async def frame_sent(self) -> None:
        """Sleeps until the frame that was just sent would be over."""
        if self._start_s is None:
            self._start_s = self._now_s()
        self._frames += 1
        left_s = self._start_s + self._frames * FRAME_MS / 1000 - self._now_s()
        await self._sleep_s(max(0.0, left_s))


class FastPace:
    """The next frame as soon as the session has worked off the last, on audio time alone."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation

    async def frame_sent(self) -> None:
        """Waits for the session, and until its events have been taken."""
        await self._conversation.session.settled()
        await self._conversation.drained()


class WavTransport:
    """Feeds files to a conversation that is entered."""

    def __init__(self, conversation: Conversation, pace: Pace) -> None:
        self._conversation = conversation
        self._pace = pace

    async def run(self, paths: Sequence[Path]) -> None:
        """Each file is the user's next turn, or turns. AudioError for a file that breaks, EngineError when
        the session fails or gives no sign for 30 s."""
        for path in paths:
            await self._say(path)

    async def _say(self, path: Path) -> None:
        conversation = self._conversation
        ended, dropped = conversation.turns_ended, conversation.turns_dropped
        for frame in wav_frames(path):
            await self._send(frame)
        silence: Samples = np.zeros(ms_to_samples(FRAME_MS), np.float32)
        silent_ms = quiet_ms = 0
        events = conversation.events_taken
        while True:
            if conversation.is_idle and silent_ms >= TAIL_MS:
                if conversation.turns_ended > ended:
                    return
                if conversation.turns_dropped > dropped or silent_ms >= NO_SPEECH_MS:
                    conversation.view.notice(f"no speech was found in {path}")
                    return
            if not conversation.is_idle and quiet_ms >= STUCK_MS:
                raise EngineError(f"{path}: nothing has come of it for {STUCK_MS // 1000} s; try --log-level debug.")
            await self._send(silence)
            silent_ms += FRAME_MS
            progress = conversation.events_taken > events or conversation.player.pending_ms > 0
            quiet_ms = 0 if progress else quiet_ms + FRAME_MS
            events = conversation.events_taken

    async def _send(self, frame: Samples) -> None:
        self._conversation.check()
        await self._conversation.session.send_audio(frame, SAMPLE_RATE)
        await self._pace.frame_sent()
        self._conversation.play(FRAME_MS)


def check_wavs(paths: Sequence[Path]) -> None:
    """AudioError, one line, for the first of the files that is missing, empty or no sound file."""
    for path in paths:
        read_wav(path)


def wav_frames(path: Path) -> Iterator[Samples]:
    """A sound file of any rate and channels as float32 mono [320] frames at 16 kHz; the last is filled with
    zeros."""
    size = ms_to_samples(FRAME_MS)
    left: Samples = np.zeros(0, np.float32)
    for block in read_wav(path, FRAME_MS).frames:
        left = np.concatenate([left, block.samples])
        while len(left) >= size:
            yield left[:size]
            left = left[size:]
    if len(left):
        yield np.pad(left, (0, size - len(left)))
