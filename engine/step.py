"""One packed step: rows of several contexts, appends of many rows and decodes of one, in a single forward.
`plan_step` lays the pieces end to end, `pack_step` says where each row's keys go and what each row sees, and
`run_step` runs it, as a graph where one fits, and moves the contexts' cached marks. A context appears at most
once in a step. A step that fails changes no mark: what it wrote to the slab lies past every mark and will be
written again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..kernels.tiles import takes_triton
from ..models.backbone import Backbone, PackedSpan, Packing, SlabRows, upload
from ..models.errors import EngineError
from .context import Context, Entry
from .slab import Slab

LONGEST_SINGLE = 64
"""Pieces of up to this many rows are attended row by row where there is a kernel for it; longer ones as a whole, since
each of their rows would read the same keys again."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The next `rows` pending entries of a context, 1 or more."""

    context: Context
    rows: int


@dataclass(frozen=True, slots=True)
class PlannedSpan:
    """Where a piece lies: rows `first .. first + count` of the step, positions up to `length` of `slot`."""

    slot: int
    first: int
    count: int
    length: int


@dataclass(frozen=True, slots=True)
class StepPlan:
    """A step as plain numbers. Row i is `entries[i]` at `positions[i]`; its keys go to `write_rows[i]` of the flattened
    (slot, position) axis. `wanted`: the rows whose logits `finished` wait for."""

    entries: tuple[Entry, ...]
    positions: list[int]
    write_rows: list[int]
    spans: tuple[PlannedSpan, ...]
    wanted: list[int]
    finished: tuple[Context, ...]

    @property
    def slots(self) -> list[int]:
        """Of each row."""
        return [span.slot for span in self.spans for _ in range(span.count)]


Recorded = Callable[[StepPlan], Tensor | None]
"""Runs a step that was recorded beforehand; None where none fits (`graphs.py`)."""


def plan_step(pieces: Sequence[Piece], slab: Slab) -> StepPlan:
    """Lay the pieces end to end. Raises EngineError for a context without a slot or without that many
    pending entries."""
    entries: list[Entry] = []
    positions: list[int] = []
    write_rows: list[int] = []
    spans: list[PlannedSpan] = []
    wanted: list[int] = []
    finished: list[Context] = []
    for piece in pieces:
        context, slot = piece.context, piece.context.slot
        if slot is None or not 1 <= piece.rows <= context.pending:
            raise EngineError(f"a step of {piece.rows} rows was planned for a context in slot {slot} with {context.pending}")
        start, first = context.cached, len(entries)
        end = start + piece.rows
        entries += context.rows(start, piece.rows)
        positions += range(start, end)
        write_rows += range(slot * slab.slot_len + start, slot * slab.slot_len + end)
        spans.append(PlannedSpan(slot, first, piece.rows, end))
        if piece.rows == context.pending:
            wanted.append(len(entries) - 1)
            finished.append(context)
    return StepPlan(tuple(entries), positions, write_rows, tuple(spans), wanted, tuple(finished))


def pack_step(plan: StepPlan, slab: Slab, longest_single: int) -> Packing:
    """The packing for the attention: pieces of more than `longest_single` rows as spans, the others row by row."""
    device, dtype = slab.keys.device, slab.keys.dtype
    spans, single = [], []
    for span in plan.spans:
        if span.count <= longest_single:
            single.append(span)
            continue
        start = span.length - span.count
        mask = causal_mask(span.count, span.length, dtype, device) if span.count > 1 and start > 0 else None
        is_causal = span.count > 1 and start == 0
        spans.append(PackedSpan(span.slot, span.first, span.count, span.length, mask, is_causal))
    return Packing(
        keys=slab.keys,
        values=slab.values,
        write_rows=upload(plan.write_rows, device),
        spans=tuple(spans),
        single=_pack_single(plan, single, device) if single else None,
    )


def _pack_single(plan: StepPlan, spans: Sequence[PlannedSpan], device: torch.device) -> SlabRows:
    """The rows of these spans, each by itself."""
    rows = [row for span in spans for row in range(span.first, span.first + span.count)]
    return SlabRows(
        rows=None if len(rows) == len(plan.entries) else upload(rows, device),
        slots=upload([span.slot for span in spans for _ in range(span.count)], device),
        positions=upload([plan.positions[row] for row in rows], device),
    )


def causal_mask(count: int, length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[1, 1, count, length], 0 where query row i, at position length - count + i, may look and -inf in its
    future."""
    future = torch.full((count, length), float("-inf"), dtype=dtype, device=device)
    return future.triu(length - count + 1)[None, None]


@torch.inference_mode()
def run_step(backbone: Backbone, slab: Slab, pieces: Sequence[Piece], replay: Recorded | None = None) -> dict[Context, Tensor]:
    """Run the pieces in one forward. Returns the logits [vocab] of the last row of each context that has
    nothing pending any more; they are kept in `next_logits` too, as views of one tensor."""
    plan = plan_step(pieces, slab)
    logits = replay(plan) if replay is not None else None
    if logits is None:
        logits = _forward(backbone, slab, plan)
    for piece in pieces:
        piece.context.mark_cached(piece.rows)
    results = dict(zip(plan.finished, logits.unbind(), strict=True))
    for context, last in results.items():
        context.next_logits = last
    return results


def _forward(backbone: Backbone, slab: Slab, plan: StepPlan) -> Tensor:
    device = slab.keys.device
    packing = pack_step(plan, slab, LONGEST_SINGLE if takes_triton(slab.keys) else 0)
    embeddings = backbone.embed(plan.entries)
    return backbone.forward(embeddings, upload(plan.positions, device), upload(plan.wanted, device), packing)
