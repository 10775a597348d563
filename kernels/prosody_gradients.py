"""`fuse_prosody` at training sizes, with gradients: pooling, gathering and their gradients are Triton launches,
once for all groups, and the two products are cuBLAS, which is the faster of the two where there are many rows.
The gradients are those of the torch definition; nothing is recomputed but the slope of the GELU, whose input is
kept. Not differentiable twice."""

# mypy: disable-error-code="no-untyped-call"

from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional

from .gather_rows import gather_rows
from .pool_rows import pool_rows, spread_rows
from .tiles import dense_rows


class FusedProsody(torch.autograd.Function):
    """The function `fuse_rows` with its gradients. Arguments as in `fuse_prosody`, with the projector and the
    layout taken apart; not checked."""

    @staticmethod
    def forward(ctx: Any, *arguments: torch.Tensor) -> torch.Tensor:
        features, group_offsets, w1, _, w2, _, token_ids, embedding, group_rows, token_rows = arguments
        pooled, before, activated, out = fuse_rows(*arguments)
        ctx.save_for_backward(
            group_offsets.contiguous(), pooled, before, activated, w1, w2, token_ids, group_rows.contiguous(),
            token_rows.contiguous(),
        )  # fmt: skip
        ctx.n_features, ctx.vocabulary = features.shape[0], embedding.shape[0]
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        group_offsets, pooled, before, activated, w1, w2, token_ids, group_rows, token_rows = ctx.saved_tensors
        wants_features, _, wants_w1, wants_b1, wants_w2, wants_b2, _, wants_embedding, _, _ = ctx.needs_input_grad
        gradient = gradients[0].contiguous()
        d_features = d_w1 = d_b1 = d_w2 = d_b2 = d_embedding = None
        if wants_embedding:
            d_embedding = torch.ops.aten.embedding_dense_backward(
                _taken(gradient, token_rows), token_ids, ctx.vocabulary, -1, False
            )
        if any((wants_features, wants_w1, wants_b1, wants_w2, wants_b2)):
            d_projected = _taken(gradient, group_rows)  # [groups, hidden]
            d_w2 = d_projected.T @ activated if wants_w2 else None
            d_b2 = d_projected.sum(0) if wants_b2 else None
            d_before = torch.ops.aten.gelu_backward(d_projected @ w2, before)  # [groups, hidden]
            d_w1 = d_before.T @ pooled if wants_w1 else None
            d_b1 = d_before.sum(0) if wants_b1 else None
            if wants_features:
                with torch.cuda.device_of(gradient):
                    d_features = spread_rows(d_before @ w1, group_offsets, ctx.n_features)
        return d_features, None, d_w1, d_b1, d_w2, d_b2, None, d_embedding, None, None


def fuse_rows(
    features: torch.Tensor,
    group_offsets: torch.Tensor,
    w1: torch.Tensor,
    b1: torch.Tensor,
    w2: torch.Tensor,
    b2: torch.Tensor,
    token_ids: torch.Tensor,
    embedding: torch.Tensor,
    group_rows: torch.Tensor,
    token_rows: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The pooled rows [groups, feature_dim], the input of the GELU and its output [groups, hidden], and the
    result [rows, hidden]. Arguments as in `fuse_prosody`, not checked."""
    out = features.new_empty((group_rows.shape[0] + token_rows.shape[0], embedding.shape[1]))
    with torch.cuda.device_of(features):
        pooled = pool_rows(dense_rows(features), group_offsets.contiguous())
        before = functional.linear(pooled, w1, b1)
        activated = functional.gelu(before)
        out.index_copy_(0, group_rows.long(), functional.linear(activated, w2, b2))
        gather_rows(dense_rows(embedding), token_ids.contiguous(), token_rows.contiguous(), out)
    return pooled, before, activated, out


def _taken(gradient: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Those rows of the gradient, [n, hidden], by the launch that also gathers embeddings."""
    taken = gradient.new_empty((rows.shape[0], gradient.shape[1]))
    places = torch.arange(rows.shape[0], device=rows.device)
    with torch.cuda.device_of(gradient):
        gather_rows(gradient, rows, places, taken)
    return taken
