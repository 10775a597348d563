"""Which P(end) means what, for a backbone that we did not train: thresholds fitted to turns whose end is known.

The fitted rule is that of `turn_sweep` (threshold, delay, timeout). It is kept only if it holds on turns that it was not
fitted to: each half of the turns is judged by the rule fitted to the other half, and has to leave less dead air than silence
alone would at no more cut-offs. Else the answer is to end turns by silence alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .turn_sweep import Policy, Scored, cost_of, least_dead_air, sweep, sweep_silence

Turns = Sequence[Sequence[Scored]]
"""The decisions of each turn."""
MIN_PAUSES = 20
"""Fewer pauses say nothing about a rate of 5 %."""
LEAST_P = 1e-9
MAX_WAIT_SHARE = 0.9
"""The rule has to leave at most this share of the dead air that silence alone leaves."""


@dataclass(frozen=True, slots=True)
class Fit:
    """`policy` None: P(end) of this model is no better than silence, by what `checked` (cut-off rate, dead air in ms, on the
    other half) and `silence_ms` (dead air of silence alone at that rate) say; `reason` says it in words."""

    policy: Policy | None
    fitted: tuple[float, float] | None
    checked: tuple[float, float] | None
    silence_ms: float | None
    reason: str


def fit_policy(turns: Turns, max_cut_off_rate: float) -> Fit:
    """The rule with the least dead air at this share of cut-offs, if it holds on turns that it was not fitted to."""
    decisions = [one for turn in turns for one in turn]
    pauses = sum(not one.is_end and one.counts for one in decisions)
    if pauses < MIN_PAUSES:
        return Fit(None, None, None, None, f"{pauses} pauses are too few to fit a rule: expected at least {MIN_PAUSES}")
    best = least_dead_air(sweep(decisions), max_cut_off_rate)
    if best is None:
        return Fit(None, None, None, None, f"no rule cuts off as few as {max_cut_off_rate:.0%} of the pauses")
    fitted = (best.cut_off_rate, best.dead_air_ms)
    checked = check(turns, max_cut_off_rate)
    silence = None if checked is None else least_dead_air(sweep_silence(decisions), max(checked[0], max_cut_off_rate))
    if checked is None or silence is None:
        return Fit(None, fitted, checked, None, "half of the turns has no pauses or no ends: give more turns")
    waits = f"{checked[1]:.0f} ms of dead air at {checked[0]:.1%} cut-offs on turns it was not fitted to"
    against = f"silence alone {silence.dead_air_ms:.0f} ms"
    if checked[1] > MAX_WAIT_SHARE * silence.dead_air_ms:
        return Fit(None, fitted, checked, silence.dead_air_ms, f"P(end) does not help: {waits}, {against}")
    policy = replace(best.policy, threshold=between(decisions, best.policy.threshold))
    return Fit(policy, fitted, checked, silence.dead_air_ms, f"P(end) helps: {waits}, {against}")


def between(decisions: Sequence[Scored], threshold: float) -> float:
    """A threshold that does the same to these decisions and lies halfway (of the logarithms) to the next P(end) above."""
    above = min((one.p_end for one in decisions if one.p_end is not None and one.p_end > threshold), default=1.0)
    return float(f"{math.sqrt(max(threshold, LEAST_P) * above):.4g}") if above > LEAST_P else threshold


def check(turns: Turns, max_cut_off_rate: float) -> tuple[float, float] | None:
    """(cut-off rate, dead air in ms) over both halves, each judged by the rule fitted to the other; None where one has none."""
    halves = [[one for turn in turns[start::2] for one in turn] for start in (0, 1)]
    cut_offs = pauses = waits = ends = 0.0
    for fitted_to, judged in ((halves[0], halves[1]), (halves[1], halves[0])):
        best = least_dead_air(sweep(fitted_to), max_cut_off_rate)
        cost = None if best is None else cost_of(judged, best.policy.needed_ms)
        if cost is None:
            return None
        held = sum(not one.is_end and one.counts for one in judged)
        ended = sum(one.is_end for one in judged)
        cut_offs, pauses = cut_offs + cost[0] * held, pauses + held
        waits, ends = waits + cost[1] * ended, ends + ended
    return cut_offs / pauses, waits / ends
