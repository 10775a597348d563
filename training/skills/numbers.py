"""Numbers as the grammar says them: words, digits one by one, order numbers and times of day."""

import random

from ...models.text import ONES, clock_words, digit_words, number_words

__all__ = ["NUMBER_WORDS", "clock_words", "digit_words", "number_words", "sentence", "spoken_order"]

NUMBER_WORDS = tuple(dict.fromkeys(word for number in range(101) for word in number_words(number).split()))
DIGITS = tuple(ONES[:10])


def sentence(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


def spoken_order(rng: random.Random, order: str) -> str:
    """An order number digit by digit; its zeros are all said 'zero' or all 'oh'."""
    spoken = digit_words(order)
    return spoken.replace("zero", "oh") if rng.random() < 0.4 else spoken
