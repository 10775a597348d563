"""Steps through the buffers of the graphs against steps without: everywhere with plain forwards over the same buffers, on a
GPU with the recorded graphs. And what recording says, leaves alone and survives."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from requirements import require_cuda, require_module
from textpro.engine.context import Context
from textpro.engine.graphs import StepGraphs, sizes
from textpro.engine.slab import Slab
from textpro.engine.step import LONGEST_SINGLE, Piece, plan_step, run_step
from textpro.models.backbone import Backbone
from textpro.models.cuda_graphs import CudaCapture, Forward
from tiny_backbone import VOCAB, make_backbone, make_entries, make_slab

BACKBONE, _ = make_backbone()
SLOT_LEN = 160
ROWS = (1, 4, 16, 128)


def plain(forward: Forward) -> Forward:
    return forward


def recorded(backbone: Backbone, slab: Slab, capture: object = plain, rows: tuple[int, ...] = ROWS) -> StepGraphs:
    graphs = StepGraphs(backbone, slab, capture, rows)
    with torch.inference_mode():
        list(graphs.record())
    return graphs


def in_progress(slab: Slab, lengths: Sequence[tuple[int, int]]) -> list[Context]:
    """Contexts with so many cached and so many pending entries each."""
    contexts = []
    for seed, (cached, pending) in enumerate(lengths):
        context = Context(slab.slot_len)
        context.attach(slab.take())
        context.append(make_entries(cached + pending, seed, vector_every=seed % 4))
        for first in range(0, cached, 50):
            run_step(BACKBONE, slab, [Piece(context, min(50, cached - first))])
        contexts.append(context)
    return contexts


def pieces_of(contexts: Sequence[Context], rows: Sequence[int]) -> list[Piece]:
    return [Piece(context, min(count, context.pending)) for context, count in zip(contexts, rows, strict=True)]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_mix_of_pieces_gives_the_logits_and_keys_of_a_plain_step(data: st.DataObject) -> None:
    shapes = data.draw(st.lists(st.tuples(st.integers(0, 90), st.integers(1, 40)), min_size=1, max_size=6), label="contexts")
    rows = [data.draw(st.integers(1, pending), label="rows") for _, pending in shapes]
    slabs = [make_slab(BACKBONE, slots=6, slot_len=SLOT_LEN) for _ in range(2)]
    here, there = (in_progress(slab, shapes) for slab in slabs)
    graphs = recorded(BACKBONE, slabs[1], rows=(*ROWS, 256))
    expected = run_step(BACKBONE, slabs[0], pieces_of(here, rows))
    assert graphs.run(plan_step(pieces_of(there, rows), slabs[1])) is not None
    found = run_step(BACKBONE, slabs[1], pieces_of(there, rows), graphs.run)
    assert [context in expected for context in here] == [context in found for context in there]
    for one, other in zip(here, there, strict=True):
        assert one.cached == other.cached
        if one in expected:
            torch.testing.assert_close(found[other], expected[one], rtol=1e-5, atol=1e-5 * expected[one].abs().max().item())
    for plain_store, store in ((slabs[0].keys, slabs[1].keys), (slabs[0].values, slabs[1].values)):
        torch.testing.assert_close(store[:, 1:], plain_store[:, 1:], rtol=1e-5, atol=1e-5)
        assert not store[:, 0, 0].any()


class HostReads(TorchDispatchMode):
    """Notes the operations that a CUDA graph cannot record: those that read values on the host, or bring them from there."""

    NAMES = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique", "lift_fresh", "item")

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if operation.name().removeprefix("aten::").split(".")[0] in self.NAMES:
            self.seen.append(operation.name())
        return operation(*args, **(kwargs or {}))


def test_a_recorded_forward_reads_nothing_on_the_host() -> None:
    forwards: list[Forward] = []

    def capture(forward: Forward) -> Forward:
        forwards.append(forward)
        return forward

    recorded(BACKBONE, make_slab(BACKBONE), capture)
    with torch.no_grad(), HostReads() as reads:
        forwards[0]()
        assert not reads.seen
        forwards[0]().sum().item()
        assert reads.seen == ["aten::_local_scalar_dense"]


def test_recording_and_padding_touch_no_slot_that_is_anybodys() -> None:
    slab = make_slab(BACKBONE, slots=2, slot_len=SLOT_LEN)
    slab.keys[:, 1:] = slab.values[:, 1:] = 7.0
    graphs = recorded(BACKBONE, slab)
    assert (slab.keys[:, 1:] == 7.0).all() and (slab.values[:, 1:] == 7.0).all()
    [context] = in_progress(slab, [(0, 5)])
    run_step(BACKBONE, slab, [Piece(context, 5)], graphs.run)
    touched = ((slab.keys != 7.0) | (slab.values != 7.0))[:, 1:].any(-1).any(-1).any(0)
    assert touched[context.slot - 1].tolist() == [True] * 5 + [False] * (SLOT_LEN - 5)
    assert touched.sum() == 5


def test_what_an_earlier_step_left_in_the_buffers_is_not_seen() -> None:
    slab = make_slab(BACKBONE, slots=4, slot_len=SLOT_LEN)
    contexts = in_progress(slab, [(30, 3), (7, 9), (60, 1)])
    graphs = recorded(BACKBONE, slab)
    first = run_step(BACKBONE, slab, [Piece(contexts[2], 1)], graphs.run)[contexts[2]].clone()
    run_step(BACKBONE, slab, [Piece(context, context.pending) for context in contexts[:2]], graphs.run)
    contexts[2].replay(contexts[2].length - 1)
    again = run_step(BACKBONE, slab, [Piece(contexts[2], 1)], graphs.run)[contexts[2]]
    assert torch.equal(again, first)


def test_a_step_that_no_graph_holds_runs_without_one() -> None:
    slab = make_slab(BACKBONE, slots=4, slot_len=SLOT_LEN)
    many = in_progress(slab, [(0, 60), (0, 60), (0, 9)])
    long = in_progress(slab, [(0, LONGEST_SINGLE + 1)])
    graphs = recorded(BACKBONE, slab)
    for contexts in (many, long):
        pieces = [Piece(context, context.pending) for context in contexts]
        assert graphs.run(plan_step(pieces, slab)) is None
        assert set(run_step(BACKBONE, slab, pieces, graphs.run)) == set(contexts)


def test_before_the_recording_everything_runs_without_graphs() -> None:
    slab = make_slab(BACKBONE)
    contexts = in_progress(slab, [(3, 1)])
    assert StepGraphs(BACKBONE, slab, plain).run(plan_step([Piece(contexts[0], 1)], slab)) is None


def test_sizes_are_recorded_from_the_largest_down_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    seen = []

    def capture(forward: Forward) -> Forward:
        seen.append(tuple(forward().shape))
        return forward

    graphs = StepGraphs(BACKBONE, make_slab(BACKBONE), capture, (4, 16, 128))
    with torch.inference_mode():
        counted = list(graphs.record())
    assert [wanted for _, wanted in sizes((4, 16, 128))] == [128, 64, 8, 16, 8, 4]
    assert seen == [(wanted, VOCAB) for _, wanted in sizes((4, 16, 128))]
    assert counted == [(done, 6) for done in range(1, 7)] and not caplog.records


def test_a_size_that_cannot_be_recorded_is_named_and_a_larger_one_or_none_takes_its_steps(
    caplog: pytest.LogCaptureFixture,
) -> None:
    replayed = []

    def capture(forward: Forward) -> Forward:
        size = len(forward())
        if size in (4, 128):
            raise RuntimeError("operation not permitted when stream is capturing")

        def replay() -> torch.Tensor:
            replayed.append(size)
            return forward()

        return replay

    slab = make_slab(BACKBONE, slots=10, slot_len=SLOT_LEN)
    with caplog.at_level(logging.WARNING):
        graphs = recorded(BACKBONE, slab, capture)
    assert "steps of 4 rows will run without a CUDA graph: RuntimeError: operation not permitted" in caplog.text
    contexts = in_progress(slab, [(3, 1), (4, 3), (9, 7)])
    for context in contexts:
        assert set(run_step(BACKBONE, slab, [Piece(context, context.pending)], graphs.run)) == {context}
    assert replayed == [1, 8, 8]
    pieces = [Piece(context, context.pending) for context in in_progress(slab, [(0, 63), (0, 64)])]
    assert set(run_step(BACKBONE, slab, pieces, graphs.run)) == {piece.context for piece in pieces}
    assert replayed == [1, 8, 8, 8]


@pytest.fixture(scope="module")
def gpu() -> None:
    require_cuda()
    require_module("triton")


@pytest.mark.usefixtures("gpu")
class TestOnGpu:
    @pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-4), (torch.bfloat16, 4e-2)])
    @pytest.mark.parametrize("shapes", [[(40, 1)], [(40, 1), (3, 6), (100, 20)], [(5 * n, 1) for n in range(1, 21)]])
    def test_graphed_steps_equal_eager_ones_and_those_of_the_cpu(self, shapes, dtype, bound):
        backbone, oracle = make_backbone()
        on_gpu = backbone.moved(torch.device("cuda"), dtype)
        slabs = [slab_on_gpu(on_gpu) for _ in range(2)]
        graphs = recorded(on_gpu, slabs[1], CudaCapture(torch.device("cuda")), (1, 4, 32))
        for seed, slab in enumerate(slabs):
            contexts = []
            for number, (cached, pending) in enumerate(shapes):
                context = Context(slab.slot_len)
                context.attach(slab.take())
                context.append(make_entries(cached + pending, number))
                run_step(on_gpu, slab, [Piece(context, cached)])
                contexts.append(context)
            pieces = [Piece(context, context.pending) for context in contexts]
            found = run_step(on_gpu, slab, pieces, graphs.run if seed else None)
            for context in contexts:
                expected = oracle.logits(context.entries)[-1]
                assert (found[context].float().cpu() - expected).abs().max() < bound * expected.abs().max()
        assert torch.allclose(slabs[0].keys[:, 1:].float(), slabs[1].keys[:, 1:].float(), atol=bound, rtol=bound)
        assert not slabs[1].keys[:, 0, 0].any()

    def test_a_forward_that_cannot_be_recorded_leaves_the_others_and_eager_steps_as_they_were(self, caplog):
        backbone = make_backbone()[0].moved(torch.device("cuda"), torch.float32)
        slab, capture = slab_on_gpu(backbone), CudaCapture(torch.device("cuda"))

        def spoiled(forward: Forward) -> Forward:
            return capture(lambda: forward() * forward().sum().item() if len(forward()) == 4 else forward())

        graphs = recorded(backbone, slab, spoiled, (1, 4))
        assert "steps of 4 rows will run without a CUDA graph" in caplog.text and list(graphs._replays) == [(1, 1)]
        found = []
        for replay in (None, graphs.run):
            for length in (1, 4):
                context = Context(slab.slot_len)
                context.attach(slab.take())
                context.append(make_entries(20 + length))
                run_step(backbone, slab, [Piece(context, 20)])
                found.append(run_step(backbone, slab, [Piece(context, length)], replay)[context])
        torch.testing.assert_close(found[:2], found[2:], rtol=1e-4, atol=1e-4)


def slab_on_gpu(backbone: Backbone) -> Slab:
    return Slab(
        layers=backbone.layers,
        slots=20,
        slot_len=SLOT_LEN,
        kv_heads=backbone.kv_heads,
        head_dim=backbone.head_dim,
        dtype=backbone.dtype,
        device="cuda",
    )
