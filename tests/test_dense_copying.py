"""Dense text that teaches repeating: what is asked for was said before, and only the repetition is learned."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from textpro.models.chat import ChatFormat
from textpro.models.text import ONES
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


def test_what_is_learned_repeats_what_was_said_just_before(tokenizer, drawn):
    ids, weights = drawn
    answers = _learned(ids, weights)
    assert len(answers) > 50
    openings = set()
    for start, end in answers[:-1]:
        answer = tokenizer.decode(ids[start:end], skip_special_tokens=True).strip()
        opening, _, words = answer.rpartition("said: ")
        openings.add(opening)
        before = tokenizer.decode(ids[max(0, start - 90) : start], skip_special_tokens=True)
        spoken = " ".join(ONES[int(digit)] for digit in words.strip('"')) if words.strip('"').isdigit() else words
        for word in re.findall(r"[\w']+", spoken):
            assert word in before, (answer, before)
        if opening:
            assert ids[end - 1] == ChatFormat(tokenizer, {}).turn_end_id
    assert openings == {"You ", "I ", ""}


def test_digits_that_are_written_are_never_four(tokenizer, drawn):
    ids, weights = drawn
    answers = [tokenizer.decode(ids[start:end]).strip() for start, end in _learned(ids, weights)[:-1]]
    written = [answer.strip('"') for answer in answers if answer.strip('"').isdigit()]
    assert written and all(len(digits) != 4 for digits in written)


def _learned(ids: tuple[int, ...], weights: tuple[float, ...]) -> list[tuple[int, int]]:
    """Spans of tokens with weight."""
    edges = [place for place in range(1, len(ids)) if bool(weights[place]) != bool(weights[place - 1])]
    edges += [len(ids)] if len(edges) % 2 else []
    return list(zip(edges[::2], edges[1::2], strict=True))
