"""How large the load and fuzz tests are: small ones belong to every run of the tests, `make load` runs them at full size."""

from __future__ import annotations

import logging
import os

import numpy as np
import pytest

from paced_runtime import MAX_LATE_MS, MachineWaits

FULL = os.environ.get("TEXTPRO_LOAD") == "full"
full_size = pytest.mark.skipif(not FULL, reason="full size: run `make load`")
BUSY_MS = 10.0
"""Of waiting for the processor for a piece of sound: what a machine of its own does not reach."""
_log = logging.getLogger("load")


def sized(small: int, full: int) -> int:
    """How many, of whatever is counted."""
    return full if FULL else small


def check_schedule(pieces: list[tuple[float, float]], waits: MachineWaits) -> None:
    """Each piece of sound, as (due, came) in seconds, was at most 50 ms late, not counting the time in which the machine had
    this process stand and wait. Beside a training that is most of it and known roughly only, because the threads also wait
    for each other: then three times as much is allowed. On a machine of its own the 50 ms hold. The log has all figures."""
    assert pieces
    late = np.array([(came - due) * 1000 for due, came in pieces])
    waited = np.array([waits.between(due, came) for due, came in pieces])
    own = np.minimum(late - waited, late)
    for name, values in (("late", late), ("machine", waited), ("own", own)):
        p50, p99 = np.percentile(values, (50, 99))
        _log.info("%d pieces, %s: p50 %.1f p99 %.1f max %.1f ms", len(pieces), name, p50, p99, values.max())
    most_ms = MAX_LATE_MS if np.percentile(waited, 90) < BUSY_MS else 3 * MAX_LATE_MS
    assert own.max() <= most_ms, f"a piece was {own.max():.0f} ms later than due, without what the machine took"
