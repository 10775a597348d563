"""The two launches of `slab_attention`, after Flash-Decoding (Dao et al. 2023). First each row, kv head and split of
`split_keys` positions: softmax(query @ keys.T * scale) @ values over the split's keys, by the running softmax of
FlashAttention, with the base-2 log of its sum. Then each row and head: the splits up to the row's position, weighted by
2 ** log. The query heads of a kv head are one tile, so keys and values are read once for all of them. Positions are read on
the device and programs beyond them end at once, so that the launches are the same for any length; where the splits lie
depends on the slot's length alone, so that a row's result does not depend on its neighbours. All sums are float32."""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

import torch
import triton
import triton.language as tl

LEAST_SPLIT_KEYS, MOST_SPLITS = 128, 32
"""Short splits give one row enough programs to fill a GPU; long ones give many rows less to merge. Chosen by count, not
measured."""
KEYS = 32
"""Keys of one pass of the first launch, of 16-bit elements; half as many of float32."""
WARPS, STAGES = 4, 4
LOG2_E = 1.4426950408889634


@triton.jit
def attend_split_kernel(
    query,  # [rows, KV_HEADS * GROUP, DIM]
    keys,  # [slots, SLOT_LEN, KV_HEADS, DIM], contiguous
    values,  # the same
    slots,  # [rows]
    positions,  # [rows]
    partial,  # [rows, KV_HEADS * GROUP, SPLITS, DIM], contiguous
    logs,  # [rows, KV_HEADS * GROUP, SPLITS], contiguous
    scale_log2,
    query_row_stride,
    query_head_stride,
    SLOT_LEN: tl.constexpr,
    KV_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    DIM: tl.constexpr,
    SPLITS: tl.constexpr,
    SPLIT_KEYS: tl.constexpr,
    GROUP_BLOCK: tl.constexpr,
    DIM_BLOCK: tl.constexpr,
    KEYS: tl.constexpr,
):
    # Rows run fastest: those of one append read the same keys at the same time.
    row = tl.program_id(0).to(tl.int64)
    kv_head = tl.program_id(1)
    split = tl.program_id(2)
    end = tl.minimum(tl.load(positions + row).to(tl.int32) + 1, SLOT_LEN)
    start = split * SPLIT_KEYS
    if start >= end:
        return
    slot = tl.load(slots + row).to(tl.int64)
    member = tl.arange(0, GROUP_BLOCK)  # [GROUP_BLOCK]
    column = tl.arange(0, DIM_BLOCK)  # [DIM_BLOCK]
    has_column = column < DIM
    head = kv_head * GROUP + member
    has_head = (member < GROUP)[:, None] & has_column[None, :]
    asked = tl.load(
        query + row * query_row_stride + head[:, None] * query_head_stride + column[None, :], mask=has_head, other=0.0
    )  # [GROUP_BLOCK, DIM_BLOCK]

    first_row = (slot * SLOT_LEN + start) * KV_HEADS + kv_head
    split_keys = keys + first_row * DIM + column[:, None]
    split_values = values + first_row * DIM + column[None, :]
    best = tl.full((GROUP_BLOCK,), float("-inf"), dtype=tl.float32)
    total = tl.zeros((GROUP_BLOCK,), dtype=tl.float32)
    sums = tl.zeros((GROUP_BLOCK, DIM_BLOCK), dtype=tl.float32)
    for first in range(0, SPLIT_KEYS, KEYS):  # the first pass holds a key in its sight, so `best` is finite after it
        key = first + tl.arange(0, KEYS)  # [KEYS]
        seen = start + key < end
        place = key * (KV_HEADS * DIM)
        tile = tl.load(split_keys + place[None, :], mask=has_column[:, None] & seen[None, :], other=0.0)
        scores = tl.dot(asked, tile, input_precision="ieee") * scale_log2
        scores = tl.where(seen[None, :], scores, float("-inf"))  # [GROUP_BLOCK, KEYS]
        higher = tl.maximum(best, tl.max(scores, 1))
        weights = tl.exp2(scores - higher[:, None])
        shrink = tl.exp2(best - higher)
        total = total * shrink + tl.sum(weights, 1)
        tile = tl.load(split_values + place[:, None], mask=seen[:, None] & has_column[None, :], other=0.0)
        sums = tl.dot(weights.to(tile.dtype), tile, sums * shrink[:, None], input_precision="ieee")
        best = higher

    target = (row * (KV_HEADS * GROUP) + head) * SPLITS + split  # [GROUP_BLOCK]
    tl.store(partial + target[:, None] * DIM + column[None, :], sums / total[:, None], mask=has_head)
    tl.store(logs + target, best + tl.log2(total), mask=member < GROUP)


