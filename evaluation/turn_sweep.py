"""What a rule for ending turns costs: how often it cuts the user off, and how much dead air it leaves.

Every silence in a user's turn is a decision. The rule swept here has three knobs: a turn ends after `delay_ms` of silence
where P(end) is above `threshold`, and after `timeout_ms` wherever it is. Method, grid and the bounds on the silences that
count are those of LiveKit's eot-bench (github.com/livekit/eot-bench), so its published figures compare. Pure functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SCORE_MS = 200
"""P(end) is asked for this far into a silence; no rule acts on it sooner."""
SHORTEST_HOLD_MS, LONGEST_HOLD_MS = 200, 5_000
"""Pauses outside of these are decisions that no rule here can get wrong, or recordings gone wrong; they do not count."""
THRESHOLDS = tuple(round(step / 100, 2) for step in range(101))
DELAYS_MS = tuple(range(SCORE_MS, 1_001, 100))
TIMEOUTS_MS = tuple(range(1_000, 3_501, 500))
VAD_DELAYS_MS = tuple(range(SCORE_MS, 3_501, 10))
MAX_OWN_THRESHOLDS = 64
RESAMPLES = 200
_SLACK = 1e-9


@dataclass(frozen=True, slots=True)
class Scored:
    """One silence: `hold` of a turn that went on, or its end; `p_end` None where nobody was asked (too short, no words)."""

    is_end: bool
    silence_ms: float
    p_end: float | None

    @property
    def counts(self) -> bool:
        """Ends always; pauses within the bounds of eot-bench."""
        return self.is_end or SHORTEST_HOLD_MS <= self.silence_ms <= LONGEST_HOLD_MS


@dataclass(frozen=True, slots=True)
class Policy:
    """End after `delay_ms` of silence where P(end) > `threshold`, else after `timeout_ms`. VAD only: both the same."""

    threshold: float
    delay_ms: int
    timeout_ms: int

    def needed_ms(self, p_end: float | None) -> float:
        """Silence after which this policy ends the turn."""
        return self.delay_ms if p_end is not None and p_end > self.threshold else self.timeout_ms


@dataclass(frozen=True, slots=True)
class Point:
    """What a policy does: the share of pauses cut off, the mean silence after a true end, the share of ends that did not
    have to wait for the timeout."""

    policy: Policy
    cut_off_rate: float
    dead_air_ms: float
    detected_rate: float


def sweep(
    decisions: Sequence[Scored],
    thresholds: Sequence[float] | None = None,
    delays_ms: Sequence[int] = DELAYS_MS,
    timeouts_ms: Sequence[int] = TIMEOUTS_MS,
) -> list[Point]:
    """Every combination of the knobs whose timeout is not below its delay; `thresholds` None: those of `own_thresholds`.

    No points where there are no pauses or no ends to count.
    """
    swept = own_thresholds(decisions) if thresholds is None else tuple(thresholds)
    rates = _rates(decisions, swept, delays_ms, timeouts_ms)
    if rates is None:
        return []
    cut_off, dead_air, detected = rates
    points = []
    for (row, threshold), (column, delay), (layer, timeout) in product(*map(enumerate, (swept, delays_ms, timeouts_ms))):
        if timeout >= delay:
            place = (row, column, layer)
            policy = Policy(float(threshold), int(delay), int(timeout))
            points.append(Point(policy, float(cut_off[place]), float(dead_air[place]), float(detected[row])))
    return points


def sweep_silence(decisions: Sequence[Scored], delays_ms: Sequence[int] = VAD_DELAYS_MS) -> list[Point]:
    """Silence alone decides: VAD only."""
    return sweep(without_scores(decisions), (1.0,), (delays_ms[0],), delays_ms)


def without_scores(decisions: Sequence[Scored]) -> list[Scored]:
    """The same silences, and nobody who says whether the turn ends."""
    return [Scored(one.is_end, one.silence_ms, None) for one in decisions]


def own_thresholds(decisions: Iterable[Scored]) -> tuple[float, ...]:
    """The grid of eot-bench, and quantiles of the probabilities at hand: an uncalibrated model may never leave 0.00 to 0.01."""
    found = np.array([one.p_end for one in decisions if one.p_end is not None])
    own = np.quantile(found, np.linspace(0, 1, MAX_OWN_THRESHOLDS), method="lower").tolist() if len(found) else []
    return tuple(sorted({*THRESHOLDS, *(round(value, 9) for value in own)}))


def least_dead_air(points: Iterable[Point], max_cut_off_rate: float) -> Point | None:
    """The best point that cuts off at most this share of the pauses; None where there is none."""
    allowed = [point for point in points if point.cut_off_rate <= max_cut_off_rate + _SLACK]
    return min(allowed, key=_by_dead_air, default=None)


def fewest_cut_offs(points: Iterable[Point], max_dead_air_ms: float) -> Point | None:
    """The best point whose dead air is at most this; None where there is none."""
    allowed = [point for point in points if point.dead_air_ms <= max_dead_air_ms + _SLACK]
    return min(allowed, key=lambda point: (point.cut_off_rate, *_by_dead_air(point)), default=None)


def frontier(points: Iterable[Point]) -> list[Point]:
    """Points that no other beats in one figure without losing in the other, from little dead air to much."""
    best: list[Point] = []
    for point in sorted(points, key=_by_dead_air):
        if not best or point.cut_off_rate < best[-1].cut_off_rate - _SLACK:
            best.append(point)
    return best


def cost_of(decisions: Sequence[Scored], needed_ms: Callable[[float | None], float]) -> tuple[float, float] | None:
    """(share of pauses cut off, mean dead air in ms) of any rule from P(end) to the silence needed; None where there are no
    pauses or no ends to count."""
    cut = [one.silence_ms > needed_ms(one.p_end) for one in decisions if not one.is_end and one.counts]
    waits = [needed_ms(one.p_end) for one in decisions if one.is_end]
    return (float(np.mean(cut)), float(np.mean(waits))) if cut and waits else None


def dead_air_interval(
    turns: Sequence[Sequence[Scored]], max_cut_off_rate: float, seed: int, by_silence: bool
) -> tuple[float, float] | None:
    """95 % bootstrap interval of the least dead air, whole turns drawn again; `by_silence` for VAD only. None where a draw
    has no such point. The rule is fitted to each draw anew, as it is to the set itself."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(RESAMPLES):
        drawn = [one for index in rng.integers(0, len(turns), len(turns)) for one in turns[index]]
        if by_silence:
            rates = _rates(without_scores(drawn), (1.0,), VAD_DELAYS_MS[:1], VAD_DELAYS_MS)
        else:
            rates = _rates(drawn, THRESHOLDS, DELAYS_MS, TIMEOUTS_MS)
        if rates is None or not (allowed := rates[0] <= max_cut_off_rate + _SLACK).any():
            return None
        found.append(float(rates[1][allowed].min()))
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def area_under_curve(decisions: Iterable[Scored]) -> float | None:
    """How often an end has a higher P(end) than a pause, ties half; 0.5 is chance. None without both."""
    decisions = [one for one in decisions if one.p_end is not None and one.counts]
    ends = np.array([one.p_end for one in decisions if one.is_end])
    holds = np.array([one.p_end for one in decisions if not one.is_end])
    if not len(ends) or not len(holds):
        return None
    higher = (ends[:, None] > holds[None]).mean()
    return float(higher + 0.5 * (ends[:, None] == holds[None]).mean())


