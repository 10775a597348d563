"""Text that is nothing but sums, to teach number facts before conversation: "Twenty three plus forty eight is
seventy one." and the next line. Only pairs of numbers that training may use, by the skills' own division.

Products also come with the step that leads to them, as the skill replies ("Six times seven. Five times seven is thirty five,
plus seven is forty two."), and sums go on ("Eight plus three is eleven, plus forty is fifty one.").
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from ..models.chat import ChatFormat
from .skills.arithmetic import LIMIT, PAIRS, RESULT, worked
from .skills.numbers import number_words, sentence

SHARES = {"plus": 0.2, "minus": 0.18, "times": 0.14, "worked": 0.28, "going on": 0.2}
GOING_ON = "going on"
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
        self._comma = chat.reply(",")
        self._is, self._end, self._newline = chat.reply(" is"), chat.reply("."), chat.reply("\n")
        self._lines = {
            operation: [self._line(operation, a, b) for a, b in PAIRS[operation].pool("train")] for operation in PAIRS
        }
        self._chat = chat
        self._lines["worked"] = [self._worked(a, b) for a, b in PAIRS["times"].pool("train") if min(a, b) > 1]


    def draw(self, rng: random.Random, length: int) -> Line:
        """Exactly `length` tokens of lines and their weights; the last line may be cut."""
        ids: list[int] = []
        weights: list[float] = []
        names, shares = tuple(SHARES), tuple(SHARES.values())
        while len(ids) < length:
            name = rng.choices(names, shares)[0]
            line = self._going_on(rng) if name == GOING_ON else rng.choice(self._lines[name])
            ids += line[0]
            weights += line[1]
        return tuple(ids[:length]), tuple(weights[:length])

    def _worked(self, a: int, b: int) -> Line:
        """One product with its working."""
        question = (*self._first[a], *self._named["times"], *self._later[b])
        return self._weighed(question, self._chat.reply(f". {worked('times', a, b)}"[:-1]))

    def _going_on(self, rng: random.Random) -> Line:
        """A sum, a difference or a product to whose result another number is added."""
        while True:
            operation = rng.choice(tuple(PAIRS))
            a, b = rng.choice(PAIRS[operation].pool("train"))
            result = RESULT[operation](a, b)
            more = rng.randint(0, LIMIT - result)
            if (result, more) not in PAIRS["plus"].held_set:
                break
        asked = (*self._first[a], *self._named[operation], *self._later[b], *self._is)
        said = (*self._later[result], *self._comma, *self._named["plus"], *self._later[more], *self._is)
        said += tuple(self._later[result + more])
        return self._weighed(asked, said)

    def _line(self, operation: str, a: int, b: int) -> Line:
        """One line; its pieces join as ids because no token spans two words."""
        question = (*self._first[a], *self._named[operation], *self._later[b], *self._is)
        return self._weighed(question, self._later[RESULT[operation](a, b)])

    def _weighed(self, question: Sequence[int], answer: Sequence[int]) -> Line:
        answer = (*answer, *self._end)
        weights = [QUESTION_WEIGHT] * len(question) + [1.0] * len(answer)
        weights += [QUESTION_WEIGHT] * len(self._newline)
        return (*question, *answer, *self._newline), tuple(weights)
