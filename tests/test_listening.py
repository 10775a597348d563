"""What a listener says replays to what it holds, over cuts and pauses; the context follows the commits for every fusion."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from random_ears import listener, speech_text
from random_speech import noise
from scripted_engine import CHAT, ScriptedEngine
from textpro.agent.listener import ListeningSettings
from textpro.models.errors import InputError
from textpro.models.fusion import Fusion, enough_vectors, user_rows
from textpro.streaming.commit_policy import POLICIES
from textpro.streaming.interleaver import Interleaver


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate])
@given(seed=st.integers(0, 20), plan=st.lists(st.sampled_from(["tick", "skip", "end"]), min_size=2, max_size=9))
def test_replaying_the_events_gives_the_final_tokens_and_text(policy, seed, plan):
    ears, tokens, update = listener(policy=policy), [], {}

    def replay(report):
        for name, values in report:
            if name == "TokensRetracted":
                assert values["to_index"] < len(tokens)
                del tokens[values["to_index"] :]
            elif name == "TokensCommitted":
                assert values["start_index"] == len(tokens), "no index is written twice without a retraction"
                tokens.extend(values["tokens"])
                assert values["text"] == speech_text(values["tokens"])
            elif name == "Update":
                update.update(values)
        assert tuple(tokens) == ears.tokens

    async def play():
        samples = noise(seed, 5 * 16_000)
        for _ in ears.listen(samples[:16_000]):
            pass
        ears.open(8_000)
        for index, at in enumerate(range(16_000, len(samples), 6_400)):
            for _ in ears.listen(samples[at : at + 6_400]):
                pass
            step = plan[index % len(plan)]
            if step == "end":
                replay(await ears.finish())
                replay(ears.resume())
            elif step == "tick" and ears.block_ready:
                replay(await ears.tick())
        replay(await ears.finish())

    asyncio.run(play())
    assert ears.segments and update == {"committed": speech_text(tokens).strip(), "tentative": ""}
    assert ears.vectors is not None and len(ears.vectors) == len(ears.tokens)


def test_a_skipped_tick_is_counted_and_the_next_one_waits_for_more_audio():
    ears = listener()
    for heard in ears.listen(noise(1, 16_384)):
        assert heard.waiting_samples == 16_384 - heard.now_samples
    ears.open(0)
    assert ears.block_ready and ears.skipped_ticks == 0
    ears.skip_tick()
    assert not ears.block_ready and ears.skipped_ticks == 1
    for _ in ears.listen(noise(2, 5_120)):
        pass
    assert ears.block_ready
    ears.open(16_384)
    assert ears.skipped_ticks == 0


@pytest.mark.parametrize("wrong", [{"policy": "never"}, {"final_pass": "maybe"}])
def test_settings_that_there_are_not_are_refused(wrong):
    with pytest.raises(InputError, match="expected one of"):
        ListeningSettings(**wrong)


FUSIONS = [Fusion(), Fusion(ratio=2), Fusion(grouping="array_split"), Fusion("global"), Fusion("none")]
changes = st.lists(
    st.tuples(st.integers(0, 12), st.lists(st.integers(20, 60), max_size=7), st.booleans()), min_size=1, max_size=8
)


@settings(max_examples=25, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(fusion=st.sampled_from(FUSIONS), plan=changes)
def test_the_context_is_the_layout_of_the_commits_after_any_interleaving(fusion, plan):
    engine = ScriptedEngine(())
    context = engine.open_context()

    async def play():
        interleaver, tokens, vectors = Interleaver(engine, context, CHAT, fusion), [], []
        await interleaver.open()
        base = context.length
        for kept, new, looked in plan:
            tokens, vectors = tokens[:kept] + new, vectors[:kept]
            vectors += [np.full(3, len(vectors) * 7 + index, np.float32) for index in range(len(new))]
            if looked:
                await interleaver.stream(tokens, vectors)
                group = fusion.final_group
                held = [entry for entry in context.rows(base, context.length - base) if entry.vector is None]
                assert len(held) == (len(tokens) // group * group if group else 0)
        await interleaver.complete(tokens, vectors)
        stacked = enough_vectors(np.stack(vectors), len(tokens), fusion) if vectors else None
        expected = user_rows(tokens, stacked, fusion)
        held = context.rows(base, context.length - base)
        assert [entry.token_id for entry in held if entry.vector is None] == tokens
        assert len(held) == len(expected)
        for entry, row in zip(held, expected, strict=True):
            assert (entry.vector is None) == (row.vector is None)
            if row.vector is not None:
                np.testing.assert_array_equal(entry.vector, row.vector)

    asyncio.run(play())
