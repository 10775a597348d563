"""Sampling: what is chosen, how often, and that the choice depends on seed and position alone."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from textpro.engine.sampler import GREEDY, Sampling, sample, uniform
from textpro.models.errors import InputError

LOGITS = torch.tensor([2.0, 1.0, 0.0, -1.0, -3.0])


def draws(sampling: Sampling, count: int) -> Counter[int]:
    chosen = sample(LOGITS.expand(count, -1), [sampling] * count, range(count))
    return Counter(draw.token_id for draw in chosen)


def test_greedy_takes_the_best_and_reports_its_log_probability() -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(1))
    chosen = sample(logits, [GREEDY] * 3, [0, 1, 2])
    assert [draw.token_id for draw in chosen] == logits.argmax(-1).tolist()
    expected = logits.log_softmax(-1).amax(-1)
    assert [draw.logprob for draw in chosen] == pytest.approx(expected.tolist(), abs=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_frequencies_follow_the_tempered_distribution(temperature: float) -> None:
    count = 6_000
    seen = draws(Sampling(temperature=temperature, seed=3), count)
    expected = (LOGITS / temperature).softmax(-1).tolist()
    for token, probability in enumerate(expected):
        assert seen[token] / count == pytest.approx(probability, abs=4 * (probability / count) ** 0.5)


def test_top_p_keeps_the_smallest_set_with_that_mass() -> None:
    probabilities = LOGITS.softmax(-1)
    first_two = probabilities[:2].sum().item()
    assert set(draws(Sampling(temperature=1.0, top_p=first_two - 1e-3), 1_000)) == {0, 1}
    assert set(draws(Sampling(temperature=1.0, top_p=first_two + 1e-3), 1_000)) == {0, 1, 2}
    assert set(draws(Sampling(temperature=1.0, top_p=1e-6), 200)) == {0}


def test_log_probabilities_are_those_of_the_model_not_of_the_tempered_choice() -> None:
    draw = sample(LOGITS[None], [Sampling(temperature=5.0, top_p=0.9, seed=8)], [4])[0]
    assert draw.logprob == pytest.approx(LOGITS.log_softmax(-1)[draw.token_id].item(), abs=1e-6)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**64 - 1), position=st.integers(0, 100_000), neighbours=st.integers(0, 5))
def test_a_draw_depends_on_seed_and_position_not_on_neighbours(seed: int, position: int, neighbours: int) -> None:
    sampling = Sampling(temperature=1.3, top_p=0.95, seed=seed)
    alone = sample(LOGITS[None], [sampling], [position])[0]
    others = torch.randn(neighbours, 5)
    crowd = [Sampling(temperature=0.7, seed=number) for number in range(neighbours)]
    packed = sample(torch.cat((others, LOGITS[None])), [*crowd, sampling], [*range(neighbours), position])
    assert packed[-1].token_id == alone.token_id


def test_seeds_and_positions_give_different_numbers_and_leave_global_generators_alone() -> None:
    states = (torch.get_rng_state().tolist(), random.getstate())
    numbers = {uniform(seed, position) for seed in range(20) for position in range(20)}
    assert len(numbers) == 400 and all(0 <= number < 1 for number in numbers)
    draws(Sampling(temperature=1.0), 10)
    assert (torch.get_rng_state().tolist(), random.getstate()) == states


def test_a_tiny_temperature_ends_in_greedy() -> None:
    assert set(draws(Sampling(temperature=1e-30), 100)) == {0}


def test_greedy_and_sampled_rows_can_share_a_call() -> None:
    chosen = sample(LOGITS.expand(3, -1), [GREEDY, Sampling(temperature=1.0, seed=5), GREEDY], [0, 1, 2])
    assert chosen[0].token_id == chosen[2].token_id == 0


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(temperature=1.0, top_p=0.5)])
def test_logits_that_are_not_finite_are_marked(sampling: Sampling) -> None:
    broken = LOGITS.clone()
    broken[2] = float("nan")
    chosen = sample(torch.stack((broken, LOGITS)), [sampling] * 2, [0, 1])
    assert np.isnan(chosen[0].logprob) and np.isfinite(chosen[1].logprob)


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": -1.0}, {"temperature": float("nan")}, {"top_p": 0.0}, {"top_p": 1.1}, {"seed": -1}],
)
def test_settings_outside_their_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        Sampling(**wrong)
