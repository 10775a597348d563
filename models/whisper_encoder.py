"""Whisper's encoder over a window shorter than the one it was trained on: transformers' own layers in a loop of our own, since
the library's forward refuses every other length. At the trained length it computes what the library does.

A shorter window costs less, and breaks checkpoints that were never trained with one: they repeat themselves. So a checkpoint
gets the shortest window that its measured word error rate allows (`textpro-agent models windows`), and no other.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

SAMPLE_RATE = 16_000
WINDOWS_S = (5, 10, 15, 30)
"""Lengths in seconds that a window may have, below the trained one."""


def window_samples(n_samples: int, shortest_s: int, trained_samples: int) -> int:
    """Samples of the window for `n_samples` of audio at 16 kHz: the least of `WINDOWS_S` that holds them and is no shorter
    than `shortest_s`; the trained window where none is."""
    enough = (seconds * SAMPLE_RATE for seconds in WINDOWS_S if seconds >= shortest_s and seconds * SAMPLE_RATE >= n_samples)
    return min(next(enough, trained_samples), trained_samples)


def encode(encoder: Any, features: Tensor) -> Tensor:
    """States [1, frames / 2, dim] of transformers' Whisper `encoder` in eval mode for log-mel `features` [1, n_mels, frames], of
    any even number of frames up to the trained one."""
    hidden = F.gelu(encoder.conv1(features))
    hidden = F.gelu(encoder.conv2(hidden)).permute(0, 2, 1)
    hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
    for layer in encoder.layers:
        hidden = layer(hidden, None)
    states: Tensor = encoder.layer_norm(hidden)
    return states
