"""The keys and values of a step's rows to their places in a layer of the slab, both in one launch: keys[rows[i]] = key[i],
values[rows[i]] = value[i] over the flattened (slot, position) axis. A copy, exact in every dtype. Where a place is named
twice, either row may win."""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

import torch
import triton
import triton.language as tl


@triton.jit(do_not_specialize=["places"])
def store_rows_kernel(
    key,  # [rows, heads, DIM]
    value,  # the same
    rows,  # [rows]
    keys,  # [places, WIDTH], contiguous
    values,  # the same
    places,
    key_row_stride,
    key_head_stride,
    value_row_stride,
    value_head_stride,
    DIM: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    place = tl.load(rows + row).to(tl.int64)
    column = tl.arange(0, BLOCK)  # [BLOCK]
    # Places are not checked on the device; a wrong one must not become a stray write.
    stored = column < tl.where((place >= 0) & (place < places), WIDTH, 0)
    head, inner = column // DIM, column % DIM
    one_key = tl.load(key + row * key_row_stride + head * key_head_stride + inner, mask=stored)
    one_value = tl.load(value + row * value_row_stride + head * value_head_stride + inner, mask=stored)
    tl.store(keys + place * WIDTH + column, one_key, mask=stored)
    tl.store(values + place * WIDTH + column, one_value, mask=stored)


def store_rows(key: torch.Tensor, value: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, rows: torch.Tensor) -> None:
    """One launch; arguments as in `store_in_slab`, not checked. The last dimension of key and value has stride 1, keys and
    values are contiguous. No rows: no launch."""
    count, heads, dim = key.shape
    if count == 0:
        return
    store_rows_kernel[(count,)](
        key,
        value,
        rows,
        keys,
        values,
        keys.shape[0] * keys.shape[1],
        key.stride(0),
        key.stride(1),
        value.stride(0),
        value.stride(1),
        DIM=dim,
        WIDTH=heads * dim,
        BLOCK=triton.next_power_of_2(heads * dim),
        num_warps=4,
    )
