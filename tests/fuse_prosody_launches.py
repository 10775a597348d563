"""Cases for the three Triton launches of `fuse_prosody` and what there is to measure of them. Run as a
program under TRITON_INTERPRET=1 (which must be set before Triton is imported, hence a process of its own),
it prints the measurements of Triton's interpreter as JSON."""

import json
import sys
from dataclasses import dataclass, fields, replace

import torch

from textpro.kernels import Layout, ProjectorWeights, fuse_prosody_reference, fuse_prosody_triton

VOCABULARY = 11


@dataclass(frozen=True)
class Arguments:
    features: torch.Tensor
    group_offsets: torch.Tensor
    projector: ProjectorWeights
    token_ids: torch.Tensor
    embedding: torch.Tensor
    layout: Layout

    def call(self, function) -> torch.Tensor:
        return function(*(getattr(self, field.name) for field in fields(self)))

    def to(self, *args) -> "Arguments":
        """Floats get the dtype, everything gets the device."""
        weights = (getattr(self.projector, field.name).to(*args) for field in fields(self.projector))
        device = self.features.to(*args).device
        return Arguments(
            self.features.to(*args),
            self.group_offsets.to(device),
            ProjectorWeights(*weights),
            self.token_ids.to(device),
            self.embedding.to(*args),
            Layout(self.layout.group_rows.to(device), self.layout.token_rows.to(device)),
        )


def make_arguments(sizes, n_tokens, feature_dim=20, hidden=36, seed=0, index_dtype=torch.int64) -> Arguments:
    random = torch.Generator().manual_seed(seed)

    def normal(*shape, scale=1.0):
        return torch.randn(*shape, generator=random) * scale

    rows = torch.randperm(len(sizes) + n_tokens, generator=random).to(index_dtype)
    return Arguments(
        features=normal(sum(sizes), feature_dim),
        group_offsets=torch.tensor([0, *sizes]).cumsum(0).to(index_dtype),
        projector=ProjectorWeights(
            normal(hidden, feature_dim, scale=feature_dim**-0.5),
            normal(hidden),
            normal(hidden, hidden, scale=hidden**-0.5),
            normal(hidden),
        ),
        token_ids=torch.randint(VOCABULARY, (n_tokens,), generator=random).to(index_dtype),
        embedding=normal(VOCABULARY, hidden),
        layout=Layout(rows[: len(sizes)], rows[len(sizes) :]),
    )


