"""Log-mel features without look-ahead: samples in, frames out, the same for any cutting of the samples.

Whisper's own features scale by the loudest frame of the window and centre each frame, so a later sample changes earlier
frames. Here the range is fixed and the window ends where its frame ends, hence a frame never changes once its samples
are there. The mel filters are those of `transformers.audio_utils` (Slaney, as Whisper's).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from transformers.audio_utils import mel_filter_bank

SAMPLE_RATE = 16_000
HOP_SAMPLES = 320
"""20 ms: one mel frame."""
WINDOW_SAMPLES = 512
"""32 ms, ending where the frame ends."""
N_MELS = 80

FloatArray = NDArray[np.float32]


@lru_cache(maxsize=4)
def mel_filters(n_mels: int = N_MELS) -> FloatArray:
    """The filter bank, [WINDOW_SAMPLES // 2 + 1, n_mels]."""
    bank = mel_filter_bank(
        num_frequency_bins=WINDOW_SAMPLES // 2 + 1,
        num_mel_filters=n_mels,
        min_frequency=0.0,
        max_frequency=SAMPLE_RATE / 2,
        sampling_rate=SAMPLE_RATE,
        norm="slaney",
        mel_scale="slaney",
    )
    return np.asarray(bank, dtype=np.float32)


def log_mel(samples: FloatArray, filters: FloatArray | None = None) -> FloatArray:
    """Features of samples that begin `WINDOW_SAMPLES - HOP_SAMPLES` before the first frame, [frames, n_mels].

    The value is `log10` of the mel power, clamped to [1e-8, 1e4], shifted and scaled to about [-1.5, 1.5].
    """
    filters = mel_filters() if filters is None else filters
    n_frames = (len(samples) - WINDOW_SAMPLES) // HOP_SAMPLES + 1
    if n_frames <= 0:
        return np.zeros((0, filters.shape[1]), np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(samples, WINDOW_SAMPLES)[::HOP_SAMPLES][:n_frames]
    spectrum = np.fft.rfft(windows * _window(), axis=1)
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    return (np.log10(np.clip(power @ filters, 1e-8, 1e4)) + 3.0).astype(np.float32) / 3.0


@lru_cache(maxsize=1)
def _window() -> FloatArray:
    return np.hanning(WINDOW_SAMPLES + 1)[:-1].astype(np.float32)


class MelStream:
    """Features of one turn as its samples arrive; silence is assumed before the first sample."""

    def __init__(self, n_mels: int = N_MELS) -> None:
        self._filters = mel_filters(n_mels)
        self.reset()

    def reset(self) -> None:
        """Begin another turn."""
        self._pending: FloatArray = np.zeros(WINDOW_SAMPLES - HOP_SAMPLES, np.float32)
        self.frames_done = 0

    def push(self, samples: FloatArray) -> FloatArray:
        """Take samples in [-1, 1], [n]; give the frames they complete, [frames, n_mels]."""
        pending = np.concatenate([self._pending, samples])
        features = log_mel(pending, self._filters)
        self._pending = pending[len(features) * HOP_SAMPLES :]
        self.frames_done += len(features)
        return features

    def tail(self) -> FloatArray:
        """The frame of the samples that wait, filled up with silence, [0 or 1, n_mels]; nothing is consumed."""
        waiting = len(self._pending) - (WINDOW_SAMPLES - HOP_SAMPLES)
        if waiting == 0:
            return np.zeros((0, self._filters.shape[1]), np.float32)
        return log_mel(np.concatenate([self._pending, np.zeros(HOP_SAMPLES - waiting, np.float32)]), self._filters)
