"""The synthetic dialogue grammar: reproducible, divided cleanly, right in its sums, said in known words."""

import itertools
import json
import random
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textpro.models.text import clock_words, digit_words, normalize_typed, number_words
from textpro.training.skills import (
    SPLITS,
    TONES,
    TOOLS,
    Call,
    Dialogue,
    Turn,
    all_wordings,
    demo_result,
    sample_dialogue,
    sentences,
    vocabulary,
)

SAMPLES = 5_000
REPEATS = ("said", "again")


@cache
def dialogues(split: str) -> tuple[Dialogue, ...]:
    rng = random.Random(7)
    return tuple(sample_dialogue(rng, split) for _ in range(SAMPLES))


def turns(split: str) -> Iterator[Turn]:
    return itertools.chain.from_iterable(dialogue.turns for dialogue in dialogues(split))


@cache
def utterances(split: str) -> tuple[str, ...]:
    rng = random.Random(11)
    return tuple(sentences(rng, split) for _ in range(SAMPLES))


@pytest.mark.parametrize("split", SPLITS)
def test_a_seed_gives_the_same_corpus(split: str) -> None:
    first, second = random.Random(3), random.Random(3)
    assert [sample_dialogue(first, split) for _ in range(200)] == [sample_dialogue(second, split) for _ in range(200)]
    assert sentences(random.Random(5), split) == sentences(random.Random(5), split)


def test_an_unknown_split_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"'test'.*train, fillers, paraphrases"):
        sample_dialogue(random.Random(0), "test")


def test_held_out_templates_never_occur_in_training_and_alone_make_the_paraphrases() -> None:
    trained = {turn.template for turn in turns("train")}
    held = {turn.template for turn in turns("paraphrases")}
    assert not trained & held
    known = {text for ways in all_wordings() for text in ways.train}
    assert {turn.template for turn in turns("fillers")} <= known
    assert not {turn.user for turn in turns("train")} & {turn.user for turn in turns("paraphrases")}


def test_no_held_out_wording_of_one_skill_is_a_known_wording_of_another() -> None:
    known = {text for ways in all_wordings() for text in ways.train}
    assert not known & {text for ways in all_wordings() for text in ways.held}


def test_every_wording_list_holds_some_out_and_the_share_is_moderate() -> None:
    assert all(ways.train and ways.held for ways in all_wordings())
    held = sum(len(set(ways.held)) for ways in all_wordings())
    known = sum(len(set(ways.train)) for ways in all_wordings())
    assert 0.1 < held / (held + known) < 0.4


def test_held_out_fillers_never_occur_in_training() -> None:
    trained = {turn.filler for turn in turns("train")} - {None}
    held = {turn.filler for turn in turns("fillers")} - {None}
    assert not trained & held
    assert {filler.split(":")[0] for filler in held} == {filler.split(":")[0] for filler in trained}


def test_held_out_fillers_are_made_of_words_that_training_dialogues_use() -> None:
    rng = random.Random(8)
    many = (sample_dialogue(rng, "train") for _ in range(4 * SAMPLES))  # some words come once in five hundred dialogues
    trained = {word for dialogue in many for turn in dialogue.turns for word in turn.user.split()}
    assert {word for turn in turns("fillers") for word in turn.user.split()} <= trained


def test_no_call_of_a_held_out_filler_is_made_in_training() -> None:
    def calls(split: str) -> set[str]:
        return {str(turn.call) for turn in turns(split) if turn.call and turn.filler}

    assert not calls("train") & calls("fillers")


def test_every_turn_that_opens_a_subject_has_a_held_out_filler_in_that_split() -> None:
    assert all(dialogue.turns[0].filler for dialogue in dialogues("fillers"))


def test_held_out_number_pairs_are_unordered() -> None:
    trained = {filler for turn in turns("train") if (filler := turn.filler)}
    for turn in turns("fillers"):
        if turn.skill == "arithmetic" and turn.filler:
            operation, first, second = turn.filler.split(":")
            assert int(first) <= int(second)
            assert f"{operation}:{second}:{first}" not in trained


