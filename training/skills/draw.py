"""What a skill needs to say its next turn: random numbers, the split, and what the talk was about so far."""

import random
from dataclasses import dataclass, field
from typing import cast

from ...models.demo_tools import Call, demo_result
from .turns import Turn
from .wordings import Fillers, T, Wordings

STAND_IN_SHARE = 0.4
"""Of the training turns with a free place, so that what stands there must be read and not remembered."""
LARGEST_STAND_IN = 99
FAILED_REPLY = "Sorry, that did not work."
FAILED_SHARE = 0.03
TOLD_SHARE = 0.25
"""Of the training turns whose tool just succeeds: it says so in words of its own, as people's functions do."""


@dataclass(slots=True)
class Draw:
    """The state of one dialogue under way: its turns, and what a follow-up refers to.

    `stand_ins` are words that may stand for others in training, `number` is the last result (-1: none), `light` its room
    and state, `order` the number last named and `answered_as` the one whose results it gets, `open_tool` the request that
    still lacks a number, `held_object` what the robot holds, `drives` whether it was sent off, `told` what the user told (and
    the name of its fillers), of which `unasked` was not asked for yet. In a `typed` one there may be words that the recognizer
    never heard.
    """

    rng: random.Random
    split: str
    stand_ins: tuple[str, ...] = ()
    turns: list[Turn] = field(default_factory=list)
    skill: str = ""
    number: int = -1
    light: tuple[str, str] = ("", "")
    order: str = ""
    answered_as: str = ""
    open_tool: str = ""
    held_object: str = ""
    drives: bool = False
    joke: int = 0
    typed: bool = False
    told: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    unasked: set[str] = field(default_factory=set)

    def words(self, ways: Wordings) -> str:
        """A wording of this split."""
        return ways.pick(self.rng, self.split)

    def fill(self, fillers: Fillers[T]) -> T:
        """A combination of fillers of this split."""
        return fillers.pick(self.rng, self.split)

    def fill_freely(self, fillers: Fillers[T], *places: int) -> T:
        """As `fill`; in training, often with any word or number for the values at `places`, but never held-out ones."""
        values = self.fill(fillers)
        if self.split != "train" or not self.stand_ins or not self.chance(STAND_IN_SHARE):
            return values
        while True:
            changed = [self._stand_in(value) if index in places else value for index, value in enumerate(values)]
            if (free := cast(T, tuple(changed))) not in fillers.held_set:
                return free

    def _stand_in(self, value: object) -> object:
        return self.rng.randint(1, LARGEST_STAND_IN) if isinstance(value, int) else self.rng.choice(self.stand_ins)

    def spoke_of(self, skill: str) -> bool:
        """Whether any turn so far was of this skill."""
        return any(turn.skill == skill for turn in self.turns)

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.rng.random() < probability


def tool_turn(
    draw: Draw, skill: str, template: str, user: str, call: Call, reply: str, filler: str | None = None
) -> Turn:
    """A turn whose tool answers as the demo tools do, so that `reply` fits; in training it fails at times, and at times tells
    in words that it did not."""
    result = demo_result(call)
    if draw.split == "train" and draw.chance(FAILED_SHARE):
        return Turn(user, FAILED_REPLY, skill, template, call=call, result={"ok": False}, filler=filler)
    if draw.split == "train" and result == {"ok": True} and draw.chance(TOLD_SHARE):
        result = {"result": told(draw.rng, call, reply)}
    return Turn(user, reply, skill, template, call=call, result=result, filler=filler)


def told(rng: random.Random, call: Call, reply: str) -> str:
    """What somebody's function might return where nothing went wrong."""
    plain = reply.removeprefix("Okay, ").rstrip(".")
    values = " ".join(map(str, call.arguments.values()))
    return rng.choice((plain, plain, plain, "done", "ok", "okay", f"{call.name} done", f"{values} done".strip(), values or "ok"))
