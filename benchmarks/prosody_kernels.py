"""Times `fuse_prosody` beside torch eager, torch.compile and CUDA-graphed eager, at the sizes of the
released models.

Every line stands beside its floor: the bytes that any implementation must move, or the operations of the
matrix products, over what this device reached in the same run (a large copy, a large matrix product). "ours" is
the call as it is: Triton launches at serving sizes, cuBLAS for the products from `CUBLAS_GROUPS` groups on, where
"ours_triton" shows what the launches would take. `fwd+bwd`, from 256 groups on, has the gradients of everything.
The L2 cache is flushed before each call, because a model step streams gigabytes between two calls. No
results are written when a provider disagrees with the float32 definition."""

import argparse
import csv
import importlib.util
import platform
import sys
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

import torch
from gpu_timing import (
    Ceiling,
    captured,
    count_launches,
    flush_bytes,
    measure_ceiling,
    time_on_cpu,
    time_on_gpu,
)
from measuring import commit, own_command, percentile
from torch.nn import functional

from textpro.kernels import (
    Layout,
    ProjectorWeights,
    check_values,
    fuse_prosody,
    fuse_prosody_reference,
    fuse_prosody_triton,
)
from textpro.kernels.fuse_prosody import CUBLAS_GROUPS

GROUP_SIZE = 5
TOKENS_PER_GROUP = 5
VOCABULARY = 32_768
TRAINING_GROUPS = 256
"""From so many groups on the gradients are timed, too."""
AGREEMENT = {torch.bfloat16: 6e-3, torch.float16: 2e-3, torch.float32: 1e-5}


class Disagreement(Exception):
    """A provider computes something else than the definition; its time means nothing."""


@dataclass(frozen=True, slots=True)
class Shape:
    groups: int
    feature_dim: int
    hidden: int

    def weight_elements(self) -> int:
        return self.hidden * (self.feature_dim + self.hidden + 2)

    def flops(self) -> int:
        return 2 * self.groups * self.hidden * (self.feature_dim + self.hidden)

    def training_floor_bytes(self, itemsize: int) -> int:
        """Beside the forward pass: the gradient of the result read, the weights and the features read again, a
        gradient written for each float, the whole embedding's among them."""
        tokens = TOKENS_PER_GROUP * self.groups
        elements = (self.groups + tokens) * self.hidden + 2 * self.weight_elements()
        elements += 2 * GROUP_SIZE * self.groups * self.feature_dim + VOCABULARY * self.hidden
        return self.floor_bytes(itemsize) + elements * itemsize

    def floor_bytes(self, itemsize: int) -> int:
        """Inputs read once, the result written once, int64 indices; nothing in between."""
        tokens = TOKENS_PER_GROUP * self.groups
        elements = GROUP_SIZE * self.groups * self.feature_dim + self.weight_elements()
        elements += (2 * tokens + self.groups) * self.hidden
        return elements * itemsize + 8 * (2 * self.groups + 1 + 2 * tokens)

    def fused_bytes(self, itemsize: int) -> int:
        """The three launches: beside the floor, the activations between the two products, written and
        read."""
        return self.floor_bytes(itemsize) + 2 * self.groups * self.hidden * itemsize

    def eager_bytes(self, itemsize: int) -> int:
        """Eager torch: also the pooled, the first product, the projected and the gathered rows, written and
        read."""
        tokens = TOKENS_PER_GROUP * self.groups
        between = self.groups * self.feature_dim + 3 * self.groups * self.hidden + tokens * self.hidden
        return self.floor_bytes(itemsize) + 2 * between * itemsize


