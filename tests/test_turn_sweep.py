"""What a rule for ending turns costs, on decisions made up so that every figure is known."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textpro.evaluation.turn_fit import MIN_PAUSES, fit_policy
from textpro.evaluation.turn_sweep import (
    DELAYS_MS,
    THRESHOLDS,
    TIMEOUTS_MS,
    Policy,
    Scored,
    area_under_curve,
    cost_of,
    dead_air_interval,
    fewest_cut_offs,
    frontier,
    least_dead_air,
    own_thresholds,
    sweep,
    sweep_silence,
)


def pause(ms: float, p: float | None) -> Scored:
    return Scored(False, ms, p)


def end(p: float | None) -> Scored:
    return Scored(True, 800, p)


FOUR = (pause(250, 0.1), pause(450, 0.8), pause(900, 0.3), pause(1_800, 0.2), end(0.9), end(0.7), end(0.25), end(None))


def test_a_policy_cuts_off_pauses_that_it_is_sure_of_after_the_delay_and_all_after_the_timeout() -> None:
    (point,) = sweep(FOUR, (0.5,), (400,), (1_500,))
    assert point.policy == Policy(0.5, 400, 1_500)
    assert point.cut_off_rate == pytest.approx(2 / 4)  # the sure one of 450 ms, and the one of 1,800 ms
    assert point.dead_air_ms == pytest.approx((400 + 400 + 1_500 + 1_500) / 4)
    assert point.detected_rate == pytest.approx(0.5)


def test_a_pause_that_lasts_exactly_as_long_as_the_rule_waits_is_not_cut_off() -> None:
    decisions = (pause(400, 0.9), pause(1_000, 0.0), end(0.9))
    (point,) = sweep(decisions, (0.5,), (400,), (1_000,))
    assert point.cut_off_rate == 0


def test_a_probability_at_the_threshold_is_not_above_it() -> None:
    (point,) = sweep((pause(700, 0.5), end(0.5)), (0.5,), (200,), (1_000,))
    assert (point.cut_off_rate, point.dead_air_ms) == (0, 1_000)


def test_pauses_that_no_rule_acts_on_do_not_count_but_short_ends_do() -> None:
    decisions = (pause(120, None), pause(300, 0.9), pause(9_000, 0.9), Scored(True, 150, 0.9))
    (point,) = sweep(decisions, (0.5,), (200,), (1_000,))
    assert (point.cut_off_rate, point.dead_air_ms) == (1.0, 200)


def test_silence_alone_knows_no_probability() -> None:
    points = {point.policy.timeout_ms: point for point in sweep_silence(FOUR, (200, 300, 600, 2_000))}
    assert [points[ms].cut_off_rate for ms in (200, 300, 600, 2_000)] == [1.0, 0.75, 0.5, 0.0]
    assert all(point.dead_air_ms == ms for ms, point in points.items())


def test_budgets_pick_the_best_point_and_say_none_where_nothing_keeps_them() -> None:
    points = sweep(FOUR, (0.26, 0.5), (200, 1_000), (1_500, 2_000))
    best = least_dead_air(points, 0.25)
    assert best is not None
    assert best.policy == Policy(0.5, 200, 2_000)  # of 0.26 even the pause of 900 ms at 0.3 is cut off
    fewest = fewest_cut_offs(points, 1_100)
    assert fewest is not None
    assert (fewest.policy, fewest.cut_off_rate) == (Policy(0.5, 200, 2_000), 0.25)
    assert least_dead_air(points, 0.0).policy == Policy(0.26, 1_000, 2_000)  # type: ignore[union-attr]
    assert fewest_cut_offs(points, 100) is None
    assert least_dead_air([], 0.5) is None


def test_without_pauses_or_without_ends_there_is_nothing_to_sweep() -> None:
    assert sweep([end(0.5)]) == [] == sweep([pause(500, 0.5)])
    assert cost_of([end(0.5)], lambda p: 300.0) is None
    assert area_under_curve([end(0.5)]) is None


def test_the_area_is_the_share_of_pairs_in_order() -> None:
    assert area_under_curve([pause(300, 0.1), pause(300, 0.5), end(0.5), end(0.9)]) == pytest.approx(3.5 / 4)


@settings(deadline=None)
@given(
    st.lists(
        st.builds(Scored, st.booleans(), st.floats(100, 4_000), st.none() | st.floats(0, 1)),
        min_size=2,
        max_size=30,
    )
)
def test_the_sweep_agrees_with_judging_each_decision_by_itself(decisions: list[Scored]) -> None:
    points = sweep(decisions, (0.0, 0.37, 0.9), DELAYS_MS[::4], TIMEOUTS_MS[::2])
    costs = [cost_of(decisions, point.policy.needed_ms) for point in points]
    assert [(point.cut_off_rate, point.dead_air_ms) for point in points] == [pytest.approx(cost) for cost in costs]
    border = frontier(points)
    for point in points:
        assert any(one.cut_off_rate <= point.cut_off_rate + 1e-9 and one.dead_air_ms <= point.dead_air_ms for one in border)
    assert [one.dead_air_ms for one in border] == sorted(one.dead_air_ms for one in border)


def test_thresholds_reach_into_the_corner_where_an_untrained_model_lives() -> None:
    decisions = [pause(2_000, 1e-6), pause(3_000, 2e-6), end(5e-6), end(6e-6)]
    assert set(THRESHOLDS) < set(own_thresholds(decisions))
    best = least_dead_air(sweep(decisions), 0.0)
    assert best is not None
    assert best.dead_air_ms == 200


def test_an_interval_holds_the_figure_and_is_the_same_again() -> None:
    turns = [(pause(300 + 40 * index, 0.3 * (index % 3)), end(0.9 if index % 4 else 0.2)) for index in range(40)]
    best = least_dead_air(sweep([one for turn in turns for one in turn], THRESHOLDS), 0.05)
    interval = dead_air_interval(turns, 0.05, 1, by_silence=False)
    assert best is not None
    assert interval is not None
    assert interval[0] <= best.dead_air_ms <= interval[1]
    assert interval == dead_air_interval(turns, 0.05, 1, by_silence=False)
    silence = dead_air_interval(turns, 0.05, 1, by_silence=True)
    assert silence is not None
    assert silence[0] > interval[1]


def told_apart(n: int) -> list[tuple[Scored, ...]]:
    return [(pause(250 + 37 * index % 1_500, 1e-5), end(3e-4)) for index in range(n)]


def test_a_model_that_tells_ends_gets_a_threshold_between_its_pauses_and_its_ends() -> None:
    fit = fit_policy(told_apart(40), 0.05)
    assert fit.policy is not None
    assert 1e-5 < fit.policy.threshold < 3e-4  # between the two, on neither
    assert fit.policy.delay_ms == 200
    assert fit.checked == pytest.approx((0.0, 200.0))


def test_a_model_whose_p_end_says_nothing_is_left_to_silence() -> None:
    turns = [(pause(250 + 37 * index % 1_500, (index * 7 % 40) / 40), end((index * 11 % 40) / 40)) for index in range(40)]
    fit = fit_policy(turns, 0.05)
    assert fit.policy is None
    assert "does not help" in fit.reason


def test_too_few_pauses_are_said_to_be_too_few() -> None:
    fit = fit_policy(told_apart(MIN_PAUSES - 1), 0.05)
    assert fit.policy is None
    assert f"at least {MIN_PAUSES}" in fit.reason
