"""When each token of a full Whisper was spoken: the attention of the heads that follow the audio, and dynamic time warping
over it, in one parallel pass over tokens that are known already.

The algorithm is Whisper's own (Radford et al. 2022, word timestamps): the row of attention that predicts a token says where it
begins, the one that predicts end-of-text where the last one ends. transformers, by whose pieces the tests check it, reads the
rows one place later, which gives ends for starts, and warps in plain Python; here a whole diagonal is one step, so that even
half a minute of words takes some tens of milliseconds on the engine's thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import WhisperForConditionalGeneration

ENCODER_FRAME_SAMPLES = 320
"""Two mel frames of 10 ms."""

Heads = Sequence[tuple[int, int]]
"""(decoder layer, head) of each head that follows the audio."""

_BOTH, _DOWN, _RIGHT = range(3)


def published_heads(model: WhisperForConditionalGeneration) -> tuple[tuple[int, int], ...]:
    """The heads that the checkpoint's generation settings name; none where they name none."""
    heads = getattr(model.generation_config, "alignment_heads", None) or ()
    return tuple((int(layer), int(head)) for layer, head in heads)


@torch.inference_mode()
def token_ends(
    model: WhisperForConditionalGeneration,
    heads: Heads,
    states: Tensor,
    prompt: Sequence[int],
    tokens: Sequence[int],
    n_samples: int,
) -> NDArray[np.int64]:
    """Where each of `tokens`, generated behind `prompt`, ends, in samples of the window; not decreasing. `states`
    [1, frames, dim] of the encoder, of which `n_samples` at 16 kHz are audio."""
    if not tokens:
        return np.zeros(0, np.int64)
    attention = cross_attention(model, states, prompt, tokens)
    frames = max(1, n_samples // ENCODER_FRAME_SAMPLES)
    weights = torch.stack([attention[layer][head, :, :frames] for layer, head in heads])
    starts = row_starts(-_sharpened(weights, model.config.median_filter_width).double().cpu().numpy())
    ends = starts[1:] * ENCODER_FRAME_SAMPLES
    return np.minimum(ends, n_samples)


@torch.inference_mode()
def cross_attention(
    model: WhisperForConditionalGeneration, states: Tensor, prompt: Sequence[int], tokens: Sequence[int]
) -> list[Tensor]:
    """Of each decoder layer the weights [heads, n_tokens + 1, frames] with which the tokens and end-of-text are predicted."""
    ids = torch.tensor([[*prompt, *tokens]], device=states.device)
    with _eager(model):
        out: Any = model.model.decoder(input_ids=ids, encoder_hidden_states=states, use_cache=False, output_attentions=True)
    return [layer[0, :, len(prompt) - 1 :].float() for layer in out.cross_attentions]


def row_starts(cost: NDArray[np.float64]) -> NDArray[np.int64]:
    """The column in which the cheapest path through `cost` [rows, columns] enters each row, [rows]; the path begins in the
    first cell, ends in the last one and moves by one row, one column, or one of both."""
    rows, columns = cost.shape
    total = np.full((rows + 1, columns + 1), np.inf, np.float32)
    total[0, 0] = 0
    came = np.zeros((rows + 1, columns + 1), np.int8)
    for diagonal in range(2, rows + columns + 1):
        down = np.arange(max(1, diagonal - columns), min(rows, diagonal - 1) + 1)
        right = diagonal - down
        by_both, by_down, by_right = total[down - 1, right - 1], total[down - 1, right], total[down, right - 1]
        is_both = (by_both < by_down) & (by_both < by_right)
        is_down = ~is_both & (by_down < by_both) & (by_down < by_right)
        came[down, right] = np.where(is_both, _BOTH, np.where(is_down, _DOWN, _RIGHT))
        total[down, right] = cost[down - 1, right - 1] + np.where(is_both, by_both, np.where(is_down, by_down, by_right))
    starts = np.zeros(rows, np.int64)
    row, column = rows, columns
    while row:
        starts[row - 1] = column - 1
        move = int(came[row, column])
        row -= move != _RIGHT
        column -= move != _DOWN
    return starts


def _sharpened(weights: Tensor, width: int) -> Tensor:
    """The mean over heads [rows, frames] of attention [heads, rows, frames] that stands out from the other rows, smoothed."""
    spread = weights.std(dim=-2, keepdim=True, unbiased=False).clamp_min(torch.finfo(weights.dtype).tiny)
    standing_out = (weights - weights.mean(dim=-2, keepdim=True)) / spread
    half = width // 2
    if standing_out.shape[-1] > half:
        padded = torch.nn.functional.pad(standing_out, (half, half), mode="reflect")
        standing_out = padded.unfold(-1, width, 1).median(dim=-1).values
    return standing_out.mean(dim=0)


@contextmanager
def _eager(model: WhisperForConditionalGeneration) -> Iterator[None]:
    """The attention that gives its weights away, for a moment."""
    known = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(known)
