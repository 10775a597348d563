"""What was played, laid on the session's time line: the reference by which an echo of it in the microphone is known.

The reply's sound comes ahead of time, the transport's reports say how much of it has sounded. Reports come in steps and
a little late, so sound is laid down gapless behind what came before, as a loudspeaker plays it, and what is due next is
known before it is reported. Pure bookkeeping: time is the samples of the microphone, 16 kHz.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from .audio import Samples, mono_from_array
from .clock import SAMPLES_PER_MS, ms_to_samples
from .resample import ResampleStream

KEPT_SAMPLES = ms_to_samples(2_000)
"""How far back it can be read."""
EXPECTED_SAMPLES = ms_to_samples(400)
"""How much of what is due next counts as played before it is reported."""
PAUSE_SAMPLES = ms_to_samples(120)
"""A report that comes this much later than gapless playing had it: there was a pause before it."""


class PlayedSound:
    """Of one session, one reply after the other."""

    def __init__(self) -> None:
        self._pieces: deque[tuple[int, Samples]] = deque()
        self._end = -KEPT_SAMPLES  # where the last sound that was reported ended
        self._waiting: Samples = np.zeros(0, np.float32)  # of the reply, not reported as played
        self._played = 0  # samples of the reply
        self._resampler: ResampleStream | None = None
        self._is_playing = False  # sounds, as far as is known: what is due next is expected
        self.onsets = 0
        """How often sound began that nobody expected: what was read behind `onset_samples` before is not true any more."""
        self.onset_samples = 0

    @property
    def reported_samples(self) -> int:
        """Where the last sound ends that was reported."""
        return self._end

    def begin(self) -> None:
        """Another reply: what was not played of the one before never will be."""
        self._waiting = np.zeros(0, np.float32)
        self._played, self._resampler, self._is_playing = 0, None, False

    def add(self, pcm: NDArray[np.int16], sample_rate: int) -> None:
        """More sound of the reply, int16 [n] at `sample_rate`, all of a reply at one rate. AudioError for an odd rate."""
        if self._resampler is None:
            self._resampler = ResampleStream(sample_rate)
        self._waiting = np.concatenate([self._waiting, self._resampler.push(mono_from_array(pcm))])

    def played(self, total_ms: float, now_samples: int) -> None:
        """The first `total_ms` of the reply have sounded by the time the microphone has given `now_samples`."""
        count = min(round(total_ms * SAMPLES_PER_MS) - self._played, len(self._waiting))
        if count <= 0:
            return
        start = self._end
        if not self._is_playing or now_samples - (start + count) > PAUSE_SAMPLES:
            start = max(start, now_samples - count)
            self.onsets, self.onset_samples = self.onsets + 1, start
        self._pieces.append((start, self._waiting[:count]))
        self._waiting = self._waiting[count:]
        self._played += count
        self._end, self._is_playing = start + count, True
        while self._pieces[0][0] + len(self._pieces[0][1]) < self._end - KEPT_SAMPLES:
            self._pieces.popleft()

    def pause(self) -> None:
        """The reply is about to stand still: what is due next is not expected until more is reported."""
        self._is_playing = False

    def stop(self) -> None:
        """The reply was cut off or is over: nothing more of it sounds."""
        self.begin()

    def read(self, start_samples: int, end_samples: int) -> Samples:
        """What sounds in that stretch, float32 [end - start]; silence where nothing does or where it is not known."""
        found = np.zeros(end_samples - start_samples, np.float32)
        expected = self._waiting[:EXPECTED_SAMPLES] if self._is_playing else self._waiting[:0]
        for at, piece in (*self._pieces, (self._end, expected)):
            first, last = max(start_samples, at), min(end_samples, at + len(piece))
            if first < last:
                found[first - start_samples : last - start_samples] = piece[first - at : last - at]
        return found
