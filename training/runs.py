"""What every training run shares: the schedule of the learning rate, saving and going on, the log."""

from __future__ import annotations

import csv
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..models.errors import InputError

STATE = "checkpoint.pt"


class Stateful(Protocol):
    """A module or an optimizer."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> object: ...


def schedule(step: int, steps: int, warm_up: int) -> float:
    """Linear warm-up, then a cosine to 2 %."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm_up) / max(1, steps - warm_up))))


def optimizers(
    matrices: Sequence[nn.Parameter], others: Sequence[nn.Parameter], muon_rate: float, adam_rate: float
) -> tuple[torch.optim.Muon, torch.optim.AdamW]:
    """Muon for the matrices inside the blocks, AdamW for embeddings, norms, biases and all else. Each group keeps its
    rate at the top of the schedule as `full_lr`. Muon: Jordan et al. 2024, scaled as in arXiv 2502.16982."""
    muon = torch.optim.Muon(
        [{"params": list(matrices), "full_lr": muon_rate}],
        muon_rate,
        weight_decay=0.02,
        adjust_lr_fn="match_rms_adamw",
    )
    adam = torch.optim.AdamW(
        [{"params": list(others), "full_lr": adam_rate}], adam_rate, (0.9, 0.98), weight_decay=0.01, fused=True
    )
    return muon, adam


def save(folder: Path, parts: Mapping[str, Stateful], step: int) -> None:
    """Write all that going on needs, atomically: the state of each part by its name, and `step`."""
    states = {name: part.state_dict() for name, part in parts.items()}
    torch.save({**states, "step": step}, folder / "checkpoint.tmp")
    os.replace(folder / "checkpoint.tmp", folder / STATE)


def resume(folder: Path, parts: Mapping[str, Stateful]) -> int:
    """Load the last checkpoint of `folder` into the parts if there is one; give its step. Optimizers keep the rates they have,
    so that those of the settings count."""
    if not (folder / STATE).exists():
        return 0
    state = read_state(folder)
    for name, part in parts.items():
        rates = [group["full_lr"] for group in part.param_groups] if isinstance(part, torch.optim.Optimizer) else []
        part.load_state_dict(state[name])
        if isinstance(part, torch.optim.Optimizer):
            for group, rate in zip(part.param_groups, rates, strict=True):
                group["full_lr"] = rate
    return int(state["step"])


def read_state(folder: Path) -> dict[str, Any]:
    """The last checkpoint of a run: the states by the names of the parts, and `step`."""
    state: dict[str, Any] = torch.load(folder / STATE, weights_only=True)
    return state


def average(runs: Sequence[tuple[Path, float]], folder: Path) -> None:
    """Write into `folder` the model whose weights are the weighted mean of those of the runs' last checkpoints; shares are
    relative. All else, files of a tokenizer among it, is that of the first. Of weights that lie in one valley the mean is
    often better than each (arXiv 2203.05482). InputError for runs whose weights differ in names or shapes, for shares that
    are not above 0, and for a folder that holds a run."""
    if len(runs) < 2 or not all(math.isfinite(share) and share > 0 for _, share in runs):
        raise InputError("an average takes two runs or more, each with a share above 0")
    for run, _ in runs:
        if not (run / STATE).is_file():
            raise InputError(f"{run} holds no {STATE}: give the folders of runs that were trained")
    if (folder / STATE).exists():
        raise InputError(f"{folder} is a run already: give a new folder")
    states = [read_state(run) for run, _ in runs]
    whole = sum(share for _, share in runs)
    first: dict[str, Tensor] = states[0]["model"]
    mean = {name: torch.zeros_like(weight) for name, weight in first.items()}
    for (run, share), state in zip(runs, states, strict=True):
        model: dict[str, Tensor] = state["model"]
        if {name: weight.shape for name, weight in model.items()} != {name: weight.shape for name, weight in first.items()}:
            raise InputError(f"the weights of {run} and {runs[0][0]} differ in names or shapes: average runs of one model")
        for name, weight in model.items():
            mean[name] = mean[name] + weight * (share / whole) if weight.is_floating_point() else first[name]
    folder.mkdir(parents=True, exist_ok=True)
    for file in runs[0][0].glob("*.json"):
        shutil.copy(file, folder)
    torch.save({**states[0], "model": mean}, folder / "checkpoint.tmp")
    os.replace(folder / "checkpoint.tmp", folder / STATE)


class Log:
    """Means of what happened since the last line, appended to a CSV file."""

    def __init__(self, path: Path) -> None:
        self._path, self._sums, self._n = path, dict[str, float](), 0
        self._latest: dict[str, float] = {}

    def add(self, values: Mapping[str, Tensor | float]) -> None:
        """Count one step's values."""
        self._n += 1
        for name, value in values.items():
            number = value.item() if isinstance(value, Tensor) else value
            self._sums[name] = self._sums.get(name, 0.0) + float(number)

    def note(self, values: Mapping[str, float]) -> None:
        """Put values that are measured now and then into this and the following lines as they are."""
        self._latest |= values

    def write(self, step: int, seconds: float) -> None:
        """Append a line and begin anew."""
        new = not self._path.exists()
        with self._path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["step", "seconds", *self._sums, *self._latest])
            means = [round(total / max(self._n, 1), 4) for total in self._sums.values()]
            writer.writerow([step, round(seconds, 1), *means, *(round(v, 4) for v in self._latest.values())])
        self._sums, self._n = {}, 0
