"""Tile shapes of the two matrix kernels, and what all kernels ask of a tensor: where it is, and its layout. A table by the number
of groups takes the place of an autotuner: which variant runs is known from the sizes alone, so a CUDA graph
captures what a test ran, and no request pays for a search. All sides are powers of two and at least 16 (`tl.dot`
needs both); the last line of a table serves every larger size."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

import torch

TRITON_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class Tiles:
    """One program's tile: [groups, depth] times [depth, columns]; `up_to` is the largest number of groups
    it serves."""

    up_to: int
    groups: int
    columns: int
    depth: int
    warps: int
    stages: int


def choose_tiles(table: Sequence[Tiles], groups: int, dtype: torch.dtype) -> Tiles:
    """First line of `table` (ascending `up_to`) that serves `groups`, else the last one.

    The tables count in 16-bit elements; for float32 the depth is halved, so that a tile takes the same
    shared memory.
    """
    tiles = next((line for line in table if groups <= line.up_to), table[-1])
    if dtype.itemsize <= 2:
        return tiles
    return Tiles(tiles.up_to, tiles.groups, tiles.columns, max(16, tiles.depth // 2), tiles.warps, tiles.stages)


def takes_triton(tensor: torch.Tensor) -> bool:
    """Whether the Triton kernels run on this tensor: an NVIDIA GPU, a dtype of TRITON_DTYPES, and Triton installed."""
    return tensor.is_cuda and tensor.dtype in TRITON_DTYPES and torch.version.hip is None and _has_triton()


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def dense_rows(matrix: torch.Tensor) -> torch.Tensor:
    """The tensor with a last dimension of stride 1, copied where it has another."""
    return matrix if matrix.stride(-1) == 1 else matrix.contiguous()
