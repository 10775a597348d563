"""What the user tells about themselves, and asks for later: their name, where a thing is, the colour they like. The answer
stands in an earlier turn and nowhere else."""

import random

from .draw import Draw
from .numbers import sentence
from .robot import COLOURS, SPOTS
from .tone import THINGS
from .turns import Turn
from .wordings import Fillers, Frames, T, Wordings, wordings

NAME = "remembering"
NAMED, PLACED, LIKED = "name", "place", "color"
"""Kinds of facts; a place is kept for each thing."""

NAMES = ("anna", "tom", "maria", "peter", "lucy", "jack", "emma", "david", "sarah", "paul", "laura", "max",
         "julia", "oliver", "sophie", "daniel")
RARE_NAMES = (
    "adam alex alice amy andrew ben bob carl carol charlie chris clara dan diana edward ella eric eva felix fiona frank "
    "george grace hannah harry helen henry ian isabel ivan jacob james jane jim joe john jonas kate karl karen kim leo lena "
    "leon lily linda lisa louis luke marcus mark martin mary matt mia michael mike mona nancy nick nina noah nora olga olivia "
    "otto pat philip rachel ray rita robert rosa ruth sam sandra simon stella steve susan theo thomas tina victor walter will"
).split()
"""Typed only: the recognizer has not learned to hear them."""
SYLLABLE_STARTS, SYLLABLE_VOWELS, SYLLABLE_ENDS = "bcdfghjklmnprstvwz", "aeiou", ("", "", "n", "r", "s", "l")
RARE_SHARE, MADE_UP_SHARE = 0.3, 0.2

USERS = Fillers("called", [(name,) for name in NAMES], shown=(("anna",),))  # the name that people try first
PLACES = Fillers("placed", [(thing, spot) for thing in THINGS for spot in SPOTS])
LIKINGS = Fillers("liked", [(colour,) for colour in COLOURS])

NAME_WAYS = wordings(("my name is {name}", "i am {name}", "hello my name is {name}", "hi i am {name}",
                      "call me {name}", "you can call me {name}"), ("hello i am {name}", "hi my name is {name}"))
MY_NAME_WAYS = wordings(("what is my name", "what's my name", "do you know my name", "who am i",
                         "tell me my name", "do you remember my name"), ("do you know who i am", "please tell me my name"))
_TELL = Frames(known=("hey {}", "okay {}", "please remember {}"), held=("well {}",))
PLACE_WAYS = wordings(("my {thing} {is} on the {spot}", "i put my {thing} on the {spot}", "i left my {thing} on the {spot}"),
                      ("i left my {thing} there on the {spot}",), _TELL)
WHERE_WAYS = wordings(("where {is} my {thing}", "where did i put my {thing}", "do you know where my {thing} {is}",
                       "tell me where my {thing} {is}", "where did i leave my {thing}"),
                      ("please tell me where my {thing} {is}", "do you remember where i put my {thing}"))
COLOUR_WAYS = wordings(("my favorite color is {colour}", "i like {colour}", "i like {colour} very much"),
                       ("i like the color {colour}",), _TELL)
MY_COLOUR_WAYS = wordings(("what is my favorite color", "what color do i like", "do you know my favorite color",
                           "do you remember my favorite color", "tell me my favorite color"),
                          ("do you know what color i like", "please tell me my favorite color"))


def start(draw: Draw) -> Turn:
    """Tells something, or at times asks for what was never told."""
    kind = draw.rng.random()
    if draw.split != "fillers" and draw.chance(0.15) and (turn := _ask_in_vain(draw, kind)) is not None:
        return turn
    return _name(draw) if kind < 0.45 else _place(draw) if kind < 0.8 else _colour(draw)


def recall(draw: Draw) -> Turn:
    """Asks for one of the things that were told."""
    key = draw.rng.choice(tuple(draw.told))
    value, filler = draw.told[key]
    draw.unasked.discard(key)
    kind, _, thing = key.partition(" ")
    if kind == NAMED:
        template = draw.words(MY_NAME_WAYS)
        return Turn(template, f"Your name is {sentence(value)}.", NAME, template, filler=filler)
    if kind == LIKED:
        template = draw.words(MY_COLOUR_WAYS)
        return Turn(template, f"Your favorite color is {value}.", NAME, template, filler=filler)
    template = draw.words(WHERE_WAYS)
    return Turn(_about(template, thing), f"Your {thing} {_is(thing)} on the {value}.", NAME, template, filler=filler)


def _name(draw: Draw) -> Turn:
    (name,) = draw.fill_freely(USERS, 0)
    if draw.typed and draw.chance(RARE_SHARE + MADE_UP_SHARE):
        name = draw.rng.choice(RARE_NAMES) if draw.chance(RARE_SHARE / (RARE_SHARE + MADE_UP_SHARE)) else _made_up(draw.rng)
    template = draw.words(NAME_WAYS)
    filler = _tell(draw, NAMED, USERS, (name,), name)
    return Turn(template.replace("{name}", name), f"Nice to meet you, {sentence(name)}.", NAME, template, filler=filler)


def _place(draw: Draw) -> Turn:
    thing, spot = draw.fill_freely(PLACES, 1)
    template = draw.words(PLACE_WAYS)
    filler = _tell(draw, f"{PLACED} {thing}", PLACES, (thing, spot), spot)
    reply = f"Okay, your {thing} {_is(thing)} on the {spot}."
    return Turn(_about(template, thing).replace("{spot}", spot), reply, NAME, template, filler=filler)


def _colour(draw: Draw) -> Turn:
    (colour,) = draw.fill_freely(LIKINGS, 0)
    template = draw.words(COLOUR_WAYS)
    filler = _tell(draw, LIKED, LIKINGS, (colour,), colour)
    return Turn(template.replace("{colour}", colour), f"Okay, you like {colour}.", NAME, template, filler=filler)


def _ask_in_vain(draw: Draw, kind: float) -> Turn | None:
    """None where it was told."""
    thing = draw.rng.choice(THINGS)
    asked: tuple[str, Wordings, str] = (f"{PLACED} {thing}", WHERE_WAYS, f"where your {thing} {_is(thing)}")
    if kind < 0.45:
        asked = (NAMED, MY_NAME_WAYS, "your name")
    elif kind >= 0.8:
        asked = (LIKED, MY_COLOUR_WAYS, "your favorite color")
    key, ways, what = asked
    if key in draw.told:
        return None
    template = draw.words(ways)
    return Turn(_about(template, thing), f"You did not tell me {what}.", NAME, template)


def _tell(draw: Draw, key: str, fillers: Fillers[T], values: T, value: str) -> str | None:
    """Notes a fact; the name of its combination of fillers."""
    filler = fillers.mark(draw.split, values)
    draw.told[key] = (value, filler)
    draw.unasked.add(key)
    return filler


def _about(template: str, thing: str) -> str:
    return template.replace("{thing}", thing).replace("{is}", _is(thing))


def _is(thing: str) -> str:
    return "are" if thing in ("keys", "glasses") else "is"


def _made_up(rng: random.Random) -> str:
    """A name that nobody has: two or three syllables."""
    syllables = (rng.choice(SYLLABLE_STARTS) + rng.choice(SYLLABLE_VOWELS) for _ in range(rng.randint(2, 3)))
    return "".join(syllables) + rng.choice(SYLLABLE_ENDS)
