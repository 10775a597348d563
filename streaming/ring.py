"""The last 40 s of a session's audio, addressed by absolute sample index, so that a turn can be read back
from its start (with the 500 ms before it) however late its beginning was recognized. Memory is bounded and
allocated once; asking for what was overwritten or has not come yet is an error, never silence."""

import numpy as np

from ..models.errors import AudioError
from .audio import Samples
from .clock import ms_to_samples

RING_MS = 40_000


class AudioRing:
    """Circular buffer of float32 samples at 16 kHz; sample i of the session lies at i modulo the capacity."""

    def __init__(self, capacity_ms: int = RING_MS) -> None:
        if capacity_ms <= 0:
            raise AudioError(f"An audio ring of {capacity_ms} ms cannot hold anything; give a capacity > 0.")
        self._buffer: Samples = np.zeros(ms_to_samples(capacity_ms), np.float32)
        self._end_samples = 0

    @property
    def capacity_samples(self) -> int:
        """How many of the newest samples are kept."""
        return len(self._buffer)

    @property
    def start_samples(self) -> int:
        """Absolute index of the oldest sample still held."""
        return max(0, self._end_samples - self.capacity_samples)

    @property
    def end_samples(self) -> int:
        """Absolute index one past the newest sample."""
        return self._end_samples

    def append(self, samples: Samples) -> None:
        """Add float32 mono samples [n] of any n; the oldest are overwritten.

        AudioError on other types or shapes.
        """
        if samples.dtype != np.float32 or samples.ndim != 1:
            raise AudioError(
                f"The ring takes float32 samples [n], not {samples.dtype} {list(samples.shape)}."
            )
        kept = samples[-self.capacity_samples :]
        at = (self._end_samples + len(samples) - len(kept)) % self.capacity_samples
        before_wrap = min(len(kept), self.capacity_samples - at)
        self._buffer[at : at + before_wrap] = kept[:before_wrap]
        self._buffer[: len(kept) - before_wrap] = kept[before_wrap:]
        self._end_samples += len(samples)

    def read(self, start_samples: int, end_samples: int) -> Samples:
        """A copy [end - start] of the samples start..end-1. AudioError unless all of them are held."""
        if start_samples > end_samples:
            raise AudioError(
                f"Cannot read samples {start_samples}..{end_samples}: the end lies before the start."
            )
        if start_samples < self.start_samples:
            raise AudioError(
                f"Sample {start_samples} was overwritten; the oldest held is {self.start_samples} "
                f"(the ring keeps {self.capacity_samples} samples). Read earlier or cut the turn sooner."
            )
        if end_samples > self._end_samples:
            raise AudioError(
                f"Sample {end_samples - 1} has not come yet; {self._end_samples} were received. Wait for it."
            )
        at = start_samples % self.capacity_samples
        count = end_samples - start_samples
        before_wrap = min(count, self.capacity_samples - at)
        return np.concatenate((self._buffer[at : at + before_wrap], self._buffer[: count - before_wrap]))
