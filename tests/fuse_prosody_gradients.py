"""The training path of `fuse_prosody` beside torch autograd of the definition: values and all gradients, each compared by RMS
error. Run as a program under TRITON_INTERPRET=1 (a process of its own, see `fuse_prosody_launches.py`), it prints what
Triton's interpreter gives as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace

import torch

from fuse_prosody_launches import Arguments, make_arguments, poisoned, rms_ratio
from textpro.kernels import ProjectorWeights, fuse_prosody_reference, fuse_prosody_training

CASES = {
    "groups of five and odd widths": ((5, 5, 3, 5, 1), 7, 20, 36),
    "groups longer than one pass": ((1, 6, 23, 5, 10), 6, 20, 36),
    "one group of one, no tokens": ((1,), 0, 20, 36),
    "tokens only": ((), 4, 20, 36),
    "wider than one block": ((4, 2), 3, 2 * 512 + 6, 1024 + 10),
}
LEAVES = ("features", "w1", "b1", "w2", "b2", "embedding")


def differentiated(arguments: Arguments, function: Callable[..., torch.Tensor], wanted: tuple[str, ...] = LEAVES) -> dict:
    """The rows and the gradients of a loss that weighs each element of them differently."""
    weights = arguments.projector
    floats = (arguments.features, weights.w1, weights.b1, weights.w2, weights.b2, arguments.embedding)
    leaves = dict(zip(LEAVES, (leaf.detach().clone() for leaf in floats), strict=True))
    for name in wanted:
        leaves[name].requires_grad_()
    placed = {name: strided(leaf) if leaf.dim() == 2 else leaf for name, leaf in leaves.items()}
    projector = ProjectorWeights(*(placed[name] for name in ("w1", "b1", "w2", "b2")))
    out = replace(arguments, features=placed["features"], projector=projector, embedding=placed["embedding"]).call(function)
    random = torch.Generator().manual_seed(7)
    (out * torch.randn(out.shape, generator=random).to(out)).sum().backward()
    return {"rows": out.detach(), **{name: leaf.grad for name, leaf in leaves.items()}}


def strided(leaf: torch.Tensor) -> torch.Tensor:
    """The same values as a window into a larger buffer, whose margins are NaN; gradients reach the leaf."""
    margins = poisoned(torch.zeros_like(leaf))._base
    return torch.nn.functional.pad(leaf, (1, 2, 1, 1)).where(~margins.isnan(), margins)[1:-1, 1:-2]


def measure(arguments: Arguments) -> dict[str, float]:
    """RMS error over RMS of the rows and each gradient, by name, against the definition in float32."""
    ours = differentiated(arguments, fuse_prosody_training)
    expected = differentiated(arguments.to(torch.float32), fuse_prosody_reference)
    return {
        name: rms_ratio(ours[name].float(), value) if value.any() else float(ours[name].abs().max()) if value.numel() else 0.0
        for name, value in expected.items()
    }


def measure_partly(arguments: Arguments) -> dict[str, bool]:
    """What is frozen gets no gradient, and what is not the same one as with everything else."""
    every = differentiated(arguments, fuse_prosody_training)
    alone = {name: differentiated(arguments, fuse_prosody_training, (name,)) for name in LEAVES}
    return {
        name: bool(torch.equal(found[name], every[name])) and all(found[other] is None for other in LEAVES if other != name)
        for name, found in alone.items()
    }


def interpret_all_cases() -> None:
    """Runs in a process with TRITON_INTERPRET=1; one line of JSON on stdout."""
    report: dict[str, dict] = {"partly": measure_partly(make_arguments((5, 2, 7), 6))}
    for name, (sizes, n_tokens, feature_dim, hidden) in CASES.items():
        for dtype in (torch.float32, torch.float16):
            report[f"{name}, {str(dtype)[6:]}"] = measure(make_arguments(sizes, n_tokens, feature_dim, hidden, 1).to(dtype))
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    interpret_all_cases()
