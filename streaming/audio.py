"""Samples as they enter: any PCM a transport delivers becomes float32 mono in [-1, 1] at the transport's
rate, checked once, here. Invariants: everything after this module is finite and within [-1, 1]; the mean
over channels is the mono signal; a cut of the input at sample boundaries gives the same samples."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..models.errors import AudioError

Samples: TypeAlias = NDArray[np.float32]
PcmFormat: TypeAlias = Literal["int16", "float32"]

MIN_SAMPLE_RATE = 4_000
MAX_SAMPLE_RATE = 384_000
MAX_CHANNELS = 64
INT16_SCALE = 1.0 / 32768.0
# Microphones and decoders overshoot 1.0 a little and are clipped; far beyond it this is no float PCM at all.
MAX_FLOAT_LEVEL = 8.0


@dataclass(frozen=True, slots=True, eq=False)
class AudioFrame:
    """A run of mono samples at 16 kHz and where it begins in the session."""

    samples: Samples  # [n], within [-1, 1]
    start_samples: int  # absolute index of samples[0]

    def __post_init__(self) -> None:
        if self.samples.dtype != np.float32 or self.samples.ndim != 1:
            raise AudioError(
                f"An audio frame holds float32 [n], not {self.samples.dtype} {list(self.samples.shape)}; "
                "convert with mono_from_pcm or mono_from_array."
            )
        if self.start_samples < 0:
            raise AudioError(
                f"An audio frame cannot start at sample {self.start_samples}; the session begins at 0."
            )

    @property
    def end_samples(self) -> int:
        """Absolute index one past the last sample."""
        return self.start_samples + len(self.samples)


def check_sample_rate(sample_rate: int) -> int:
    """The rate itself in Hz, if audio of it can be used; AudioError otherwise."""
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise AudioError(
            f"The sample rate is {sample_rate} Hz; expected {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz. "
            "Check the rate that the source declares."
        )
    return int(sample_rate)


def mono_from_pcm(
    data: bytes | bytearray | memoryview, channels: int = 1, pcm_format: PcmFormat = "int16"
) -> Samples:
    """Interleaved little-endian PCM bytes -> float32 mono [n].

    AudioError on split samples, NaN or absurd levels.
    """
    if pcm_format not in ("int16", "float32"):
        raise AudioError(f"PCM format {pcm_format!r} is unknown; expected 'int16' or 'float32'.")
    dtype = np.dtype("<i2" if pcm_format == "int16" else "<f4")
    _check_channels(channels)
    frame_bytes = dtype.itemsize * channels
    if memoryview(data).nbytes % frame_bytes:
        raise AudioError(
            f"{memoryview(data).nbytes} bytes are no whole number of {channels}-channel {pcm_format} frames; "
            f"send multiples of {frame_bytes} bytes."
        )
    return mono_from_array(np.frombuffer(data, dtype=dtype).reshape(-1, channels))


def mono_from_array(samples: NDArray[Any]) -> Samples:
    """int16 or float samples [n] or [n, channels] -> float32 mono [n], clipped to [-1, 1], a copy.

    AudioError on other types or shapes, NaN, infinity, or floats far outside [-1, 1].
    """
    if not isinstance(samples, np.ndarray):
        raise AudioError(f"Audio is a {type(samples).__name__}; expected a NumPy array of int16, float32 or float64.")
    if samples.ndim not in (1, 2):
        raise AudioError(f"Audio has shape {list(samples.shape)}; expected [n] or [n, channels].")
    if samples.ndim == 2:
        _check_channels(samples.shape[1])
    if samples.dtype == np.int16:
        scaled = samples.astype(np.float32) * np.float32(INT16_SCALE)
    elif samples.dtype in (np.float32, np.float64):
        _check_levels(samples)
        scaled = samples.astype(np.float32)
    else:
        raise AudioError(
            f"Audio of type {samples.dtype} is not supported; expected int16, float32 or float64."
        )
    if scaled.ndim == 2:
        scaled = scaled[:, 0] if scaled.shape[1] == 1 else scaled.mean(axis=1, dtype=np.float32)
    clipped: Samples = np.clip(scaled, -1.0, 1.0)
    return clipped


def int16_from_mono(samples: Samples) -> NDArray[np.int16]:
    """float32 mono [n] in [-1, 1] -> int16 [n], rounded; the inverse of `mono_from_array` for int16 input."""
    rounded: NDArray[np.float32] = np.rint(samples / np.float32(INT16_SCALE))
    return rounded.clip(-32768, 32767).astype(np.int16)


def _check_channels(channels: int) -> None:
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioError(f"Audio with {channels} channels is not supported; expected 1 to {MAX_CHANNELS}.")


def _check_levels(samples: NDArray[Any]) -> None:
    if samples.size == 0:
        return
    loudest = float(np.max(np.abs(samples)))
    if not np.isfinite(loudest):
        raise AudioError(
            "Audio holds NaN or infinite samples; expected finite floats in -1..1. Check the source."
        )
    if loudest > MAX_FLOAT_LEVEL:
        raise AudioError(
            f"Float audio reaches {loudest:.6g}; expected -1..1. Integer samples must be sent as int16."
        )
