"""The log of a context, its slot, and who gets one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from textpro.engine.admission import Admission, Tenant
from textpro.engine.context import Context, Entry
from textpro.engine.residency import Residency
from textpro.models.errors import CapacityError, InputError
from tiny_backbone import make_backbone, make_entries, make_slab


def tokens(*ids: int) -> list[Entry]:
    return [Entry(token_id) for token_id in ids]


def test_positions_follow_the_length() -> None:
    context = Context(8)
    context.append(tokens(5, 6))
    context.append(tokens(7))
    assert [(entry.token_id, entry.position) for entry in context.entries] == [(5, 0), (6, 1), (7, 2)]


def test_an_entry_for_another_position_is_refused_and_nothing_is_added() -> None:
    context = Context(8)
    context.append(tokens(5, 6))
    with pytest.raises(InputError, match="stale"):
        context.append([Entry(1), Entry(2, position=9)])
    assert context.length == 2


def test_a_full_context_refuses_before_anything_is_written() -> None:
    context = Context(4)
    context.append(tokens(1, 2, 3))
    with pytest.raises(CapacityError, match="holds 3 of 4"):
        context.append(tokens(4, 5))
    assert context.length == 3 and context.room == 1


def test_truncate_takes_the_committed_and_cached_marks_back_with_it() -> None:
    context = Context(8)
    context.append(tokens(1, 2, 3, 4))
    context.mark_cached(3)
    context.commit(4)
    context.truncate(2)
    assert (context.length, context.cached, context.committed) == (2, 2, 2)
    context.append(tokens(9))
    assert [entry.token_id for entry in context.entries] == [1, 2, 9]


def test_marks_outside_the_log_are_refused() -> None:
    context = Context(8)
    context.append(tokens(1, 2))
    for change in (context.truncate, context.replay, context.commit):
        with pytest.raises(InputError, match=r"outside the log 0\.\.2"):
            change(3)
        with pytest.raises(InputError, match="outside the log"):
            change(-1)


def test_any_change_of_the_log_forgets_the_logits_of_its_last_row() -> None:
    for change in (
        lambda c: c.append(tokens(3)),
        lambda c: c.truncate(1),
        lambda c: c.replay(2),
        lambda c: c.evict(),
    ):
        context = Context(8)
        context.append(tokens(1, 2))
        context.mark_cached(2)
        context.next_logits = torch.zeros(4)
        change(context)
        assert context.next_logits is None
    context.truncate(context.length)


def test_eviction_keeps_the_log_and_gives_up_the_cache() -> None:
    context = Context(8)
    context.attach(3)
    context.append(tokens(1, 2))
    context.mark_cached(2)
    context.commit(1)
    assert context.evict() == 3
    assert (context.slot, context.length, context.cached, context.committed) == (None, 2, 0, 1)


def test_an_entry_keeps_its_own_copy_of_the_vector() -> None:
    source = np.ones(4, np.float64)
    entry = Entry(None, source)
    source[:] = 5
    assert entry.vector.dtype == np.float32 and entry.vector.tolist() == [1, 1, 1, 1]
    with pytest.raises(ValueError, match="read-only"):
        entry.vector[0] = 2
    assert Entry(None, torch.ones(4, dtype=torch.bfloat16)).same_input(entry)


def test_same_input_compares_what_the_model_reads() -> None:
    vector = np.ones(4, np.float32)
    assert Entry(3, position=1).same_input(Entry(3))
    assert not Entry(3).same_input(Entry(4))
    assert not Entry(3).same_input(Entry(3, vector))
    assert Entry(None, vector).same_input(Entry(6, vector))
    assert not Entry(None, vector).same_input(Entry(None, vector * 2))


def test_an_entry_without_anything_is_refused() -> None:
    with pytest.raises(InputError, match="token id or a prosody vector"):
        Entry(None)


def test_a_slab_hands_out_each_slot_once_and_never_slot_zero() -> None:
    slab = make_slab(make_backbone()[0], slots=3)
    slots = {slab.take() for _ in range(3)}
    assert slots == {1, 2, 3} and slab.free == 0
    with pytest.raises(CapacityError, match="all 3 slots"):
        slab.take()
    slab.give_back(2)
    with pytest.raises(InputError, match="not taken"):
        slab.give_back(2)
    assert slab.take() == 2


def test_admission_refuses_with_a_reason_and_counts_it() -> None:
    admission = Admission(2)
    admission.admit("a", Tenant.SESSION)
    admission.admit("b", Tenant.BRANCH)
    with pytest.raises(CapacityError, match="1 sessions and 1 branches hold 2 of 2 slots"):
        admission.admit("c", Tenant.SESSION)
    assert admission.refused == 1
    admission.leave("a")
    admission.leave("a")
    admission.admit("c", Tenant.SESSION)
    assert admission.taken == 2


def test_the_reserve_is_open_to_branches_alone() -> None:
    admission = Admission(2, branch_reserve=1)
    admission.admit("a", Tenant.SESSION)
    with pytest.raises(CapacityError, match="1 are reserved for branches"):
        admission.admit("b", Tenant.SESSION)
    admission.admit("b", Tenant.BRANCH)
    with pytest.raises(InputError, match="leave a slot for a session"):
        Admission(1, branch_reserve=1)


def test_a_closed_context_frees_its_place_at_once_and_its_slot_before_the_next_is_taken() -> None:
    slab = make_slab(make_backbone()[0], slots=1)
    residency = Residency(slab, Admission(1))
    first = residency.open()
    residency.settle(first)
    residency.close_soon(first)
    residency.close_soon(first)
    second = residency.open()
    residency.settle(second)
    assert first.slot is None and second.slot == 1


def test_a_branch_shares_nothing_with_its_parent() -> None:
    slab = make_slab(make_backbone()[0], slots=2)
    residency = Residency(slab, Admission(2))
    parent = residency.open()
    residency.settle(parent)
    parent.append(make_entries(5))
    parent.commit(3)
    slab.keys[:, parent.slot, :5] = 1.0
    parent.mark_cached(4)
    branch = residency.fork(parent)
    assert (branch.length, branch.committed, branch.cached) == (5, 3, 4)
    assert branch.slot != parent.slot and slab.keys[:, branch.slot, :4].eq(1.0).all()
    branch.truncate(1)
    assert parent.length == 5
    with pytest.raises(CapacityError, match="another branch"):
        residency.fork(parent)
