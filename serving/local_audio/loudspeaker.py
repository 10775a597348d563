"""Playing a reply aloud: audio waits here until the output device takes it, block by block, and what counts as
played is what the device has sounded, not what it has taken. Invariants: the device's thread never waits for more
than a short lock; a cut-off leaves nothing to take; silence in between is not counted as played.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

import numpy as np

from ...agent.events import Audio
from ...streaming.audio import Samples, int16_from_mono, mono_from_array
from ...streaming.resample import ResampleStream
from ..playback import Pcm, ReplyPlayer

FADE_MS = 10
"""In which a ducked reply falls silent, and in which it is back."""
PIECE_MS = 10
"""Audio is resampled in pieces of this length, as late as possible: the rate may change with the device."""


class Loudspeaker(ReplyPlayer):
    """A `ReplyPlayer` whose time is that of an output device. `pull` is called by the device's thread, all else
    on the event loop."""

    def __init__(self, played: Callable[[int], None], *, keep: bool) -> None:
        super().__init__(played, keep=keep)
        self._lock = threading.Lock()
        self._output_rate = 0
        self._ring: deque[Pcm] = deque()
        self._resampler: ResampleStream | None = None
        self._resampled: Samples = np.zeros(0, np.float32)
        self._frames = 0  # output frames that the device has taken, silence included
        self._added = self._taken = self._sounded = 0  # samples of the reply, at its own rate
        self._base = self._emitted = 0  # where the resampler began, and what came out of it since
        self._marks: deque[tuple[int, int]] = deque()  # when so many frames have sounded, so many samples have
        self._told_ms = 0
        self._gap_frames = 0
        self._level = 1.0
        self.gaps = 0
        """How often a reply stood still because its next audio was not there yet."""
        self.gap_ms = 0

    def open(self, output_rate: int) -> None:
        """The device takes frames at this rate (Hz) from now on; what the last one has taken counts as played."""
        with self._lock:
            self._output_rate = output_rate
            self._resampler = None
            self._resampled = self._resampled[:0]
            self._marks.clear()
            self._sounded = self._taken

    def add(self, audio: Audio) -> None:
        """More audio, int16 [n]. AudioError if the rate changes within a reply."""
        super().add(audio)
        if not len(audio.pcm):
            return
        with self._lock:
            if self._gap_frames and self._taken:
                self.gaps += 1
                self.gap_ms += self._gap_frames * 1000 // self._output_rate
            self._gap_frames = 0
            step = max(1, self._rate * PIECE_MS // 1000)
            self._ring.extend(audio.pcm[at : at + step] for at in range(0, len(audio.pcm), step))
            self._added += len(audio.pcm)

    def drop_unplayed(self) -> None:
        """Cut the reply off here: the device takes silence from its next block on."""
        super().drop_unplayed()
        with self._lock:
            self._forget()

    def pull(self, frames: int, latency_ms: float) -> Pcm:
        """The next int16 [frames] for the device, silence where nothing waits; the first of them will sound in
        `latency_ms`."""
        with self._lock:
            self._note_sounded(latency_ms)
            fades = self._level != float(not self.is_ducked)
            if self.is_ducked and not fades:
                self._frames += frames
                return np.zeros(frames, np.int16)
            while len(self._resampled) < frames and self._ring:
                self._resample(self._ring.popleft())
            if len(self._resampled) < frames and self._resampler is not None:
                self._resampled = np.concatenate([self._resampled, self._resampler.flush()])
                self._resampler = None
            wanted = min(frames, self._fade_frames) if fades and self.is_ducked else frames
            block, self._resampled = self._resampled[:wanted], self._resampled[wanted:]
            if fades:
                block = self._faded(block)
            self._frames += frames
            self._emitted += len(block)
            if len(block):
                self._marks.append((self._frames, self._position()))
            if len(block) < frames:
                if not self.is_ducked:
                    self._gap_frames += frames - len(block)
                block = np.pad(block, (0, frames - len(block)))
            return int16_from_mono(block)

    def newly_sounded_ms(self) -> int:
        """How much more of the reply has sounded since the last call, whole milliseconds; all of it once its
        last sample has."""
        with self._lock:
            if not self._added:
                return 0
            total = self._sounded * 1000
            ms = -(-total // self._rate) if self._sounded == self._added else total // self._rate
        more, self._told_ms = max(0, ms - self._told_ms), max(ms, self._told_ms)
        return more

    @property
    def _stands_still(self) -> bool:
        """Never: what the device has sounded was heard, even where it came after the order to duck."""
        return False

    def _begin(self, audio: Audio) -> None:
        super()._begin(audio)
        self._told_ms = 0

    def _forget(self) -> None:
        self._ring.clear()
        self._marks.clear()
        self._resampler = None
        self._resampled = self._resampled[:0]
        self._added = self._taken = self._sounded = self._gap_frames = 0
        self._level = 1.0

    @property
    def _fade_frames(self) -> int:
        return max(1, self._output_rate * FADE_MS // 1000)

    def _faded(self, block: Samples) -> Samples:
        """Down to silence where ducked, up from it else."""
        begin, self._level = self._level, float(not self.is_ducked)
        ramp = np.clip(np.arange(1, len(block) + 1) / self._fade_frames, 0, 1)
        return (block * (begin + (self._level - begin) * ramp)).astype(np.float32)

    def _resample(self, piece: Pcm) -> None:
        if self._resampler is None:
            self._resampler = ResampleStream(self._rate, self._output_rate)
            self._base, self._emitted = self._taken - len(self._resampled) * self._rate // self._output_rate, 0
        self._taken += len(piece)
        self._resampled = np.concatenate([self._resampled, self._resampler.push(mono_from_array(piece))])

    def _position(self) -> int:
        """How much of the reply the frames given so far stand for; the resampler still holds some of what it took."""
        if not (self._ring or self._resampler or len(self._resampled)):
            return self._taken
        return min(self._taken, self._base + self._emitted * self._rate // self._output_rate)

    def _note_sounded(self, latency_ms: float) -> None:
        sounded_frames = self._frames - latency_ms * self._output_rate / 1000
        while self._marks and self._marks[0][0] <= sounded_frames:
            self._sounded = max(self._sounded, self._marks.popleft()[1])