def test_utterances_for_the_recognizer_keep_held_out_orders_out_of_training() -> None:
    digits = {digit_words(f"{number:04d}"): f"order:{number:04d}" for number in range(10_000)}
    held = {turn.filler for turn in turns("fillers")}
    alone = [digits.get(re.sub(r"^(order )?(number )?", "", text.replace("oh", "zero"))) for text in utterances("train")]
    assert sum(order is not None for order in alone) > 50
    assert not held.intersection(alone) - {None}


@pytest.mark.parametrize("split", SPLITS)
def test_lengths_stay_speakable(split: str) -> None:
    assert {len(dialogue.turns) for dialogue in dialogues(split)} == {1, 2, 3, 4}
    assert max(len(turn.user.split()) for turn in turns(split)) <= 24
    assert max(len(turn.reply.split()) for turn in turns(split)) <= 24
    short = [len(turn.reply.split()) <= 14 for turn in turns(split)]
    assert sum(short) > 0.97 * len(short)


@pytest.mark.parametrize("split", SPLITS)
def test_users_speak_words_of_the_vocabulary_without_punctuation(split: str) -> None:
    words = vocabulary()
    for text in itertools.chain((turn.user for turn in turns(split)), utterances(split)):
        assert re.fullmatch(r"[a-z']+( [a-z']+)*", text), text
        assert set(text.split()) <= words


def test_training_says_every_word_of_the_vocabulary() -> None:
    rng = random.Random(1)
    heard = Counter(word for _ in range(40_000) for word in sentences(rng, "train").split())
    assert set(heard) == vocabulary()
    assert min(heard.values()) >= 5
    assert 450 <= len(vocabulary()) <= 700


def test_words_of_held_out_wordings_occur_in_known_ones() -> None:
    def words(texts: Iterator[str]) -> set[str]:
        return {word for text in texts for word in re.sub(r"\{\w+\}", " ", text).split()}

    known = words(text for ways in all_wordings() for text in ways.train)
    assert words(text for ways in all_wordings() for text in ways.held) <= known


def test_a_second_of_processor_time_gives_five_thousand_dialogues() -> None:
    rng, start = random.Random(2), time.process_time()
    for _ in range(1_000):
        sample_dialogue(rng, "train")
    assert time.process_time() - start < 0.2


@pytest.mark.parametrize("split", SPLITS)
def test_users_say_many_different_things(split: str) -> None:
    assert len({turn.user for turn in turns(split)}) > 3_500
    assert len(set(utterances(split))) > 2_800


@pytest.mark.parametrize("split", SPLITS)
def test_calls_name_known_tools_fit_their_schemas_and_are_json(split: str) -> None:
    schemas = {tool.name: tool.parameters for tool in TOOLS}
    for turn in turns(split):
        assert (turn.call is None) == (turn.result is None)
        if turn.call is None:
            continue
        schema = schemas[turn.call.name]
        assert set(schema["required"]) <= set(turn.call.arguments) <= set(schema["properties"])
        for name, value in turn.call.arguments.items():
            rule = schema["properties"][name]
            assert isinstance(value, int if rule["type"] == "integer" else str)
            assert value in rule.get("enum", [value])
        assert json.loads(json.dumps(turn.call.arguments)) == turn.call.arguments
        assert json.loads(json.dumps(turn.result)) == turn.result


def test_training_calls_every_tool() -> None:
    assert {turn.call.name for turn in turns("train") if turn.call} == {tool.name for tool in TOOLS}


@pytest.mark.parametrize("split", ["fillers", "paraphrases"])
def test_results_outside_of_training_are_those_of_the_demo_tools(split: str) -> None:
    assert all(turn.result == demo_result(turn.call) for turn in turns(split) if turn.call)


