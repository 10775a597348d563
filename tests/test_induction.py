"""The heads that a new backbone begins with: they look where the current token stood before, and at what followed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from textpro.training.induction import begin_with_induction
from textpro.training.slm_model import SpokenLanguageModel, backbone_config

WORDS = 24
"""Tokens that are said and then said again."""


@pytest.fixture(scope="module")
def attention() -> tuple[Tensor, ...]:
    """Weights [heads, query, key] of the first two layers over random tokens that are said twice, in a new backbone."""
    torch.manual_seed(0)
    config = backbone_config(vocab_size=600)
    config._attn_implementation = "eager"
    model = SpokenLanguageModel(config, feature_dim=8)
    begin_with_induction(model.backbone)
    words = torch.randperm(590)[:WORDS] + 10
    with torch.no_grad():
        seen = model.backbone(input_ids=words.repeat(2)[None], output_attentions=True).attentions
    return tuple(layer[0] for layer in seen[:2])


def test_one_head_of_the_first_layer_looks_one_token_back(attention: tuple[Tensor, ...]) -> None:
    back = attention[0][0].diagonal(offset=-1)
    assert back[2:].min() > 0.95


def test_one_head_of_the_second_layer_looks_at_what_followed_the_token_before(attention: tuple[Tensor, ...]) -> None:
    repeated = attention[1][0][WORDS:]
    followed = torch.arange(1, WORDS + 1)
    assert (repeated.argmax(-1) == followed).float().mean() > 0.8
    assert repeated[torch.arange(WORDS), followed].mean() > 0.6
