"""The bundled model in a larger body: `padded:135m` has the backbone's sizes of SmolLM2-135M and says what the bundled model
says, so the runtime can be met and measured at that size, with real turns and replies, before any weights are there.

The bundled weights fill a corner of every matrix; what is left over is random where it is read and zero where it would be
written, so each product has its full size and adds nothing. One spare place of the hidden state holds a very small constant,
by which the output layer keeps tokens silent that the bundled vocabulary lacks. The recognizer is the bundled one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding

from ..kernels.fuse_prosody import ProjectorWeights
from .backbone import Backbone
from .checkpoint import Checkpoint
from .errors import InputError
from .random_models import MODELS, check_room

PREFIX = "padded:"
SMOL_135M: Mapping[str, Any] = MappingProxyType(
    {"vocab_size": 49_152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
     "num_attention_heads": 9, "num_key_value_heads": 3}
)  # fmt: skip
"""SmolLM2-135M's sizes (huggingface.co/HuggingFaceTB/SmolLM2-135M, config.json)."""
BODIES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {"padded:135m": SMOL_135M} | {f"padded:{size}": MODELS[f"random:{size}"].backbone for size in ("0.5b", "3b", "7b")}
)  # fmt: skip
"""By name; the larger ones are Qwen2.5's."""
WHISPERED = 1e-5
"""The constant of the spare place: its square is lost beside those of the others."""
SILENCED = -1e9
"""What the output layer makes of it for a token that must not be said."""


def is_padded(model: object) -> bool:
    """Whether a model is named as one of these."""
    return str(model).startswith(PREFIX)


def padded_body(name: str) -> Mapping[str, Any]:
    """The backbone's sizes. InputError names those that there are."""
    try:
        return BODIES[name]
    except KeyError:
        raise InputError(f"no padded model {name!r}: expected one of {', '.join(BODIES)}") from None


