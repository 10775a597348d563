"""Text that is nothing but sums, to teach number facts before conversation: "Twenty three plus forty eight is
seventy one." and the next line. Only pairs of numbers that training may use, by the skills' own division.

A product that was never seen can be had from what it is made of, so there are lines that count in steps ("Three, six, nine,
twelve."), that add a number several times, and that say which product that is.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from ..models.chat import ChatFormat
from .skills.arithmetic import LIMIT, PAIRS, RESULT
from .skills.numbers import number_words, sentence

SHARES = {"plus": 0.3, "minus": 0.28, "times": 0.2, "counting": 0.1, "again and again": 0.06, "is made of": 0.06}
MOST_TIMES = 6
"""How often a number is added at most."""
LEAST_COUNTED = 4
QUESTION_WEIGHT = 0.1
"""Weight in the loss of the tokens before the result: drawn at random, they teach only how numbers look."""

Line = tuple[tuple[int, ...], tuple[float, ...]]


class DenseArithmetic:
    """All lines as ids with the weights of their tokens, ready to be drawn from."""

    def __init__(self, chat: ChatFormat) -> None:
        words = [number_words(number) for number in range(LIMIT + 1)]
        self._first = [chat.reply(sentence(text)) for text in words]
        self._later = [chat.reply(f" {text}") for text in words]
        self._named = {operation: chat.reply(f" {operation}") for operation in PAIRS}
        self._is, self._end, self._newline = chat.reply(" is"), chat.reply("."), chat.reply("\n")
        self._comma = chat.reply(",")
        self._lines = {
            operation: [self._line(operation, a, b) for a, b in PAIRS[operation].pool("train")] for operation in PAIRS
        }
        summed = [(a, b) for a in range(2, MOST_TIMES + 1) for b in range(2, LIMIT // a + 1)]
        held = PAIRS["plus"].held_set
        summed = [(a, b) for a, b in summed if not any((b * n, b) in held for n in range(1, a))]
        self._lines["again and again"] = [self._added(a, b) for a, b in summed]
        known = {*PAIRS["times"].pool("train")}
        self._lines["is made of"] = [self._made_of(a, b) for a, b in summed if (a, b) in known]
        self._lines["counting"] = [
            self._counted(step, first, last)
            for step in range(2, LIMIT // LEAST_COUNTED + 1)
            for first in range(1, LIMIT // step - LEAST_COUNTED + 2)
            for last in (min(first + 9, LIMIT // step),)
        ]

    def draw(self, rng: random.Random, length: int) -> Line:
        """Exactly `length` tokens of lines and their weights; the last line may be cut."""
        ids: list[int] = []
        weights: list[float] = []
        names, shares = tuple(SHARES), tuple(SHARES.values())
        while len(ids) < length:
            line = rng.choice(self._lines[rng.choices(names, shares)[0]])
            ids += line[0]
            weights += line[1]
        return tuple(ids[:length]), tuple(weights[:length])

    def _added(self, a: int, b: int) -> Line:
        """The number b, a times, and its sum: "Eight plus eight plus eight is twenty four." """
        more = (*self._named["plus"], *self._later[b])
        return self._weighed((*self._first[b], *more * (a - 1), *self._is), self._later[RESULT["times"](a, b)])

    def _made_of(self, a: int, b: int) -> Line:
        """The product as a sum: "Three times eight is eight plus eight plus eight." """
        more = (*self._named["plus"], *self._later[b])
        question = (*self._first[a], *self._named["times"], *self._later[b], *self._is)
        return self._weighed(question, (*self._later[b], *more * (a - 1)))

    def _counted(self, step: int, first: int, last: int) -> Line:
        """Multiples of `step` from the `first` to the `last`: "Six, nine, twelve, fifteen." The first two say the step."""
        numbers = [step * n for n in range(first, last + 1)]
        question = (*self._first[numbers[0]], *self._comma, *self._later[numbers[1]])
        return self._weighed(question, [token for number in numbers[2:] for token in (*self._comma, *self._later[number])])

    def _line(self, operation: str, a: int, b: int) -> Line:
        """One line; its pieces join as ids because no token spans two words."""
        question = (*self._first[a], *self._named[operation], *self._later[b], *self._is)
        return self._weighed(question, self._later[RESULT[operation](a, b)])

    def _weighed(self, question: Sequence[int], answer: Sequence[int]) -> Line:
        answer = (*answer, *self._end)
        weights = [QUESTION_WEIGHT] * len(question) + [1.0] * len(answer)
        weights += [QUESTION_WEIGHT] * len(self._newline)
        return (*question, *answer, *self._newline), tuple(weights)
