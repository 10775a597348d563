"""The training path of `fuse_prosody`: rows and gradients against torch autograd of the definition, everywhere through
Triton's interpreter and on a GPU where there is one; and which path a call takes."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fuse_prosody_gradients
from fuse_prosody_gradients import CASES, LEAVES, differentiated, measure
from fuse_prosody_launches import BOUNDS, make_arguments, rms_ratio
from requirements import require_cuda, require_module
from textpro.kernels import fuse_prosody, fuse_prosody_reference
from textpro.kernels.fuse_prosody import CUBLAS_GROUPS

GRADIENT_BOUNDS = {"float32": 1e-5, "float16": 4e-3, "bfloat16": 2e-2}
"""RMS error over RMS; a gradient goes through more roundings than the rows do."""


@pytest.fixture(scope="module")
def interpreted() -> dict:
    """What a process with TRITON_INTERPRET=1 measured."""
    require_module("triton")
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(Path(fuse_prosody_gradients.__file__).resolve())]
    child = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout)


def assert_close(measured: dict[str, float], dtype: str) -> None:
    assert set(measured) == {"rows", *LEAVES}
    assert measured["rows"] < BOUNDS[dtype]
    assert {name: ratio for name, ratio in measured.items() if not ratio < GRADIENT_BOUNDS[dtype]} == {}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", CASES)
def test_rows_and_gradients_are_those_of_autograd_over_the_definition(interpreted, name, dtype):
    assert_close(interpreted[f"{name}, {dtype}"], dtype)


def test_what_is_frozen_gets_no_gradient_and_changes_none(interpreted):
    assert interpreted["partly"] == dict.fromkeys(LEAVES, True)


@pytest.mark.parametrize(
    ("groups", "recorded", "path"),
    [(CUBLAS_GROUPS - 1, False, "launches"), (CUBLAS_GROUPS, False, "cuBLAS"), (1, True, "cuBLAS"), (0, False, "launches")],
)
def test_the_path_of_a_call_follows_its_size_and_whether_autograd_records_it(groups, recorded, path, monkeypatch) -> None:
    module = importlib.import_module("textpro.kernels.fuse_prosody")
    monkeypatch.setattr(module, "takes_triton", lambda features: True)
    monkeypatch.setattr(module, "fuse_prosody_triton", lambda *_: "launches")
    monkeypatch.setattr(module, "fuse_prosody_training", lambda *_: "cuBLAS")
    arguments = make_arguments((1,) * groups, 2, 3, 4)
    arguments.embedding.requires_grad_(recorded)
    assert arguments.call(fuse_prosody) == path


@pytest.fixture(scope="module")
def gpu() -> None:
    require_cuda()
    require_module("triton")


@pytest.mark.usefixtures("gpu")
class TestOnGpu:
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
    @pytest.mark.parametrize("name", CASES)
    def test_rows_and_gradients_are_those_of_autograd_over_the_definition(self, name, dtype):
        assert_close(measure(make_arguments(*CASES[name], 1).to(dtype).to("cuda")), str(dtype)[6:])

    def test_a_recorded_call_takes_the_training_path_at_the_released_sizes(self):
        arguments = make_arguments((5,) * 600, 3000, 1280, 2048).to(torch.bfloat16).to("cuda")
        ours = differentiated(arguments, fuse_prosody)
        expected = differentiated(arguments.to(torch.float32), fuse_prosody_reference)
        assert_close({name: rms_ratio(ours[name].float(), value) for name, value in expected.items()}, "bfloat16")

    def test_many_groups_without_gradients_are_those_of_the_definition(self):
        arguments = make_arguments((5,) * 600, 3000, 1280, 2048).to(torch.bfloat16).to("cuda")
        expected = arguments.to(torch.float32).call(fuse_prosody_reference)
        assert rms_ratio(arguments.call(fuse_prosody), expected) < BOUNDS["bfloat16"]
