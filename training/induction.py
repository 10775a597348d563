"""A start for copying: two heads that together are an induction head (Olsson et al. 2022, arXiv 2209.11895), put into the
first two layers of a backbone by hand, because a model of this size finds them only after far more text than it needs
for all else.

The first head of layer 0 looks one position back and writes down which token stood there; the first head of layer 1 looks
for a position before which the current token stood, and adds the embedding of what follows there. Everything is trained
on from there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import Qwen2ForCausalLM

LAYERS = 2
BACK_DIMENSIONS = 10
"""Pairs of the highest frequencies, which tell neighbouring positions apart."""


@torch.no_grad()
def begin_with_induction(
    model: Qwen2ForCausalLM, sharpness: float = 8.0, match: float = 1.7, copy: float = 1.0, seed: int = 0
) -> None:
    """Put the two heads in; the layers' blocks must write nothing yet. `sharpness` is the score of the position before
    over others; `match` and `copy` scale the score of an equal token and what is written for it."""
    generator = torch.Generator().manual_seed(seed)
    config = model.config
    size, hidden = config.hidden_size // config.num_attention_heads, config.hidden_size
    group = size * (config.num_attention_heads // (config.num_key_value_heads or config.num_attention_heads))
    theta = float(dict(config.rope_parameters or {})["rope_theta"])
    scale = model.model.embed_tokens.weight.norm(dim=1).mean() / hidden**0.5
    token, memory, copied = (_rows(size, hidden, generator) for _ in range(3))
    back, induction = (model.model.layers[index].self_attn for index in range(LAYERS))
    for heads in (back, induction):
        for projection, rows in ((heads.q_proj, group), (heads.k_proj, size), (heads.v_proj, size)):
            projection.weight[:rows] = 0
            projection.bias[:rows] = 0

    frequencies = theta ** -(torch.arange(size // 2) * 2 / size)
    angle = frequencies[:BACK_DIMENSIONS]
    strength = (sharpness * size**0.5 / (1 - angle.cos()).sum()).sqrt()
    back.k_proj.bias[:BACK_DIMENSIONS] = strength
    back.q_proj.bias[:BACK_DIMENSIONS] = strength * angle.cos()
    back.q_proj.bias[size // 2 : size // 2 + BACK_DIMENSIONS] = -strength * angle.sin()
    back.v_proj.weight[:size] = token
    back.o_proj.weight[:, :size] = memory.T * scale

    slow = torch.cat([torch.arange(size // 4, size // 2), torch.arange(3 * size // 4, size)])
    narrow = _rows(len(slow), size, generator)
    induction.q_proj.weight[slow] = match * narrow @ token
    induction.k_proj.weight[slow] = match * narrow @ memory
    induction.v_proj.weight[:size] = copied
    induction.o_proj.weight[:, :size] = copied.T * scale * copy


def _rows(n: int, width: int, generator: torch.Generator) -> Tensor:
    """Random orthonormal rows, [n, width]."""
    rows: Tensor = nn.init.orthogonal_(torch.empty(n, width), generator=generator)
    return rows