@triton.jit
def merge_splits_kernel(
    partial,  # [rows, HEADS, SPLITS, DIM], contiguous
    logs,  # [rows, HEADS, SPLITS], contiguous
    positions,  # [rows]
    out,  # [rows, HEADS, DIM], contiguous
    SLOT_LEN: tl.constexpr,
    HEADS: tl.constexpr,
    DIM: tl.constexpr,
    SPLITS: tl.constexpr,
    SPLIT_KEYS: tl.constexpr,
    SPLITS_BLOCK: tl.constexpr,
    DIM_BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    first = (row * HEADS + tl.program_id(1)) * SPLITS
    end = tl.minimum(tl.load(positions + row).to(tl.int32) + 1, SLOT_LEN)
    split = tl.arange(0, SPLITS_BLOCK)  # [SPLITS_BLOCK]
    column = tl.arange(0, DIM_BLOCK)  # [DIM_BLOCK]
    written = split * SPLIT_KEYS < end
    log = tl.load(logs + first + split, mask=written, other=float("-inf"))
    weights = tl.exp2(log - tl.max(log, 0))
    source = partial + (first + split[:, None]) * DIM + column[None, :]
    tile = tl.load(source, mask=written[:, None] & (column < DIM)[None, :], other=0.0)  # [SPLITS_BLOCK, DIM_BLOCK]
    merged = tl.sum(tile * weights[:, None], 0) / tl.sum(weights, 0)
    target = out + (row * HEADS + tl.program_id(1)) * DIM + column
    tl.store(target, merged.to(out.dtype.element_ty), mask=column < DIM)


def split_keys(slot_len: int) -> int:
    """Positions of a split: a power of two, so many that a slot has `MOST_SPLITS` at most."""
    return max(LEAST_SPLIT_KEYS, triton.next_power_of_2(triton.cdiv(slot_len, MOST_SPLITS)))


def split_attention(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    slots: torch.Tensor,
    positions: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """Two launches; arguments and result as in `slab_attention`, not checked. The last dimension of `query` has stride 1,
    keys and values are contiguous. No rows: no launch."""
    rows, heads, dim = query.shape
    slot_len, kv_heads = keys.shape[1:3]
    out = query.new_empty((rows, heads, dim))
    if rows == 0:
        return out
    size = split_keys(slot_len)
    splits = triton.cdiv(slot_len, size)
    partial = query.new_empty((rows, heads, splits, dim), dtype=torch.float32)
    logs = query.new_empty((rows, heads, splits), dtype=torch.float32)
    group = heads // kv_heads
    attend_split_kernel[(rows, kv_heads, splits)](
        query,
        keys,
        values,
        slots,
        positions,
        partial,
        logs,
        scale * LOG2_E,
        query.stride(0),
        query.stride(1),
        SLOT_LEN=slot_len,
        KV_HEADS=kv_heads,
        GROUP=group,
        DIM=dim,
        SPLITS=splits,
        SPLIT_KEYS=size,
        GROUP_BLOCK=max(16, triton.next_power_of_2(group)),
        DIM_BLOCK=max(16, triton.next_power_of_2(dim)),
        KEYS=KEYS if query.dtype.itemsize <= 2 else KEYS // 2,
        num_warps=WARPS,
        num_stages=STAGES,
    )
    merge_splits_kernel[(rows, heads)](
        partial,
        logs,
        positions,
        out,
        SLOT_LEN=slot_len,
        HEADS=heads,
        DIM=dim,
        SPLITS=splits,
        SPLIT_KEYS=size,
        SPLITS_BLOCK=triton.next_power_of_2(splits),
        DIM_BLOCK=triton.next_power_of_2(dim),
        num_warps=WARPS,
    )
    return out
