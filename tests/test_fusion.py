"""Where markers stand: before each group, one for all or none; means of their tokens; final groups stay as
they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textpro.models.errors import CheckpointError, InputError
from textpro.models.fusion import Fusion, user_rows

MARKER = 6


def vectors_of(count: int) -> np.ndarray:
    return np.random.default_rng(count).standard_normal((count, 3)).astype(np.float32)


def marks(rows) -> list[int]:
    return [index for index, row in enumerate(rows) if row.vector is not None]


def test_each_group_of_five_has_its_mean_before_it():
    vectors = vectors_of(7)
    rows = user_rows(range(100, 107), vectors, Fusion())
    assert [row.token_id for row in rows] == [MARKER, 100, 101, 102, 103, 104, MARKER, 105, 106]
    assert marks(rows) == [0, 6]
    np.testing.assert_allclose(rows[0].vector, vectors[:5].mean(0), atol=1e-6)
    np.testing.assert_allclose(rows[6].vector, vectors[5:].mean(0), atol=1e-6)


def test_global_fusion_has_one_marker_before_all():
    vectors = vectors_of(7)
    rows = user_rows(range(7), vectors, Fusion("global"))
    assert marks(rows) == [0] and len(rows) == 8
    np.testing.assert_allclose(rows[0].vector, vectors.mean(0), atol=1e-6)


@pytest.mark.parametrize("fusion", [Fusion(), Fusion("global"), Fusion("none")])
def test_typed_text_has_no_markers(fusion):
    assert [row.token_id for row in user_rows([7, 8], None, fusion)] == [7, 8]
    assert not marks(user_rows([7, 8], None, fusion))


def test_fusion_none_ignores_prosody_and_no_words_give_no_rows():
    assert not marks(user_rows([7, 8], vectors_of(2), Fusion("none")))
    assert user_rows([], vectors_of(0), Fusion()) == [] == user_rows([], vectors_of(0), Fusion("global"))


@given(count=st.integers(1, 30), more=st.integers(0, 12), ratio=st.integers(1, 7))
def test_a_complete_fixed_group_does_not_change_when_more_words_come(count, more, ratio):
    vectors, fusion = vectors_of(count + more), Fusion(ratio=ratio)
    early = user_rows(range(count), vectors[:count], fusion)
    late = user_rows(range(count + more), vectors, fusion)
    final = count // ratio * (ratio + 1)
    for before, after in zip(early[:final], late[:final], strict=True):
        assert before.token_id == after.token_id
        assert (before.vector is None) == (after.vector is None)
        assert before.vector is None or (before.vector == after.vector).all()


@given(tokens=st.integers(1, 30), extra=st.integers(0, 10), ratio=st.integers(1, 7))
def test_array_split_spreads_any_number_of_vectors_over_the_groups(tokens, extra, ratio):
    vectors = vectors_of(tokens + extra)
    rows = user_rows(range(tokens), vectors, Fusion(ratio=ratio, grouping="array_split"))
    found = [rows[index].vector for index in marks(rows)]
    expected = [part.mean(0) for part in np.array_split(vectors, len(found))]
    assert [row.token_id for row in rows if row.vector is None] == list(range(tokens))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_half_precision_vectors_are_averaged_in_single_precision():
    vectors = np.full((5, 3), 6e4, np.float16)
    row = user_rows(range(5), vectors, Fusion())[0]
    assert row.vector.dtype == np.float32 and np.isfinite(row.vector).all()


def test_numbers_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="3 prosody vectors for 4 tokens"):
        user_rows(range(4), vectors_of(3), Fusion())
    with pytest.raises(InputError, match="1 prosody vectors for 2 groups"):
        user_rows(range(6), vectors_of(1), Fusion(grouping="array_split"))


def test_settings_survive_the_way_through_the_config():
    fusion = Fusion("global", 3, "array_split", 9)
    assert Fusion.from_dict(fusion.to_dict(), 9) == fusion


@pytest.mark.parametrize("values", [{"mode": "mixed"}, {"ratio": 0}, {"grouping": "loose"}, {"size": 5}])
def test_unknown_settings_are_refused(values):
    with pytest.raises(CheckpointError, match="expected"):
        Fusion.from_dict(values, MARKER)
