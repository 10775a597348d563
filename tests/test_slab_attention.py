"""Attention over the slab: the torch definition against rows attended one by one in float64; the Triton launches against
the same, everywhere through Triton's interpreter and on a GPU where there is one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import slab_attention_launches
from requirements import require_cuda, require_module
from slab_attention_launches import (
    BOUNDS,
    CASES,
    DTYPES,
    IN_EVERY_DTYPE,
    Case,
    attended_row_by_row,
    measure_neighbours,
    measure_store,
    rms_ratio,
)
from textpro.kernels.slab_attention import slab_attention, slab_attention_reference, store_in_slab


@pytest.mark.parametrize("name", CASES)
def test_the_definition_attends_each_row_to_the_keys_up_to_its_position(name: str) -> None:
    arguments = CASES[name].arguments()
    assert rms_ratio(arguments.call(slab_attention), attended_row_by_row(arguments)) < BOUNDS["float32"]


def test_the_oracle_notices_a_key_too_many() -> None:
    arguments = Case((17, 140)).arguments()
    arguments.positions[0] -= 1
    found = arguments.call(slab_attention_reference)
    arguments.positions[0] += 1
    assert rms_ratio(found, attended_row_by_row(arguments)) > 100 * BOUNDS["float32"]


def test_rows_are_stored_at_their_places_and_nowhere_else() -> None:
    keys, values = torch.zeros(2, 4, 5, 3, 8)
    key, value = torch.randn(2, 3, 2, 8).transpose(1, 2).unbind()
    store_in_slab(key, value, keys, values, torch.tensor([7, 19]))
    assert torch.equal(keys.view(20, 3, 8)[[7, 19]], key) and torch.equal(values.view(20, 3, 8)[[7, 19]], value)
    assert keys.count_nonzero() == key.numel() and values.count_nonzero() == value.numel()


@pytest.fixture(scope="module")
def interpreted() -> dict:
    """What a process with TRITON_INTERPRET=1 measured."""
    require_module("triton")
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(Path(slab_attention_launches.__file__).resolve())]
    child = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout)


class TestTritonInterpreted:
    @pytest.mark.parametrize("name", CASES)
    def test_launches_equal_rows_attended_one_by_one(self, interpreted, name):
        for dtype in ("float32", "float16")[: 2 if name in IN_EVERY_DTYPE else 1]:
            assert interpreted[f"{name}, {dtype}"] < BOUNDS[dtype]

    def test_a_row_does_not_depend_on_its_neighbours(self, interpreted):
        assert interpreted["neighbours"]

    def test_rows_are_stored_exactly_and_nothing_else_is_touched(self, interpreted):
        assert interpreted["store"]

    def test_a_step_of_a_model_by_the_kernels_equals_the_same_span_by_span(self, interpreted):
        assert interpreted["model"] < 1e-5


@pytest.fixture(scope="module")
def gpu() -> None:
    require_cuda()
    require_module("triton")


@pytest.mark.usefixtures("gpu")
class TestTritonOnGpu:
    @pytest.mark.parametrize(
        ("name", "dtype"), [(name, dtype) for name in CASES for dtype in DTYPES[0 if name in IN_EVERY_DTYPE else 2 :]]
    )
    def test_launches_equal_rows_attended_one_by_one(self, name, dtype):
        arguments = CASES[name].arguments(dtype).to("cuda")
        ratio = rms_ratio(arguments.call(slab_attention), attended_row_by_row(arguments))
        sys.stdout.write(f"{name}, {dtype}: RMS error / RMS = {ratio:.2e}\n")
        assert ratio < BOUNDS[str(dtype)[6:]]

    @pytest.mark.parametrize("kv_heads", [2, 4])
    @pytest.mark.parametrize("rows", [1, 64])
    def test_bfloat16_at_the_sizes_of_the_released_models(self, rows, kv_heads):
        lengths = tuple(2048 - 31 * row for row in range(rows))
        case = Case(lengths, group=7 if kv_heads == 4 else 8, dim=128, kv_heads=kv_heads, slot_len=2304)
        arguments = case.arguments(torch.bfloat16).to("cuda")
        ratio = rms_ratio(arguments.call(slab_attention), attended_row_by_row(arguments))
        sys.stdout.write(f"{rows} rows, {kv_heads} kv heads: RMS error / RMS = {ratio:.2e}\n")
        assert ratio < BOUNDS["bfloat16"]

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_a_row_does_not_depend_on_its_neighbours_and_is_stored_exactly(self, dtype):
        assert measure_neighbours("cuda", dtype) and measure_store("cuda", dtype)

    def test_a_cuda_graph_replays_the_calls_for_other_lengths_and_places(self):
        arguments = Case((17, 140, 300)).arguments(torch.bfloat16).to("cuda")
        arguments.keys.nan_to_num_(), arguments.values.nan_to_num_()
        key, value = torch.randn(2, 3, 2, 64, device="cuda").bfloat16()
        places = torch.tensor([0, 1, 2], device="cuda")

        def step() -> torch.Tensor:
            store_in_slab(key, value, arguments.keys, arguments.values, places)
            return arguments.call(slab_attention)

        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            step()
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = step()
        arguments.positions.copy_(torch.tensor([299, 0, 128]))
        places.copy_(arguments.slots * 300 + arguments.positions)
        key.mul_(2)
        graph.replay()
        assert torch.equal(arguments.keys.view(-1, 2, 64)[places], key)
        assert rms_ratio(out, attended_row_by_row(arguments)) < BOUNDS["bfloat16"]
