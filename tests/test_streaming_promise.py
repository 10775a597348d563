"""Streaming never changes the answer: for any schedule, kind of encoder, fusion, grouping and policy the context ends as the
layout of the offline turn; and no stage sees how the audio was cut into pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from random_ears import CARRIED, full_listener, listener
from random_speech import STARTS_WORD, noise, offline, recognizer
from scripted_engine import CHAT, ScriptedEngine
from small_pair import PlainWhisper, example_audio, write_whisper
from textpro.agent.listener import Listener
from textpro.models.fusion import Fusion, enough_vectors, turn_vectors, user_rows
from textpro.models.pair import load_full_whisper
from textpro.models.whisper_full import FullSettings
from textpro.streaming.commit_policy import POLICIES
from textpro.streaming.interleaver import Interleaver

Vectors = list[np.ndarray]
Offline = Callable[[Listener, np.ndarray], tuple[tuple[int, ...], list[Vectors]]]
STEP = 6_400
steps = st.lists(st.sampled_from(["tick", "skip", "late tick", "end", "tick"]), min_size=2, max_size=9)
few = {"deadline": None, "suppress_health_check": list(HealthCheck), "phases": [Phase.explicit, Phase.generate]}


def chunked_offline(ears: Listener, heard: np.ndarray) -> tuple[tuple[int, ...], list[Vectors]]:
    """Each segment by plain layers, behind the prompt that the session's log gives."""
    found: list[int] = []
    vectors: list[Vectors] = []
    for segment in ears.segments:
        tokens, states = offline(heard[segment.start_samples : segment.end_samples], segment.prompt)
        found += tokens[: segment.n_tokens]
        vectors.append(list(states[: segment.n_tokens]))
    start = ears._turn.open_start_samples
    prompt = tuple(found[-CARRIED:])
    while prompt and not STARTS_WORD[prompt[0]] and any(STARTS_WORD[token] for token in prompt):
        prompt = prompt[1:]
    tokens, states = offline(heard[start:], prompt)
    return (*found, *tokens), [*vectors, list(states)]


