"""The clause splitter: what it cuts, what it must not cut, and that arrival does not matter."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textpro.streaming.clauses import ClauseSplitter

NUMBERS = ["3.14", "1,000", "1,000,000.50", "10:30", "-2.5", "No. 5"]
ADDRESSES = ["https://a.com/x?y=1,2", "www.foo.org/bar", "me@foo.org"]
WHOLE = [*NUMBERS, *ADDRESSES, "$5.20", "e.g. this", "Dr. Smith", "5 p.m. today", "J. R. Hall", "the U.S. Army"]
MARKED = ["on,", "off.", "Really?", "well;", "(so)", "“Stop!”", "–", "71."]
WORDS = ["yes", "the", "light", "is", "and", "don't", *MARKED]
TEXTS = st.one_of(
    st.text(max_size=300),
    st.text(alphabet="ab1 ,.!?\n。，\"'", max_size=300),
    st.lists(st.sampled_from(WHOLE + WORDS), max_size=60).map(" ".join),
)


def clauses_of(pieces: list[str]) -> list[str]:
    splitter = ClauseSplitter()
    clauses = [clause for piece in pieces for clause in splitter.push(piece)]
    return clauses + splitter.flush()


@settings(deadline=None)
@given(TEXTS)
def test_clauses_joined_are_the_text(text: str) -> None:
    clauses = clauses_of([text])
    assert "".join(clauses) == text
    assert all(clauses)


@settings(deadline=None)
@given(TEXTS, st.lists(st.integers(0, 300), max_size=20))
def test_clauses_do_not_depend_on_how_the_text_arrives(text: str, cuts: list[int]) -> None:
    edges = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    pieces = [text[start:end] for start, end in pairwise(edges)]
    assert clauses_of(pieces) == clauses_of([text]) == clauses_of(list(text))


@settings(deadline=None)
@given(st.lists(st.sampled_from(WHOLE + WORDS), min_size=1, max_size=80))
def test_numbers_times_and_abbreviations_stay_whole(tokens: list[str]) -> None:
    text = " ".join(tokens)
    cuts, length = [], 0
    for clause in clauses_of(list(text)):
        length += len(clause)
        cuts.append(length)
    start = 0
    for token in tokens:
        if token in WHOLE:
            assert not any(start < cut < start + len(token) for cut in cuts), (token, clauses_of([text]))
        start += len(token) + 1


@settings(deadline=None)
@given(st.text(min_size=1, max_size=500))
def test_no_clause_is_longer_than_the_most(text: str) -> None:
    splitter = ClauseSplitter(most_characters=100)
    clauses = [*splitter.push(text * 9), *splitter.flush()]
    assert max(map(len, clauses)) <= 100


@settings(deadline=None)
@given(TEXTS)
def test_a_cut_leaves_something_to_say_in_each_clause_but_the_last(text: str) -> None:
    for clause in clauses_of([text])[:-1]:
        assert any(map(str.isalnum, clause))


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("Sure, I can do that. It is on.", ["Sure, ", "I can do that. ", "It is on."]),
        ("No. That is wrong.", ["No. ", "That is wrong."]),
        ('He said "Stop!" Then he left.', ['He said "Stop!" ', "Then he left."]),
        ("OK?\nYes! Done", ["OK?\n", "Yes! ", "Done"]),
        ("1. First thing. 2. Second thing.", ["1. First thing. ", "2. Second thing."]),
        ("The sum is 71. What else?", ["The sum is 71. ", "What else?"]),
        ("你好，世界。很好！「走吧。」他说。", ["你好，", "世界。", "很好！", "「走吧。」", "他说。"]),
        ("共有１，０００个。", ["共有１，０００个。"]),
        ("Well... I see. Hmm… Yes.", ["Well... ", "I see. ", "Hmm… ", "Yes."]),
        ("wait... now it works.", ["wait... ", "now it works."]),
        ('He said, "Yes. Now." Then he left.', ["He said, ", '"Yes. ', 'Now." ', "Then he left."]),
        ("It is at https://a.com/x?y=1,2. Then call.", ["It is at https://a.com/x?y=1,2. ", "Then call."]),
        ("请看https://a.com/b，谢谢。", ["请看https://a.com/b，", "谢谢。"]),
        ("今日は10:30に、3.14と1,000です。そうです。", ["今日は10:30に、", "3.14と1,000です。", "そうです。"]),
        ("共３．１４个，在１０：３０。", ["共３．１４个，", "在１０：３０。"]),
        ("สวัสดีครับ วันนี้อากาศดี เราไป", ["สวัสดีครับ ", "วันนี้อากาศดี เราไป"]),
        ("बहुत अच्छा।", ["बहुत अच्छा।"]),
        ("मैं ठीक हूँ। आप कैसे हैं?", ["मैं ठीक हूँ। ", "आप कैसे हैं?"]),
    ],
)
def test_clauses_end_where_a_speaker_would_pause(text: str, clauses: list[str]) -> None:
    assert clauses_of(list(text)) == clauses


def test_a_first_clause_without_marks_ends_after_some_words_at_a_fit_place() -> None:
    text = "Your order left our shop yesterday morning and will arrive tomorrow before noon"
    assert clauses_of([text])[0] == "Your order left our shop yesterday "


def test_a_number_in_words_is_not_cut() -> None:
    text = "So that makes the sum seven hundred thousand forty two lights in the kitchen"
    assert clauses_of([text])[0] == "So that makes the sum seven hundred thousand forty two lights "


def test_later_clauses_pass_short_commas() -> None:
    text = "Yes. Red, green, blue. " + "This clause is long enough to end at its comma, and this is the rest."
    assert clauses_of([text]) == [
        "Yes. ",
        "Red, green, blue. ",
        "This clause is long enough to end at its comma, ",
        "and this is the rest.",
    ]


def test_a_sentence_is_given_out_as_soon_as_the_next_begins() -> None:
    splitter = ClauseSplitter()
    assert splitter.push("It is on.") == []
    assert splitter.push(" ") == []
    assert splitter.push("W") == ["It is on. "]


def test_a_flush_begins_a_new_reply_with_a_short_first_clause() -> None:
    splitter = ClauseSplitter()
    splitter.push("One sentence. And more")
    assert splitter.flush() == ["And more"]
    assert splitter.flush() == []
    assert splitter.push("Well, yes") == ["Well, "]


def test_a_long_text_without_marks_or_spaces_is_cut_between_ideographs_but_not_within_katakana() -> None:
    first, second = clauses_of(["今天天气很好我们一起去公园散步" * 6])
    assert len(first) < 60
    assert second
    assert clauses_of(["パーソナルコンピューター" * 10]) == ["パーソナルコンピューター" * 10]
