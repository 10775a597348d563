"""What the benchmarks share: timing, percentiles, what the device reaches, lines with their baselines and floors, one form of
CSV and one table, and the command line that they have in common.

A `Line` is one figure of one provider in one case; the providers of a case were measured in the same run on the same machine,
so each can be divided by the others. A floor is what no implementation can be under on this device, as it was measured here.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from textpro.engine import Engine, Entry
from textpro.models.backbone import ATTENTION_NAME
from textpro.models.checkpoint import Checkpoint
from textpro.models.named import open_model
from textpro.models.padded_models import is_padded, pad_checkpoint
from textpro.models.placing import PRECISIONS, place
from textpro.models.random_models import is_random, open_random
from textpro.models.whisper_full import FullWhisper

RESULTS = Path(__file__).parent / "results"
WIDTH = 150
LARGER_THAN_CACHES = 2**28
"""Bytes: a copy of so many streams from memory."""


@dataclass(frozen=True, slots=True)
class Line:
    """One figure: percentiles over `count` repeats, in `unit`; `floor` in the same unit, None where there is none."""

    benchmark: str
    case: str
    provider: str
    unit: str
    p20: float
    p50: float
    p80: float
    p95: float
    count: int
    floor: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where and with what a run was made; beside each line of a CSV."""

    model: str
    device: str
    threads: int
    commit: str
    command: str
    timestamp: str
    python: str
    torch: str
    transformers: str


def line(
    benchmark: str,
    case: str,
    provider: str,
    values: Sequence[float],
    unit: str = "ms",
    floor: float | None = None,
    note: str = "",
) -> Line:
    """The line of these repeats, one or more."""
    p20, p50, p80, p95 = (percentile(values, percent) for percent in (20, 50, 80, 95))
    return Line(benchmark, case, provider, unit, p20, p50, p80, p95, len(values), floor, note)


def times(slower: Line, faster: Line) -> str:
    """How many times as long the slower one takes, by the medians."""
    return f"{slower.p50 / faster.p50:.1f}x"


def percentile(values: Sequence[float], percent: int) -> float:
    """With linear interpolation between the values."""
    if len(values) == 1:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def timed(call: Callable[[], object], repeats: int, warm: int = 2, between: Callable[[], object] | None = None) -> list[float]:
    """Milliseconds of each call, from a device with nothing to do to one with nothing left; `between` is not timed."""
    times = []
    for repeat in range(warm + repeats):
        synchronize()
        began = time.perf_counter()
        call()
        synchronize()
        if repeat >= warm:
            times.append((time.perf_counter() - began) * 1000)
        if between is not None:
            between()
    return times


def synchronize() -> None:
    """Wait for the GPU where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def read_bandwidth(device: torch.device) -> float:
    """Bytes a second that a large copy moves, reads and writes together: the best of ten."""
    source = torch.empty(LARGER_THAN_CACHES * (4 if device.type == "cuda" else 1), dtype=torch.uint8, device=device).fill_(1)
    target = torch.empty_like(source)
    return 2 * source.numel() / (min(timed(lambda: target.copy_(source), 10)) / 1000)


def product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a large product of matrices: the best of five."""
    size = 8192 if device.type == "cuda" else 1024
    left = torch.randn(size, size, device=device).to(dtype)
    return 2 * size**3 / (min(timed(lambda: left @ left, 5)) / 1000)


def load(options: argparse.Namespace) -> Checkpoint:
    """The model of the command line on its device. A chunked recognizer stays on the CPU."""
    torch.set_grad_enabled(False)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    dtype = PRECISIONS[options.dtype] if options.dtype else torch.float32 if device.type == "cpu" else torch.bfloat16
    if is_random(options.model):
        return open_random(options.model, device=device, dtype=dtype)
    if is_padded(options.model):
        return pad_checkpoint(open_model("tiny"), options.model, device=device, dtype=dtype)
    return place(open_model(options.model), device, dtype)


@contextmanager
def plain_attention(checkpoint: Checkpoint) -> Iterator[torch.nn.Module]:
    """The backbone as plain transformers runs it, with its own cache; the engine must not be at work meanwhile."""
    model = checkpoint.backbone.model
    model.set_attn_implementation("sdpa")
    try:
        yield model
    finally:
        model.set_attn_implementation(ATTENTION_NAME)


def open_engine(checkpoint: Checkpoint, slots: int, length: int) -> Engine:
    """An engine for `slots` contexts of at least `length` entries."""
    return Engine(checkpoint.backbone, slots=slots, slot_len=min(length + 256, checkpoint.backbone.max_positions))


def some_entries(checkpoint: Checkpoint, count: int, seed: int = 0) -> tuple[Entry, ...]:
    """`count` rows as of a user's words: a marker with prosody before each five tokens, if the model knows prosody."""
    random = torch.Generator().manual_seed(seed)
    backbone = checkpoint.backbone
    tokens = torch.randint(64, min(backbone.vocab_size, 400), (count,), generator=random).tolist()
    vectors = torch.randn(count, backbone.feature_dim or 1, generator=random).numpy()
    return tuple(
        Entry(None, vectors[index]) if backbone.feature_dim and index % 6 == 0 else Entry(token)
        for index, token in enumerate(tokens)
    )


