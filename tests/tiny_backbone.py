"""A random Qwen2 small enough for a test, as the engine's backbone and, with equal weights, as plain
transformers: the oracle that every engine test compares with."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from textpro.engine import Entry
from textpro.engine.slab import Slab
from textpro.kernels.fuse_prosody import ProjectorWeights
from textpro.models.backbone import Backbone

VOCAB = 97
FEATURES = 12
HIDDEN = 64


@dataclass(frozen=True, slots=True)
class Oracle:
    """Plain transformers modules and plain torch; nothing of the engine."""

    model: Qwen2ForCausalLM
    projector: ProjectorWeights

    def embed(self, entries: Sequence[Entry]) -> Tensor:
        """[entries, hidden], row by row."""
        return torch.stack([self._row(entry) for entry in entries])

    @torch.no_grad()
    def logits(self, entries: Sequence[Entry]) -> Tensor:
        """[entries, vocab] of one full forward from scratch."""
        return self.model(inputs_embeds=self.embed(entries)[None], use_cache=False).logits[0]

    @torch.no_grad()
    def greedy(self, entries: Sequence[Entry], tokens: int) -> list[int]:
        """The reply that `generate` gives."""
        out = self.model.generate(
            inputs_embeds=self.embed(entries)[None],
            attention_mask=torch.ones(1, len(entries), dtype=torch.long),
            do_sample=False,
            max_new_tokens=tokens,
            pad_token_id=0,
            eos_token_id=None,
        )
        return out[0].tolist()

    def _row(self, entry: Entry) -> Tensor:
        if entry.vector is None:
            return self.model.get_input_embeddings().weight[entry.token_id].detach()
        weights = self.projector
        hidden = F.gelu(F.linear(torch.from_numpy(entry.vector.copy()), weights.w1, weights.b1))
        return F.linear(hidden, weights.w2, weights.b2)


def make_backbone(layers: int = 2, seed: int = 0, sharpness: float = 8.0) -> tuple[Backbone, Oracle]:
    """A backbone with prosody and its oracle. `sharpness` scales the output layer, so that greedy choices
    are not ties."""
    torch.manual_seed(seed)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=VOCAB,
            hidden_size=HIDDEN,
            intermediate_size=96,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            tie_word_embeddings=False,
        )
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(3.0)
        model.lm_head.weight.mul_(sharpness / 3.0)
    projector = ProjectorWeights(
        w1=torch.randn(HIDDEN, FEATURES) / FEATURES**0.5,
        b1=torch.randn(HIDDEN) * 0.1,
        w2=torch.randn(HIDDEN, HIDDEN) * 0.05 / HIDDEN**0.5,
        b2=torch.randn(HIDDEN) * 0.01,
    )
    oracle = Oracle(copy.deepcopy(model), projector)
    return Backbone(model, projector), oracle


def make_slab(backbone: Backbone, slots: int = 4, slot_len: int = 64) -> Slab:
    """A slab that fits the backbone."""
    return Slab(
        layers=backbone.layers,
        slots=slots,
        slot_len=slot_len,
        kv_heads=backbone.kv_heads,
        head_dim=backbone.head_dim,
    )


def make_entries(count: int, seed: int = 0, vector_every: int = 4) -> tuple[Entry, ...]:
    """Tokens, with a prosody row at every `vector_every`-th place (0: none)."""
    random = np.random.default_rng(seed)
    return tuple(
        Entry(None, random.standard_normal(FEATURES).astype(np.float32))
        if vector_every and index % vector_every == 0
        else Entry(int(random.integers(VOCAB)))
        for index in range(count)
    )
