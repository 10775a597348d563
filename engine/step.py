"""One packed step: rows of several contexts, appends of many rows and decodes of one, in a single forward.
`plan_step` says where each row's keys go and what each row sees; `run_step` runs it and moves the
contexts' cached marks. A context appears at most once in a step. A step that fails changes no mark: what
it wrote to the slab lies past every mark and will be written again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.backbone import Backbone, PackedSpan, Packing, SingleRows
from ..models.errors import EngineError
from .context import Context, Entry
from .slab import Slab

LOOPED_SINGLES = 4
"""Up to this many one-row spans are attended one by one, without copying their keys; more are gathered
into one call on a GPU. On a CPU the copies cost more than the calls (16 spans of 200 keys: 53 ms gathered, 19 looped)."""
GATHERING_DEVICES = {"cuda"}


@dataclass(frozen=True, slots=True)
class Piece:
    """The next `rows` pending entries of a context, 1 or more."""

    context: Context
    rows: int


@dataclass(frozen=True, slots=True)
class StepPlan:
    """A step ready to run: its entries, their positions [rows], and the packing for the attention."""

    entries: tuple[Entry, ...]
    positions: Tensor
    packing: Packing


def plan_step(pieces: Sequence[Piece], slab: Slab) -> StepPlan:
    """Lay the pieces end to end. Raises EngineError for a context without a slot or without that many
    pending entries."""
    entries: list[Entry] = []
    positions: list[int] = []
    write_rows: list[int] = []
    looped: list[PackedSpan] = []
    singles: list[tuple[int, int, int]] = []  # row, slot, length
    device, dtype = slab.keys.device, slab.keys.dtype
    n_singles = sum(piece.rows == 1 for piece in pieces)
    gather_singles = device.type in GATHERING_DEVICES and n_singles > LOOPED_SINGLES
    for piece in pieces:
        context, slot = piece.context, piece.context.slot
        if slot is None or not 1 <= piece.rows <= context.pending:
            raise EngineError(
                f"a step of {piece.rows} rows was planned for a context in slot {slot} with {context.pending}"
            )
        start, first = context.cached, len(entries)
        end = start + piece.rows
        entries += context.rows(start, piece.rows)
        positions += range(start, end)
        write_rows += range(slot * slab.slot_len + start, slot * slab.slot_len + end)
        if piece.rows == 1 and gather_singles:
            singles.append((first, slot, end))
            continue
        mask = causal_mask(piece.rows, end, dtype, device) if piece.rows > 1 and start > 0 else None
        looped.append(PackedSpan(slot, first, piece.rows, end, mask, is_causal=piece.rows > 1 and start == 0))
    packing = Packing(
        keys=slab.keys,
        values=slab.values,
        write_rows=torch.tensor(write_rows, device=device),
        spans=tuple(looped),
        singles=_pack_singles(singles, slab) if singles else None,
    )
    return StepPlan(tuple(entries), torch.tensor(positions, device=device), packing)


def causal_mask(count: int, length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[1, 1, count, length], 0 where query row i, at position length - count + i, may look and -inf in its
    future."""
    future = torch.full((count, length), float("-inf"), dtype=dtype, device=device)
    return future.triu(length - count + 1)[None, None]


def _pack_singles(singles: Sequence[tuple[int, int, int]], slab: Slab) -> SingleRows:
    """One padded call for one-row spans; the padding reads the first position of slot 0, which is zero."""
    device = slab.keys.device
    rows, slots, lengths = torch.tensor(singles, device=device).unbind(-1)
    offsets = torch.arange(max(length for _, _, length in singles), device=device)
    beyond = offsets >= lengths[:, None]
    gather = (slots[:, None] * slab.slot_len + offsets).masked_fill(beyond, 0)
    mask = torch.zeros(beyond.shape, dtype=slab.keys.dtype, device=device).masked_fill(beyond, float("-inf"))
    return SingleRows(rows, gather, mask[:, None, None])


@torch.inference_mode()
def run_step(backbone: Backbone, slab: Slab, pieces: Sequence[Piece]) -> dict[Context, Tensor]:
    """Run the pieces in one forward. Returns the logits [vocab] of the last row of each context that has
    nothing pending any more; they are kept in `next_logits` too."""
    plan = plan_step(pieces, slab)
    finished: list[Context] = []
    wanted: list[int] = []
    row = -1
    for piece in pieces:
        row += piece.rows
        if piece.rows == piece.context.pending:
            finished.append(piece.context)
            wanted.append(row)
    embeddings = backbone.embed(plan.entries)
    logits = backbone.forward(
        embeddings,
        plan.positions,
        torch.tensor(wanted, dtype=torch.long, device=embeddings.device),
        plan.packing,
    )
    for piece in pieces:
        piece.context.mark_cached(piece.rows)
    results: dict[Context, Tensor] = {}
    for context, last in zip(finished, logits, strict=True):
        context.next_logits = results[context] = last.clone()
    return results
