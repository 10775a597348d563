"""Real time in samples."""

from textpro.streaming.clock import MonotonicClock


def test_monotonic_clock_counts_samples_from_its_construction():
    readings = iter([5_000_000_000, 5_000_000_000, 6_500_000_000])
    clock = MonotonicClock(lambda: next(readings))
    assert clock.now_samples() == 0
    assert clock.now_samples() == 24_000
