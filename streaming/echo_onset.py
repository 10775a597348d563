"""What the first moments of our voice tell about its echo: as soon as what is heard fits what is played at one delay, that
delay and the level are known, mostly 0.2 to 0.6 s after the first sound; the same where it fits at none, for then there is no
echo and whoever is heard is somebody else. Afterwards `echo_model.py` follows slowly what changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bands = NDArray[np.float64]
QUIETEST = 1e-9
SILENCE = 1e-2
"""Power in a band below which nothing was played."""
_STRONG = 0.02  # of the loudest so far: a frame from which the level can be told
_FRAMES = 10  # of them that have to be heard at the delay found
_STEADY = 4  # frames for which that delay has to stay
_FITS = 0.8
_FRAMES_AT_ALL = 16  # heard at the longest delay, from which "at none" may be said
_FITS_NOT = 0.5
_SHARE = 0.6  # the level that so many frames do not pass
_WEIGHT = 4  # frames that the level of all bands counts beside a band's own


@dataclass(frozen=True, slots=True, eq=False)
class Onset:
    """How well each delay fits [lags], and the gain in dB at the best of them [bands]."""

    fits: Bands
    gain_db: Bands


class EchoOnset:
    """Of one session, until it has found something."""

    def __init__(self) -> None:
        self._lag = self._steady = 0

    def look(self, heard: Bands, noise: Bands, played: Bands, fresh: NDArray[np.bool_]) -> Onset | None:
        """Powers heard above the noise [window, bands], the noise [bands], what is played with the room's tail [window +
        lags, bands] and where that is no tail; the newest last. None: not yet."""
        window = len(heard)
        fits = fits_by_lag(np.maximum(heard - noise, 0.0) ** 0.25, played)
        lag = int(fits.argmax())
        self._steady = self._steady + 1 if abs(lag - self._lag) <= 1 else 0
        self._lag = lag
        end = len(played) - lag
        echo, strong = played[end - window : end], _strong(played[end - window : end], fresh[end - window : end])
        known = strong.any(1).sum() >= _FRAMES and self._steady >= _STEADY and fits[lag] >= _FITS
        if not known:
            longest = slice(1, 1 + window)
            sounded = _strong(played[longest], fresh[longest]).any(1).sum() >= _FRAMES_AT_ALL
            if not (sounded and fits[lag] < _FITS_NOT):
                return None
        return Onset(fits, _gain_db(heard, echo, strong)) if strong.any() else None


def fits_by_lag(heard: Bands, played: Bands) -> Bands:
    """Compressed levels heard [window, bands] and powers played [window + lags, bands] -> correlation of their envelopes
    [lags], the shortest lag first."""
    envelopes = np.lib.stride_tricks.sliding_window_view(played[1:] ** 0.25, len(heard), axis=0)[::-1]
    envelopes = envelopes - envelopes.mean(2, keepdims=True)
    centred = (heard - heard.mean(0)).T
    norm = np.sqrt((envelopes**2).sum((1, 2)) * (centred**2).sum())
    return np.asarray((envelopes * centred).sum((1, 2)) / np.maximum(norm, QUIETEST), np.float64)


def _strong(echo: Bands, fresh: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(fresh & (echo > np.maximum(_STRONG * echo.max(0), SILENCE)), np.bool_)


def _gain_db(heard: Bands, echo: Bands, strong: NDArray[np.bool_]) -> Bands:
    """A band that was hardly heard yet is taken to be as the others are."""
    ratio_db = 10 * np.log10(np.maximum(heard, QUIETEST) / np.maximum(echo, QUIETEST))
    of_all = float(np.quantile(ratio_db[strong], _SHARE))
    counts = strong.sum(0)
    own = [np.quantile(ratio_db[strong[:, band], band], _SHARE) if n else of_all for band, n in enumerate(counts)]
    return np.asarray((np.array(own) * counts + of_all * _WEIGHT) / (counts + _WEIGHT), np.float64)