def test_a_reply_to_an_order_depends_on_the_result_alone() -> None:
    replies: dict[str, set[str]] = defaultdict(set)
    for turn in turns("train"):
        if turn.call and "order" in turn.call.arguments:
            replies[turn.call.name + json.dumps(turn.result)].add(turn.reply)
    assert all(len(said) == 1 for said in replies.values())
    assert len(replies) > 20


def test_demo_results_are_stable_and_consistent_between_tools() -> None:
    statuses = Counter()
    for number in range(0, 10_000, 7):
        order: dict[str, str | int] = {"order": f"{number:04d}"}
        status = demo_result(Call("order_status", order))["status"]
        assert demo_result(Call("cancel_order", order))["ok"] is (status in ("packed", "late"))
        assert demo_result(Call("refund_order", order))["ok"] is (status == "delivered")
        statuses[status] += 1
    assert min(statuses.values()) > 50
    assert demo_result(Call("set_light", {"room": "kitchen", "state": "on"})) == {"ok": True}


def test_the_same_first_words_in_the_same_tone_have_one_answer() -> None:
    answers: dict[tuple[str, str | None], set[str]] = defaultdict(set)
    for split in SPLITS:
        for dialogue in dialogues(split):
            turn = dialogue.turns[0]
            meant = f"{turn.call.name}{turn.call.arguments}" if turn.call else turn.reply
            answers[turn.user, turn.tone].add(meant)
    assert not {words: meant for words, meant in answers.items() if len(meant) > 1}


def test_tone_dependent_words_are_never_said_without_a_tone() -> None:
    with_tone = {turn.user for split in SPLITS for turn in turns(split) if turn.tone}
    assert not with_tone & {turn.user for split in SPLITS for turn in turns(split) if not turn.tone}


def test_each_tone_changes_the_answer() -> None:
    replies: dict[str, dict[str, str]] = defaultdict(dict)
    for turn in itertools.chain(turns("train"), turns("paraphrases")):
        if turn.tone:
            assert turn.tone in TONES
            replies[turn.user][turn.tone] = turn.reply
    complete = [by_tone for by_tone in replies.values() if len(by_tone) == len(TONES)]
    assert len(complete) > 60
    assert all(len(set(by_tone.values())) == len(TONES) for by_tone in complete)


def test_only_an_angry_caller_is_handed_over_for_a_service_statement() -> None:
    called = {turn.tone for turn in turns("train") if turn.skill == "tone" and turn.call}
    names = {turn.call.name for turn in turns("train") if turn.skill == "tone" and turn.call}
    assert called == {"angry"}
    assert names == {"transfer_to_person"}


@pytest.mark.parametrize("split", SPLITS)
def test_what_was_said_is_repeated_exactly_and_only_as_far_as_it_was_heard(split: str) -> None:
    repeated = cut = 0
    for dialogue in dialogues(split):
        assert dialogue.turns[0].skill not in REPEATS
        for before, turn in itertools.pairwise(dialogue.turns):
            if turn.skill == "said":
                assert turn.reply == f"You said: {before.user}."
            elif turn.skill == "again" and before.heard is None:
                assert turn.reply == f"I said: {before.reply}"
            elif turn.skill == "again":
                spoken = turn.reply.removeprefix("I said: ").split()
                heard = str(before.heard).split()
                assert len(spoken) == len(heard)
                assert [word.strip(".,:!?") for word in spoken] == [word.strip(".,:!?") for word in heard]
                cut += 1
            repeated += turn.skill in REPEATS
    assert repeated > 300
    assert cut > 50


@pytest.mark.parametrize("split", SPLITS)
def test_heard_words_are_a_strict_prefix_of_the_reply(split: str) -> None:
    interrupted = [turn for turn in turns(split) if turn.heard is not None]
    assert len(interrupted) > 200
    for turn in interrupted:
        heard, reply = str(turn.heard).split(), turn.reply.split()
        assert 0 < len(heard) < len(reply)
        assert reply[: len(heard)] == heard


