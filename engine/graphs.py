"""Steps of common sizes as CUDA graphs: the hundreds of launches of a forward are recorded once, at start-up, and
replayed as one. A graph reads its inputs where they lay when it was recorded, so a step is copied into buffers that never
move and filled up to the next recorded size with rows of nobody: they write to the last position of slot 0 and see its
first, which stays zero. A step that no graph fits, because it has too many rows or a long piece, is left to the caller to
run eagerly, and so is every step of a size that could not be recorded. `capture` is what records; on a CPU the tests give
one that only runs the forward, over the same buffers."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ..models.backbone import Backbone, Packing, SlabRows, upload
from ..models.cuda_graphs import Capture, Forward
from .context import Entry
from .slab import Slab
from .step import LONGEST_SINGLE, StepPlan

ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
FEW_WANTED = (8, 64)
"""Rows whose logits are computed in steps of more rows: appends want one row of each session, decodes want all."""

_log = logging.getLogger(__name__)


def sizes(rows: tuple[int, ...] = ROWS) -> list[tuple[int, int]]:
    """(rows, wanted rows) of all graphs, the largest first: the later ones find room in its memory."""
    return [(count, wanted) for count in sorted(rows, reverse=True) for wanted in (count, *_fewer(count))]


def _fewer(count: int) -> list[int]:
    return [wanted for wanted in reversed(FEW_WANTED) if wanted < count]


class StepGraphs:
    """The recorded steps of one backbone and slab. `capture` makes of a forward over the buffers its replay."""

    def __init__(self, backbone: Backbone, slab: Slab, capture: Capture, rows: tuple[int, ...] = ROWS) -> None:
        self._backbone, self._slab, self._capture = backbone, slab, capture
        self._sizes = sizes(rows)
        self._replays: dict[tuple[int, int], Forward] = {}
        device = slab.keys.device
        self._embeddings = torch.zeros(max(rows), backbone.hidden_size, dtype=backbone.dtype, device=device)
        self._numbers = torch.zeros(4 * max(rows), dtype=torch.long, device=device)
        """Of a step of n rows the first 4 * n: positions, slots, write rows, wanted rows."""

    def record(self) -> Iterator[tuple[int, int]]:
        """Record all sizes; how many are done, and of how many, after each. What cannot be recorded is said in the log
        and will run eagerly."""
        for done, (rows, wanted) in enumerate(self._sizes, start=1):
            try:
                self._embed_markers(rows)
                self._fill(rows, [], [], [], [])
                self._replays[rows, wanted] = self._capture(partial(self._forward, rows, wanted))
            except Exception as error:  # whatever stops a recording, the same step runs without one
                _log.warning("steps of %d rows will run without a CUDA graph: %s: %s", rows, type(error).__name__, error)
            yield done, len(self._sizes)

    def run(self, plan: StepPlan) -> Tensor | None:
        """The logits [wanted, vocab] of a step; None where no graph fits it."""
        size = self._size(plan)
        if size is None:
            return None
        count, rows = len(plan.entries), size[0]
        self._embeddings[:count] = self._backbone.embed(plan.entries)
        self._embeddings[count:rows] = 0
        self._fill(rows, plan.positions, plan.slots, plan.write_rows, plan.wanted)
        return self._replays[size]()[: len(plan.wanted)].clone()

    def _size(self, plan: StepPlan) -> tuple[int, int] | None:
        """The smallest recorded size that holds the step."""
        if max(span.count for span in plan.spans) > LONGEST_SINGLE:
            return None
        count, needed = len(plan.entries), len(plan.wanted)
        return next(((rows, wanted) for rows, wanted in reversed(self._replays) if rows >= count and wanted >= needed), None)

    def _embed_markers(self, count: int) -> None:
        """So that the kernels of `fuse_prosody` are compiled for that many groups too."""
        if self._backbone.feature_dim is not None:
            marker = Entry(None, np.zeros(self._backbone.feature_dim, np.float32))
            self._backbone.embed([Entry(0), *[marker] * count])

    def _fill(self, rows: int, positions: list[int], slots: list[int], write_rows: list[int], wanted: list[int]) -> None:
        """The numbers of a step, and of rows of nobody, in one copy that the host does not wait for."""
        nowhere = self._slab.slot_len - 1
        numbers: list[int] = []
        for values, filler in ((positions, 0), (slots, 0), (write_rows, nowhere), (wanted, 0)):
            numbers += values
            numbers += [filler] * (rows - len(values))
        self._numbers[: 4 * rows].copy_(upload(numbers, self._numbers.device))

    def _forward(self, rows: int, wanted: int) -> Tensor:
        """Logits [wanted, vocab] of what is in the buffers."""
        positions, slots, write_rows, wanted_rows = self._numbers[: 4 * rows].view(4, rows)
        packing = Packing(self._slab.keys, self._slab.values, write_rows, single=SlabRows(None, slots, positions))
        return self._backbone.forward(self._embeddings[:rows], positions, wanted_rows[:wanted], packing)
