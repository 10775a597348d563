"""Resampling as a stream: independent of the cuts, faithful in its band, with a small constant hold-back."""

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from textpro.models.errors import AudioError
from textpro.streaming.resample import ResampleStream, resample

RATES = [4_000, 8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000, 96_000, 384_000]


def _push_in_pieces(stream, signal, pieces):
    output, at = [], 0
    for piece in pieces:
        output.append(stream.push(signal[at : at + piece]))
        at += piece
    output += [stream.push(signal[at:]), stream.flush()]
    return np.concatenate(output)


@settings(max_examples=60, deadline=None)
@given(
    rate=st.sampled_from(RATES),
    count=st.integers(0, 6_000),
    pieces=st.lists(st.integers(0, 2_000), max_size=8),
    seed=st.integers(0, 1_000),
)
def test_any_split_gives_the_same_samples(rate, count, pieces, seed):
    signal = np.random.default_rng(seed).uniform(-0.5, 0.5, count).astype(np.float32)
    np.testing.assert_array_equal(_push_in_pieces(ResampleStream(rate), signal, pieces), resample(signal, rate))


@pytest.mark.parametrize("rate", RATES)
def test_output_has_the_length_of_the_input(rate):
    count = rate + 37
    assert abs(len(resample(np.zeros(count, np.float32), rate)) - count * 16_000 / rate) <= 1


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("frequency", [200, 1_000, 3_000])
def test_tones_keep_level_and_purity_and_move_less_than_two_samples(rate, frequency):
    tone = 0.5 * np.sin(2 * np.pi * frequency * np.arange(rate) / rate).astype(np.float32)
    output = resample(tone, rate)[2_000:14_000].astype(np.float64)
    phase = 2 * np.pi * frequency * np.arange(2_000, 14_000) / 16_000
    basis = np.stack([np.sin(phase), np.cos(phase)], axis=1)
    weights = np.linalg.lstsq(basis, output, rcond=None)[0]
    noise = output - basis @ weights
    assert np.hypot(*weights) == pytest.approx(0.5, rel=1e-3)
    assert 10 * np.log10(np.sum(output**2) / np.sum(noise**2)) > 90
    assert abs(np.arctan2(weights[1], weights[0])) / (2 * np.pi * frequency) * 16_000 < 2.0


@pytest.mark.parametrize("frequency", [9_000, 12_000, 20_000])
def test_what_lies_above_the_new_band_does_not_fold_into_it(frequency):
    tone = 0.5 * np.sin(2 * np.pi * frequency * np.arange(48_000) / 48_000).astype(np.float32)
    assert np.abs(resample(tone, 48_000)[2_000:-2_000]).max() < 1e-4


@pytest.mark.parametrize("rate", [8_000, 24_000, 44_100, 48_000])
def test_band_limited_noise_has_the_spectrum_of_an_offline_soxr_conversion(rate):
    noise = np.random.default_rng(0).standard_normal(2 * rate).astype(np.float32) * 0.1
    ours, offline = resample(noise, rate), soxr.resample(noise, rate, 16_000, quality="HQ")
    band = slice(100, 3_400)
    ours_level, offline_level = (np.abs(np.fft.rfft(x[:32_000] * np.hanning(32_000)))[::2][band] for x in (ours, offline))
    assert np.median(np.abs(20 * np.log10(ours_level / offline_level))) < 0.1


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 44_100, 48_000])
def test_hold_back_stays_below_thirty_two_milliseconds(rate):
    stream, given_ms, held_ms, output = ResampleStream(rate), 0, [], 0
    for _ in range(200):
        output += len(stream.push(np.zeros(rate // 100, np.float32)))
        given_ms += 10
        held_ms.append(given_ms - output / 16)
    assert max(held_ms[20:]) < 32
    assert max(held_ms[20:]) - min(held_ms[20:]) < 2


def test_a_flushed_stream_begins_a_new_signal():
    signal = np.random.default_rng(1).uniform(-0.5, 0.5, 4_000).astype(np.float32)
    stream = ResampleStream(48_000)
    first = np.concatenate((stream.push(signal), stream.flush()))
    second = np.concatenate((stream.push(signal), stream.flush()))
    np.testing.assert_array_equal(first, second)
    assert len(stream.flush()) == 0


@pytest.mark.parametrize("rate", [0, 3_999, 384_001])
def test_absurd_rates_are_refused(rate):
    with pytest.raises(AudioError, match="sample rate"):
        ResampleStream(rate)


def test_other_types_are_refused():
    with pytest.raises(AudioError, match="float32"):
        ResampleStream(48_000).push(np.zeros(4))
