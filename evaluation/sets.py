"""The two held-out sets of dialogues, and the sentences for recognition: a seed gives the same ones anywhere.

`fillers`: number pairs, order numbers, rooms and things that no training combined, in wordings that it
knows; turns around them are played as context and not counted. `paraphrases`: wordings that no training
ever read, every turn counts. Turns whose answer depends on the tone cannot be typed, so a typed dialogue
ends before its first one.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..training.skills import Turn, sample_dialogue

FILLERS, PARAPHRASES = "fillers", "paraphrases"
HELD_OUT_SETS = (FILLERS, PARAPHRASES)


@dataclass(frozen=True, slots=True)
class TestDialogue:
    """Turns in their order; `counts[i]` says whether turn i is scored. The last turn always is. `number` is
    its place in the set."""

    number: int
    turns: tuple[Turn, ...]
    counts: tuple[bool, ...]

    __test__ = False  # the name is no test's

    @property
    def scored(self) -> int:
        """How many turns count."""
        return sum(self.counts)


def draw_dialogues(name: str, scored_turns: int, seed: int) -> tuple[TestDialogue, ...]:
    """The first dialogues of a held-out set that together hold at least `scored_turns` turns that count."""
    return _first(_dialogues(name, seed), scored_turns)


def draw_typed(name: str, scored_turns: int, seed: int) -> tuple[TestDialogue, ...]:
    """The same of what can be typed; dialogues keep their numbers."""
    return _first((short for whole in _dialogues(name, seed) if (short := typed(whole))), scored_turns)


def typed(dialogue: TestDialogue) -> TestDialogue | None:
    """What of a dialogue can be typed: the turns before the first whose answer depends on the tone."""
    end = next((at for at, turn in enumerate(dialogue.turns) if turn.tone is not None), len(dialogue.turns))
    return _up_to_last_scored(dialogue.number, dialogue.turns[:end], dialogue.counts[:end])


def draw_sentences(n: int, seed: int) -> tuple[Turn, ...]:
    """User turns for recognition, half of each held-out set."""
    rng = random.Random(f"sentences {seed}")
    found: list[Turn] = []
    while len(found) < n:
        name = HELD_OUT_SETS[len(found) % len(HELD_OUT_SETS)]
        turns = [turn for turn in sample_dialogue(rng, name).turns if turn.filler or name == PARAPHRASES]
        if turns:
            found.append(turns[rng.randrange(len(turns))])
    return tuple(found)


def _dialogues(name: str, seed: int) -> Iterator[TestDialogue]:
    """The set without end."""
    rng = random.Random(f"answers {name} {seed}")
    number = 0
    while True:
        turns = sample_dialogue(rng, name).turns
        counts = tuple(turn.filler is not None or name == PARAPHRASES for turn in turns)
        if dialogue := _up_to_last_scored(number, turns, counts):
            yield dialogue
            number += 1


def _first(dialogues: Iterator[TestDialogue], scored_turns: int) -> tuple[TestDialogue, ...]:
    found: list[TestDialogue] = []
    missing = scored_turns
    while missing > 0:
        found.append(next(dialogues))
        missing -= found[-1].scored
    return tuple(found)


def _up_to_last_scored(number: int, turns: Sequence[Turn], counts: Sequence[bool]) -> TestDialogue | None:
    if not any(counts):
        return None
    end = max(at for at, counted in enumerate(counts) if counted) + 1
    last = dataclasses.replace(turns[end - 1], heard=None)  # nothing follows that would tell
    return TestDialogue(number, (*turns[: end - 1], last), tuple(counts[:end]))
