"""How many turns the backbone answers exactly, by greedy decoding of whole batches with transformers' own
cache."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache

from ..models.fusion import Row
from .skills import Dialogue
from .slm_model import SpokenLanguageModel
from .slm_sequences import TrainingSequence

BATCH = 64


@torch.inference_mode()
def decode_greedily(model: SpokenLanguageModel, prompts: Sequence[Sequence[Row]], end: int, limit: int) -> list[tuple[int, ...]]:
    """What the model says after each prompt: ids up to and with `end`, at most `limit`. Prompts are padded on
    the left."""
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    said: dict[int, tuple[int, ...]] = {}
    for start in range(0, len(order), BATCH):
        group = order[start : start + BATCH]
        said |= zip(group, _decode([prompts[index] for index in group], model, end, limit), strict=True)
    return [said[index] for index in range(len(prompts))]


def exact_turns(
    model: SpokenLanguageModel, items: Sequence[tuple[Dialogue, TrainingSequence]], end: int
) -> dict[tuple[int, int], bool]:
    """Whether all that the assistant says in a turn is right, by (item, turn), with the true history before
    it."""
    spans = [(number, span) for number, (_, sequence) in enumerate(items) for span in sequence.spans]
    prompts = [items[number][1].rows[: span.row + 1] for number, span in spans]
    limit = max((len(span.ids) for _, span in spans), default=1) + 1
    right: dict[tuple[int, int], bool] = {}
    for (number, span), ids in zip(spans, decode_greedily(model, prompts, end, limit), strict=True):
        right[number, span.turn] = right.get((number, span.turn), True) and ids == span.ids
    return right


def _decode(prompts: Sequence[Sequence[Row]], model: SpokenLanguageModel, end: int, limit: int) -> list[tuple[int, ...]]:
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    width = int(lengths.max())
    embedded = _embed_left(model, prompts, width)
    mask = (torch.arange(width) >= (width - lengths)[:, None]).long()
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.backbone.config)
    said = torch.full((len(prompts), 0), end)
    going = torch.ones(len(prompts), dtype=torch.bool)
    for _ in range(limit):
        output = model.backbone(
            inputs_embeds=embedded,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        chosen = torch.where(going, output.logits[:, -1].argmax(-1), end)
        said = torch.cat([said, chosen[:, None]], 1)
        going &= chosen != end
        if not going.any():
            break
        embedded = model.backbone.model.embed_tokens(chosen[:, None])
        mask = torch.cat([mask, torch.ones(len(prompts), 1, dtype=torch.long)], 1)
        positions = positions[:, -1:] + 1
    return [_until(row, end) for row in said.tolist()]


def _embed_left(model: SpokenLanguageModel, prompts: Sequence[Sequence[Row]], width: int) -> Tensor:
    ids = torch.full((len(prompts), width), int(model.backbone.config.pad_token_id or 0))
    markers: list[int] = []
    vectors: list[NDArray[np.float32]] = []
    for index, prompt in enumerate(prompts):
        first = width - len(prompt)
        ids[index, first:] = torch.tensor([row.token_id for row in prompt])
        for place, row in enumerate(prompt):
            if row.vector is not None:
                markers.append(index * width + first + place)
                vectors.append(row.vector)
    stacked = torch.from_numpy(np.stack(vectors)) if vectors else torch.zeros(0, 0)
    return model.embed(ids, torch.tensor(markers, dtype=torch.long), stacked)


def _until(ids: Sequence[int], end: int) -> tuple[int, ...]:
    return tuple(ids[: ids.index(end) + 1] if end in ids else ids)
