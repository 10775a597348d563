"""Any rate to 16 kHz (and a synthesizer's rate to a transport's), as a stream, by libsoxr. Invariant: a
given input gives the same output samples however it is cut. libsoxr's variable-rate engine is used at a
fixed ratio because it holds back a constant 10 to 30 ms, whereas the block (FFT) engine of the same quality
swings between 6 and 118 ms; its passband reaches 7.8 kHz, and it shifts the signal by less than two output
samples."""

import numpy as np
import soxr

from ..models.errors import AudioError
from .audio import Samples, check_sample_rate
from .clock import SAMPLE_RATE


class ResampleStream:
    """Stateful mono resampler from `input_rate` to `output_rate` (Hz, 4 to 384 kHz, AudioError otherwise)."""

    def __init__(self, input_rate: int, output_rate: int = SAMPLE_RATE) -> None:
        self.input_rate = check_sample_rate(input_rate)
        self.output_rate = check_sample_rate(output_rate)
        self._stream = None if input_rate == output_rate else self._new_stream()

    def push(self, samples: Samples) -> Samples:
        """float32 [n] at the input rate -> the output samples [m] that became certain; m may be 0."""
        if samples.dtype != np.float32 or samples.ndim != 1:
            raise AudioError(
                f"The resampler takes float32 samples [n], not {samples.dtype} {list(samples.shape)}."
            )
        if self._stream is None or len(samples) == 0:
            return samples.copy()
        return np.asarray(self._stream.resample_chunk(np.ascontiguousarray(samples)), np.float32)

    def flush(self) -> Samples:
        """The samples [m] still held back, as if silence followed; afterwards a new signal may begin."""
        if self._stream is None:
            return np.zeros(0, np.float32)
        rest = np.asarray(self._stream.resample_chunk(np.zeros(0, np.float32), last=True), np.float32)
        self._stream = self._new_stream()
        return rest

    def _new_stream(self) -> soxr.ResampleStream:
        return soxr.ResampleStream(
            self.input_rate, self.output_rate, 1, dtype="float32", quality="HQ", vr=True
        )


def resample(samples: Samples, input_rate: int, output_rate: int = SAMPLE_RATE) -> Samples:
    """A whole signal, float32 [n] -> [m], exactly as the stream gives it."""
    stream = ResampleStream(input_rate, output_rate)
    return np.concatenate((stream.push(samples), stream.flush()))
