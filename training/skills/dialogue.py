"""The synthetic dialogue grammar: draws turns from the skills, and follow-ups from what was
said before. Everything is decided by the generator handed in, so a seed gives the same corpus anywhere."""

import dataclasses
import random
from collections.abc import Callable

from . import arithmetic, capitals, devices, remembering, robot, shop, smalltalk, tone
from .draw import Draw
from .turns import Dialogue, Turn
from .wordings import SPLITS, wordings

Start = Callable[[Draw], Turn]
Follow = Callable[[Draw], Turn | None]

LENGTHS = (1, 2, 3, 4)
LENGTH_SHARES = (45, 32, 15, 8)
FOLLOW_SHARE = 0.4
ANSWER_SHARE = 0.85
META_SHARE = 0.2
META_SHARE_CUT = 0.65
RECALL_SHARE = 0.35
CUT_SHARE = 0.12

# Shares of turns that open a subject; the second table holds the skills that have fillers to hold out.
STARTS: tuple[tuple[Start, float], ...] = (
    (arithmetic.start, 0.31), (devices.start, 0.14), (robot.start, 0.12), (shop.start, 0.11),
    (tone.start, 0.14), (capitals.start, 0.06), (smalltalk.start, 0.07), (smalltalk.refuse, 0.05),
    (tone.sound, 0.03), (remembering.start, 0.07),
)
FILLER_STARTS: tuple[tuple[Start, float], ...] = (
    (arithmetic.start, 0.4), (devices.start, 0.2), (robot.start, 0.15), (shop.start, 0.15), (tone.start, 0.1),
    (remembering.start, 0.08),
)
FOLLOWS: dict[str, Follow] = {
    arithmetic.NAME: arithmetic.follow, devices.NAME: devices.follow, robot.NAME: robot.follow,
    shop.NAME: shop.follow, capitals.NAME: capitals.follow, smalltalk.JOKE: smalltalk.another_joke,
}
SAID_WAYS = wordings(
    ("what did i say", "what did i just say", "repeat what i said", "can you repeat what i said",
     "tell me what i said", "do you know what i said", "what were my words"),
    ("tell me what i just said", "please repeat what i said"))
AGAIN_WAYS = wordings(
    ("what did you say", "what did you just say", "say that again", "please say that again",
     "can you repeat that", "repeat that please", "sorry what did you say", "can you say that again",
     "i did not hear you", "once more please"),
    ("sorry can you repeat that", "what did you say just now", "say that once more please"))
SAID, AGAIN = "said", "again"
LONGEST_REPEATED = 12
"""Words of a reply that was itself a repetition and is repeated."""
IN_VAIN_SHARE = 0.015
STAND_INS = tuple(dict.fromkeys(
    (*devices.ROOMS, *robot.OBJECTS, *robot.COLOURS, *robot.PLACES, *robot.SPOTS, *capitals.COUNTRIES,
     *remembering.NAMES, *smalltalk.OUTSIDE_PLACES, *tone.BREAKABLE)))
"""Things and names that training puts where a place, a thing or a colour belongs."""


def sample_dialogue(rng: random.Random, split: str, *, typed: bool = False) -> Dialogue:
    """One conversation of 1 to 4 turns for a split of `SPLITS`.

    'train' never holds a held-out filler or wording; 'fillers' puts held-out fillers into known wordings;
    'paraphrases' uses held-out wordings only, with any filler. In a `typed` one there may be names that the recognizer never
    heard.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; it is one of {', '.join(SPLITS)}")
    draw = Draw(rng, split, STAND_INS, typed=typed)
    length = rng.choices(LENGTHS, LENGTH_SHARES)[0]
    while len(draw.turns) < length:
        draw.turns.append(_next_turn(draw))
    if draw.unasked and length < LENGTHS[-1]:  # what was told is asked for, or it was told in vain
        draw.turns.append(_perhaps_cut(draw, remembering.recall(draw)))
    return Dialogue(tuple(draw.turns))


def _next_turn(draw: Draw) -> Turn:
    if draw.turns:
        last = draw.turns[-1]
        share = META_SHARE if last.heard is None else META_SHARE_CUT
        short = max(len(last.user.split()), len(last.reply.split())) <= LONGEST_REPEATED
        if (last.skill not in (SAID, AGAIN) or short) and draw.chance(share):
            return _repeat(draw, last)
        if draw.told and draw.chance(RECALL_SHARE):
            return _perhaps_cut(draw, remembering.recall(draw))
        follow = FOLLOWS.get(draw.skill)
        if follow is not None and draw.chance(ANSWER_SHARE if draw.open_tool else FOLLOW_SHARE):
            turn = follow(draw)
            if turn is not None:
                return _perhaps_cut(draw, turn)
    elif draw.split != "fillers" and draw.chance(IN_VAIN_SHARE):
        ways, who = draw.rng.choice(((SAID_WAYS, "You"), (AGAIN_WAYS, "I")))
        template = draw.words(ways)
        return Turn(template, f"{who} did not say anything yet.", smalltalk.NAME, template)
    starts, weights = _FILLER_TABLE if draw.split == "fillers" else _START_TABLE
    start = draw.rng.choices(starts, cum_weights=weights)[0]
    turn = start(draw)
    draw.skill = turn.skill
    return _perhaps_cut(draw, turn)


def _table(shares: tuple[tuple[Start, float], ...]) -> tuple[tuple[Start, ...], tuple[float, ...]]:
    total, sums = 0.0, []
    for _, share in shares:
        total += share
        sums.append(total)
    return tuple(start for start, _ in shares), tuple(sums)


_START_TABLE, _FILLER_TABLE = _table(STARTS), _table(FILLER_STARTS)


def _repeat(draw: Draw, last: Turn) -> Turn:
    if draw.chance(0.5 if last.heard is None else 0.15):
        template = draw.words(SAID_WAYS)
        return Turn(template, f"You said: {last.user}.", SAID, template)
    template = draw.words(AGAIN_WAYS)
    spoken = last.reply if last.heard is None else last.heard
    spoken = spoken.rstrip(",:;")
    return Turn(template, f"I said: {spoken if spoken.endswith(('.', '!', '?')) else spoken + '.'}",
                AGAIN, template)


def _perhaps_cut(draw: Draw, turn: Turn) -> Turn:
    words = turn.reply.split()
    if len(words) < 3 or not draw.chance(CUT_SHARE):
        return turn
    return dataclasses.replace(turn, heard=" ".join(words[: draw.rng.randrange(1, len(words))]))
