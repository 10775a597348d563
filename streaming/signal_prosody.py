"""Pitch, energy and rate measured from the signal itself, for any model: what a listener would call high, loud or fast."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000
_WINDOW, _HOP = 640, 320  # 40 and 20 ms
_LOWEST_HZ, _HIGHEST_HZ = 60, 420
_VOICED = 0.5  # of the autocorrelation at no lag


@dataclass(frozen=True, slots=True)
class SignalProsody:
    """Median pitch of the voiced parts, level of the louder half in dB below full scale, words a minute; None where
    there is nothing to measure."""

    pitch_hz: float | None
    energy_db: float | None
    words_per_minute: float | None


def measure(samples: NDArray[np.float32], n_words: int) -> SignalProsody:
    """Measure speech samples [n] at 16 kHz in which `n_words` were said."""
    if len(samples) < _WINDOW:
        return SignalProsody(None, None, None)
    windows = np.lib.stride_tricks.sliding_window_view(samples, _WINDOW)[::_HOP]
    power = (windows**2).mean(1)
    loud = windows[power >= max(float(np.quantile(power, 0.6)), 1e-9)]
    if not len(loud):
        return SignalProsody(None, None, None)
    energy = float(10 * np.log10((loud**2).mean() + 1e-12))
    rate = n_words * 60 * SAMPLE_RATE / len(samples) if n_words else None
    return SignalProsody(_median_pitch(loud), round(energy, 1), round(rate, 1) if rate else None)


def _median_pitch(windows: NDArray[np.float32]) -> float | None:
    """By autocorrelation of each window [n, window]; None when fewer than three are voiced."""
    shape = np.hanning(_WINDOW)
    centred = (windows - windows.mean(1, keepdims=True)) * shape
    low, high = SAMPLE_RATE // _HIGHEST_HZ, SAMPLE_RATE // _LOWEST_HZ
    correlation, of_window = _autocorrelation(centred), _autocorrelation(shape[None])
    lags = correlation[:, low:high] / (correlation[:, :1] + 1e-9) / of_window[:, low:high] * of_window[:, :1]
    # Multiples of the period correlate as well as the period itself: take the first peak that is nearly the highest.
    first = (lags >= 0.85 * lags.max(1, keepdims=True)).argmax(1)
    best = np.array([at + row[at : at + (at + low) // 8 + 2].argmax() for row, at in zip(lags, first, strict=True)])
    voiced = lags[np.arange(len(best)), best] > _VOICED
    if voiced.sum() < 3:
        return None
    return round(float(np.median(SAMPLE_RATE / (best[voiced] + low))), 1)


def _autocorrelation(windows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each row [n, window], for lags from 0 on."""
    spectrum = np.fft.rfft(windows, 2048, axis=1)
    return np.asarray(np.fft.irfft(spectrum.real**2 + spectrum.imag**2, axis=1))