def rms_ratio(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Root mean square of the error over that of the expected values; 0 for two empty tensors."""
    assert actual.shape == expected.shape
    if not expected.numel():
        return 0.0
    return ((actual.double() - expected.double()).norm() / expected.double().norm()).item()


@dataclass(frozen=True)
class Case:
    """Sizes for the Triton launches; each line of the tables of tiles is met by one of them."""

    sizes: tuple[int, ...]
    n_tokens: int
    feature_dim: int = 20
    hidden: int = 36
    index_dtype: str = "int64"

    def arguments(self) -> Arguments:
        return make_arguments(self.sizes, self.n_tokens, self.feature_dim, self.hidden, 1, getattr(torch, self.index_dtype))


CASES = {
    "groups of five and odd widths": Case((5, 5, 3, 5, 1), 7),
    "one group of one, no tokens": Case((1,), 0),
    "tokens only": Case((), 4),
    "nothing at all": Case((), 0),
    "tiny model": Case((5, 4), 3, 192, 256),
    "groups longer than one pass": Case((1, 6, 23, 5, 10), 6),
    "second line of tiles": Case((2,) * 37, 5),
    "third line of tiles": Case((1, 3) * 35, 5),
    "last line of tiles": Case((2, 1) * 261, 5),
    "offsets, ids and rows of 32 bits": Case((5, 2, 7), 5, index_dtype="int32"),
}
BOUNDS = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 6e-3}


def poisoned(tensor: torch.Tensor) -> torch.Tensor:
    """The same values as a window into a larger buffer of NaN: strided rows, and any stray read is seen."""
    height, width = tensor.shape
    buffer = torch.full((height + 2, width + 3), float("nan"), dtype=tensor.dtype, device=tensor.device)
    buffer[1:-1, 1:-2] = tensor
    return buffer[1:-1, 1:-2]


def measure_launches(arguments: Arguments) -> dict[str, float | bool | list[int]]:
    """What a test needs to know of the three launches; outputs and the margins around all matrices are
    NaN."""
    from textpro.kernels.gather_rows import gather_rows
    from textpro.kernels.linear_scatter import linear_scatter
    from textpro.kernels.pool_linear_gelu import pool_linear_gelu

    weights = replace(arguments.projector, w1=poisoned(arguments.projector.w1), w2=poisoned(arguments.projector.w2))
    arguments = replace(
        arguments,
        features=poisoned(arguments.features),
        projector=weights,
        embedding=poisoned(arguments.embedding),
    )
    layout = arguments.layout
    shape = (layout.rows, arguments.embedding.shape[1])
    expected = arguments.to(torch.float32).call(fuse_prosody_reference)

    def empty() -> torch.Tensor:
        return poisoned(torch.full(shape, float("nan"), dtype=arguments.features.dtype, device=expected.device))

    def written(out: torch.Tensor) -> list[int]:
        """Rows without a NaN; a row written in part would be missing from these and from the rows left
        alone."""
        assert (out.isnan().all(1) | ~out.isnan().any(1)).all()
        return (~out.isnan().any(1)).nonzero()[:, 0].tolist()

    groups_out, tokens_out = empty(), empty()
    hidden = pool_linear_gelu(arguments.features, arguments.group_offsets, weights.w1, weights.b1)
    linear_scatter(hidden, weights.w2, weights.b2, layout.group_rows, groups_out)
    gather_rows(arguments.embedding, arguments.token_ids, layout.token_rows, tokens_out)

    def margins_stay(out: torch.Tensor) -> bool:
        buffer = out._base.clone()
        buffer[1:-1, 1:-2] = float("nan")
        return bool(buffer.isnan().all())

    out = arguments.call(fuse_prosody_triton)
    return {
        "rms_ratio": rms_ratio(out.float(), expected),
        "finite": bool(out.isfinite().all()),
        "same_rows": torch.equal(out[layout.group_rows.long()], groups_out[layout.group_rows.long()]),
        "tokens_exact": torch.equal(out[layout.token_rows.long()], arguments.embedding[arguments.token_ids.long()]),
        "written_by_linear_scatter": written(groups_out),
        "written_by_gather_rows": written(tokens_out),
        "margins_stay": margins_stay(groups_out) and margins_stay(tokens_out),
    }


def measure_wrong_indices() -> dict[str, bool]:
    """Indices that point outside: seen as NaN, or not written, and never read or written elsewhere."""
    from textpro.kernels.gather_rows import gather_rows
    from textpro.kernels.linear_scatter import linear_scatter
    from textpro.kernels.pool_linear_gelu import pool_linear_gelu

    good = make_arguments((2, 3), 3)
    out = torch.zeros(4, 36)
    gather_rows(good.embedding, torch.tensor([1, VOCABULARY, -1]), torch.tensor([0, 1, 2]), out)
    ids = bool(out[1:3].isnan().all()) and torch.equal(out[0], good.embedding[1]) and not out[3].any()

    buffer = torch.zeros(6, 36)
    gather_rows(good.embedding, torch.tensor([1, 2]), torch.tensor([-1, 4]), buffer[1:5])
    linear_scatter(torch.ones(2, 36), good.projector.w2, good.projector.b2, torch.tensor([4, -1]), buffer[1:5])
    rows = not buffer.any()

    features = torch.cat((good.features, torch.full((4, 20), float("nan"))))[:5]
    weights = good.projector
    hidden = pool_linear_gelu(features, torch.tensor([-3, 5, 9]), weights.w1, weights.b1)
    return {"ids": ids, "rows": rows, "offsets": bool(hidden.isfinite().all())}


def measure_wide_gather() -> bool:
    """Rows wider than one block of the gather, and no multiple of it, are copied whole."""
    from textpro.kernels.gather_rows import WIDEST_BLOCK, gather_rows

    embedding = torch.randn(3, 2 * WIDEST_BLOCK + 6)
    out = torch.full((5, embedding.shape[1]), float("nan"))
    gather_rows(embedding, torch.tensor([2, 0, 1, 2, 2]), torch.tensor([4, 0, 3, 1, 2]), out)
    return torch.equal(out, embedding[[0, 2, 2, 1, 2]])


def interpret_all_cases() -> None:
    """Runs in a process with TRITON_INTERPRET=1; one line of JSON on stdout."""
    report = {"wrong_indices": measure_wrong_indices(), "wide_gather": measure_wide_gather()}
    for name, case in CASES.items():
        for dtype in (torch.float32, torch.float16):
            report[f"{name}, {str(dtype)[6:]}"] = measure_launches(case.arguments().to(dtype))
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    interpret_all_cases()
