"""Each policy keeps the promise for any ticks and pauses; what is kept instead is told with its drift."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from random_speech import CONFIG, STARTS_WORD, noise, offline, recognizer
from textpro.streaming.commit_policy import POLICIES, DraftToken

plans = st.lists(st.tuples(st.integers(1, 9_000), st.sampled_from(["tick", "skip", "tick", "end"])), min_size=3, max_size=7)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate])
@given(seed=st.integers(0, 50), plan=plans)
def test_with_any_policy_and_schedule_the_turn_is_the_offline_one(policy, seed, plan):
    samples = noise(seed, min(sum(size for size, _ in plan), (CONFIG.max_frames - 1) * CONFIG.frame_samples))
    turn, replayed, at = recognizer(policy=POLICIES[policy]), [], 0

    def replay(change):
        if change.retracted_to is not None:
            assert change.retracted_to < len(replayed), "nothing is retracted that is not there"
            del replayed[change.retracted_to :]
        replayed.extend(change.committed)
        assert tuple(replayed) == turn.log.commits, "no index is written twice without a retraction"

    async def play():
        nonlocal at
        for size, what in plan:
            turn.feed(samples[at : at + size])
            at += size
            if what == "tick":
                replay(await turn.tick())
            elif what == "end":
                replay(await turn.finish())
                replay(turn.resume())
        replay(await turn.finish())

    asyncio.run(play())
    tokens, vectors = offline(samples)
    assert turn.log.tokens == tokens
    if tokens:
        np.testing.assert_allclose(np.stack(turn.log.vectors), vectors, atol=1e-4)


def committed_while_speaking(policy: str) -> int:
    """Tokens that ticks of 160 ms commit over several seeds."""

    async def play(seed: int) -> int:
        turn, samples = recognizer(policy=POLICIES[policy]), noise(seed, 32_000)
        for at in range(0, len(samples), 2_560):
            turn.feed(samples[at : at + 2_560])
            await turn.tick()
        return len(turn.log)

    return sum(asyncio.run(play(seed)) for seed in range(5))


def test_asking_both_commits_no_more_than_asking_one():
    both, agreement, alignment = (committed_while_speaking(name) for name in ("both", "agreement", "alignment"))
    assert 0 < both <= min(agreement, alignment)


FACTS = ((True, False), (False, True), (True, True), (True, True, False))
"""Survived, settled, sure."""


def test_the_policies_ask_what_they_say():
    table = {name: [policy.allows(DraftToken(*facts)) for facts in FACTS] for name, policy in POLICIES.items()}
    assert table == {
        "agreement": [True, False, True, True],
        "alignment": [False, True, True, True],
        "both": [False, False, True, False],
    }


@pytest.mark.parametrize("policy", ["agreement", "both"])
def test_told_to_keep_the_final_pass_replaces_nothing_and_tells_the_drift(policy):
    drifted = 0

    async def play(seed: int) -> None:
        nonlocal drifted
        samples = noise(seed, 32_000)
        turn = recognizer(policy=POLICIES[policy], final_pass="keep")
        for at in range(0, 28_160, 2_560):
            turn.feed(samples[at : at + 2_560])
            await turn.tick()
        kept = turn.log.commits
        turn.feed(samples[28_160:])
        change = await turn.finish()
        assert change.retracted_to is None and turn.log.commits[: len(kept)] == kept
        assert len(turn.drift) == len(kept)
        tokens, vectors = offline(samples)
        same = 0
        while same < min(len(kept), len(tokens)) and kept[same].token == tokens[same]:
            expected = cosine(kept[same].vector, vectors[same])
            assert turn.drift[same] == pytest.approx(expected, abs=1e-4)
            drifted += expected < 1 - 1e-4
            same += 1
        turn.resume()
        assert turn.log.commits[: len(kept)] == kept

    for seed in range(4):
        asyncio.run(play(seed))
    assert policy == "both" or drifted, "else nothing that drifts was compared"


def test_a_tick_without_audio_says_nothing():
    change = asyncio.run(recognizer().tick())
    assert (change.committed, change.retracted_to, change.tentative) == ((), None, ())


def test_committed_tokens_are_whole_words():
    async def play() -> None:
        turn, samples = recognizer(), noise(2, 32_000)
        for at in range(0, len(samples), 2_560):
            turn.feed(samples[at : at + 2_560])
            change = await turn.tick()
            if change.committed and change.tentative:
                assert STARTS_WORD[change.tentative[0]]

    asyncio.run(play())