async def play(ears: Listener, fusion: Fusion, samples: np.ndarray, plan: Sequence[str], expected: Offline) -> int:
    """A turn by the plan; at each soft end the context has to be the layout of the offline turn. Gives the number of tokens."""
    engine = ScriptedEngine(())
    context = engine.open_context()
    interleaver = Interleaver(engine, context, CHAT, fusion)
    await interleaver.open()
    base, heard, replayed = context.length, 0, list[int]()

    def hear() -> None:
        nonlocal heard
        for _ in ears.listen(samples[heard : heard + STEP]):
            pass
        heard = min(heard + STEP, len(samples))

    def replay(report) -> None:
        for name, values in report:
            if name == "TokensRetracted":
                assert values["to_index"] < len(replayed), "nothing is retracted that is not there"
                del replayed[values["to_index"] :]
            elif name == "TokensCommitted":
                assert values["start_index"] == len(replayed), "no index is written twice without a retraction"
                replayed.extend(values["tokens"])
        assert tuple(replayed) == ears.tokens

    async def end() -> None:
        replay(await ears.finish())
        await interleaver.complete(ears.tokens, ears.vectors)
        tokens, segments = expected(ears, samples[ears.start_samples : ears._fed_samples])
        vectors = turn_vectors(segments, fusion)
        stacked = enough_vectors(np.stack(vectors), len(tokens), fusion) if vectors and fusion.mode != "none" else None
        rows, held = user_rows(tokens, stacked, fusion), context.rows(base, context.length - base)
        assert [(one.token_id, one.vector is None) for one in held] == [(one.token_id, one.vector is None) for one in rows]
        for found, row in zip(held, rows, strict=True):
            if row.vector is not None:
                np.testing.assert_allclose(found.vector, row.vector, atol=1e-4)

    hear()
    hear()
    ears.open(STEP)
    for index in range(len(samples) // STEP - 2):
        hear()
        match plan[index % len(plan)]:
            case "late tick":
                hear()
                replay(await ears.tick())
                await interleaver.stream(ears.tokens, ears.vectors)
            case "tick":
                replay(await ears.tick())
                await interleaver.stream(ears.tokens, ears.vectors)
            case "skip":
                ears.skip_tick()
            case "end":
                await end()
                replay(ears.resume())
    await end()
    return len(ears.tokens)


FUSIONS = [Fusion(), Fusion(ratio=2), Fusion(grouping="array_split"), Fusion("global"), Fusion("none")]


@pytest.mark.parametrize("fusion", FUSIONS, ids=lambda one: f"{one.mode} {one.grouping} {one.ratio}")
@settings(max_examples=2, **few)
@given(seed=st.integers(0, 50), plan=steps, policy=st.sampled_from(sorted(POLICIES)))
def test_the_context_of_a_chunked_recognizer_is_the_offline_layout(fusion, seed, plan, policy):
    ears = listener(fusion, policy=policy)
    asyncio.run(play(ears, fusion, noise(seed, 4 * 16_000), plan, chunked_offline))


@pytest.fixture(scope="module")
def whisper(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("whisper")
    write_whisper(place)
    return place


@pytest.mark.parametrize("fusion", FUSIONS[2:], ids=lambda one: f"{one.mode} {one.grouping}")
@settings(max_examples=1, **few)
@given(plan=steps, policy=st.sampled_from(sorted(POLICIES)))
def test_the_context_of_a_full_recognizer_is_the_offline_layout(whisper, fusion, plan, policy):
    layer = None if fusion.mode == "none" else 1
    speech, plain = load_full_whisper(whisper, FullSettings("en", layer, alignment_heads=((0, 1), (1, 0)))), PlainWhisper(whisper)

    def by_generate(ears: Listener, heard: np.ndarray) -> tuple[tuple[int, ...], list[Vectors]]:
        ids, states = plain.generate(heard, speech.token_limit(len(heard)), layer or 0, language="en", task="transcribe")
        return tuple(ids), [list(states)]

    samples = example_audio("lost_keys_sad.wav")[: 2 * 16_000]
    assert asyncio.run(play(full_listener(speech, fusion, policy=policy), fusion, samples, plan, by_generate))


class Recorder:
    """In the recognizer's place: what was fed, and after which decision."""

    block_ready = False

    def __init__(self) -> None:
        self.fed: list[np.ndarray] = []

    def start(self) -> None:
        self.fed.clear()

    def feed(self, samples: np.ndarray) -> None:
        self.fed.append(samples.copy())


def stages(samples: np.ndarray, pieces: Sequence[int]) -> list[tuple[object, ...]]:
    """What the detector said at each decision and what the recognizer was fed behind it, for audio in such pieces."""
    ears, recorder, said, at, index = listener(), Recorder(), list[tuple[object, ...]](), 0, 0
    ears._turn = recorder
    while at < len(samples):
        piece = samples[at : at + pieces[index % len(pieces)]]
        at, index = at + len(piece), index + 1
        for heard in ears.listen(piece):
            if heard.speech_start is not None and not ears.is_open:
                ears.open(heard.speech_start)
            fed = np.concatenate([*recorder.fed, np.zeros(0, np.float32)])
            said.append((heard.now_samples, heard.probability, heard.speech_start, heard.speech_end, fed.tobytes()))
    return said


@settings(max_examples=10, **few)
@given(st.lists(st.integers(16, 32_000), min_size=1, max_size=40))
def test_audio_in_pieces_of_one_millisecond_to_two_seconds_gives_every_stage_the_same_samples(pieces):
    samples = example_audio("lost_keys_happy.wav")[: 2 * 16_000]
    expected = stages(samples, [512])
    assert any(start is not None for _, _, start, _, _ in expected), "else nothing was fed"
    assert stages(samples, pieces) == expected


@settings(max_examples=4, **few)
@given(
    seed=st.integers(0, 50),
    plan=st.lists(st.integers(1_000, 6_000), min_size=3, max_size=6),
    policy=st.sampled_from(["agreement", "alignment"]),
)
def test_a_tick_s_words_are_those_of_decoding_what_was_heard_from_scratch_or_it_waits_for_one_more(seed, plan, policy):
    samples, at, waited = noise(seed, sum(plan)), 0, False

    async def once(heard: np.ndarray) -> tuple[int, ...]:
        fresh = recognizer()
        fresh.feed(heard)
        return (await fresh.tick()).tentative

    async def run() -> None:
        nonlocal at, waited
        turn = recognizer(policy=POLICIES[policy])
        for size in plan:
            turn.feed(samples[at : at + size])
            at += size
            before = turn.log.tokens
            change = await turn.tick()
            same = (*turn.log.tokens, *change.tentative) == await once(samples[:at])
            assert same or (not waited and turn.log.tokens == before and change.retracted_to is None)
            waited = not same

    asyncio.run(run())
