"""The language model as the engine sees it: a transformers causal LM (Qwen2 first), the projector that
turns prosody vectors into embeddings, and an attention function that keeps keys and values outside the
model. One forward takes rows of many conversations, packed end to end as a batch of one; each row carries
its own position and reads the keys of its own slot, so transformers' cache, its masks and its
one-length-per-batch rule never come into play. Rows are attended span by span (SDPA: the CPU, and long appends),
or each by itself in one kernel for all (`kernels/slab_attention.py`). The attention function is reached through
transformers' AttentionInterface, which hands it every extra argument of the forward; for a name that its mask
registry does not know, no mask is built. Invariant: a row's output depends on its own conversation alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from ..kernels.fuse_prosody import Layout, ProjectorWeights, fuse_prosody
from ..kernels.slab_attention import slab_attention, store_in_slab
from .errors import CheckpointError, InputError

ATTENTION_NAME = "textpro_packed"


def upload(values: Sequence[object] | npt.NDArray[np.float32], device: torch.device, dtype: torch.dtype = torch.long) -> Tensor:
    """Numbers as a tensor on the device. Never waits for a GPU: pinned memory, copied in the order of its work."""
    if device.type != "cuda":
        return torch.tensor(values, dtype=dtype, device=device)
    return torch.tensor(values, dtype=dtype).pin_memory().to(device, non_blocking=True)


class InputRow(Protocol):
    """What one row of input is made of: a token, or a marker whose embedding is the projected vector
    [feature_dim]."""

    @property
    def token_id(self) -> int | None: ...

    @property
    def vector(self) -> npt.NDArray[np.float32] | None: ...


@dataclass(frozen=True, slots=True)
class PackedSpan:
    """Consecutive rows `first .. first + count` of a step: the newest of the `length` positions that `slot`
    then holds.

    `mask` [1, 1, count, length] is added to the scores; None where every row sees all keys, or where
    `is_causal` says it.
    """

    slot: int
    first: int
    count: int
    length: int
    mask: Tensor | None
    is_causal: bool


@dataclass(frozen=True, slots=True)
class SlabRows:
    """Rows that are attended each by itself, all in one call: `rows` [n] of the step, None for all of them; the
    slot and the position of each, int64 [n]."""

    rows: Tensor | None
    slots: Tensor
    positions: Tensor


@dataclass(frozen=True, slots=True)
class Packing:
    """Where a step's keys and values go and what each row sees. keys, values [layers, slots, slot_len,
    kv_heads, head_dim]; write_rows [rows] index the flattened (slot, position) axis. Each row is in one span, or
    among `single`."""

    keys: Tensor
    values: Tensor
    write_rows: Tensor
    spans: tuple[PackedSpan, ...] = ()
    single: SlabRows | None = None


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packing: Packing,
    scaling: float,
    **_: object,
) -> tuple[Tensor, None]:
    """Store the rows' keys and values, then attend. query [1, heads, rows, dim]; key, value
    [1, kv_heads, rows, dim]; result [1, rows, heads, dim]. The leftover keywords are transformers' own
    (dropout, sliding_window, ...)."""
    layer: int = module.layer_idx  # type: ignore[assignment]
    heads, rows, dim = query.shape[1:]
    kv_heads = key.shape[1]
    keys, values = packing.keys[layer], packing.values[layer]
    store_in_slab(key[0].transpose(0, 1), value[0].transpose(0, 1), keys, values, packing.write_rows)
    single = packing.single
    if single is not None and single.rows is None:
        asked = query[0].transpose(0, 1)
        return slab_attention(asked, keys, values, single.slots, single.positions, scaling)[None], None

    grouped = query.view(kv_heads, heads // kv_heads, rows, dim)
    out = query.new_empty(1, rows, heads, dim)
    for span in packing.spans:
        end = span.first + span.count
        span_keys = keys[span.slot, : span.length].transpose(0, 1).unsqueeze(1)  # [kv_heads, 1, length, dim]
        span_values = values[span.slot, : span.length].transpose(0, 1).unsqueeze(1)
        if span.count == 1:  # the heads of a group stand in for query rows: no keys are repeated, no mask is needed
            one = grouped[:, :, span.first].unsqueeze(1)
            out[0, span.first] = F.scaled_dot_product_attention(one, span_keys, span_values, scale=scaling).view(heads, dim)
            continue
        shape = (kv_heads, heads // kv_heads, span.length, dim)
        attended = F.scaled_dot_product_attention(
            grouped[:, :, span.first : end],
            span_keys.expand(shape),
            span_values.expand(shape),
            attn_mask=span.mask,
            is_causal=span.is_causal,
            scale=scaling,
        )  # [kv_heads, group, count, dim]
        out[0, span.first : end] = attended.permute(2, 0, 1, 3).reshape(span.count, heads, dim)
    if single is not None:
        asked = query[0].transpose(0, 1)[single.rows]
        out[0, single.rows] = slab_attention(asked, keys, values, single.slots, single.positions, scaling)
    return out, None


AttentionInterface.register(ATTENTION_NAME, packed_attention)


def fuse_norms(model: nn.Module) -> None:
    """One launch for each RMSNorm of the model, where transformers' own code takes eight: on a GPU that is a third of a
    step's launches, each longer than its work. The same function but for one rounding less in 16 bits."""
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon"):
            weight: Tensor = module.weight  # type: ignore[assignment]
            eps: float = module.variance_epsilon  # type: ignore[assignment]
            module.forward = partial(F.rms_norm, normalized_shape=tuple(weight.shape), weight=weight, eps=eps)