def test_lights_follow_ups_mean_the_last_light_the_other_way() -> None:
    followed = 0
    for dialogue in dialogues("train"):
        light: dict[str, str | int] = {}
        for turn in dialogue.turns:
            if not turn.call or turn.call.name != "set_light":
                continue
            if "{room}" not in turn.template:
                assert turn.call.arguments["room"] == light["room"]
                assert turn.call.arguments["state"] != light["state"]
                followed += 1
            light = turn.call.arguments
    assert followed > 30


def test_an_order_number_asked_for_answers_the_request_before_it() -> None:
    answered = Counter()
    for dialogue in dialogues("train"):
        for before, turn in itertools.pairwise(dialogue.turns):
            if before.reply == "Okay, what is the order number?" and turn.skill == "shop":
                assert turn.call is not None
                assert digit_words(str(turn.call.arguments["order"])) in turn.user.replace("oh", "zero")
                answered[turn.call.name] += 1
    assert set(answered) == {"order_status", "cancel_order", "refund_order"}


def test_arithmetic_is_about_a_third_of_the_turns() -> None:
    shares = Counter(turn.skill for turn in turns("train"))
    assert 0.24 < shares["arithmetic"] / shares.total() < 0.36


def test_every_skill_is_in_training_and_in_the_paraphrases() -> None:
    skills = set("arithmetic devices robot shop capitals smalltalk joke remembering refusal tone sound".split())
    skills.update(REPEATS)
    assert {turn.skill for turn in turns("train")} == skills
    assert {turn.skill for turn in turns("paraphrases")} == skills


@pytest.mark.parametrize(
    ("typed", "spoken"),
    [
        ("What is 23+48?", "what is twenty three plus forty eight"),
        ("what's 50 - 8", "what's fifty minus eight"),
        ("7*8 and 7 x 8", "seven times eight and seven times eight"),
        ("Where is order #4719?", "where is order four seven one nine"),
        ("order number 42 please", "order number four two please"),
        ("it is 0815", "it is zero eight one five"),
        ("Wake me at 10:30!", "wake me at ten thirty"),
        ("7:05", "seven oh five"),
        ("set an alarm for 7 pm", "set an alarm for seven in the evening"),
        ("set an alarm for 19:00", "set an alarm for seven o'clock in the evening"),
        ("at 3:15p.m.", "at three fifteen in the afternoon"),
        ("twenty-three minutes", "twenty three minutes"),
        ("I\u2019m home", "i'm home"),
        ("'quoted' words'", "quoted words"),
        ("go forward 3m", "go forward three m"),
        ("\uff12\uff13 is 1,234 and 3.5%", "twenty three is one two three four and three point five percent"),
        ("i am 100", "i am one hundred"),
        ("  ", ""),
    ],
)
def test_typed_text_becomes_what_would_have_been_heard(typed: str, spoken: str) -> None:
    assert normalize_typed(typed) == spoken


@settings(deadline=None)
@given(st.text(max_size=60))
def test_typed_text_of_any_kind_is_normalized_once_and_for_all(text: str) -> None:
    once = normalize_typed(text)
    assert normalize_typed(once) == once
    assert not re.search(r"[0-9.,!?;:]", once)


@pytest.mark.parametrize("split", SPLITS)
def test_sentences_of_the_grammar_are_already_normal(split: str) -> None:
    assert all(normalize_typed(text) == text for text in utterances(split))


def test_number_words_are_unique_up_to_their_limit_and_refused_beyond() -> None:
    assert len({number_words(number) for number in range(1_000)}) == 1_000
    assert (number_words(0), number_words(40), number_words(100)) == ("zero", "forty", "one hundred")
    assert number_words(999) == "nine hundred ninety nine"
    assert clock_words(12, 0) == "twelve o'clock"
    with pytest.raises(ValueError, match="1000"):
        number_words(1_000)
