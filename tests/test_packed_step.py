"""Packed steps against plain transformers: whatever was appended, rolled back, replayed, forked or evicted
before, the logits of a context are those of one full forward over its log."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Qwen2Config, Qwen2ForCausalLM

from textpro.engine.context import Context, Entry
from textpro.engine.slab import Slab
from textpro.engine.step import Piece, pack_step, plan_step, run_step
from textpro.models.backbone import Backbone, fuse_norms
from textpro.models.errors import CheckpointError, EngineError, InputError
from tiny_backbone import FEATURES, VOCAB, make_backbone, make_entries, make_slab

TOLERANCE = 1e-5
BACKBONE, ORACLE = make_backbone()
OPERATIONS = ("append", "append", "append", "reply", "truncate", "replay", "fork", "evict", "step")


def settled(slab: Slab, entries: tuple[Entry, ...]) -> Context:
    context = Context(slab.slot_len)
    context.attach(slab.take())
    context.append(entries)
    return context


def finish(slab: Slab, context: Context) -> torch.Tensor:
    context.want_logits()
    if context.pending:
        run_step(BACKBONE, slab, [Piece(context, context.pending)])
    assert context.next_logits is not None
    return context.next_logits


def assert_equals_full_forward(context: Context) -> None:
    assert context.next_logits is not None
    expected = ORACLE.logits(context.entries)[-1]
    scale = max(1.0, expected.abs().max().item())
    assert (context.next_logits - expected).abs().max().item() / scale < TOLERANCE


def test_one_append_equals_one_full_forward() -> None:
    slab = make_slab(BACKBONE)
    context = settled(slab, make_entries(23))
    finish(slab, context)
    assert_equals_full_forward(context)


def test_the_oracle_notices_a_wrong_cache() -> None:
    slab = make_slab(BACKBONE)
    context = settled(slab, make_entries(23))
    run_step(BACKBONE, slab, [Piece(context, 20)])
    slab.keys[:, context.slot, 3] += 0.5
    run_step(BACKBONE, slab, [Piece(context, 3)])
    with pytest.raises(AssertionError):
        assert_equals_full_forward(context)


@pytest.mark.parametrize("sessions", [1, 4, 9])
def test_a_mixed_step_equals_the_steps_run_alone(sessions: int) -> None:
    slab = make_slab(BACKBONE, slots=sessions + 2)
    decodes = [settled(slab, make_entries(5 + 3 * index, seed=index)) for index in range(sessions)]
    for context in decodes:
        run_step(BACKBONE, slab, [Piece(context, context.pending - 1)])
    fresh = settled(slab, make_entries(11, seed=90))
    grown = settled(slab, make_entries(17, seed=91))
    run_step(BACKBONE, slab, [Piece(grown, 9)])
    pieces = [Piece(context, context.pending) for context in (*decodes, fresh, grown)]
    results = run_step(BACKBONE, slab, pieces)
    assert set(results) == {piece.context for piece in pieces}
    for piece in pieces:
        assert_equals_full_forward(piece.context)


@pytest.mark.parametrize("longest_single", [0, 1, 9, 64])
def test_rows_attended_one_by_one_or_as_spans_give_the_same(longest_single: int) -> None:
    slab = make_slab(BACKBONE)
    contexts = [settled(slab, make_entries(12 + index, seed=index)) for index in range(4)]
    for context, cached in zip(contexts, (11, 4, 0, 2), strict=True):
        if cached:
            run_step(BACKBONE, slab, [Piece(context, cached)])
    plan = plan_step([Piece(context, context.pending) for context in contexts], slab)
    with torch.inference_mode():
        logits = BACKBONE.forward(
            BACKBONE.embed(plan.entries),
            torch.tensor(plan.positions),
            torch.tensor(plan.wanted),
            pack_step(plan, slab, longest_single),
        )
    for context, context.next_logits in zip(contexts, logits, strict=True):
        assert_equals_full_forward(context)


def test_rows_of_a_neighbour_full_of_nan_do_not_spread() -> None:
    slab = make_slab(BACKBONE, slots=8)
    contexts = [settled(slab, make_entries(4 + index, seed=index)) for index in range(7)]
    for context in contexts:
        run_step(BACKBONE, slab, [Piece(context, context.pending - 1)])
    slab.keys[:, contexts[0].slot] = float("nan")
    slab.values[:, contexts[0].slot] = float("nan")
    for context in contexts[1:]:  # what lies beyond a context's own length is anybody's leftover
        slab.keys[:, context.slot, context.length :] = float("nan")
        slab.values[:, context.slot, context.length :] = float("nan")
    run_step(BACKBONE, slab, [Piece(context, 1) for context in contexts])
    for context in contexts[1:]:
        assert_equals_full_forward(context)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_history_of_several_contexts_equals_full_forwards(data: st.DataObject) -> None:
    slab = make_slab(BACKBONE, slots=4, slot_len=48)
    contexts = [settled(slab, make_entries(3, seed=seed)) for seed in range(2)]
    for number in range(data.draw(st.integers(1, 9), label="operations")):
        context = data.draw(st.sampled_from(contexts), label="context")
        place = data.draw(st.integers(1, max(context.length, 1)), label="place")
        match data.draw(st.sampled_from(OPERATIONS), label="operation"):
            case "append":
                context.append(make_entries(min(context.room, place), seed=number, vector_every=1 + place % 4))
            case "reply" if context.room:
                context.append([Entry(int(finish(slab, context).argmax()))])
            case "truncate":
                context.truncate(min(place, context.length))
            case "replay":
                context.replay(min(place, context.length))
            case "fork" if slab.free and context.slot is not None:
                branch = Context(slab.slot_len)
                branch.attach(slab.take())
                context.fork_into(branch)
                slab.copy(context.slot, branch.slot, context.cached)
                contexts.append(branch)
            case "evict":
                slab.give_back(context.evict())
                context.attach(slab.take())
            case "step":
                waiting = [context for context in contexts if context.pending]
                if waiting:
                    run_step(BACKBONE, slab, [Piece(context, 1 + place % context.pending) for context in waiting])
    for context in contexts:
        context.want_logits()
    unfinished = [Piece(context, context.pending) for context in contexts if context.pending]
    if unfinished:
        run_step(BACKBONE, slab, unfinished)
    for context in contexts:
        assert_equals_full_forward(context)


def test_logits_are_returned_only_for_contexts_that_are_done() -> None:
    slab = make_slab(BACKBONE)
    short, long = settled(slab, make_entries(4)), settled(slab, make_entries(20))
    results = run_step(BACKBONE, slab, [Piece(short, 4), Piece(long, 7)])
    assert set(results) == {short}
    assert long.cached == 7 and long.next_logits is None
    assert run_step(BACKBONE, slab, [Piece(long, 5)]) == {}


def test_a_step_writes_nothing_outside_its_own_slots_and_positions() -> None:
    slab = make_slab(BACKBONE)
    context = settled(slab, make_entries(6))
    slab.keys.fill_(7.0)
    finish(slab, context)
    touched = (slab.keys != 7.0).any(-1).any(-1).any(0)
    expected = torch.zeros_like(touched)
    expected[context.slot, :6] = True
    assert torch.equal(touched, expected)


def test_a_piece_without_a_slot_or_beyond_the_log_is_refused() -> None:
    slab = make_slab(BACKBONE)
    homeless = Context(slab.slot_len)
    homeless.append(make_entries(2))
    with pytest.raises(EngineError, match="slot None"):
        plan_step([Piece(homeless, 1)], slab)
    with pytest.raises(EngineError, match="3 rows"):
        plan_step([Piece(settled(slab, make_entries(2)), 3)], slab)


def test_embeddings_of_tokens_and_vectors_come_in_log_order() -> None:
    entries = make_entries(13, vector_every=3)
    assert torch.allclose(BACKBONE.embed(entries), ORACLE.embed(entries), atol=1e-6)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (Entry(VOCAB), "outside the vocabulary"),
        (Entry(-1), "outside the vocabulary"),
        (Entry(None, np.zeros(FEATURES + 1, np.float32)), "shape"),
        (Entry(None, np.full(FEATURES, np.nan, np.float32)), "not finite"),
    ],
)
def test_a_row_that_cannot_be_embedded_is_refused(entry: Entry, message: str) -> None:
    with pytest.raises(InputError, match=message):
        BACKBONE.check([entry])


def test_rotary_frequencies_keep_their_precision_in_a_backbone_that_loses_it() -> None:
    backbone, _ = make_backbone()
    moved = backbone.moved(torch.device("cpu"), torch.bfloat16)
    assert moved.dtype == moved.projector.w2.dtype == torch.bfloat16
    assert torch.equal(moved.model.model.rotary_emb.inv_freq, BACKBONE.model.model.rotary_emb.inv_freq)


def test_norms_of_one_launch_are_those_of_transformers() -> None:
    backbone, oracle = make_backbone()
    fuse_norms(backbone.model)
    slab = make_slab(backbone)
    context = settled(slab, make_entries(23))
    logits = run_step(backbone, slab, [Piece(context, 23)])[context]
    norms = [module for module in backbone.model.modules() if isinstance(module.forward, partial)]
    assert len(norms) == 2 * backbone.layers + 1
    torch.testing.assert_close(logits, oracle.logits(context.entries)[-1], rtol=1e-5, atol=1e-4)


def test_without_a_projector_vectors_are_refused_and_tokens_are_not() -> None:
    plain = Backbone(Qwen2ForCausalLM(Qwen2Config(**SMALL)))
    assert plain.feature_dim is None
    plain.check([Entry(1)])
    with pytest.raises(InputError, match="no projector"):
        plain.check([Entry(None, np.zeros(FEATURES, np.float32))])


def test_a_sliding_window_and_a_foreign_projector_are_refused() -> None:
    windowed = Qwen2Config(**SMALL, use_sliding_window=True, sliding_window=8, max_window_layers=0)
    with pytest.raises(CheckpointError, match="sliding"):
        Backbone(Qwen2ForCausalLM(windowed))
    with pytest.raises(CheckpointError, match="one checkpoint"):
        Backbone(Qwen2ForCausalLM(Qwen2Config(**SMALL)), ORACLE.projector)


SMALL = {
    "vocab_size": 11,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
