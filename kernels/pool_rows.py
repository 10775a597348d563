"""The two launches of `fuse_prosody` that training adds: the mean of each group as rows of its own, and its
gradient spread back over the group. At training sizes the products are the work and cuBLAS does them, so the
pooling stands alone, once for all groups of a batch, instead of being repeated for each tile of columns. Sums
are float32. Both directions visit a group's rows by offsets, as `pool_linear_gelu` does."""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

import torch
import triton
import triton.language as tl

POOL_ROWS = 5
"""Rows of a group that one pass takes; five is the group of the paper."""
WIDEST_BLOCK = 512


@triton.jit(do_not_specialize=["n_features"])
def pool_rows_kernel(
    features,  # [n_features, FEATURE_DIM]
    offsets,  # [groups + 1]
    pooled,  # [groups, FEATURE_DIM], contiguous
    n_features,
    feature_stride,
    FEATURE_DIM: tl.constexpr,
    POOL_ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    group = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)  # [BLOCK]
    has_column = column < FEATURE_DIM
    start = tl.load(offsets + group).to(tl.int64)
    stop = tl.load(offsets + group + 1).to(tl.int64)
    share = 1.0 / (stop - start).to(tl.float32)
    # Offsets are not checked on the device; a wrong one must not become a stray read.
    row = tl.maximum(start, 0)
    stop = tl.minimum(stop, n_features)

    sums = tl.zeros((BLOCK,), dtype=tl.float32)
    while row < stop:
        for i in tl.static_range(POOL_ROWS):
            source = features + (row + i) * feature_stride + column
            present = tl.where(row + i < stop, has_column, False)  # not &: the interpreter takes no scalar there
            sums += tl.load(source, mask=present, other=0.0).to(tl.float32)
        row += POOL_ROWS
    tl.store(pooled + group * FEATURE_DIM + column, (sums * share).to(pooled.dtype.element_ty), mask=has_column)


@triton.jit(do_not_specialize=["n_features"])
def spread_rows_kernel(
    gradient,  # [groups, FEATURE_DIM], contiguous
    offsets,  # [groups + 1]
    spread,  # [n_features, FEATURE_DIM], contiguous
    n_features,
    FEATURE_DIM: tl.constexpr,
    BLOCK: tl.constexpr,
):
    group = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)  # [BLOCK]
    has_column = column < FEATURE_DIM
    start = tl.load(offsets + group).to(tl.int64)
    stop = tl.load(offsets + group + 1).to(tl.int64)
    share = 1.0 / (stop - start).to(tl.float32)
    row = tl.maximum(start, 0)
    stop = tl.minimum(stop, n_features)

    source = gradient + group * FEATURE_DIM + column
    part = (tl.load(source, mask=has_column, other=0.0).to(tl.float32) * share).to(spread.dtype.element_ty)
    while row < stop:
        tl.store(spread + row * FEATURE_DIM + column, part, mask=has_column)
        row += 1


def pool_rows(features: torch.Tensor, group_offsets: torch.Tensor) -> torch.Tensor:
    """One launch: [n_features, F], int [groups + 1] -> the means of the groups, a new [groups, F].

    The last dimension of `features` has stride 1; rows may be strided. Nothing is checked here and the device
    is not waited for: `fuse_prosody` checks. No groups: no launch.
    """
    groups, columns = group_offsets.shape[0] - 1, features.shape[1]
    pooled = features.new_empty((groups, columns))
    if groups == 0:
        return pooled
    block = min(WIDEST_BLOCK, triton.next_power_of_2(columns))
    pool_rows_kernel[(groups, triton.cdiv(columns, block))](
        features,
        group_offsets,
        pooled,
        features.shape[0],
        features.stride(0),
        FEATURE_DIM=columns,
        POOL_ROWS=POOL_ROWS,
        BLOCK=block,
        num_warps=4,
        enable_fp_fusion=True,
    )
    return pooled


def spread_rows(gradient: torch.Tensor, group_offsets: torch.Tensor, n_features: int) -> torch.Tensor:
    """One launch, the gradient of `pool_rows`: contiguous [groups, F] -> a new [n_features, F].

    Each row gets its group's gradient over the size of the group; a row that no group holds, which correct
    offsets do not leave, is not written. No groups: no launch.
    """
    groups, columns = gradient.shape
    spread = gradient.new_empty((n_features, columns))
    if groups == 0:
        return spread
    block = min(WIDEST_BLOCK, triton.next_power_of_2(columns))
    spread_rows_kernel[(groups, triton.cdiv(columns, block))](
        gradient,
        group_offsets,
        spread,
        n_features,
        FEATURE_DIM=columns,
        BLOCK=block,
        num_warps=4,
        enable_fp_fusion=True,
    )
    return spread
