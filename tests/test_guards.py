"""Loops are cut, half characters are held back, and scripts without spaces are counted by character."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from small_checkpoint import small_tokenizer
from textpro.streaming.guards import is_unspaced, split_words, token_limit, whole_characters, without_loop, word_starts

TOKENIZER = small_tokenizer()  # one token for each byte


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(10, 30), max_size=10), st.lists(st.integers(0, 9), min_size=1, max_size=6, unique=True))
def test_a_loop_at_the_end_is_said_once(before, unit):
    repeats = -(-12 // len(unit)) + 4
    assert without_loop([*before, *unit * repeats]) == (*before, *unit)


def test_what_people_repeat_stays():
    for tokens in ((1,) * 8, (1, 2) * 5, (1, 2, 3) * 3, (7, *(1, 2, 3, 4) * 6, 8), ()):
        assert without_loop(tokens) == tokens


def test_nobody_speaks_faster_than_the_limit():
    assert [token_limit(seconds, 96) for seconds in (0, 1, 60)] == [8, 20, 96]


@settings(max_examples=50, deadline=None)
@given(
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x2FFFF, exclude_categories=["Cs"]), max_size=6), st.integers(0, 3)
)
def test_no_half_character_is_shown(text, dropped):
    text = text.replace("\ufffd", "")
    ids = tuple(TOKENIZER.encode(text))
    ids = ids[: len(ids) - dropped] if dropped else ids
    shown = TOKENIZER.decode(whole_characters(ids, TOKENIZER.decode))
    assert text.startswith(shown) and "\ufffd" not in shown
    assert len(text) - len(shown) <= dropped


def test_words_are_counted_by_space_and_by_character_where_there_is_none():
    assert split_words(" turn on 电灯 now ") == ["turn", "on", "电", "灯", "now"]
    assert split_words("สวัสดี") == list("สวัสดี") and split_words("안녕 하세요") == ["안녕", "하세요"]
    assert not is_unspaced("é")


def test_a_word_begins_with_a_space_or_with_a_character_of_a_script_without_spaces():
    pieces = ["\u0120the", "the", "ing", "\u0120", "ä½ł", "ä½łå¥½", "½ł", "ä", "Ã©", "<|pad|>"]
    assert word_starts(pieces) == [True, False, False, True, True, True, False, True, False, False]
