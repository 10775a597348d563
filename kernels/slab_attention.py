"""Attention of packed rows over a slab of keys and values: each row has a slot and a position, and sees the keys
0 .. position of its slot. The torch function `slab_attention_reference` is the definition; on CUDA two Triton launches read
only the keys that are seen, and read them where they lie. `store_in_slab` puts the rows' own keys and values there first.
Neither looks at the values of slots and positions from the host, so a CUDA graph may capture both and replay them for any
lengths."""

import torch
from torch.nn import functional

from .tiles import dense_rows, takes_triton


def store_in_slab(key: torch.Tensor, value: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, rows: torch.Tensor) -> None:
    """keys, values [slots, slot_len, kv_heads, dim], contiguous, get key, value [rows, kv_heads, dim] at the places
    rows int64 [rows] of their flattened (slot, position) axis."""
    if takes_triton(key):
        from .store_rows import store_rows

        with torch.cuda.device_of(key):
            store_rows(dense_rows(key), dense_rows(value), keys, values, rows)
        return
    keys.view(-1, *key.shape[1:]).index_copy_(0, rows, key)
    values.view(-1, *key.shape[1:]).index_copy_(0, rows, value)


def slab_attention(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    slots: torch.Tensor,
    positions: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """query [rows, heads, dim]; keys, values [slots, slot_len, kv_heads, dim], contiguous, of the same dtype; slots,
    positions int [rows], within the slab: the caller's duty. Query heads h * group .. (h + 1) * group share kv head h.
    Result [rows, heads, dim]. A row's result depends on no other row."""
    if takes_triton(query):
        from .split_attention import split_attention  # here, so that the package imports where Triton does not exist

        with torch.cuda.device_of(query):
            return split_attention(dense_rows(query), keys, values, slots, positions, scale)
    return slab_attention_reference(query, keys, values, slots, positions, scale)


def slab_attention_reference(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    slots: torch.Tensor,
    positions: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """The definition, for any device: the rows' whole slots, masked."""
    rows, heads, dim = query.shape
    slot_len, kv_heads = keys.shape[1:3]
    hidden = torch.arange(slot_len, device=query.device) > positions[:, None]  # [rows, slot_len]
    mask = query.new_zeros(hidden.shape).masked_fill(hidden, float("-inf"))
    unseen = hidden[:, :, None, None]  # what lies there need not be a number
    attended = functional.scaled_dot_product_attention(
        query.reshape(rows, kv_heads, heads // kv_heads, dim),
        keys[slots].masked_fill(unseen, 0).transpose(1, 2),
        values[slots].masked_fill(unseen, 0).transpose(1, 2),
        attn_mask=mask[:, None, None],
        scale=scale,
    )  # [rows, kv_heads, group, dim]
    return attended.reshape(rows, heads, dim)
