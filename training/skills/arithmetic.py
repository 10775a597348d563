"""Sums, differences and products from nought to one hundred, and calculations that go on from the last
result. The reply echoes the question, so that a wrong hearing is heard back; a product is worked out aloud from
the one before it ("Five times seven is thirty five, plus seven is forty two."), because a model of this size can
add numbers that it never saw together but cannot multiply them (working shown as in Nye et al. 2021,
arXiv 2112.00114). Held out are unordered pairs of numbers for each operation; no working shows one of them."""

import operator
from collections.abc import Callable

from .draw import Draw
from .numbers import number_words, sentence
from .turns import Turn
from .wordings import BARE, SPLITS, Fillers, Frames, Wordings, filler_key, wordings

NAME = "arithmetic"
LIMIT = 100
MOST_TRIVIAL_FACTOR = 20  # times nought and times one need few examples
Pair = tuple[int, int]

RESULT: dict[str, Callable[[int, int], int]] = {
    "plus": operator.add, "minus": operator.sub, "times": operator.mul,
}
BEYOND_SHARE = 0.06
NO_NUMBER_REPLY = "Sorry, from which number?"

_EXPRESSIONS = {
    "plus": ("{a} plus {b}", "{a} plus {b}", "{a} plus {b}", "{a} and {b}", "the sum of {a} and {b}"),
    "minus": ("{a} minus {b}", "{a} minus {b}", "{a} minus {b}", "{a} take away {b}",
              "the difference between {a} and {b}"),
    "times": ("{a} times {b}", "{a} times {b}", "{a} times {b}", "{a} multiplied by {b}",
              "the product of {a} and {b}"),
}
_QUESTIONS = (
    "what is {x}", "what is {x}", "what is {x}", "what's {x}", "how much is {x}", "how much is {x}",
    "tell me {x}", "can you work out {x}", "please work out {x}", "could you tell me {x}",
    "can you tell me what {x} is", "i need to know {x}", "calculate {x}", "please calculate {x}",
    "give me {x}", "hey what is {x}", "okay what is {x}", "work out {x} for me", "do you know what {x} is",
    "what does {x} make", "tell me what {x} is please", "so what is {x}", "now what is {x}",
    "what is {x} please", "i want to know {x}", "and what is {x}", "hello what is {x}",
    "could you work out {x}",
)
_HELD_QUESTIONS = (
    "do you know {x}", "i want to know what {x} is", "could you calculate {x}",
    "please tell me how much {x} is", "can you give me {x}",
)
_VERBS = {
    "plus": (("add {a} and {b}", "add {a} to {b}", "what do you get when you add {a} and {b}"),
             ("what do you get when you add {a} to {b}",)),
    "minus": (("subtract {b} from {a}", "take {b} away from {a}",
               "what do you get when you subtract {b} from {a}"),
              ("what do you get when you take {b} away from {a}",)),
    "times": (("multiply {a} by {b}", "multiply {a} and {b}",
               "what do you get when you multiply {a} and {b}"),
              ("what do you get when you multiply {a} by {b}",)),
}
_VERB_FRAMES = Frames(known=("please {}", "can you {}", "could you {}", "{} please", "{} for me", "hey {}"),
                      held=("could you please {}",))
_FOLLOW = {
    "plus": (("and plus {k}", "plus {k}", "and add {k}", "now add {k}", "now plus {k}", "add {k} to that",
              "and what is that plus {k}", "and {k} more"),
             ("now add {k} to that", "what is that plus {k}", "now {k} more")),
    "minus": (("and minus {k}", "minus {k}", "now take away {k}", "take away {k}", "and take away {k}",
               "now minus {k}", "take {k} away from that", "subtract {k} from that",
               "and what is that minus {k}"),
              ("now take {k} away from that", "what is that minus {k}")),
    "times": (("and times {k}", "times {k}", "now times {k}", "multiply that by {k}", "now multiply by {k}",
               "and what is that times {k}", "and multiply by {k}"),
              ("now multiply that by {k}", "what is that times {k}")),
}


def _ways(operation: str) -> Wordings:
    expressions = dict.fromkeys(_EXPRESSIONS[operation])
    bare = [f"{a} please" for a in expressions if not a.endswith("and {b}")]
    asked = [text.replace("{x}", x) for text in _QUESTIONS for x in _EXPRESSIONS[operation]
             if x != "{a} and {b}" or text.endswith(("make", "is"))]
    held = [text.replace("{x}", x) for text in _HELD_QUESTIONS for x in expressions
            if x != "{a} and {b}" or text.endswith(("make", "is"))]
    known_verbs, held_verbs = _VERBS[operation]
    verbs = wordings(known_verbs, held_verbs, _VERB_FRAMES)
    plain = [_EXPRESSIONS[operation][0]] * 6 + bare
    return wordings([*asked, *plain, *verbs.train], [*held, *verbs.held], BARE)


def _pairs(operation: str) -> list[Pair]:
    numbers = range(LIMIT + 1)
    pairs = [(a, b) for a in numbers for b in numbers if 0 <= RESULT[operation](a, b) <= LIMIT]
    if operation == "times":
        return [(a, b) for a, b in pairs if min(a, b) > 1 or max(a, b) <= MOST_TRIVIAL_FACTOR]
    return pairs


WAYS = {operation: _ways(operation) for operation in RESULT}
FOLLOW_WAYS = {operation: wordings(*texts) for operation, texts in _FOLLOW.items()}


def _sorted_pair(pair: Pair) -> Pair:
    return (min(pair), max(pair))


_TIMES = Fillers("times", _pairs("times"), key=_sorted_pair)


