"""A Whisper of random weights with one attention head that follows the audio: a token at each `FRAMES` frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers import WhisperForConditionalGeneration

from small_pair import FEATURES, write_whisper
from textpro.evaluation.streaming_trace import Spoken
from textpro.models.pair import load_full_whisper
from textpro.models.whisper_full import FullSettings

HEAD = (1, 0)
FRAMES = 10
SLOT = FRAMES * 320
HALF = FEATURES // 2


def write_following(folder: Path) -> None:
    """A Whisper folder whose encoder says only where a frame is, and whose head `HEAD` looks at the slot of each token."""
    write_whisper(folder)
    first = len(load_full_whisper(folder, FullSettings("en")).prompt()) - 1  # it predicts the first token
    model = WhisperForConditionalGeneration.from_pretrained(folder)
    with torch.no_grad():
        encoder, decoder = model.model.encoder, model.model.decoder
        silent = [encoder.conv2, *(part for layer in encoder.layers for part in (layer.self_attn.out_proj, layer.fc2))]
        silent += [part for layer in decoder.layers for part in (layer.self_attn.out_proj, layer.encoder_attn.q_proj)]
        silent += [decoder.layers[0].encoder_attn.out_proj, decoder.layers[0].fc2]
        for part in silent:
            part.weight.zero_()
            part.bias.zero_()
        encoder.embed_positions.weight.copy_(places(torch.arange(len(encoder.embed_positions.weight))))
        slots = FRAMES * (torch.arange(len(decoder.embed_positions.weight)) - first) + FRAMES // 2
        decoder.embed_positions.weight.copy_(places(slots.clamp_min(0)))
        attention = decoder.layers[HEAD[0]].encoder_attn
        attention.k_proj.weight.zero_()
        for row, dim in enumerate([*range(HALF // 2), *range(HALF, HALF + HALF // 2)]):
            attention.q_proj.weight[row, dim] = attention.k_proj.weight[row, dim] = 4.0
    model.save_pretrained(folder)


def places(frames: torch.Tensor) -> torch.Tensor:
    """Sinusoids [n, FEATURES] of frames [n]."""
    angles = frames[:, None] * torch.exp(-np.log(10_000) / (HALF - 1) * torch.arange(HALF))
    return torch.cat([angles.sin(), angles.cos()], 1)


def spoken_in_slots(words: tuple[str, ...], seed: int = 0) -> Spoken:
    """A word of one token in each slot, as noise."""
    samples = np.random.default_rng(seed).standard_normal(SLOT * len(words)).astype(np.float32)
    starts = tuple(SLOT * index for index in range(len(words)))
    return Spoken(samples, words, starts, tuple(start + SLOT for start in starts))