@dataclass(frozen=True, slots=True)
class Inputs:
    features: torch.Tensor
    group_offsets: torch.Tensor
    projector: ProjectorWeights
    token_ids: torch.Tensor
    embedding: torch.Tensor
    layout: Layout

    def call(self, function: Callable[..., torch.Tensor]) -> torch.Tensor:
        return function(*(getattr(self, field.name) for field in fields(self)))

    def wide(self) -> "Inputs":
        """The same values in float32."""
        weights = ProjectorWeights(*(getattr(self.projector, f.name).float() for f in fields(self.projector)))
        rest = (self.token_ids, self.embedding.float(), self.layout)
        return Inputs(self.features.float(), self.group_offsets, weights, *rest)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the CSV. Times in microseconds; `device_*`: between two events around the call on the
    device, `call_*`: host time from an idle device to the finished result. `bytes` are computed, not
    measured (-1: not known)."""

    provider: str
    mode: str
    groups: int
    feature_dim: int
    hidden: int
    dtype: str
    device_p20_us: float
    device_p50_us: float
    device_p80_us: float
    call_p50_us: float
    launches: int
    bytes: int
    floor_bytes: int
    flops: int
    memory_floor_us: float
    compute_floor_us: float
    rms_ratio: float
    copy_gb_s: float
    matmul_tflop_s: float
    device: str
    commit: str
    command: str
    timestamp: str
    python: str
    torch: str
    triton: str
    cuda: str


def make_inputs(shape: Shape, dtype: torch.dtype, device: str) -> Inputs:
    random = torch.Generator(device).manual_seed(0)

    def normal(*size: int, scale: float = 1.0) -> torch.Tensor:
        return (torch.randn(*size, generator=random, device=device) * scale).to(dtype)

    groups, tokens = shape.groups, TOKENS_PER_GROUP * shape.groups
    rows = torch.arange(groups + tokens, device=device).view(groups, 1 + TOKENS_PER_GROUP)
    inputs = Inputs(
        features=normal(GROUP_SIZE * groups, shape.feature_dim),
        group_offsets=torch.arange(0, GROUP_SIZE * groups + 1, GROUP_SIZE, device=device),
        projector=ProjectorWeights(
            normal(shape.hidden, shape.feature_dim, scale=shape.feature_dim**-0.5),
            normal(shape.hidden),
            normal(shape.hidden, shape.hidden, scale=shape.hidden**-0.5),
            normal(shape.hidden),
        ),
        token_ids=torch.randint(VOCABULARY, (tokens,), generator=random, device=device),
        embedding=normal(VOCABULARY, shape.hidden),
        layout=Layout(rows[:, 0].contiguous(), rows[:, 1:].flatten()),
    )
    check_values(inputs.features, inputs.group_offsets, inputs.token_ids, inputs.embedding, inputs.layout)
    return inputs


def eager(
    features: torch.Tensor,
    group_offsets: torch.Tensor,
    projector: ProjectorWeights,
    token_ids: torch.Tensor,
    embedding: torch.Tensor,
    layout: Layout,
) -> torch.Tensor:
    """What one writes in torch when all groups have one size: fewer launches than the definition for any
    offsets."""
    pooled = features.view(-1, GROUP_SIZE, features.shape[1]).mean(1)
    activated = functional.gelu(functional.linear(pooled, projector.w1, projector.b1))
    out = features.new_empty((layout.rows, embedding.shape[1]))
    out.index_copy_(0, layout.group_rows, functional.linear(activated, projector.w2, projector.b2))
    return out.index_copy_(0, layout.token_rows, functional.embedding(token_ids, embedding))


def providers(inputs: Inputs, device: str) -> dict[str, Callable[[], torch.Tensor]]:
    plain = {"eager": lambda: inputs.call(eager)}
    if device == "cpu":
        return {"definition": lambda: inputs.call(fuse_prosody_reference), **plain}
    compiled = torch.compile(eager, fullgraph=True, dynamic=False)
    switched = len(inputs.group_offsets) > CUBLAS_GROUPS
    launches = {"ours_triton": lambda: inputs.call(fuse_prosody_triton)} if switched else {}
    return {
        "ours": lambda: inputs.call(fuse_prosody),
        "ours_graph": captured(lambda: inputs.call(fuse_prosody)),
        **launches,
        **plain,
        "eager_graph": captured(plain["eager"]),
        "compile": lambda: inputs.call(compiled),
    }


def trainers(inputs: Inputs, device: str) -> dict[str, Callable[[], torch.Tensor]]:
    """Forward and backward; each gives the gradient of the features."""
    weights = (getattr(inputs.projector, field.name) for field in fields(inputs.projector))
    leaves = (inputs.features, inputs.embedding, *weights)
    for leaf in leaves:
        leaf.requires_grad_()
    gradient = torch.ones((inputs.layout.rows, inputs.embedding.shape[1]), dtype=leaves[0].dtype, device=leaves[0].device)

    def trained(function: Callable[..., torch.Tensor]) -> Callable[[], torch.Tensor]:
        def call() -> torch.Tensor:
            with torch.enable_grad():
                return torch.autograd.grad(inputs.call(function), leaves, gradient)[0]

        return call

    if device == "cpu":
        return {"definition": trained(fuse_prosody_reference), "eager": trained(eager)}
    return {
        "ours": trained(fuse_prosody),
        "eager": trained(eager),
        "compile": trained(torch.compile(eager, fullgraph=True, dynamic=False)),
    }


def rms_ratio(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return ((actual.double() - expected.double()).norm() / expected.double().norm()).item()


def measure(shape: Shape, mode: str, options: argparse.Namespace, dtype: torch.dtype, ceiling: Ceiling) -> list[Row]:
    """One row per provider. Raises Disagreement if one disagrees with the float32 definition."""
    inputs, trains, size = make_inputs(shape, dtype, options.device), mode == "fwd+bwd", dtype.itemsize
    if trains:
        expected = trainers(inputs.wide(), "cpu")["definition"]()
        calls, bound, known_bytes = trainers(inputs, options.device), 3 * AGREEMENT[dtype], {}
        floor_bytes, flops = shape.training_floor_bytes(size), 3 * shape.flops()
    else:
        expected = inputs.wide().call(fuse_prosody_reference)
        calls, bound = providers(inputs, options.device), AGREEMENT[dtype]
        launches = "ours" if shape.groups < CUBLAS_GROUPS else "ours_triton"
        known_bytes = {launches: shape.fused_bytes(size), "eager": shape.eager_bytes(size)}
        floor_bytes, flops = shape.floor_bytes(size), shape.flops()
    ratios = {name: rms_ratio(call(), expected) for name, call in calls.items()}
    wrong = {name: ratio for name, ratio in ratios.items() if not ratio < bound}
    if wrong:
        raise Disagreement(
            f"{shape}, {mode}: RMS error / RMS of {wrong} is not under {bound} of the float32 definition; "
            "nothing is reported. Run the tests in tests/test_fuse_prosody*.py on this device."
        )
    gpu = options.device == "cuda"
    flush = torch.empty(flush_bytes() if gpu else 0, dtype=torch.uint8, device=options.device)
    rows = []
    for name, call in calls.items():
        if gpu:
            on_device, whole = time_on_gpu(call, options.repeats, flush)
        else:
            on_device = whole = time_on_cpu(call, options.repeats)
        rows.append(
            Row(
                provider=name,
                mode=mode,
                groups=shape.groups,
                feature_dim=shape.feature_dim,
                hidden=shape.hidden,
                dtype=str(dtype).removeprefix("torch."),
                device_p20_us=round(percentile(on_device, 20), 2),
                device_p50_us=round(percentile(on_device, 50), 2),
                device_p80_us=round(percentile(on_device, 80), 2),
                call_p50_us=round(percentile(whole, 50), 2),
                launches=count_launches(call) if gpu else -1,
                bytes=known_bytes.get(name.removesuffix("_graph"), -1),
                floor_bytes=floor_bytes,
                flops=flops,
                memory_floor_us=round(floor_bytes / ceiling.bytes_per_s * 1e6, 2) if gpu else -1.0,
                compute_floor_us=round(flops / ceiling.flops_per_s * 1e6, 2) if gpu else -1.0,
                rms_ratio=float(f"{ratios[name]:.2e}"),
                copy_gb_s=round(ceiling.bytes_per_s / 1e9, 1),
                matmul_tflop_s=round(ceiling.flops_per_s / 1e12, 1),
                device=torch.cuda.get_device_name() if gpu else f"cpu {platform.machine()}",
                commit=commit(),
                command=own_command(),
                timestamp=datetime.now(UTC).isoformat(timespec="seconds"),
                python=platform.python_version(),
                torch=torch.__version__,
                triton=triton_version(),
                cuda=torch.version.cuda or "",
            )
        )
    return rows


def triton_version() -> str:
    if importlib.util.find_spec("triton") is None:
        return ""
    import triton

    return str(triton.__version__)


def show(rows: list[Row]) -> None:
    for row in rows:
        floor = max(row.memory_floor_us, row.compute_floor_us)
        print(
            f"{row.groups:>6} {row.feature_dim:>5} {row.hidden:>5}  {row.mode:<8} {row.provider:<12}"
            f"{row.device_p50_us:>10.1f} [{row.device_p20_us:.1f}, {row.device_p80_us:.1f}]"
            f"{row.call_p50_us:>10.1f}{_known(row.launches):>9}{_known(row.bytes / 1e6):>9}"
            f"{_known(floor):>9}   {row.rms_ratio:.1e}",
            flush=True,
        )


def _known(value: float) -> str:
    return "-" if value < 0 else f"{value:.0f}" if isinstance(value, int) else f"{value:.1f}"


def write(rows: list[Row], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in fields(Row)])
        writer.writerows(astuple(row) for row in rows)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit status: 0 measured; 1 a provider disagrees, nothing is written; 2 no GPU or no Triton.",
    )
    parser.add_argument(
        "--device",
        choices=["cuda", "cpu"],
        default="cuda",
        help="cuda (default): all providers, bfloat16; cpu: definition and eager alone, small, float32",
    )
    parser.add_argument("--groups", type=int, nargs="+", help="numbers of groups (default 1 9 64 256 2560; cpu: 1 9 64)")
    parser.add_argument("--hidden", type=int, nargs="+", help="hidden sizes (default 3584 2048; cpu: 256)")
    parser.add_argument("--feature-dim", type=int, help="width of a prosody vector (default 1280; cpu: 192)")
    parser.add_argument("--repeats", type=int, default=200, help="timed calls for each line (default 200)")
    parser.add_argument("--out", type=Path, help="CSV to write (default: only the table on the screen)")
    options = parser.parse_args(arguments)
    small = options.device == "cpu"
    options.groups = options.groups or ([1, 9, 64] if small else [1, 9, 64, 256, 2560])
    options.hidden = options.hidden or ([256] if small else [3584, 2048])
    options.feature_dim = options.feature_dim or (192 if small else 1280)
    if options.repeats < 2 or min(*options.groups, *options.hidden, options.feature_dim) < 1:
        parser.error("--repeats must be at least 2, all sizes at least 1")
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    gpu = options.device == "cuda"
    if gpu and (not torch.cuda.is_available() or not triton_version()):
        missing = "Triton" if torch.cuda.is_available() else f"a CUDA device (torch {torch.__version__} sees none)"
        print(
            f"benchmarks/prosody_kernels.py needs {missing}; --device cpu times the torch paths alone.",
            file=sys.stderr,
        )
        return 2
    torch.set_grad_enabled(False)
    dtype = torch.bfloat16 if gpu else torch.float32
    ceiling = measure_ceiling(dtype) if gpu else Ceiling(0.0, 0.0)
    print("groups  feat hidden  mode     provider   device us: p50 [p20, p80]   call us launches  MB  floor us  RMS")
    rows: list[Row] = []
    for hidden in options.hidden:
        for groups in options.groups:
            for mode in ("fwd", "fwd+bwd") if groups >= TRAINING_GROUPS else ("fwd",):
                try:
                    measured = measure(Shape(groups, options.feature_dim, hidden), mode, options, dtype, ceiling)
                except Disagreement as error:
                    print(error, file=sys.stderr)
                    return 1
                show(measured)
                rows += measured
    if options.out:
        write(rows, options.out)
        print(f"{len(rows)} lines written to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
