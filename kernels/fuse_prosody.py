"""Fused prosody pooling: the embeddings that the backbone reads, from prosody vectors and text tokens. Each
group of token features becomes one row (mean, Linear, GELU, Linear), each token id one row (its embedding),
and a `Layout` says where every row stands, so each row of the result is written exactly once. The torch
function `fuse_prosody_reference` is the definition. On CUDA three Triton launches compute the same without
the tensors in between; from `CUBLAS_GROUPS` groups on, and wherever gradients are recorded, the products are
cuBLAS (`prosody_gradients.py`). Pooling and projector are those of TextPro-SLM."""

# mypy: disable-error-code="no-untyped-call"

from dataclasses import dataclass

import torch
from torch.nn import functional

from .tiles import dense_rows, takes_triton

INDEX_DTYPES = (torch.int32, torch.int64)
CUBLAS_GROUPS = 513
"""From this many groups on the call is bound by its products and cuBLAS takes them; below it, which is serving,
by reading the weights once. Chosen by count, not measured: `benchmarks/prosody_kernels.py` times both at 2,560."""


@dataclass(frozen=True, slots=True)
class ProjectorWeights:
    """Linear(w1, b1), GELU (erf), Linear(w2, b2): w1 [hidden, feature_dim], w2 [hidden, hidden], b1, b2
    [hidden]."""

    w1: torch.Tensor
    b1: torch.Tensor
    w2: torch.Tensor
    b2: torch.Tensor


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the rows go: group_rows int [groups], token_rows int [n_tokens]; together 0 .. groups +
    n_tokens - 1, each once, in any order."""

    group_rows: torch.Tensor
    token_rows: torch.Tensor

    @property
    def rows(self) -> int:
        return self.group_rows.shape[0] + self.token_rows.shape[0]


def fuse_prosody(
    features: torch.Tensor,
    group_offsets: torch.Tensor,
    projector: ProjectorWeights,
    token_ids: torch.Tensor,
    embedding: torch.Tensor,
    layout: Layout,
) -> torch.Tensor:
    """Prosody groups and text tokens as the rows of one new tensor [groups + n_tokens, hidden].

    features [n_features, feature_dim]; group_offsets int [groups + 1] from 0 to n_features, group g is the
    features group_offsets[g] .. group_offsets[g + 1] - 1 and has at least one; token_ids int [n_tokens];
    embedding [vocabulary, hidden]. No groups or no tokens is allowed. All on one device, floats of one
    dtype, indices int32 or int64.

    CUDA takes the Triton launches and never waits for the device, so a CUDA graph may capture the call.
    What follows: there the values of the indices are the caller's duty (`check_values` tests them, at the
    price of a wait); a wrong one leaves rows wrong, but reads and writes nothing outside the tensors (from
    `CUBLAS_GROUPS` groups on and with gradients, torch stops the device at a wrong row). Everything else takes
    the torch definition. TypeError and ValueError name what does not fit; on the CPU also the values.
    """
    check_arguments(features, group_offsets, projector, token_ids, embedding, layout)
    if features.device.type == "cpu":
        check_values(features, group_offsets, token_ids, embedding, layout)
    if takes_triton(features):
        if _records(features, projector, embedding) or group_offsets.shape[0] > CUBLAS_GROUPS:
            return fuse_prosody_training(features, group_offsets, projector, token_ids, embedding, layout)
        return fuse_prosody_triton(features, group_offsets, projector, token_ids, embedding, layout)
    return fuse_prosody_reference(features, group_offsets, projector, token_ids, embedding, layout)


def fuse_prosody_reference(
    features: torch.Tensor,
    group_offsets: torch.Tensor,
    projector: ProjectorWeights,
    token_ids: torch.Tensor,
    embedding: torch.Tensor,
    layout: Layout,
) -> torch.Tensor:
    """The definition, for any device and with gradients; arguments as in `fuse_prosody`, not checked.

    The mean is taken in float32 at least, then rounded to the dtype of the features.
    """
    groups = group_offsets.shape[0] - 1
    sizes = group_offsets.diff()
    group_of_feature = torch.repeat_interleave(torch.arange(groups, device=features.device), sizes, output_size=features.shape[0])
    wide = torch.promote_types(features.dtype, torch.float32)
    sums = features.new_zeros((groups, features.shape[1]), dtype=wide)
    sums = sums.index_add(0, group_of_feature, features.to(wide))
    pooled = (sums / sizes.unsqueeze(1)).to(features.dtype)
    activated = functional.gelu(functional.linear(pooled, projector.w1, projector.b1))
    projected = functional.linear(activated, projector.w2, projector.b2)
    out = features.new_empty((layout.rows, embedding.shape[1]))
    out = out.index_copy(0, layout.group_rows.long(), projected)
    return out.index_copy(0, layout.token_rows.long(), functional.embedding(token_ids, embedding))


def fuse_prosody_triton(
    features: torch.Tensor,
    group_offsets: torch.Tensor,
    projector: ProjectorWeights,
    token_ids: torch.Tensor,
    embedding: torch.Tensor,
    layout: Layout,
) -> torch.Tensor:
    """The three launches, forward only; arguments as in `fuse_prosody`, not checked. Sums are float32.

    Needs Triton, and CUDA tensors of a dtype that `takes_triton` (or Triton's interpreter: float32 and float16
    only, its bfloat16 arithmetic is wrong without an error).
    """
    # Imported here so that the package imports where Triton does not exist.
    from .gather_rows import gather_rows
    from .linear_scatter import linear_scatter
    from .pool_linear_gelu import pool_linear_gelu

    out = features.new_empty((layout.rows, embedding.shape[1]))
    with torch.cuda.device_of(features):
        hidden = pool_linear_gelu(
            dense_rows(features),
            group_offsets.contiguous(),
            dense_rows(projector.w1),
            projector.b1.contiguous(),
        )
        linear_scatter(hidden, dense_rows(projector.w2), projector.b2.contiguous(), layout.group_rows.contiguous(), out)
        gather_rows(dense_rows(embedding), token_ids.contiguous(), layout.token_rows.contiguous(), out)
    return out


def fuse_prosody_training(
    features: torch.Tensor,
    group_offsets: torch.Tensor,
    projector: ProjectorWeights,
    token_ids: torch.Tensor,
    embedding: torch.Tensor,
    layout: Layout,
) -> torch.Tensor:
    """Triton for pooling and gathering, cuBLAS for the products, with gradients for all floats; arguments as in
    `fuse_prosody`, not checked. Needs what `fuse_prosody_triton` needs."""
    from .prosody_gradients import FusedProsody, fuse_rows

    weights = (projector.w1, projector.b1, projector.w2, projector.b2)
    arguments = (features, group_offsets, *weights, token_ids, embedding, layout.group_rows, layout.token_rows)
    if not _records(features, projector, embedding):
        return fuse_rows(*arguments)[-1]
    out: torch.Tensor = FusedProsody.apply(*arguments)
    return out


def check_arguments(
    features: torch.Tensor,
    group_offsets: torch.Tensor,
    projector: ProjectorWeights,
    token_ids: torch.Tensor,
    embedding: torch.Tensor,
    layout: Layout,
) -> None:
    """Devices, dtypes and shapes of the arguments of `fuse_prosody`; never waits for the device.

    Raises TypeError (what is no tensor, or has a wrong dtype) or ValueError (device, shape).
    """
    if not isinstance(projector, ProjectorWeights):
        raise TypeError(
            f"projector is a {type(projector).__name__}, expected ProjectorWeights; "
            "build it from the tensors of the two linear layers: ProjectorWeights(w1, b1, w2, b2)."
        )
    if not isinstance(layout, Layout):
        raise TypeError(f"layout is a {type(layout).__name__}, expected Layout; build Layout(group_rows, token_rows).")
    floats = {
        "features": (features, 2),
        "projector.w1": (projector.w1, 2),
        "projector.b1": (projector.b1, 1),
        "projector.w2": (projector.w2, 2),
        "projector.b2": (projector.b2, 1),
        "embedding": (embedding, 2),
    }
    indices = {
        "group_offsets": (group_offsets, 1),
        "token_ids": (token_ids, 1),
        "layout.group_rows": (layout.group_rows, 1),
        "layout.token_rows": (layout.token_rows, 1),
    }
    for name, (tensor, dimensions) in (floats | indices).items():
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"{name} is a {type(tensor).__name__}, expected a torch.Tensor; convert it first.")
        if tensor.dim() != dimensions:
            raise ValueError(f"{name} has shape {list(tensor.shape)}, expected {dimensions} dimension(s); reshape it.")
        if tensor.device != features.device:
            raise ValueError(f"{name} is on {tensor.device}, expected {features.device} like features; move it with .to().")
    for name, (tensor, _) in floats.items():
        if not tensor.is_floating_point() or tensor.dtype != features.dtype:
            raise TypeError(
                f"{name} is {tensor.dtype} and features is {features.dtype}, expected one floating dtype; "
                "cast them to the dtype that the backbone computes in."
            )
    for name, (tensor, _) in indices.items():
        if tensor.dtype not in INDEX_DTYPES:
            raise TypeError(f"{name} is {tensor.dtype}, expected int32 or int64; cast it with .long().")
    _check_sizes(features, group_offsets, projector, token_ids, embedding, layout)


def _check_sizes(
    features: torch.Tensor,
    group_offsets: torch.Tensor,
    projector: ProjectorWeights,
    token_ids: torch.Tensor,
    embedding: torch.Tensor,
    layout: Layout,
) -> None:
    if group_offsets.shape[0] == 0:
        raise ValueError("group_offsets is empty, expected groups + 1 offsets; pass [0] when there are no groups.")
    hidden = embedding.shape[1]
    groups = group_offsets.shape[0] - 1
    expected = {
        "projector.w1": (projector.w1, (hidden, features.shape[1]), "[hidden, feature_dim]"),
        "projector.b1": (projector.b1, (hidden,), "[hidden]"),
        "projector.w2": (projector.w2, (hidden, hidden), "[hidden, hidden]"),
        "projector.b2": (projector.b2, (hidden,), "[hidden]"),
        "layout.group_rows": (layout.group_rows, (groups,), "[groups], one less than group_offsets"),
        "layout.token_rows": (layout.token_rows, (token_ids.shape[0],), "[n_tokens], as many as token_ids"),
    }
    for name, (tensor, shape, meaning) in expected.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(
                f"{name} has shape {list(tensor.shape)}, expected {list(shape)} = {meaning} "
                f"for features {list(features.shape)} and embedding {list(embedding.shape)}; "
                "pass the weights and the layout that belong to these."
            )


def check_values(
    features: torch.Tensor,
    group_offsets: torch.Tensor,
    token_ids: torch.Tensor,
    embedding: torch.Tensor,
    layout: Layout,
) -> None:
    """The values of the indices of `fuse_prosody`; waits for the device. Raises ValueError."""
    if group_offsets[0] != 0 or group_offsets[-1] != features.shape[0]:
        raise ValueError(
            f"group_offsets run from {int(group_offsets[0])} to {int(group_offsets[-1])}, expected from 0 to "
            f"{features.shape[0]}, the number of feature rows; every feature belongs to one group."
        )
    sizes = group_offsets.diff()
    if bool((sizes < 1).any()):
        group = int((sizes < 1).nonzero()[0, 0])
        raise ValueError(
            f"group {group} has {int(sizes[group])} features by group_offsets, expected at least 1; "
            "leave a group without features out, and its row out of the layout."
        )
    if token_ids.shape[0] and (token_ids.amin() < 0 or token_ids.amax() >= embedding.shape[0]):
        raise ValueError(
            f"token_ids run from {int(token_ids.amin())} to {int(token_ids.amax())}, expected 0 to "
            f"{embedding.shape[0] - 1}, the rows of embedding; use the tokenizer that belongs to it."
        )
    written = torch.cat((layout.group_rows.long(), layout.token_rows.long())).sort().values
    if not torch.equal(written, torch.arange(layout.rows, device=written.device)):
        raise ValueError(
            f"layout names the rows {written.tolist()}, expected each of 0 to {layout.rows - 1} once; "
            "give every group and every token a row of its own, without gaps."
        )


def _records(features: torch.Tensor, projector: ProjectorWeights, embedding: torch.Tensor) -> bool:
    """Whether autograd will want gradients of the call."""
    floats = (features, projector.w1, projector.b1, projector.w2, projector.b2, embedding)
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in floats)
