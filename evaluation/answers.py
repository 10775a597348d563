"""Does the agent answer rightly? Whole dialogues by text and by speech, through real sessions.

A turn is right when the reply equals the expected one and, where a tool is called for, exactly that call
with equal arguments came before it. By speech, a wrong turn is told apart: no turn was found, other words
were understood, or the words were right and the answer was not. The modality gap is what speech loses on
the turns that were asked both ways.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from ..agent.runtime import Runtime
from ..training.skills import Turn
from .conditions import Speakers
from .partner import Answer, Partner
from .sets import TestDialogue, draw_dialogues, draw_typed
from .statistics import Ratio, bootstrap_ratio

Done = Callable[[int], None]
"""Told how many turns more are done."""


class Outcome(Enum):
    """What became of a turn."""

    RIGHT = "right"
    NO_TURN = "no turn found"
    WRONG_WORDS = "wrong words"
    WRONG_ANSWER = "right words, wrong answer"
    FAILED = "session failed"


@dataclass(frozen=True, slots=True)
class Scored:
    """A turn that was asked, the answer to it, and what that is worth. `dialogue` numbers dialogues of the
    set."""

    dialogue: int
    turn: Turn
    answer: Answer
    outcome: Outcome
    counts: bool


@dataclass(frozen=True, slots=True)
class SetResult:
    """One held-out set: turns by text and by speech; `gap` is text minus speech on the turns asked both
    ways."""

    name: str
    text: Ratio
    speech: Ratio
    both_text: Ratio
    both_speech: Ratio
    gap: Ratio
    text_outcomes: Counter[Outcome]
    speech_outcomes: Counter[Outcome]
    text_skills: dict[str, tuple[int, int]]
    speech_skills: dict[str, tuple[int, int]]
    wrong: tuple[tuple[str, Scored], ...]


def score(turn: Turn, answer: Answer) -> Outcome:
    """What an answer to a turn is worth."""
    if answer.failure is not None:
        return Outcome.FAILED
    if answer.words is None:
        return Outcome.NO_TURN
    expected = () if turn.call is None else (turn.call,)
    if answer.calls == expected and answer.reply is not None and answer.reply.strip() == turn.reply:
        return Outcome.RIGHT
    return Outcome.WRONG_ANSWER if answer.words == turn.user else Outcome.WRONG_WORDS


async def ask_by_text(runtime: Runtime, dialogues: Sequence[TestDialogue], done: Done) -> list[Scored]:
    """Type every dialogue, each in a session of its own."""
    scored: list[Scored] = []
    for dialogue in dialogues:
        async with Partner(runtime) as partner:
            for turn, counts in zip(dialogue.turns, dialogue.counts, strict=True):
                answer = await partner.write(turn.user, turn.heard)
                scored.append(Scored(dialogue.number, turn, answer, score(turn, answer), counts))
        done(dialogue.scored)
    return scored


async def ask_by_speech(
    runtime: Runtime, dialogues: Sequence[TestDialogue], speakers: Speakers, seed: int, done: Done
) -> list[Scored]:
    """Say every dialogue, each with one training voice."""
    scored: list[Scored] = []
    rng = random.Random(f"speech {seed}")
    for dialogue in dialogues:
        said = list(speakers.dialogue(dialogue.turns, rng))
        async with Partner(runtime) as partner:
            for turn, counts, utterance in zip(dialogue.turns, dialogue.counts, said, strict=True):
                answer = await partner.speak(utterance.samples, turn.heard)
                scored.append(Scored(dialogue.number, turn, answer, score(turn, answer), counts))
        done(dialogue.scored)
    return scored


async def measure_set(
    runtime: Runtime, name: str, text_turns: int, speech_turns: int, speakers: Speakers, seed: int, done: Done
) -> SetResult:
    """A held-out set by text, and its first dialogues by speech."""
    text = await ask_by_text(runtime, draw_typed(name, text_turns, seed), done)
    speech = await ask_by_speech(runtime, draw_dialogues(name, speech_turns, seed), speakers, seed, done)
    return summarize(name, text, speech, seed)


def summarize(name: str, text: Sequence[Scored], speech: Sequence[Scored], seed: int) -> SetResult:
    """Counts and intervals of a set."""
    by_text, by_speech = _places(text), _places(speech)
    both = [(by_text[place], by_speech[place]) for place in by_text if place in by_speech]
    paired = [(dialogue, right(first) - right(second)) for (dialogue, first), (_, second) in both]
    return SetResult(
        name,
        _accuracy([(one.dialogue, right(one)) for one in text if one.counts], seed),
        _accuracy([(one.dialogue, right(one)) for one in speech if one.counts], seed),
        _accuracy([(dialogue, right(first)) for (dialogue, first), _ in both], seed),
        _accuracy([(dialogue, right(second)) for _, (dialogue, second) in both], seed),
        _accuracy(paired, seed),
        Counter(one.outcome for one in text if one.counts),
        Counter(one.outcome for one in speech if one.counts),
        _by_skill(text),
        _by_skill(speech),
        tuple((way, one) for way, asked in (("text", text), ("speech", speech)) for one in asked if _is_wrong(one)),
    )


def right(one: Scored) -> int:
    """1 for a right answer, else 0."""
    return int(one.outcome is Outcome.RIGHT)


def _is_wrong(one: Scored) -> bool:
    return one.counts and one.outcome is not Outcome.RIGHT


def _places(asked: Sequence[Scored]) -> dict[tuple[int, int], tuple[int, Scored]]:
    """Counted turns by dialogue and place in it."""
    at: Counter[int] = Counter()
    found: dict[tuple[int, int], tuple[int, Scored]] = {}
    for one in asked:
        if one.counts:
            found[one.dialogue, at[one.dialogue]] = (one.dialogue, one)
        at[one.dialogue] += 1
    return found


def _accuracy(turns: Sequence[tuple[int, float]], seed: int) -> Ratio:
    """(dialogue, worth) of each turn; whole dialogues are drawn again."""
    by_dialogue: dict[int, list[float]] = {}
    for dialogue, worth in turns:
        by_dialogue.setdefault(dialogue, []).append(worth)
    return bootstrap_ratio([(sum(worths), len(worths)) for worths in by_dialogue.values()], seed)


def _by_skill(asked: Sequence[Scored]) -> dict[str, tuple[int, int]]:
    """Right and all counted turns of each skill, the most frequent first."""
    whole = Counter(one.turn.skill for one in asked if one.counts)
    good = Counter(one.turn.skill for one in asked if one.counts and one.outcome is Outcome.RIGHT)
    return {skill: (good[skill], count) for skill, count in whole.most_common()}
