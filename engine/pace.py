"""What the engine's work costs, and what follows from it: how far apart the ticks of live sessions are to be, and how many
sessions can be served in time.

Ticks stretch, to a second at most, while the thread is busy for more than its share of the time; they cost less when there
are fewer of them, because more sessions share each pass. The capacity is reckoned for callers who speak for `TALKING` of the
time and are told `REPLY_TOKENS_PER_S`, from the measured cost of a second of speech and of a token; it is measured on and on,
since both fall as sessions share passes and steps. Written by the engine's thread, read by any.
"""

from __future__ import annotations

from .stats import now

TICK_MS, LONGEST_TICK_MS = 320, 1000
"""A block of the bundled recognizer; and the longest that words may stay away while somebody speaks."""
BUSY_ENOUGH = 0.7
"""Share of the time that the thread may be at work before ticks stretch; the rest is for final passes and replies."""
WINDOW_S = 0.5
TALKING = 0.4
REPLY_TOKENS_PER_S = 4.0
MEMORY = 0.05
"""Weight of the newest measurement of a cost."""
FEWEST_SAMPLES, FEWEST_TOKENS = 5 * 16_000, 20
"""Speech and tokens after which a cost counts as measured."""


class Pace:
    """Of one engine."""

    def __init__(self) -> None:
        self.tick_ms = TICK_MS
        self.stretched_s = 0.0
        self._since = now()
        self._busy_s = 0.0
        self._speech = Cost(FEWEST_SAMPLES)
        self._tokens = Cost(FEWEST_TOKENS)

    def worked(self, started: float, ended: float) -> None:
        """The thread was at work between two times; at the end of a window ticks are paced anew."""
        self._busy_s += ended - started
        passed = ended - self._since
        if passed < WINDOW_S:
            return
        if self.tick_ms > TICK_MS:
            self.stretched_s += passed
        wanted = self.tick_ms * min(self._busy_s / passed / BUSY_ENOUGH, 2.0)
        self.tick_ms = round(min(max(wanted, TICK_MS), LONGEST_TICK_MS))
        self._since, self._busy_s = ended, 0.0

    def spoke(self, seconds: float, audio_samples: int) -> None:
        """Speech work took so long, for so much new audio (0: more work on the same)."""
        self._speech.add(seconds, audio_samples)

    def wrote(self, seconds: float, tokens: int) -> None:
        """Decoding took so long."""
        self._tokens.add(seconds, tokens)

    def capacity(self, max_load: float) -> int | None:
        """Sessions that fit into `max_load` of the thread's time, at least 1; None before anything was measured."""
        speech_s, token_s = self._speech.each, self._tokens.each
        if speech_s is None and token_s is None:
            return None
        share = TALKING * 16_000 * (speech_s or 0.0) + REPLY_TOKENS_PER_S * (token_s or 0.0)
        return max(1, int(max_load / share)) if share > 0 else None


class Cost:
    """Seconds a piece, of which the newest count most. `each` is None until `fewest` pieces were seen."""

    def __init__(self, fewest: int) -> None:
        self._fewest = fewest
        self._seconds = self._pieces = 0.0
        self._seen = 0

    def add(self, seconds: float, pieces: int) -> None:
        """So many more pieces took so long; seconds without pieces are the cost of those before."""
        if not (pieces or self._seen):
            return
        forget = (1 - MEMORY) if pieces else 1.0
        self._seconds = self._seconds * forget + seconds
        self._pieces = self._pieces * forget + pieces
        self._seen += pieces

    @property
    def each(self) -> float | None:
        return self._seconds / self._pieces if self._seen >= self._fewest else None
