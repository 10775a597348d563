"""What ticks of a full recognizer commit under each policy, and that the turn is what `generate` says whatever they did."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from following_whisper import HEAD, write_following
from small_pair import PlainWhisper, example_audio, write_whisper
from textpro.engine import SpeechDone
from textpro.models.pair import load_full_whisper
from textpro.models.whisper_decoding import Transcribe
from textpro.models.whisper_full import FullSettings, FullWhisper, Transcribed
from textpro.streaming.commit_policy import POLICIES
from textpro.streaming.full_recognizer import SETTLED_SAMPLES, FullRecognizer
from textpro.streaming.guards import word_starts
from textpro.streaming.segments import LongTurn

SECOND = 16_000
STARTS_WORD = [index % 2 == 1 for index in range(100)]
"""Of the scripted tokens: an odd one begins a word, an even one goes on with it."""


class Script:
    """Hears the next hypothesis at each pass; its tokens end where it says, in seconds."""

    def __init__(self, *hypotheses: tuple[Sequence[int], Sequence[float]]) -> None:
        self.hypotheses, self.items = list(hypotheses), list[Transcribe]()

    async def __call__(self, item: Transcribe) -> SpeechDone:
        self.items.append(item)
        tokens, ends = self.hypotheses.pop(0)
        vectors = np.ones((len(tokens), 3 if item.prosody else 0), np.float32)
        times = (np.array(ends) * SECOND).astype(np.int64) if item.times else None
        return SpeechDone(Transcribed(tuple(tokens), vectors, ends=times), 0.01)


def turn_of(script: Script, policy: str, *, prosody: bool = False) -> FullRecognizer:
    return FullRecognizer(script, 30 * SECOND, prosody, policy=POLICIES[policy], starts_word=STARTS_WORD)


def ticked(turn: FullRecognizer, times: int) -> list[tuple[int, ...]]:
    """What is committed after each tick, a second apart."""

    async def play() -> list[tuple[int, ...]]:
        found = []
        for _ in range(times):
            turn.feed(np.zeros(SECOND, np.float32))
            before = turn.log.tokens
            change = await turn.tick()
            assert turn.log.tokens == before + tuple(commit.token for commit in change.committed)
            assert change.retracted_to is None
            found.append(turn.log.tokens)
        return found

    return asyncio.run(play())


FIRST, SECOND_LOOK = ((1, 2, 3), (0.2, 0.4, 0.9)), ((1, 2, 3, 4, 5), (0.2, 0.4, 1.2, 1.4, 1.9))


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("agreement", [(), (1, 2)]),  # 3 was found twice, its word not
        ("alignment", [(1, 2), (1, 2, 3, 4)]),  # the word of 3 and 4 ends 0.6 s before the edge of the second tick
        ("both", [(), (1, 2)]),
    ],
)
def test_a_policy_commits_whole_words_that_it_is_sure_of(policy, expected):
    turn = turn_of(Script(FIRST, SECOND_LOOK), policy)
    assert ticked(turn, 2) == expected


def test_a_word_too_near_to_the_edge_is_not_settled():
    edge = 1.0 - SETTLED_SAMPLES / SECOND
    for end, expected in ((edge, (1,)), (edge + 0.01, ())):
        assert ticked(turn_of(Script(((1, 3), (end, 1.0))), "alignment"), 1) == [expected]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["ä½ł", "å¥½", "åĲĹ"], (0, 1)),  # three Han characters: each is a word
        (["\u0120th", "er", "e"], ()),  # one word, whose end is too near to the edge
        (["\u0120is", "\u0120it", "\u0120"], (0, 1)),
    ],
)
def test_a_script_without_spaces_is_committed_character_by_character(pieces, expected):
    script = Script((range(3), (0.2, 0.4, 0.9)))
    turn = FullRecognizer(script, 30 * SECOND, False, policy=POLICIES["alignment"], starts_word=word_starts(pieces))
    assert ticked(turn, 1) == [expected]


def test_nothing_is_committed_early_where_vectors_are_wanted_or_no_times_are_known():
    for policy in POLICIES:
        assert ticked(turn_of(Script(FIRST, SECOND_LOOK), policy, prosody=True), 2) == [(), ()]

    async def untimed(item: Transcribe) -> SpeechDone:
        return SpeechDone(Transcribed((1, 2, 3), np.zeros((3, 0), np.float32)), 0.0)

    for policy, expected in (("agreement", (1, 2, 3)), ("alignment", ()), ("both", ())):
        turn = FullRecognizer(untimed, 30 * SECOND, False, policy=POLICIES[policy], starts_word=STARTS_WORD)
        assert ticked(turn, 2) == [(), expected]


def test_a_tick_that_hears_something_else_commits_nothing_and_the_final_pass_replaces():
    script = Script(FIRST, SECOND_LOOK, ((1, 4, 5, 7), (0.2, 0.4, 0.8, 1.0)), ((1, 4, 5), (0.2, 0.4, 0.8)))
    turn = turn_of(script, "agreement")
    assert ticked(turn, 3) == [(), (1, 2), (1, 2)]
    change = asyncio.run(turn.finish())
    assert change.retracted_to == 1 and turn.log.tokens == (1, 4, 5)
    assert [commit.end_samples for commit in turn.log.commits[1:]] == [6_400, 12_800], "word ends of the final pass"


def test_what_a_tick_committed_and_the_final_pass_confirmed_stays_when_speech_goes_on():
    turn = turn_of(Script(FIRST, SECOND_LOOK, SECOND_LOOK, ((1, 2, 3), (0.2, 0.4, 0.9))), "both")
    ticked(turn, 2)
    kept = turn.log.commits
    assert asyncio.run(turn.finish()).retracted_to is None and turn.log.tokens == (1, 2, 3, 4, 5)
    change = turn.resume()
    assert change.retracted_to == 2 and change.tentative == (3, 4, 5) and turn.log.commits == kept
    assert asyncio.run(turn.finish()).retracted_to is None and turn.log.tokens == (1, 2, 3)


@pytest.fixture(scope="module")
def whispers(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[FullWhisper, PlainWhisper]]:
    """One whose words change with the audio and one whose head follows it."""
    found = []
    for write, heads in ((write_whisper, ((0, 1), (1, 0))), (write_following, (HEAD,))):
        folder: Path = tmp_path_factory.mktemp("whisper")
        write(folder)
        found.append((load_full_whisper(folder, FullSettings("en", alignment_heads=heads)), PlainWhisper(folder)))
    return found


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate])
@given(
    which=st.integers(0, 1),
    plan=st.lists(st.tuples(st.integers(1, 12_000), st.sampled_from(["tick", "skip", "tick", "end"])), min_size=2, max_size=6),
)
def test_with_any_policy_and_schedule_the_turn_is_what_generate_says(whispers, policy, which, plan):
    speech, plain = whispers[which]
    starts_word = word_starts(speech.tokenizer.convert_ids_to_tokens(list(range(len(speech.tokenizer)))))
    samples = example_audio("lost_keys_sad.wav")[: sum(size for size, _ in plan)]
    replayed: list[object] = []

    async def run(item: Transcribe) -> SpeechDone:
        return SpeechDone(speech.transcribe(item), 0.0)

    full = FullRecognizer(run, speech.window_samples, False, None, speech.text, POLICIES[policy], starts_word)
    turn = LongTurn(full, speech.max_prompt, starts_word.__getitem__)

    def replay(change):
        if change.retracted_to is not None:
            assert change.retracted_to < len(replayed), "nothing is retracted that is not there"
            del replayed[change.retracted_to :]
        replayed.extend(change.committed)
        assert tuple(replayed) == turn.log.commits, "no index is written twice without a retraction"

    async def play():
        at = 0
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
    expected, _ = plain.generate(samples, speech.token_limit(len(samples)), language="en", task="transcribe")
    assert list(turn.log.tokens) == expected


def test_ticks_of_a_whisper_with_heads_commit_while_speech_goes_on(whispers):
    speech, _ = whispers[1]
    starts_word = word_starts(speech.tokenizer.convert_ids_to_tokens(list(range(len(speech.tokenizer)))))

    async def run(item: Transcribe) -> SpeechDone:
        return SpeechDone(speech.transcribe(item), 0.0)

    async def committed(policy: str) -> int:
        turn = FullRecognizer(run, speech.window_samples, False, None, speech.text, POLICIES[policy], starts_word)
        samples = np.zeros(2 * SECOND, np.float32)
        for at in range(0, len(samples), SECOND):
            turn.feed(samples[at : at + SECOND])
            await turn.tick()
        return len(turn.log)

    both, agreement, alignment = (asyncio.run(committed(policy)) for policy in ("both", "agreement", "alignment"))
    assert 0 < both <= min(agreement, alignment)
