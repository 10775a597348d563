"""Dense text that teaches repeating: what is asked for was said before, and only the repetition is learned."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from textpro.models.chat import ChatFormat
from textpro.training.dense_copying import DenseCopying
from textpro.training.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> PreTrainedTokenizerFast:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(folder, vocab_size=700, dialogues=400)
    return PreTrainedTokenizerFast.from_pretrained(folder)


@pytest.fixture(scope="module")
def drawn(tokenizer) -> tuple[tuple[int, ...], tuple[float, ...]]:
    return DenseCopying(ChatFormat(tokenizer, {})).draw(random.Random(3), 4000)


def test_a_draw_has_exactly_the_length_that_was_asked_for(drawn):
    ids, weights = drawn
    assert len(ids) == len(weights) == 4000


def test_what_is_learned_is_a_turn_that_repeats_words_said_just_before(tokenizer, drawn):
    ids, weights = drawn
    answers = _learned(ids, weights)
    assert len(answers) > 50
    for start, end in answers[:-1]:
        answer = tokenizer.decode(ids[start:end], skip_special_tokens=True)
        opening, _, words = answer.partition(": ")
        assert opening in ("You said", "I said")
        before = tokenizer.decode(ids[max(0, start - 90) : start], skip_special_tokens=True)
        assert words.rstrip(".") in before, (answer, before)
        assert ids[end - 1] == ChatFormat(tokenizer, {}).turn_end_id


def test_both_sides_of_the_conversation_are_asked_for(tokenizer, drawn):
    ids, weights = drawn
    said = [tokenizer.decode(ids[start : start + 2]) for start, _ in _learned(ids, weights)]
    assert {"You said", "I said"} <= set(said)


def _learned(ids: tuple[int, ...], weights: tuple[float, ...]) -> list[tuple[int, int]]:
    """Spans of tokens with weight."""
    edges = [place for place in range(1, len(ids)) if bool(weights[place]) != bool(weights[place - 1])]
    edges += [len(ids)] if len(edges) % 2 else []
    return list(zip(edges[::2], edges[1::2], strict=True))