def pad_checkpoint(
    small: Checkpoint,
    name: str,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> Checkpoint:
    """`small`, with a Qwen2 as backbone, in the body of that name, on `device` in `dtype` (without one float32, or
    bfloat16 on a GPU). `small` stays as it is. InputError for a body that cannot hold it, DeviceError where
    it has no room."""
    body = padded_body(name)
    place = torch.device(device)
    dtype = dtype or (torch.float32 if place.type == "cpu" else torch.bfloat16)
    model = pad_model(small.backbone.model, body, place, dtype, seed, lambda count: check_room(name, place, count, BODIES))
    projector = small.backbone.projector
    if projector is not None:
        projector = _pad_projector(projector, body["hidden_size"], place, dtype, torch.Generator(place).manual_seed(seed))
    backbone = Backbone(model, projector, small.backbone.marker_id)
    return replace(small, backbone=backbone, config={**small.config, "name": name})


def pad_model(
    small: PreTrainedModel,
    body: Mapping[str, Any],
    device: torch.device,
    dtype: torch.dtype,
    seed: int,
    check_bytes: Callable[[int], None],
) -> Qwen2ForCausalLM:
    """A Qwen2 of the body's sizes that computes what `small` does. `check_bytes` is told its size before it is made."""
    shapes = _Shapes.between(small.config, body)
    config = Qwen2Config(
        **{**body, "max_position_embeddings": small.config.max_position_embeddings},
        rope_parameters=dict(small.config.rope_parameters),
        rms_norm_eps=small.config.rms_norm_eps / shapes.wider,
        eos_token_id=small.config.eos_token_id,
        pad_token_id=small.config.pad_token_id,
        bos_token_id=small.config.bos_token_id,
        tie_word_embeddings=False,
    )
    with torch.device("meta"):
        large = Qwen2ForCausalLM(config)
    check_bytes(sum(one.numel() for one in large.parameters()) * dtype.itemsize)
    nn.Module.to(large, dtype).to_empty(device=device).requires_grad_(False)
    large.model.rotary_emb = Qwen2RotaryEmbedding(config=config).to(device)
    with torch.no_grad():
        _fill(large, torch.Generator(device).manual_seed(seed))
        _pad_tokens(small, large)
        large.model.norm.weight.copy_(_norm(small.model.norm.weight, large.model.norm.weight))
        layers: Any = small.model.layers
        wide_layers: Any = large.model.layers
        for layer, into in zip(layers, wide_layers, strict=False):
            _pad_layer(layer, into, shapes)
    return large


@dataclass(frozen=True, slots=True)
class _Shapes:
    """How the heads of a small model lie among those of a larger one: where each of its query and key rows goes."""

    query_rows: Tensor
    key_rows: Tensor
    value_rows: Tensor
    output_columns: Tensor
    key_places: int
    wider: float
    query_scale: float

    @classmethod
    def between(cls, small: Any, body: Mapping[str, Any]) -> _Shapes:
        """InputError where something of the small model is larger than in the body, or its heads do not fit."""
        for size in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_key_value_heads", "vocab_size"):
            spare = size in ("hidden_size", "vocab_size")
            if getattr(small, size) + spare > body[size]:
                found = f"{size} {getattr(small, size)}"
                raise InputError(f"a model with {found} does not fit into one with {body[size]}: take a larger body")
        group = small.num_attention_heads // small.num_key_value_heads
        wide_group = body["num_attention_heads"] // body["num_key_value_heads"]
        dim, wide = small.hidden_size // small.num_attention_heads, body["hidden_size"] // body["num_attention_heads"]
        if group > wide_group or wide % dim:
            raise InputError(
                f"heads of {dim}, {group} to a key, do not fit among heads of {wide}, {wide_group} to a key: take another body"
            )
        half = torch.arange(dim // 2) * (wide // dim)  # every so manieth frequency of the wider head is one of the smaller's
        turned = torch.cat((half, half + wide // 2))
        queries = torch.tensor([head // group * wide_group + head % group for head in range(small.num_attention_heads)])
        keys, plain = torch.arange(small.num_key_value_heads), torch.arange(dim)
        return cls(
            _rows(queries, turned, wide), _rows(keys, turned, wide), _rows(keys, plain, wide), _rows(queries, plain, wide),
            small.num_key_value_heads * wide, body["hidden_size"] / small.hidden_size, (wide / dim) ** 0.5,
        )  # fmt: skip


def _rows(heads: Tensor, places: Tensor, dim: int) -> Tensor:
    return (heads[:, None] * dim + places).flatten()


def _fill(model: Qwen2ForCausalLM, random: torch.Generator) -> None:
    """Random where it is read, zero where it would be written."""
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            parameter.fill_(float("norm" in name))
        elif name.endswith(("o_proj.weight", "down_proj.weight", "embed_tokens.weight", "lm_head.weight")):
            parameter.zero_()
        else:
            parameter.normal_(std=parameter.shape[1] ** -0.5, generator=random)


def _pad_tokens(small: PreTrainedModel, large: Qwen2ForCausalLM) -> None:
    read: Any = small.get_input_embeddings()
    written: Any = small.get_output_embeddings()
    embedding, output = read.weight, written.weight
    vocab, hidden = embedding.shape
    large.model.embed_tokens.weight[:vocab, :hidden] = embedding.to(large.lm_head.weight)
    large.model.embed_tokens.weight[:, hidden] = WHISPERED
    large.lm_head.weight[:vocab, :hidden] = output.to(large.lm_head.weight)
    large.lm_head.weight[vocab:, hidden] = SILENCED


def _pad_layer(small: nn.Module, large: nn.Module, shapes: _Shapes) -> None:
    attention: Any = small.self_attn
    into: Any = large.self_attn
    into.k_proj.weight[: shapes.key_places] = 0  # where a wider head has places that the smaller one lacks
    parts = (("q_proj", shapes.query_rows, shapes.query_scale), ("k_proj", shapes.key_rows, 1), ("v_proj", shapes.value_rows, 1))
    for name, rows, scale in parts:
        source, target = getattr(attention, name), getattr(into, name)
        _put(target.weight, source.weight * scale, rows.to(target.weight.device))
        target.bias[rows.to(target.bias.device)] = (source.bias * scale).to(target.bias)
    _put_block(into.o_proj.weight, attention.o_proj.weight, shapes.output_columns)
    mlp: Any = small.mlp
    wide: Any = large.mlp
    inner = torch.arange(mlp.up_proj.weight.shape[0])
    for name in ("gate_proj", "up_proj"):
        _put(getattr(wide, name).weight, getattr(mlp, name).weight, inner.to(wide.up_proj.weight.device))
    _put_block(wide.down_proj.weight, mlp.down_proj.weight, inner)
    for name in ("input_layernorm", "post_attention_layernorm"):
        norm: Any = getattr(large, name)
        norm.weight.copy_(_norm(getattr(small, name).weight, norm.weight))


def _put(target: Tensor, source: Tensor, rows: Tensor) -> None:
    """Rows that read the small model's hidden state, and nothing of the spare places."""
    target[:, source.shape[1]] = 0
    target[rows] = 0
    target[rows, : source.shape[1]] = source.to(target)


def _put_block(target: Tensor, source: Tensor, columns: Tensor) -> None:
    target[: source.shape[0], columns.to(target.device)] = source.to(target)


def _norm(small: Tensor, large: Tensor) -> Tensor:
    """The weight of a norm whose mean square goes over more places, most of which are zero."""
    wide = torch.ones_like(large)
    wide[: len(small)] = small.to(large)
    return wide * (len(small) / len(large)) ** 0.5


def _pad_projector(
    small: ProjectorWeights, hidden: int, device: torch.device, dtype: torch.dtype, random: torch.Generator
) -> ProjectorWeights:
    written, inner, read = small.w2.shape[0], small.w1.shape[0], small.w1.shape[1]
    w1 = torch.empty(hidden, read, device=device, dtype=dtype).normal_(std=read**-0.5, generator=random)
    b1, b2 = (torch.zeros(hidden, device=device, dtype=dtype) for _ in range(2))
    w2 = torch.zeros(hidden, hidden, device=device, dtype=dtype)
    w1[:inner], b1[:inner] = small.w1.to(w1), small.b1.to(b1)
    w2[:written, :inner], b2[:written] = small.w2.to(w2), small.b2.to(b2)
    b2[written] = WHISPERED
    return ProjectorWeights(w1, b1, w2, b2)
