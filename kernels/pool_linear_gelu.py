"""First launch of `fuse_prosody`: hidden[g] = gelu(mean(features[offsets[g]:offsets[g + 1]]) @ weight.T +
bias), GELU by erf. The pooling is the prologue of the matrix product: no pooled tensor is written. Sums,
the bias and the GELU are float32. The idea of variable-length mean pooling by offsets is that of
flash-linear-attention (`fla/ops/utils/pooling.py`), which pools in chunks of a power of two; here a group
may have any size, POOL_ROWS rows are summed per pass over the depth."""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

import torch
import triton
import triton.language as tl

from .tiles import Tiles, choose_tiles

# Rows of a group that one pass over the depth takes. Five is the group of the paper, so one pass is usual.
# A longer group repeats the pass: a loop inside the depth loop would keep Triton from pipelining its reads.
POOL_ROWS = 5

TABLE = (
    Tiles(up_to=16, groups=16, columns=32, depth=128, warps=4, stages=3),
    Tiles(up_to=64, groups=32, columns=32, depth=64, warps=4, stages=3),
    Tiles(up_to=512, groups=64, columns=64, depth=32, warps=4, stages=3),
    Tiles(up_to=2**31, groups=128, columns=128, depth=32, warps=8, stages=2),
)


@triton.jit(do_not_specialize=["groups", "n_features"])
def pool_linear_gelu_kernel(
    features,  # [n_features, FEATURE_DIM]
    offsets,  # [groups + 1]
    weight,  # [HIDDEN, FEATURE_DIM]
    bias,  # [HIDDEN]
    hidden,  # [groups, HIDDEN], contiguous
    groups,
    n_features,
    feature_stride,
    weight_stride,
    FEATURE_DIM: tl.constexpr,
    HIDDEN: tl.constexpr,
    POOL_ROWS: tl.constexpr,
    GROUPS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    # Columns run fastest: programs that run together share one tile of features while the weight stays in L2.
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)  # [COLUMNS]
    group = tl.program_id(1) * GROUPS + tl.arange(0, GROUPS)  # [GROUPS]
    has_column = column < HIDDEN
    has_group = group < groups

    start = tl.load(offsets + group, mask=has_group, other=0).to(tl.int64)
    stop = tl.load(offsets + group + 1, mask=has_group, other=0).to(tl.int64)
    size = tl.where(has_group, stop - start, 1)
    longest = tl.max(size, 0).to(tl.int32)
    share = 1.0 / size.to(tl.float32)  # [GROUPS]
    # Offsets are not checked on the device; a wrong one must not become a stray read.
    start = tl.maximum(start, 0)
    stop = tl.minimum(stop, n_features)

    weight_column = weight + column.to(tl.int64)[None, :] * weight_stride
    sums = tl.zeros((GROUPS, COLUMNS), dtype=tl.float32)
    first = 0
    while first < longest:  # not range: the interpreter of Triton 3.6 cannot take its end from a tensor under NumPy 2.4
        for depth in range(0, FEATURE_DIM, DEPTH):
            k = depth + tl.arange(0, DEPTH)  # [DEPTH]
            has_k = k < FEATURE_DIM
            pooled = tl.zeros((GROUPS, DEPTH), dtype=tl.float32)
            for i in tl.static_range(POOL_ROWS):
                row = start + first + i  # [GROUPS], int64
                source = features + row[:, None] * feature_stride + k[None, :]
                pooled += tl.load(source, mask=(row < stop)[:, None] & has_k[None, :], other=0.0).to(tl.float32)
            pooled = pooled * share[:, None]
            tile = tl.load(weight_column + k[:, None], mask=has_k[:, None] & has_column[None, :], other=0.0)
            sums = tl.dot(pooled.to(tile.dtype), tile, sums, input_precision="ieee")
        first += POOL_ROWS

    sums += tl.load(bias + column, mask=has_column, other=0.0).to(tl.float32)[None, :]
    activated = 0.5 * sums * (1.0 + tl.erf(sums * 0.7071067811865476))
    target = hidden + group.to(tl.int64)[:, None] * HIDDEN + column[None, :]
    tl.store(target, activated.to(hidden.dtype.element_ty), mask=has_group[:, None] & has_column[None, :])


def pool_linear_gelu(
    features: torch.Tensor, group_offsets: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """One launch: [n_features, F], int [groups + 1], [H, F], [H] -> a new [groups, H] in the dtype of
    `features`.

    The last dimension of every argument has stride 1; rows may be strided. Nothing is checked here and the
    device is not waited for: `fuse_prosody` checks. No groups: no launch.
    """
    groups = group_offsets.shape[0] - 1
    columns, feature_dim = weight.shape
    hidden = features.new_empty((groups, columns))
    if groups == 0:
        return hidden
    tiles = choose_tiles(TABLE, groups, features.dtype)
    grid = (triton.cdiv(columns, tiles.columns), triton.cdiv(groups, tiles.groups))
    pool_linear_gelu_kernel[grid](
        features,
        group_offsets,
        weight,
        bias,
        hidden,
        groups,
        features.shape[0],
        features.stride(0),
        weight.stride(0),
        FEATURE_DIM=feature_dim,
        HIDDEN=columns,
        POOL_ROWS=POOL_ROWS,
        GROUPS=tiles.groups,
        COLUMNS=tiles.columns,
        DEPTH=tiles.depth,
        num_warps=tiles.warps,
        num_stages=tiles.stages,
        enable_fp_fusion=True,
    )
    return hidden
