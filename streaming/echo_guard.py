"""What the microphone hears of our own voice is no user: sound that the echo of what is played explains is silenced before
the detector and the recognizer hear it; a user who speaks over it is heard.

Speech is sparse in time and frequency, so somebody else's stands out of the echo that `echo_model.py` foretells. While we
sound, a chunk is held back until the next two are known; else nothing is delayed. Every chunk that goes in comes out, in
order, as it was or silenced; decisions depend on the samples and on what was played, not on how they were cut.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from ..models.errors import InputError
from .audio import Samples
from .clock import SAMPLES_PER_MS
from .echo_model import AHEAD, FRAME, HOP, EchoModel, News
from .echo_reference import PlayedSound

EchoMode = Literal["off", "guard", "cancel"]
CHUNK = 2 * HOP
"""The detector's chunk: decisions are made for these."""
_LOOK = 2  # chunks held back
_LATE = 60 * SAMPLES_PER_MS  # by which reports come late
_FADE = 4 * SAMPLES_PER_MS
_NEW_DB = 2.0  # by which an echo that is hardly known may be off


@dataclass(frozen=True, slots=True)
class EchoSettings:
    """InputError for a way that there is not, or a delay that cannot be searched for.

    `mode`: "off" for headphones, telephones and browsers, which cancel echo themselves; "guard": the echo is silenced;
    "cancel": before that, it is taken out by WebRTC's canceller (extra `aec`). `max_delay_ms`: from the report that a sound
    was played to its echo. `unexplained_db`: by how much the sound stands out of the echo, averaged over its bands, when
    somebody else speaks. `warm_up_ms`: of our voice, after which the echo's delay and level are taken to be what they seem,
    where its first moments did not tell (`echo_onset.py`); until they are known nobody else is heard over it. `release_ms`:
    how long a user who was heard is taken to go on.
    """

    mode: EchoMode = "off"
    max_delay_ms: int = 400
    unexplained_db: float = 5.0
    warm_up_ms: int = 1_000
    release_ms: int = 256

    def __post_init__(self) -> None:
        if self.mode not in get_args(EchoMode):
            raise InputError(f"echo mode {self.mode!r}: expected one of {', '.join(get_args(EchoMode))}")
        if not 0 <= self.max_delay_ms <= 1_000:
            raise InputError(f"max_delay_ms is {self.max_delay_ms}: expected 0 to 1000")


class EchoGuard:
    """Of one session."""

    def __init__(self, played: PlayedSound, settings: EchoSettings | None = None) -> None:
        self._played, self._settings = played, settings or EchoSettings()
        self.model = EchoModel(self._settings.max_delay_ms, self._settings.warm_up_ms)
        self._rest: Samples = np.zeros(0, np.float32)
        self._at = 0  # where `_rest` begins
        self._before: Samples = np.zeros(HOP, np.float32)
        self._held: deque[tuple[Samples, float | None]] = deque()
        self._level = 1.0  # at the end of what was given: 0 silenced, 1 as it came
        self._user_chunks = 0  # that a user is taken to go on
        self._onsets = 0  # of what is played, that the model knows of

    def push(self, samples: Samples) -> Samples:
        """float32 [n] at 16 kHz -> [m], as far as it can be judged by now."""
        joined = np.concatenate([self._rest, samples])
        whole = len(joined) - len(joined) % CHUNK
        self._rest = joined[whole:]
        given: list[Samples] = []
        for start in range(0, whole, CHUNK):
            chunk = joined[start : start + CHUNK]
            self._held.append((chunk, self._excess_db(chunk)))
            self._at += CHUNK
            while len(self._held) > _LOOK or (self._held and all(excess is None for _, excess in self._held)):
                given.append(self._judged())
        return np.concatenate([np.zeros(0, np.float32), *given])

    def flush(self) -> Samples:
        """The chunks that are held back [m], judged by what is known: something is to happen here."""
        return np.concatenate([np.zeros(0, np.float32), *(self._judged() for _ in range(len(self._held)))])

    def _excess_db(self, chunk: Samples) -> float | None:
        """By how much the chunk stands out of the echo; None where there can be none."""
        joined = np.concatenate([self._before, chunk])
        self._before = chunk[-HOP:]
        start = self._at - HOP + AHEAD * HOP
        self._correct(start)
        played = self._played.read(start, start + FRAME + HOP)
        news = News.ECHO if self._user_chunks == 0 else News.LITTLE
        if self._at - max(0, self.model.delay_ms) * SAMPLES_PER_MS > self._played.reported_samples + _LATE:
            news = News.NONE  # what was expected may not have been played at all
        found = [self.model.frame(joined[at : at + FRAME], played[at : at + FRAME], news) for at in (0, HOP)]
        known = [excess for excess in found if excess is not None]
        if not known:
            return None
        return sum(known) / len(known) if self.model.is_settled else 0.0

    def _correct(self, end: int) -> None:
        """A sound is known to play only once it was reported; what was taken for silence by then is told again. `end`: where
        the next frame begins."""
        if self._onsets == self._played.onsets:
            return
        self._onsets = self._played.onsets
        count = -(-(end - HOP + FRAME - self._played.onset_samples) // HOP)
        starts = range(end - count * HOP, end, HOP)
        self.model.correct([self._played.read(at, at + FRAME) for at in starts])

    def _judged(self) -> Samples:
        """The oldest chunk that is held, silenced if it is echo."""
        excess = [excess or 0.0 for _, excess in self._held]
        chunk, own = self._held.popleft()
        limit = self._settings.unexplained_db + _NEW_DB * self.model.is_new
        if own is None:
            self._user_chunks = 0
            return self._faded(chunk, 1.0)
        if excess[0] > limit / 2 and sum(excess) / len(excess) > limit:
            self._user_chunks = 1 + self._settings.release_ms * SAMPLES_PER_MS // CHUNK
        self._user_chunks = max(0, self._user_chunks - 1)
        return self._faded(chunk, float(self._user_chunks > 0))

    def _faded(self, chunk: Samples, level: float) -> Samples:
        if level == self._level == 1.0:
            return chunk
        shape = np.full(len(chunk), level, np.float32)
        shape[:_FADE] = np.linspace(self._level, level, _FADE, dtype=np.float32)
        self._level = level
        return np.asarray(chunk * shape, np.float32)
