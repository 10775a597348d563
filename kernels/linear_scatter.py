"""Second launch of `fuse_prosody`: out[rows[g]] = hidden[g] @ weight.T + bias. The product goes straight to
the interleaved row of its group, so that no projected tensor is written and read again. Sums and the bias
are float32."""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

import torch
import triton
import triton.language as tl

from .tiles import Tiles, choose_tiles

TABLE = (
    Tiles(up_to=16, groups=16, columns=32, depth=128, warps=4, stages=4),
    Tiles(up_to=64, groups=64, columns=32, depth=128, warps=4, stages=3),
    Tiles(up_to=512, groups=64, columns=64, depth=64, warps=4, stages=4),
    Tiles(up_to=2**31, groups=128, columns=128, depth=64, warps=8, stages=3),
)


@triton.jit(do_not_specialize=["groups", "n_rows"])
def linear_scatter_kernel(
    hidden,  # [groups, DEPTH_TOTAL]
    weight,  # [HIDDEN, DEPTH_TOTAL]
    bias,  # [HIDDEN]
    rows,  # [groups]
    out,  # [n_rows, HIDDEN]
    groups,
    n_rows,
    hidden_stride,
    weight_stride,
    out_stride,
    DEPTH_TOTAL: tl.constexpr,
    HIDDEN: tl.constexpr,
    GROUPS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)  # [COLUMNS]
    group = tl.program_id(1) * GROUPS + tl.arange(0, GROUPS)  # [GROUPS]
    has_column = column < HIDDEN
    has_group = group < groups

    hidden_row = hidden + group.to(tl.int64)[:, None] * hidden_stride
    weight_column = weight + column.to(tl.int64)[None, :] * weight_stride
    sums = tl.zeros((GROUPS, COLUMNS), dtype=tl.float32)
    for depth in range(0, DEPTH_TOTAL, DEPTH):
        k = depth + tl.arange(0, DEPTH)  # [DEPTH]
        has_k = k < DEPTH_TOTAL
        left = tl.load(hidden_row + k[None, :], mask=has_group[:, None] & has_k[None, :], other=0.0)
        right = tl.load(weight_column + k[:, None], mask=has_k[:, None] & has_column[None, :], other=0.0)
        sums = tl.dot(left, right, sums, input_precision="ieee")

    sums += tl.load(bias + column, mask=has_column, other=0.0).to(tl.float32)[None, :]
    row = tl.load(rows + group, mask=has_group, other=-1).to(tl.int64)  # [GROUPS]
    # Rows are not checked on the device; a wrong one must not become a stray write.
    present = (row >= 0) & (row < n_rows)
    target = out + row[:, None] * out_stride + column[None, :]
    tl.store(target, sums.to(out.dtype.element_ty), mask=present[:, None] & has_column[None, :])


def linear_scatter(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, rows: torch.Tensor, out: torch.Tensor) -> None:
    """One launch: [groups, K], [H, K], [H], int [groups] into those rows of `out` [n_rows, H]; other rows
    are not touched.

    The last dimension of every argument has stride 1; rows may be strided. Nothing is checked here and the
    device is not waited for: `fuse_prosody` checks. No groups: no launch.
    """
    groups, depth = hidden.shape
    if groups == 0:
        return
    columns = weight.shape[0]
    tiles = choose_tiles(TABLE, groups, hidden.dtype)
    grid = (triton.cdiv(columns, tiles.columns), triton.cdiv(groups, tiles.groups))
    linear_scatter_kernel[grid](
        hidden,
        weight,
        bias,
        rows,
        out,
        groups,
        out.shape[0],
        hidden.stride(0),
        weight.stride(0),
        out.stride(0),
        DEPTH_TOTAL=depth,
        HIDDEN=columns,
        GROUPS=tiles.groups,
        COLUMNS=tiles.columns,
        DEPTH=tiles.depth,
        num_warps=tiles.warps,
        num_stages=tiles.stages,
        enable_fp_fusion=True,
    )
