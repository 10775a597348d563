"""The audio ring: the newest samples by absolute index, an error for all others."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textpro.models.errors import AudioError
from textpro.streaming.ring import AudioRing


def _ramp(start, count):
    return np.arange(start, start + count, dtype=np.float32)


@settings(max_examples=100, deadline=None)
@given(pieces=st.lists(st.integers(0, 400), max_size=12), data=st.data())
def test_every_held_sample_reads_back_by_its_absolute_index(pieces, data):
    ring = AudioRing(capacity_ms=10)  # 160 samples
    for piece in pieces:
        ring.append(_ramp(ring.end_samples, piece))
    assert ring.end_samples == sum(pieces)
    assert ring.end_samples - ring.start_samples == min(sum(pieces), 160)
    start = data.draw(st.integers(ring.start_samples, ring.end_samples))
    end = data.draw(st.integers(start, ring.end_samples))
    np.testing.assert_array_equal(ring.read(start, end), _ramp(start, end - start))


def test_default_ring_keeps_forty_seconds_and_does_not_grow():
    ring = AudioRing()
    assert ring.capacity_samples == 640_000
    for _ in range(5):
        ring.append(np.zeros(300_000, np.float32))
    assert ring.start_samples == 1_500_000 - 640_000
    assert ring._buffer.nbytes == 640_000 * 4


def test_reading_what_is_gone_or_not_here_yet_is_an_error_that_says_which():
    ring = AudioRing(capacity_ms=10)
    ring.append(_ramp(0, 200))
    with pytest.raises(AudioError, match="overwritten; the oldest held is 40"):
        ring.read(39, 100)
    with pytest.raises(AudioError, match="not come yet; 200 were received"):
        ring.read(150, 201)
    with pytest.raises(AudioError, match="end lies before the start"):
        ring.read(120, 100)


def test_what_was_read_does_not_change_when_more_audio_comes():
    ring = AudioRing(capacity_ms=10)
    ring.append(_ramp(0, 160))
    read = ring.read(0, 160)
    ring.append(_ramp(1000, 160))
    np.testing.assert_array_equal(read, _ramp(0, 160))


@pytest.mark.parametrize("samples", [np.zeros(4), np.zeros((2, 2), np.float32), np.zeros(4, np.int16)])
def test_other_types_and_shapes_are_refused(samples):
    with pytest.raises(AudioError, match="float32"):
        AudioRing().append(samples)