def _step(small: int, large: int) -> tuple[int, int, int] | None:
    """The product that this one is worked out from and what is then added to it; None where only held-out ones would do."""
    for fewer, other, added in ((small - 1, large, large), (large - 1, small, small)):
        if (fewer, other) not in _TIMES.held_set:
            return fewer, other, added
    return None


def _sums_shown() -> frozenset[Pair]:
    """The sums inside of the workings that training shows."""
    shown: set[Pair] = set()
    for small, large in map(_sorted_pair, _TIMES.known):
        if small > 1 and (step := _step(small, large)) is not None:
            fewer, other, added = step
            shown.add(_sorted_pair((fewer * other, added)))
    return frozenset(shown)


PAIRS = {
    "plus": Fillers("plus", _pairs("plus"), key=_sorted_pair, shown=_sums_shown()),
    "minus": Fillers("minus", _pairs("minus"), key=_sorted_pair),
    "times": _TIMES,
}
NEXT = {
    (operation, split): [
        [k for k in range(2, LIMIT + 1) if (number, k) in allowed] for number in range(LIMIT + 1)
    ]
    for operation in RESULT
    for split in SPLITS
    for allowed in [frozenset(PAIRS[operation].pool(split))]
}


def start(draw: Draw) -> Turn:
    """A calculation of two numbers."""
    operation = draw.rng.choice(("plus", "plus", "plus", "minus", "minus", "minus", "times", "times"))
    if draw.split != "fillers" and draw.chance(BEYOND_SHARE):
        return _beyond(draw, operation)
    if draw.split != "fillers" and not draw.spoke_of(NAME) and draw.chance(0.02):
        return _without_number(draw, operation)
    a, b = draw.fill(PAIRS[operation])
    return _turn(draw, operation, draw.words(WAYS[operation]), a, b)


def follow(draw: Draw) -> Turn | None:
    """A calculation that goes on from the last result; None where no number of this split fits."""
    if draw.number < 0:
        return None
    operation = draw.rng.choice(("plus", "minus", "times"))
    if draw.split != "fillers" and draw.chance(BEYOND_SHARE):
        return _beyond_next(draw, operation)
    numbers = NEXT[operation, draw.split][draw.number]
    if not numbers:
        return None
    small = [k for k in numbers if k <= 12]
    k = draw.rng.choice(small if small and draw.chance(0.6) else numbers)
    return _turn(draw, operation, draw.words(FOLLOW_WAYS[operation]), draw.number, k)


def worked(operation: str, a: int, b: int) -> str:
    """What is replied: the sum, the difference, or a product with the step that leads to it."""
    first, second, result = number_words(a), number_words(b), number_words(RESULT[operation](a, b))
    small, large = _sorted_pair((a, b))
    if operation != "times" or small < 2:
        return sentence(f"{first} {operation} {second} is {result}.")
    if (step := _step(small, large)) is not None:
        fewer, other, added = step
        known = f"{number_words(fewer)} times {number_words(other)} is {number_words(fewer * other)}"
        return sentence(f"{known}, plus {number_words(added)} is {result}.")
    return sentence(f"{first} times {second} is {result}.")


def _beyond(draw: Draw, operation: str) -> Turn:
    """A result outside of what the assistant counts to, by little as often as by much."""
    a = draw.rng.randrange(2, LIMIT + 1) if operation != "minus" else draw.rng.randrange(LIMIT)
    template = draw.words(WAYS[operation])
    while "difference" in template:  # which has no order, so it is never below zero
        template = draw.words(WAYS[operation])
    return _over(draw, operation, template, a, _too_much(draw, operation, a))


def _beyond_next(draw: Draw, operation: str) -> Turn | None:
    """The same from the last result on; None where nothing leads outside."""
    if _least_too_much(operation, draw.number) > LIMIT:
        return None
    a = draw.number
    return _over(draw, operation, draw.words(FOLLOW_WAYS[operation]), a, _too_much(draw, operation, a))


def _too_much(draw: Draw, operation: str, a: int) -> int:
    """A second number of at most `LIMIT` that leads outside: one of the first that do, or any."""
    least = _least_too_much(operation, a)
    return draw.rng.randint(least, min(LIMIT, least + 9) if draw.chance(0.5) else LIMIT)


def _least_too_much(operation: str, a: int) -> int:
    return {"plus": LIMIT - a + 1, "minus": a + 1, "times": LIMIT // a + 1 if a else LIMIT + 1}[operation]


def _over(draw: Draw, operation: str, template: str, a: int, b: int) -> Turn:
    """The reply echoes the question like the others: whether the result is too large is said where it would stand."""
    first, second = number_words(a), number_words(b)
    user = template.replace("{a}", first).replace("{b}", second).replace("{k}", second)
    draw.number = -1
    outside = "less than zero" if operation == "minus" else "more than one hundred"
    return Turn(user, sentence(f"{first} {operation} {second} is {outside}."), NAME, template)


def _without_number(draw: Draw, operation: str) -> Turn:
    """A follow-up that follows nothing."""
    template = draw.words(FOLLOW_WAYS[operation])
    draw.number = -1
    return Turn(template.replace("{k}", number_words(draw.rng.randrange(LIMIT))),
                NO_NUMBER_REPLY, NAME, template)


def _turn(draw: Draw, operation: str, template: str, a: int, b: int) -> Turn:
    draw.number = RESULT[operation](a, b)
    first, second = number_words(a), number_words(b)
    user = template.replace("{a}", first).replace("{b}", second).replace("{k}", second)
    return Turn(user, worked(operation, a, b), NAME, template, filler=filler_key(operation, min(a, b), max(a, b)))
