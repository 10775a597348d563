"""Single utterances for the recognizer, and the words they are made of. Most come from dialogues; the rest
are words, numbers, digits and short answers in any order, so that each word of the vocabulary is heard in
many contexts."""

import random
import re
from functools import cache

from . import arithmetic, capitals, devices, dialogue, remembering, robot, shop, smalltalk, tone
from .dialogue import sample_dialogue
from .numbers import DIGITS, NUMBER_WORDS, spoken_order
from .wordings import Wordings

SHORT_ANSWERS = (
    "yes", "no", "okay", "thanks", "thank you", "mm hm", "uh huh", "stop", "wait", "wait a moment", "hello",
    "hi", "yeah", "right", "sure", "i see", "all right", "never mind", "yes please", "no thanks", "hold on",
    "oh", "well", "bye", "really", "no stop", "please wait", "okay then", "go on", "not now",
)
# Never four: four digits are an order number, and some of those are held out.
_NUMBER_COUNTS = (1, 2, 3, 5, 6)
_DIGIT_COUNTS = (2, 3, 5, 6, 7)
_SLOT = re.compile(r"\{(\w+)\}")
_FILLER_PHRASES: tuple[str, ...] = (
    *devices.ROOMS, *robot.OBJECTS, *robot.COLOURS, *robot.PLACES, *robot.SPOTS, *capitals.COUNTRIES,
    *smalltalk.OUTSIDE_PLACES, *tone.THINGS, *remembering.NAMES, *tone.BREAKABLE,
    "on off left right forward backward meter meters are is over",
    "second seconds minute minutes hour hours o'clock oh in the morning afternoon evening",
)


def sentences(rng: random.Random, split: str) -> str:
    """One utterance for the recognizer: mostly of a dialogue, else words, numbers or digits at random."""
    if rng.random() >= 0.15:
        turns = sample_dialogue(rng, split).turns
        return turns[int(rng.random() * len(turns))].user
    kind = rng.random()
    if kind < 0.35:
        words = _word_list()
        return " ".join(rng.choice(words) for _ in range(rng.randint(2, 8)))
    if kind < 0.5:
        return rng.choice(_word_list())
    if kind < 0.65:
        return " ".join(rng.choice(NUMBER_WORDS) for _ in range(rng.choice(_NUMBER_COUNTS)))
    if kind < 0.75:
        return " ".join(rng.choice((*DIGITS, "oh")) for _ in range(rng.choice(_DIGIT_COUNTS)))
    if kind < 0.85:
        (order,) = shop.ORDERS.pick(rng, split)
        return rng.choice(("", "order ", "number ", "order number ")) + spoken_order(rng, order)
    return rng.choice(SHORT_ANSWERS)


def vocabulary() -> set[str]:
    """Every word that a user may say in any split."""
    return set(_word_list())


@cache
def _word_list() -> tuple[str, ...]:
    words: set[str] = set(NUMBER_WORDS)
    for text in (*all_templates(), *SHORT_ANSWERS, *_FILLER_PHRASES):
        words.update(_SLOT.sub(" ", text).split())
    return tuple(sorted(words))


@cache
def all_wordings() -> tuple[Wordings, ...]:
    """The wordings of all skills, as tests and reports look at them."""
    found: list[Wordings] = []
    for module in (arithmetic, capitals, devices, dialogue, remembering, robot, shop, smalltalk, tone):
        for value in vars(module).values():
            if isinstance(value, Wordings):
                found.append(value)
            elif isinstance(value, dict):
                found += [entry for entry in value.values() if isinstance(entry, Wordings)]
    found += [ways for _, ways in smalltalk.TALK] + [statement.ways for statement in tone.STATEMENTS]
    return tuple(found)


def all_templates() -> tuple[str, ...]:
    """Every wording once, known and held out."""
    return tuple(dict.fromkeys(text for ways in all_wordings() for text in (*ways.train, *ways.held)))
