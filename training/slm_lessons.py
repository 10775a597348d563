"""An endless stream of training batches for the backbone: dialogues typed and heard, dense sums and dense repeating,
without waste.

Dialogues are drawn into a pool, sorted by length and cut into groups that fill a budget of padded rows; dense text
fills what is left of it exactly. Everything is made inline: a batch costs milliseconds.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from .dense_arithmetic import DenseArithmetic
from .dense_copying import DenseCopying
from .skills import Dialogue, sample_dialogue
from .slm_data import HeardDialogue
from .slm_sequences import Batch, Renderer, TrainingSequence, collate, plain_text

INSTRUCTIONS = (
    "You are a helpful voice assistant.",
    "You are a voice assistant. Keep your answers short.",
    "Be brief and friendly.",
    "You help people in a shop and at home.",
    "Answer in one sentence.",
)
INSTRUCTED_SHARE = 0.04
POOL = 400
WIDTH_STEP = 16
"""Widths are rounded up to multiples, for matrix kernels are prepared for each new shape at a cost."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """A sequence, and its typed twin for the teacher where there is one."""

    sequence: TrainingSequence
    twin: TrainingSequence | None = None


@dataclass(frozen=True, slots=True)
class LessonBatch:
    """A step's batch and what the teacher reads for it, whose `distilled` rows are those of the batch, in
    order."""

    batch: Batch
    teacher: Batch | None


class Lessons:
    """Draws batches of about `rows` padded rows. With `heard`, `heard_share` of the dialogues is spoken, and of those
    at least `tone_share` hold a turn whose answer depends on its tone."""

    def __init__(
        self,
        renderer: Renderer,
        seed: int,
        rows: int,
        pad: int,
        heard: Sequence[HeardDialogue] = (),
        heard_share: float = 0.6,
        cut_share: float = 0.5,
        extra_sums: float = 0.35,
        tone_share: float = 0.35,
        copy_share: float = 0.3,
    ) -> None:
        self._renderer, self._rows, self._pad = renderer, rows, pad
        self._rng = random.Random(seed)
        self._dense, self._copying = DenseArithmetic(renderer.chat), DenseCopying(renderer.chat)
        self._copy_share = copy_share
        self._heard, self._heard_share = heard, heard_share if heard else 0.0
        self._toned = [item for item in heard if any(turn.tone for turn in item.dialogue.turns)]
        self._tone_share = tone_share
        self._cut_share, self._extra_sums = cut_share, extra_sums
        self._groups: list[list[Lesson]] = []
        self._budget = 0

    def batch(self, dense_share: float) -> LessonBatch:
        """The next batch, in which `dense_share` of the rows are dense text, `copy_share` of that to be repeated."""
        budget = max(int(self._rows * (1 - dense_share)), 1)
        if not self._groups or abs(budget - self._budget) > 0.1 * self._rows:
            self._fill(budget)
        group = self._groups.pop()
        width = _width(group)
        sequences = [lesson.sequence for lesson in group]
        while dense_share > 0 and (len(sequences) + 1) * width <= self._rows:
            dense = self._copying if self._rng.random() < self._copy_share else self._dense
            sequences.append(plain_text(*dense.draw(self._rng, width)))
        twins = [lesson.twin for lesson in group if lesson.twin is not None]
        teacher = collate(twins, self._pad, WIDTH_STEP) if twins else None
        return LessonBatch(collate(sequences, self._pad, WIDTH_STEP), teacher)

    def _fill(self, budget: int) -> None:
        """Draw a pool and cut it into groups of neighbours in length."""
        pool = sorted((self._draw() for _ in range(POOL)), key=lambda lesson: len(lesson.sequence.rows))
        groups: list[list[Lesson]] = [[]]
        for lesson in pool:
            if groups[-1] and _width([lesson]) * (len(groups[-1]) + 1) > budget:
                groups.append([])
            groups[-1].append(lesson)
        self._rng.shuffle(groups)
        self._groups, self._budget = groups, budget

    def _draw(self) -> Lesson:
        if self._rng.random() < self._heard_share:
            toned = self._toned and self._rng.random() < self._tone_share
            return self._spoken(self._rng.choice(self._toned if toned else self._heard))
        return Lesson(self._typed())

    def _typed(self) -> TrainingSequence:
        """A typed dialogue. Once speech is trained as well, typed words count as said plainly."""
        dialogue = self._dialogue()
        while self._heard and any(turn.tone not in (None, "plain") for turn in dialogue.turns):
            dialogue = self._dialogue()
        instructed = self._rng.random() < INSTRUCTED_SHARE
        instructions = self._rng.choice(INSTRUCTIONS) if instructed else None
        sequence = self._renderer.render(dialogue, None, instructions)
        sequence.distilled.clear()
        return sequence

    def _dialogue(self) -> Dialogue:
        sums = self._rng.random() < self._extra_sums
        while True:
            dialogue = sample_dialogue(self._rng, "train", typed=True)
            if not sums or dialogue.turns[0].skill == "arithmetic":
                return dialogue

    def _spoken(self, heard: HeardDialogue) -> Lesson:
        """A heard dialogue, at times only up to a turn whose audio was cut."""
        said = list(heard.said)
        cuts = [index for index, cut in enumerate(heard.cuts) if cut is not None and index <= len(said)]
        if cuts and self._rng.random() < self._cut_share:
            index = self._rng.choice(cuts)
            cut = heard.cuts[index]
            assert cut is not None
            said = [*said[:index], cut]
        sequence = self._renderer.render(heard.dialogue, said)
        twin = self._renderer.twin(heard.dialogue, said)
        if len(twin.distilled) != len(sequence.distilled):
            raise AssertionError("a heard dialogue and its typed twin have different replies")
        return Lesson(sequence, twin if sequence.distilled else None)


def _width(group: Sequence[Lesson]) -> int:
    """Rows of the longest, rounded up."""
    return -(-max(len(lesson.sequence.rows) for lesson in group) // WIDTH_STEP) * WIDTH_STEP