def weight_bytes(checkpoint: Checkpoint) -> int:
    """What one step of the backbone has to read of its weights: all but the embeddings, of which a step takes a few rows;
    the output layer counts even where it is the same matrix."""
    model = checkpoint.backbone.model
    embedding = checkpoint.backbone.embedding
    rest = sum(one.numel() * one.element_size() for one in model.parameters() if one is not embedding)
    return rest + (embedding.numel() * embedding.element_size() if model.lm_head.weight is embedding else 0)


def cache_bytes(checkpoint: Checkpoint) -> int:
    """Keys and values of one entry of a context."""
    backbone = checkpoint.backbone
    return 2 * backbone.layers * backbone.kv_heads * backbone.head_dim * backbone.dtype.itemsize


def parser(description: str | None, default: Path) -> argparse.ArgumentParser:
    """The options that all benchmarks have. `default` is the name of the CSV, without the device."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    models = "default: tiny on a CPU, random:7b on a GPU; or another random one, padded:135m, a preset, a folder"
    made.add_argument("--model", help=models)
    made.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    made.add_argument("--dtype", choices=sorted(PRECISIONS), help="default: float32 on a CPU, bfloat16 on a GPU")
    made.add_argument("--threads", type=int, help="CPU threads of torch; without it torch's own choice")
    made.add_argument("--quick", action="store_true", help="few sizes and repeats, to see that it runs")
    made.add_argument("--csv", type=Path, metavar="FILE", help=f"write the lines here (results are kept as {default.stem}_*.csv)")
    return made


def parsed(made: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; exit status 2 with one line where a GPU is asked for that is not there."""
    options = made.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        made.error(f"there is no CUDA device here (torch {torch.__version__}): take --device cpu")
    options.model = options.model or ("random:7b" if options.device == "cuda" else "tiny")
    return options


def finish(lines: Sequence[Line], options: argparse.Namespace) -> int:
    """Print the table and write the CSV, if one is wanted. Exit status."""
    about = machine(options.model, options.device)
    console = wide_console()
    console.print(f"{about.model} on {about.device}, {about.threads} CPU threads, torch {about.torch}, commit {about.commit}")
    console.print(table(lines))
    if options.csv is not None:
        write(options.csv, lines, about)
    return 0 if lines else 1


def wide_console() -> Console:
    """As wide as the table, also where the output is no terminal."""
    return Console(highlight=False, width=max(WIDTH, Console().width))


def write(file: Path, lines: Sequence[Line], about: Machine) -> None:
    """One row for each line, with where it was measured."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([field.name for field in (*fields(Line), *fields(Machine))])
        for one in lines:
            writer.writerow(
                [round(value, 4) if isinstance(value, float) else value for value in (*astuple(one), *astuple(about))]
            )


def read(file: Path) -> list[tuple[Line, str]]:
    """The lines of a CSV and the device of each."""
    found = []
    with file.open(newline="", encoding="utf-8") as source:
        for row in csv.DictReader(source):
            numbers = {name: float(row[name]) for name in ("p20", "p50", "p80", "p95")}
            floor = float(row["floor"]) if row["floor"] else None
            texts = {name: row[name] for name in ("benchmark", "case", "provider", "unit", "note")}
            found.append((Line(**texts, **numbers, count=int(row["count"]), floor=floor), row["device"]))
    return found


def table(lines: Sequence[Line]) -> Table:
    """For people: the lines in their order."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("benchmark", "case", "provider"):
        made.add_column(name)
    for name in ("p50", "p20", "p80", "p95", "floor"):
        made.add_column(name, justify="right")
    for name in ("unit", "note"):
        made.add_column(name)
    for one in lines:
        numbers = (_short(value) for value in (one.p50, one.p20, one.p80, one.p95, one.floor))
        made.add_row(one.benchmark, one.case, one.provider, *numbers, one.unit, one.note)
    return made


def machine(model: str, device: str) -> Machine:
    """This machine, the libraries and the commit."""
    return Machine(
        model=model,
        device=torch.cuda.get_device_name() if device == "cuda" else f"{processor()}, {cores()} cores",
        threads=torch.get_num_threads(),
        commit=commit(),
        command=own_command(),
        timestamp=datetime.now(UTC).isoformat(timespec="seconds"),
        python=platform.python_version(),
        torch=torch.__version__,
        transformers=version("transformers"),
    )


def own_command() -> str:
    """How this process was started, from the project's folder."""
    return shlex.join(["python", *map(_inside, sys.argv)])


def _inside(argument: str) -> str:
    """A path of this project as it is named from the project's folder."""
    return argument.removeprefix(f"{RESULTS.parents[1]}/")


def commit() -> str:
    """The short name of the commit, with a + where the tree differs from it; "unknown" without git."""
    try:
        name = _git("rev-parse", "--short", "HEAD")
        return f"{name}+" if _git("status", "--porcelain", "--untracked-files=no") else name
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("TEXTPRO_COMMIT", "unknown")


def processor() -> str:
    """The processor's own name."""
    if (info := Path("/proc/cpuinfo")).is_file():
        for entry in info.read_text(encoding="utf-8").splitlines():
            if entry.startswith("model name"):
                return entry.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_full(checkpoint: Checkpoint) -> bool:
    """Whether the recognizer encodes whole windows."""
    return isinstance(checkpoint.speech, FullWhisper)


def _git(*arguments: str) -> str:
    where = str(Path(__file__).parent)
    return subprocess.run(["git", "-C", where, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def _short(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 1000 else f"{value:.4g}"