def _rates(
    decisions: Sequence[Scored], thresholds: Sequence[float], delays_ms: Sequence[int], timeouts_ms: Sequence[int]
) -> tuple[Floats, Floats, Floats] | None:
    """Cut-off rates and dead air in ms [thresholds, delays, timeouts], infinite where the timeout is below the delay, and
    shares of the ends detected [thresholds]; None without pauses or ends that count."""
    holds = [one for one in decisions if not one.is_end and one.counts]
    ends = [one for one in decisions if one.is_end]
    if not holds or not ends:
        return None
    delays, timeouts = np.asarray(delays_ms, np.float64), np.asarray(timeouts_ms, np.float64)
    levels = np.asarray(thresholds, np.float64)[:, None]
    lengths = np.array([one.silence_ms for one in holds])[:, None]
    sure = (_probabilities(holds) > levels).astype(np.float64)  # [thresholds, holds]
    past_delay, past_timeout = (lengths > delays).astype(np.float64), (lengths > timeouts).astype(np.float64)
    cut = past_timeout.sum(0) + (sure @ past_delay)[:, :, None] - (sure @ past_timeout)[:, None, :]
    detected = (_probabilities(ends) > levels).mean(1)
    dead_air = detected[:, None, None] * delays[:, None] + (1 - detected[:, None, None]) * timeouts
    below = np.broadcast_to(timeouts < delays[:, None], cut.shape)
    return np.where(below, np.inf, cut / len(holds)), np.where(below, np.inf, dead_air), detected


def _probabilities(decisions: Sequence[Scored]) -> Floats:
    return np.array([-1.0 if one.p_end is None else one.p_end for one in decisions])


def _by_dead_air(point: Point) -> tuple[float, float, int, int, float]:
    policy = point.policy
    return (point.dead_air_ms, point.cut_off_rate, policy.timeout_ms, policy.delay_ms, policy.threshold)