class Backbone:
    """A causal LM ready for packed steps. It takes the model over: eval mode, our attention function, no
    gradients.

    `projector` None means no prosody (mode `none`): rows with vectors are then refused. Raises
    CheckpointError for a model that needs another attention (sliding window) or does not fit the
    projector.
    """

    def __init__(self, model: PreTrainedModel, projector: ProjectorWeights | None = None, marker_id: int | None = None) -> None:
        config = model.config
        kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
        if kinds != {"full_attention"}:
            raise CheckpointError(
                f"backbone layers attend by {sorted(kinds)}, but the engine serves full attention only: "
                "use a model without a sliding window (use_sliding_window=false in its config.json)"
            )
        embedding = model.get_input_embeddings()
        if type(embedding) is not nn.Embedding:
            raise CheckpointError(
                f"the backbone embeds tokens by {type(embedding).__name__}, but marker rows stand beside "
                "rows of a plain table: use a model with nn.Embedding"
            )
        self.model = model.eval().requires_grad_(False)
        self.model.set_attn_implementation(ATTENTION_NAME)
        if embedding.weight.is_cuda:
            fuse_norms(self.model)
        self.embedding: Tensor = embedding.weight
        self.projector = projector
        self.marker_id = marker_id
        self.vocab_size, self.hidden_size = self.embedding.shape
        self.layers: int = config.num_hidden_layers
        self.kv_heads: int = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        self.head_dim: int = getattr(config, "head_dim", None) or self.hidden_size // config.num_attention_heads
        self.max_positions: int = config.max_position_embeddings
        if projector is not None:
            self._check_projector(projector)

    @property
    def device(self) -> torch.device:
        return self.embedding.device

    @property
    def dtype(self) -> torch.dtype:
        return self.embedding.dtype

    @property
    def feature_dim(self) -> int | None:
        """Length of a prosody vector, None without a projector."""
        return None if self.projector is None else int(self.projector.w1.shape[1])

    def _check_projector(self, projector: ProjectorWeights) -> None:
        weights = projector.w2
        found = (weights.shape[0], weights.dtype, weights.device)
        wanted = (self.hidden_size, self.dtype, self.device)
        if found != wanted:
            raise CheckpointError(
                f"the projector writes rows of (size, dtype, device) {found}, the backbone reads {wanted}: "
                "load both from one checkpoint and move them together"
            )

    def moved(self, device: torch.device, dtype: torch.dtype) -> Backbone:
        """The same weights there, in that precision. The model's modules are moved, so this backbone is used up. The
        frequencies of its rotary positions stay as they are: rounded to 16 bits, they would be off by radians a few
        thousand positions on."""
        frequencies = {name: one for name, one in self.model.named_buffers() if name.endswith("inv_freq")}
        self.model.to(device, dtype)
        for name, one in frequencies.items():
            owner, _, leaf = name.rpartition(".")
            setattr(self.model.get_submodule(owner), leaf, one.to(device))
        projector = self.projector
        if projector is not None:
            weights = (projector.w1, projector.b1, projector.w2, projector.b2)
            projector = ProjectorWeights(*(one.to(device, dtype) for one in weights))
        return Backbone(self.model, projector, self.marker_id)

    def check(self, rows: Sequence[InputRow]) -> None:
        """Raise InputError for a row that this backbone cannot embed, so that it never reaches a step
        shared with others."""
        for row in rows:
            if row.vector is None:
                if row.token_id is None or not 0 <= row.token_id < self.vocab_size:
                    raise InputError(f"token id {row.token_id} is outside the vocabulary 0..{self.vocab_size - 1}")
            elif self.projector is None:
                raise InputError("a row carries a prosody vector, but this backbone has no projector: append tokens")
            elif row.vector.shape != (self.feature_dim,):
                raise InputError(f"a prosody vector has shape {row.vector.shape}, the projector reads ({self.feature_dim},)")
            elif not np.isfinite(row.vector).all():
                raise InputError("a prosody vector is not finite everywhere: drop the group or use its tokens alone")

    def embed(self, rows: Sequence[InputRow]) -> Tensor:
        """Input embeddings [rows, hidden] of checked rows: tokens looked up, vectors projected, one fused
        call for both."""
        token_rows = [index for index, row in enumerate(rows) if row.vector is None]
        token_ids = upload([rows[index].token_id for index in token_rows], self.device)
        vectors = [row.vector for row in rows if row.vector is not None]
        if not vectors or self.projector is None:
            return F.embedding(token_ids, self.embedding)
        group_rows = [index for index, row in enumerate(rows) if row.vector is not None]
        return fuse_prosody(
            upload(np.stack(vectors), self.device, torch.float32).to(self.dtype),
            torch.arange(len(vectors) + 1, device=self.device),
            self.projector,
            token_ids,
            self.embedding,
            Layout(
                group_rows=upload(group_rows, self.device),
                token_rows=upload(token_rows, self.device),
            ),
        )

    def forward(self, embeddings: Tensor, positions: Tensor, wanted_rows: Tensor, packing: Packing) -> Tensor:
        """One packed forward. embeddings [rows, hidden], positions [rows], wanted_rows [n] -> logits [n,
        vocab]."""
        output = self.model(
            inputs_embeds=embeddings.unsqueeze(0),
            position_ids=positions.unsqueeze(0),
            use_cache=False,
            logits_to_keep=wanted_rows,
            packing=packing,
        )
        logits: Tensor = output.logits[0]
        return logits
