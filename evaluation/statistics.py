"""What a count is worth: ratios of sums with bootstrap 95 % intervals.

Turns of one dialogue and words of one utterance are not independent, so whole dialogues and utterances are
drawn again (with replacement), never single turns or words. An interval of no width says that so few
samples showed no variation, not that there is none. Percentile bootstrap: Efron and Tibshirani 1993.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2_000
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Ratio:
    """`part` of `whole`, from `samples` that are independent of one another; the interval is None where
    there is none to draw from."""

    part: float
    whole: float
    samples: int
    low: float | None
    high: float | None

    @property
    def value(self) -> float | None:
        """None where nothing was counted."""
        return self.part / self.whole if self.whole else None

    def to_dict(self) -> dict[str, float | int | None]:
        """JSON values."""
        values = {"value": self.value, "low": self.low, "high": self.high}
        rounded = {name: None if value is None else round(value, 4) for name, value in values.items()}
        return {**rounded, "part": self.part, "whole": self.whole, "samples": self.samples}


def bootstrap_ratio(counts: Sequence[tuple[float, float]], seed: int) -> Ratio:
    """The ratio of the sums of `counts` (part, whole of one sample each) and its 95 % interval; a seed
    gives the same interval again."""
    part, whole = math.fsum(part for part, _ in counts), math.fsum(whole for _, whole in counts)
    if not whole:
        return Ratio(part, whole, len(counts), None, None)
    values = np.asarray(counts, np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    parts, wholes = values[drawn, 0].sum(1), values[drawn, 1].sum(1)
    ratios = parts[wholes > 0] / wholes[wholes > 0]
    low, high = np.quantile(ratios, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Ratio(part, whole, len(counts), float(low), float(high))
