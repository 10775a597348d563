"""Time as one integer: samples at 16 kHz since the session began. Logic never reads a wall clock, it counts the samples that
came; `MonotonicClock` is for what has to know when. Virtual time is an event loop of its own (`evaluation/simulated_time.py`).
"""

import time
from collections.abc import Callable

SAMPLE_RATE = 16_000
SAMPLES_PER_MS = SAMPLE_RATE // 1000


def ms_to_samples(ms: int) -> int:
    """Milliseconds -> samples at 16 kHz."""
    return ms * SAMPLES_PER_MS


class MonotonicClock:
    """Real time since construction, from a source of nanoseconds that never goes back."""

    def __init__(self, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._now_ns = now_ns
        self._start_ns = now_ns()

    def now_samples(self) -> int:
        return (self._now_ns() - self._start_ns) * SAMPLE_RATE // 1_000_000_000
