"""The tensors of a folder of safetensors by name, without reading them: one file or many shards, also in subfolders, whose
names then stand before the tensors' own. A reader takes only what it asked for, so what a loader leaves out costs no
memory. Pickles are never opened.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .errors import CheckpointError

FLOATS = ("F32", "F16", "BF16")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_TOLD = 8


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor: `name` with the subfolder before it, `key` inside `file`, `dtype` as safetensors writes it."""

    name: str
    file: Path
    key: str
    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.name} {self.shape}"


def scan(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of the folder's safetensors. CheckpointError for a folder without any, a broken file, a name that
    stands twice, and an index that names what is not there."""
    files = sorted(path for path in folder.rglob("*.safetensors") if not _hidden(path.relative_to(folder)))
    if not files:
        pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
        has = f"only {', '.join(pickles)}, which may run code when opened" if pickles else "none"
        raise CheckpointError(f"{folder}: expected weights as safetensors, it has {has}; convert them or take another revision")
    found: dict[str, StoredTensor] = {}
    for file in files:
        for tensor in _tensors_of(file, folder):
            if tensor.name in found:
                raise CheckpointError(
                    f"{tensor.name} stands in {found[tensor.name].file} and in {file}: expected once; remove one of the copies"
                )
            found[tensor.name] = tensor
    _check_indexes(folder, found)
    return found


def read(tensors: Iterable[StoredTensor], dtype: torch.dtype) -> list[Tensor]:
    """The values, in the order asked for. CheckpointError names a tensor that does not hold floating point numbers."""
    wanted = list(tensors)
    refuse_other("stored as no floating point numbers; expected F32, F16 or BF16", [t for t in wanted if t.dtype not in FLOATS])
    values: dict[str, Tensor] = {}
    for file in dict.fromkeys(tensor.file for tensor in wanted):
        with safe_open(file, framework="pt") as opened:
            for tensor in wanted:
                if tensor.file == file:
                    values[tensor.name] = opened.get_tensor(tensor.key).to(dtype)
    return [values[tensor.name] for tensor in wanted]


def refuse_other(reason: str, tensors: Iterable[StoredTensor | str]) -> None:
    """CheckpointError with the tensors' names and shapes, if there are any."""
    names = [str(tensor) for tensor in tensors]
    if names:
        more = f" and {len(names) - _TOLD} more" if len(names) > _TOLD else ""
        raise CheckpointError(f"{', '.join(names[:_TOLD])}{more}: {reason}")


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object; {} where there is no such file. CheckpointError for anything else."""
    if not file.is_file():
        return {}
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file} is no JSON ({error}): fetch it again") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{file} holds {type(values).__name__}: expected a JSON object")
    return values


def _tensors_of(file: Path, folder: Path) -> list[StoredTensor]:
    head = "".join(f"{part}." for part in file.relative_to(folder).parent.parts)
    try:
        with safe_open(file, framework="pt") as opened:
            slices = {key: opened.get_slice(key) for key in opened.keys()}  # noqa: SIM118
            return [
                StoredTensor(head + key, file, key, tuple(part.get_shape()), part.get_dtype()) for key, part in slices.items()
            ]
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is broken ({error}): fetch it again") from error


def _check_indexes(folder: Path, found: Mapping[str, StoredTensor]) -> None:
    """Every tensor that an index names has to stand in the shard it names."""
    places = {(tensor.file, tensor.key) for tensor in found.values()}
    for index in sorted(folder.rglob("*.safetensors.index.json")):
        weight_map = read_json(index).get("weight_map", {})
        absent = [f"{key} ({name})" for key, name in weight_map.items() if (index.parent / str(name), key) not in places]
        refuse_other(f"named in {index.name}, but not there; fetch the missing files again", absent)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
