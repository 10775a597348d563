"""How loud is the echo of what is played, in each band, frame by frame? And how far does what is heard stand out of it?

The delay is the one at which the envelopes of both fit best, the gain of a band the running median of what is heard over
what was played, and the room's tail decays. Levels and no waveforms: drift of the clocks, distortion and changes of the room
do little harm. (The way of residual-echo estimation; WebRTC's AEC3 does so behind its linear filter.)
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .audio import Samples
from .clock import SAMPLE_RATE, SAMPLES_PER_MS
from .echo_onset import QUIETEST as _FLOOR
from .echo_onset import SILENCE as _SILENCE
from .echo_onset import Bands, EchoOnset, fits_by_lag

HOP, FRAME = 256, 512
HOP_MS = HOP / SAMPLES_PER_MS
AHEAD = 6
"""Frames by which what is played is known ahead of what is heard: a report may come later than its echo."""
_BANDS = 16
_LOW_HZ, _HIGH_HZ = 200.0, 7_000.0
_NEAR = 2  # frames by which the delay may be off
_WINDOW = 64  # frames in which the envelopes are compared
_TAIL = 10 ** (-0.165)  # the room's tail from one frame to the next: 60 dB in 580 ms
_NOISE_FRAMES = 94  # the quietest of 1.5 to 3 s is the noise
_STEP_DB = 1.5  # of the running median
_LITTLE = 1 / 8  # of such a step, while somebody else speaks
_MOST_DB = 20.0
_UNSETTLED_DB = 4.0  # excess that is taken to be there at first


class News(Enum):
    """What a frame can teach. ECHO: it is echo. LITTLE: somebody else speaks, or the echo has changed. NONE: it is not sure
    that anything was played."""

    ECHO = auto()
    LITTLE = auto()
    NONE = auto()


class EchoModel:
    """Of one session; `frame` for every `HOP` samples."""

    def __init__(self, max_delay_ms: int, warm_up_ms: int) -> None:
        self._warm_up_ms = warm_up_ms
        self._lags = AHEAD - _NEAR + 1 + round(max_delay_ms / HOP_MS)
        self._above = np.zeros((_WINDOW, _BANDS))  # what is heard above the noise, newest last
        self._heard = np.zeros((_WINDOW, _BANDS))  # of that what may be echo, compressed
        self._played = np.zeros((_WINDOW + self._lags, _BANDS))
        self._smeared = np.zeros((_WINDOW + self._lags, _BANDS))  # what is played, with the room's tail, `AHEAD` - `_NEAR` ahead
        self._fresh = np.zeros((_WINDOW + self._lags, _BANDS), np.bool_)  # where that is no tail
        self._smooth = np.zeros(_BANDS)
        self._noise = np.full(_BANDS, np.inf)
        self._next_noise = np.full(_BANDS, np.inf)
        self._fits = np.zeros(self._lags)
        self._gain_db: Bands | None = None
        self._learned_at_ms = 0
        self._usual = np.zeros(_BANDS)
        self._count = 0
        self._sounded_ms = 0.0
        self._excess_db = 0.0  # of late
        self._onset = EchoOnset()
        self.is_settled = False
        """Whether the echo's delay and level are known."""

    @property
    def delay_ms(self) -> int:
        """From a sound's report to its echo; negative where the report comes later."""
        return round((int(self._fits.argmax()) - AHEAD + _NEAR) * HOP_MS)

    @property
    def is_new(self) -> bool:
        """Whether what is known stands on the first moments only."""
        return self._sounded_ms < self._warm_up_ms

    @property
    def fit(self) -> float:
        """How well what is heard fits what is played at that delay, up to 1."""
        return float(self._fits.max())

    def frame(self, heard: Samples, played: Samples, news: News) -> float | None:
        """The next frame of the microphone and the one `AHEAD` frames later of what is played, float32 [512] each -> by how
        many dB what is heard stands out of the echo, the mean over the bands in which there is anything; None while nothing
        was played that may be in it. `news`: what the frame can teach."""
        levels = _levels(heard)
        self._follow(levels, _levels(played))
        if not self.is_settled and news is not News.NONE:
            self._begin()
        if self._smeared[_WINDOW:].max() < _SILENCE:
            self._note(np.zeros(_BANDS), compare=False)
            return None
        newest = -1 - int(self._fits.argmax())
        echo = self._smeared[newest]
        ratio_db = 10 * np.log10(np.maximum(levels - self._noise, _FLOOR) / np.maximum(echo, _FLOOR))
        self._usual += 0.02 * (echo - self._usual)
        strong = self._fresh[newest] & (echo > np.maximum(0.1 * self._usual, _SILENCE))
        self._sounded_ms += HOP_MS * (news is not News.NONE)
        if strong.any() and news is not News.NONE:
            self._learn(ratio_db, strong, 1.0 if news is News.ECHO else _LITTLE)
        expected = echo * 10 ** ((self._gain_db if self._gain_db is not None else ratio_db) / 10)
        self._note(levels if news is News.ECHO else np.minimum(levels, expected), compare=news is News.ECHO)
        return self._excess(levels, expected + 2 * self._noise)

    def correct(self, played: Sequence[Samples]) -> None:
        """The newest frames of what is played, as they were told to `frame`, were not true: these are, float32 [512] each."""
        newest = played[1 - len(self._played) :]
        if not newest:
            return
        gone = np.zeros((len(newest), _BANDS))
        self._played = np.vstack([gone, self._played[: -len(newest)]])
        self._smeared = np.vstack([gone, self._smeared[: -len(newest)]])
        self._fresh = np.vstack([gone > 0, self._fresh[: -len(newest)]])
        for frame in newest:
            self._sound(_levels(frame))

    def _excess(self, levels: Bands, expected: Bands) -> float:
        loud = levels > 4 * self._noise
        if loud.sum() < 3:
            return 0.0
        above_db = 10 * np.log10(levels / np.maximum(expected, _FLOOR))
        excess_db = float(np.clip(above_db[loud], 0.0, _MOST_DB).mean())
        self._excess_db += 0.05 * (excess_db - self._excess_db)
        return excess_db

    def _follow(self, levels: Bands, played: Bands) -> None:
        """The noise, and what is played with its tail."""
        self._smooth = levels if self._count == 0 else 0.8 * self._smooth + 0.2 * levels
        self._next_noise = np.minimum(self._next_noise, self._smooth)
        self._noise = np.minimum(self._noise, self._next_noise)
        if self._count % _NOISE_FRAMES == _NOISE_FRAMES - 1:
            self._noise, self._next_noise = self._next_noise, self._smooth
        self._count += 1
        self._above = np.vstack([self._above[1:], np.maximum(levels - self._noise, _FLOOR)])
        self._sound(played)

    def _sound(self, played: Bands) -> None:
        self._played = np.vstack([self._played[1:], played])
        now, tail = self._played[-1 - 2 * _NEAR :].max(0), _TAIL * self._smeared[-1]
        self._smeared = np.vstack([self._smeared[1:], np.maximum(now, tail)])
        self._fresh = np.vstack([self._fresh[1:], now > tail])

    def _note(self, levels: Bands, compare: bool) -> None:
        """Of what is heard, what may be echo; and how well it fits what is played, at each delay."""
        self._heard = np.vstack([self._heard[1:], np.maximum(levels - 2 * self._noise, 0.0) ** 0.25])
        if self._count % 2 or not compare:
            return
        self._fits += 0.1 * (fits_by_lag(self._heard, self._smeared) - self._fits)

    def _begin(self) -> None:
        """The first moments may say enough."""
        onset = self._onset.look(self._above, self._noise, self._smeared, self._fresh)
        if onset is not None:
            self._fits, self._gain_db, self.is_settled = onset.fits, onset.gain_db, True

    def _learn(self, ratio_db: Bands, strong: NDArray[np.bool_], share: float) -> None:
        step = _STEP_DB * share
        if not self.is_settled:
            self._settle(float(np.median(ratio_db[strong])))
            step = 2 * _STEP_DB
        assert self._gain_db is not None
        self._gain_db[strong] += np.where(ratio_db > self._gain_db, step, -step)[strong]

    def _settle(self, ratio_db: float) -> None:
        """Still warming up: a gain that was learned at another delay says nothing."""
        delay_ms = self.delay_ms
        if self._gain_db is None or abs(delay_ms - self._learned_at_ms) > 2 * HOP_MS:
            self._gain_db, self._learned_at_ms, self._excess_db = np.full(_BANDS, ratio_db), delay_ms, _UNSETTLED_DB
        calm = self._excess_db < _UNSETTLED_DB / 2
        self.is_settled = self._sounded_ms >= self._warm_up_ms and (calm or self._sounded_ms >= 2 * self._warm_up_ms)


def _levels(frame: Samples) -> Bands:
    """[512] -> power in each band [bands]."""
    spectrum = np.fft.rfft(frame * _SHAPE)
    return np.asarray((spectrum.real**2 + spectrum.imag**2) @ _MEMBERS, np.float64) + _FLOOR


def _members() -> Bands:
    """Which of the 257 lines belong to which band."""
    edges = np.geomspace(_LOW_HZ, _HIGH_HZ, _BANDS + 1)
    lines = np.fft.rfftfreq(FRAME, 1 / SAMPLE_RATE)
    return np.stack([(lines >= low) & (lines < high) for low, high in pairwise(edges)], 1).astype(float)


_SHAPE = np.hanning(FRAME).astype(np.float32)
_MEMBERS = _members()
