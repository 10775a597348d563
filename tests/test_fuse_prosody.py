"""Properties of `fuse_prosody`: the torch definition against plain torch.nn modules, row by row; the Triton
launches against the definition, everywhere through Triton's interpreter and on a GPU where there is one."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import fuse_prosody_launches
from fuse_prosody_launches import BOUNDS, CASES, Arguments, make_arguments, measure_launches, rms_ratio
from requirements import require_cuda, require_module
from textpro.kernels import Layout, ProjectorWeights, fuse_prosody, fuse_prosody_reference


def row_by_row(arguments: Arguments) -> dict[int, torch.Tensor]:
    """The oracle: plain torch.nn modules, one row at a time."""
    weights = arguments.projector
    hidden, feature_dim = weights.w1.shape
    projector = nn.Sequential(nn.Linear(feature_dim, hidden), nn.GELU(), nn.Linear(hidden, hidden))
    projector.load_state_dict({"0.weight": weights.w1, "0.bias": weights.b1, "2.weight": weights.w2, "2.bias": weights.b2})
    embedding = nn.Embedding.from_pretrained(arguments.embedding)
    rows = {}
    with torch.no_grad():
        for group, row in enumerate(arguments.layout.group_rows.tolist()):
            start, stop = arguments.group_offsets[group : group + 2].tolist()
            rows[row] = projector(arguments.features[start:stop].mean(0))
        for token_id, row in zip(arguments.token_ids, arguments.layout.token_rows.tolist(), strict=True):
            rows[row] = embedding(token_id)
    return rows


class TestDefinition:
    @settings(max_examples=60, deadline=None)
    @given(
        sizes=st.lists(st.integers(1, 13), max_size=9),
        n_tokens=st.integers(0, 12),
        seed=st.integers(0, 2**31),
        index_dtype=st.sampled_from([torch.int32, torch.int64]),
    )
    def test_equals_plain_modules_row_by_row_for_groups_of_any_size(self, sizes, n_tokens, seed, index_dtype):
        arguments = make_arguments(sizes, n_tokens, 7, 6, seed, index_dtype)
        out = arguments.call(fuse_prosody)
        expected = row_by_row(arguments)
        assert sorted(expected) == list(range(len(sizes) + n_tokens)) and len(out) == len(expected)
        for row, vector in expected.items():
            torch.testing.assert_close(out[row], vector, rtol=1e-4, atol=1e-5)

    def test_gradients_reach_features_projector_and_embedding(self):
        arguments = make_arguments((5, 1, 3), 4, 3, 4).to(torch.float64)
        weights = arguments.projector
        leaves = (arguments.features, weights.w1, weights.b1, weights.w2, weights.b2, arguments.embedding)

        def fuse(features, w1, b1, w2, b2, embedding):
            projector = ProjectorWeights(w1, b1, w2, b2)
            return replace(arguments, features=features, projector=projector, embedding=embedding).call(fuse_prosody)

        assert torch.autograd.gradcheck(fuse, [leaf.clone().requires_grad_() for leaf in leaves])

    def test_a_group_does_not_depend_on_the_groups_beside_it(self):
        together = make_arguments((5, 2, 7), 0)
        out = together.call(fuse_prosody)
        alone = replace(
            together,
            features=together.features[5:7],
            group_offsets=torch.tensor([0, 2]),
            layout=Layout(torch.tensor([0]), torch.empty(0, dtype=torch.int64)),
        ).call(fuse_prosody)
        torch.testing.assert_close(alone[0], out[together.layout.group_rows[1]], rtol=1e-5, atol=1e-6)

    def test_half_precision_pools_in_float32(self):
        features = torch.tensor([[2048.0], [1.0], [1.0], [1.0], [1.0]], dtype=torch.float16)
        one, zero = torch.ones(1, 1, dtype=torch.float16), torch.zeros(1, dtype=torch.float16)
        layout = Layout(torch.tensor([0]), torch.empty(0, dtype=torch.int64))
        weights = ProjectorWeights(one, zero, one, zero)
        no_tokens = torch.empty(0, dtype=torch.int64)
        out = fuse_prosody(features, torch.tensor([0, 5]), weights, no_tokens, one, layout)
        assert out.item() == torch.tensor(2052 / 5).half().item()


class TestRefusals:
    good = make_arguments((5, 2), 3)

    @pytest.mark.parametrize(
        ("changes", "error", "message"),
        [
            ({"features": [[1.0]]}, TypeError, "features is a list, expected a torch.Tensor"),
            ({"projector": nn.Linear(2, 2)}, TypeError, "projector is a Linear, expected ProjectorWeights"),
            ({"layout": ([0], [1])}, TypeError, "layout is a tuple, expected Layout"),
            ({"embedding": good.embedding.half()}, TypeError, "embedding is torch.float16 and features is"),
            (
                {"token_ids": good.token_ids.float()},
                TypeError,
                "token_ids is torch.float32, expected int32 or int64",
            ),
            ({"features": good.features[0]}, ValueError, r"features has shape \[20\], expected 2 dimension"),
            ({"features": good.features[:, 1:]}, ValueError, r"w1 has shape \[36, 20\], expected \[36, 19\]"),
            ({"token_ids": good.token_ids[1:]}, ValueError, r"token_rows has shape \[3\], expected \[2\]"),
            (
                {"group_offsets": torch.tensor([0, 7])},
                ValueError,
                r"group_rows has shape \[2\], expected \[1\]",
            ),
            ({"group_offsets": torch.tensor([], dtype=torch.int64)}, ValueError, "group_offsets is empty"),
            ({"group_offsets": torch.tensor([0, 5, 6])}, ValueError, "from 0 to 6, expected from 0 to 7"),
            ({"group_offsets": torch.tensor([1, 5, 7])}, ValueError, "from 1 to 7, expected from 0 to 7"),
            ({"group_offsets": torch.tensor([0, 7, 7])}, ValueError, "group 1 has 0 features"),
            ({"group_offsets": torch.tensor([0, 8, 7])}, ValueError, "group 1 has -1 features"),
            (
                {"token_ids": torch.tensor([0, 1, 11])},
                ValueError,
                "token_ids run from 0 to 11, expected 0 to 10",
            ),
            ({"token_ids": torch.tensor([0, 1, -1])}, ValueError, "token_ids run from -1 to 1"),
            ({"embedding": good.embedding.to("meta")}, ValueError, "embedding is on meta, expected cpu"),
        ],
    )
    def test_arguments_that_do_not_fit_are_named(self, changes, error, message):
        with pytest.raises(error, match=message):
            replace(self.good, **changes).call(fuse_prosody)

    @pytest.mark.parametrize("rows", [[0, 1, 2, 3, 3], [0, 1, 2, 3, 5], [-1, 0, 1, 2, 3]])
    def test_a_layout_must_name_each_row_once(self, rows):
        layout = Layout(torch.tensor(rows[:2]), torch.tensor(rows[2:]))
        with pytest.raises(ValueError, match="expected each of 0 to 4 once"):
            replace(self.good, layout=layout).call(fuse_prosody)


def assert_launches(measured: dict, arguments: Arguments, name: str, dtype: str) -> None:
    sys.stdout.write(f"{name}, {dtype}: RMS error / RMS = {measured['rms_ratio']:.2e} (bound {BOUNDS[dtype]:.0e})\n")
    assert measured["finite"] and measured["rms_ratio"] < BOUNDS[dtype]
    assert measured["same_rows"] and measured["tokens_exact"] and measured["margins_stay"]
    assert measured["written_by_linear_scatter"] == sorted(arguments.layout.group_rows.tolist())
    assert measured["written_by_gather_rows"] == sorted(arguments.layout.token_rows.tolist())


@pytest.fixture(scope="module")
def interpreted() -> dict:
    """What a process with TRITON_INTERPRET=1 measured."""
    require_module("triton")
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(Path(fuse_prosody_launches.__file__).resolve())]
    child = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout)


@pytest.fixture(scope="module")
def gpu() -> None:
    require_cuda()
    require_module("triton")


class TestTritonInterpreted:
    @pytest.mark.parametrize("dtype", ["float32", "float16"])
    @pytest.mark.parametrize("name", CASES)
    def test_launches_equal_the_definition_and_write_each_row_once(self, interpreted, name, dtype):
        assert_launches(interpreted[f"{name}, {dtype}"], CASES[name].arguments(), name, dtype)

    @pytest.mark.parametrize("what", ["ids", "rows", "offsets"])
    def test_wrong_indices_touch_nothing_outside(self, interpreted, what):
        assert interpreted["wrong_indices"][what]

    def test_rows_wider_than_one_block_are_gathered_whole(self, interpreted):
        assert interpreted["wide_gather"]


@pytest.mark.usefixtures("gpu")
class TestTritonOnGpu:
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
    @pytest.mark.parametrize("name", CASES)
    def test_launches_equal_the_float32_definition(self, name, dtype):
        arguments = CASES[name].arguments().to(dtype).to("cuda")
        assert_launches(measure_launches(arguments), arguments, name, str(dtype)[6:])

    @pytest.mark.parametrize("groups", [1, 9, 64, 256, 2560])
    @pytest.mark.parametrize("hidden", [2048, 3584])
    def test_bfloat16_at_the_sizes_of_the_released_models(self, groups, hidden):
        arguments = make_arguments((5,) * groups, 5 * groups, 1280, hidden).to(torch.bfloat16).to("cuda")
        expected = arguments.to(torch.float32).call(fuse_prosody_reference)
        ratio = rms_ratio(arguments.call(fuse_prosody), expected)
        sys.stdout.write(f"{groups} groups, hidden {hidden}, bfloat16: RMS error / RMS = {ratio:.2e}\n")
        assert ratio < BOUNDS["bfloat16"]

    def test_a_cuda_graph_captures_the_call_and_reads_new_inputs(self):
        arguments = make_arguments((5, 2, 7), 6, 64, 96).to(torch.bfloat16).to("cuda")
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            arguments.call(fuse_prosody)
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = arguments.call(fuse_prosody)
        arguments.features.mul_(-0.5)
        arguments.token_ids.fill_(3)
        graph.replay()
        expected = arguments.to(torch.float32).call(fuse_prosody_reference)
        assert rms_ratio(out, expected) < BOUNDS["bfloat16"]

    def test_a_recorded_call_has_gradients(self):
        arguments = make_arguments((5, 2), 3).to("cuda")
        arguments.features.requires_grad_()
        arguments.call(fuse_prosody).sum().backward()
        assert arguments.features.grad.isfinite().all()
