"""Sums of the dialogue grammar: right, within one hundred, products worked out aloud from what training may hold."""

import operator
import random
import re

import pytest

from textpro.models.text import number_words
from textpro.training.skills import SPLITS, sample_dialogue
from textpro.training.skills.arithmetic import PAIRS, worked

SAMPLES = 2_000
VALUE = {number_words(number): number for number in range(101)}
RESULT = {"plus": operator.add, "minus": operator.sub, "times": operator.mul}
OUTSIDE = re.compile(r"(.+) (plus|minus|times) (.+) is (more than one hundred|less than zero)")
ECHO = re.compile(r"(.+) (plus|minus|times) (.+) is (.+)")


def parts_of(sums: str) -> list[int]:
    """The numbers of "a plus b is c, plus d is e" after checking each step."""
    match = ECHO.fullmatch(sums.partition(", plus ")[0])
    assert match, sums
    numbers = [VALUE[match[1]], VALUE[match[3]], VALUE[match[4]]]
    assert RESULT[match[2]](numbers[0], numbers[1]) == numbers[2]
    if more := sums.partition(", plus ")[2]:
        added, result = (VALUE[text] for text in more.split(" is "))
        assert numbers[2] + added == result
        numbers += [added, result]
    return numbers


@pytest.mark.parametrize("split", SPLITS)
def test_arithmetic_is_right_stays_within_one_hundred_and_chains(split: str) -> None:
    counted = beyond = 0
    rng = random.Random(7)
    for dialogue in (sample_dialogue(rng, split) for _ in range(SAMPLES)):
        previous: int | None = None
        for turn in dialogue.turns:
            reply = turn.reply.lower().rstrip(".")
            if turn.skill != "arithmetic" or " is " not in reply:
                continue
            if (outside := OUTSIDE.fullmatch(reply)) is not None:
                too_much = RESULT[outside[2]](VALUE[outside[1]], VALUE[outside[3]])
                assert too_much > 100 if outside[4] == "more than one hundred" else too_much < 0
                previous = None
                beyond += 1
                continue
            result = parts_of(reply)[-1]
            fills = {a: number_words(a) for a in range(101)}
            if "{k}" in turn.template:
                asked = [(previous, k) for k in range(101) if turn.user == turn.template.replace("{k}", fills[k])]
            else:
                asked = [
                    (a, b)
                    for a in range(101)
                    for b in range(101)
                    if turn.user == turn.template.replace("{a}", fills[a]).replace("{b}", fills[b])
                ]
            operations = [turn.filler.split(":")[0]] if turn.filler else list(RESULT)  # a follow-up may carry no filler
            assert result in {RESULT[operation](a, b) for operation in operations for a, b in asked if a is not None}
            previous = result
            counted += 1
    assert counted > SAMPLES / 4
    assert (beyond > SAMPLES / 100) == (split != "fillers")


def test_a_product_is_worked_out_from_one_that_training_may_hold() -> None:
    held = PAIRS["times"].held_set
    shown = 0
    for a, b in PAIRS["times"].free:
        reply = worked("times", a, b)
        numbers = parts_of(reply.lower().rstrip("."))
        assert numbers[-1] == a * b
        if ", plus " in reply:
            assert (numbers[0], numbers[1]) not in held
            shown += 1
        else:
            assert min(a, b) <= 2 or {(min(a, b) - 1, max(a, b)), (min(a, b), max(a, b) - 1)} <= held | {(y, x) for x, y in held}
    assert shown > 150
