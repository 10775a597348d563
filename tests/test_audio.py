"""PCM of any kind becomes clean float mono; sound files open at any rate or fail with one clear line."""

import itertools

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from textpro.models.errors import AudioError
from textpro.streaming.audio import AudioFrame, int16_from_mono, mono_from_array, mono_from_pcm
from textpro.streaming.wav import read_wav, write_wav


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.integers(-32_768, 32_767), max_size=60),
    channels=st.sampled_from([1, 2, 3]),
    cut=st.integers(0, 60),
)
def test_int16_bytes_convert_alike_however_they_are_cut_and_come_back(values, channels, cut):
    pcm = np.array(values[: len(values) // channels * channels], "<i2")
    data = pcm.tobytes()
    split = min(cut * 2 * channels, len(data))
    whole = mono_from_pcm(data, channels)
    parts = np.concatenate((mono_from_pcm(data[:split], channels), mono_from_pcm(data[split:], channels)))
    np.testing.assert_array_equal(whole, parts)
    assert whole.dtype == np.float32 and np.abs(whole).max(initial=0) <= 1
    if channels == 1:
        np.testing.assert_array_equal(int16_from_mono(whole), pcm)


def test_channels_are_averaged():
    stereo = np.array([[0.5, -0.5], [0.25, 0.75]], np.float32)
    np.testing.assert_allclose(mono_from_array(stereo), [0.0, 0.5])
    np.testing.assert_allclose(mono_from_pcm(stereo.tobytes(), 2, "float32"), [0.0, 0.5])


def test_small_overshoot_is_clipped_and_the_source_stays_untouched():
    source = np.array([1.5, -1.2, 0.5], np.float32)
    np.testing.assert_allclose(mono_from_array(source), [1.0, -1.0, 0.5])
    assert source[0] == 1.5


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.array([0.0, np.nan], np.float32), "NaN"),
        (np.array([np.inf]), "infinite"),
        (np.array([12_000.0], np.float32), "sent as int16"),
        (np.zeros(4, np.uint8), "uint8"),
        (np.zeros((1, 2, 3), np.float32), "shape"),
        (np.zeros((4, 0), np.float32), "0 channels"),
    ],
)
def test_unusable_samples_are_refused_with_the_reason(samples, message):
    with pytest.raises(AudioError, match=message):
        mono_from_array(samples)


def test_split_samples_and_unknown_formats_are_refused():
    with pytest.raises(AudioError, match="multiples of 4 bytes"):
        mono_from_pcm(b"\0" * 6, channels=2)
    with pytest.raises(AudioError, match="unknown"):
        mono_from_pcm(b"", pcm_format="mulaw")
    with pytest.raises(AudioError, match="channels"):
        mono_from_pcm(b"", channels=0)


def test_frames_know_their_span_and_refuse_other_types():
    assert AudioFrame(np.zeros(320, np.float32), 640).end_samples == 960
    with pytest.raises(AudioError, match="float32"):
        AudioFrame(np.zeros(320), 0)
    with pytest.raises(AudioError, match="begins at 0"):
        AudioFrame(np.zeros(320, np.float32), -1)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000, 192_000])
@pytest.mark.parametrize(("suffix", "subtype"), [("wav", "PCM_16"), ("wav", "FLOAT"), ("flac", "PCM_24")])
def test_any_rate_and_channels_read_as_gapless_mono_at_16_khz(tmp_path, rate, suffix, subtype):
    path = tmp_path / f"tone.{suffix}"
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    soundfile.write(path, np.stack([tone, tone], axis=1), rate, subtype=subtype)
    audio = read_wav(path)
    assert (audio.sample_rate, audio.channels, audio.duration_ms) == (rate, 2, 1_000)
    frames = list(audio.frames)
    for before, after in itertools.pairwise(frames):
        assert after.start_samples == before.end_samples
    samples = np.concatenate([frame.samples for frame in frames])
    assert frames[0].start_samples == 0 and abs(len(samples) - 16_000) <= 1
    assert np.sqrt(np.mean(samples[1_000:-1_000] ** 2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.01)


def test_the_block_size_does_not_change_the_samples(tmp_path):
    path = tmp_path / "noise.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 20_011), 44_100)
    readings = [np.concatenate([f.samples for f in read_wav(path, ms).frames]) for ms in (1, 20, 480)]
    np.testing.assert_array_equal(readings[0], readings[1])
    np.testing.assert_array_equal(readings[0], readings[2])


def _wav_of(path, rate, frames, channels=1):
    soundfile.write(path, np.zeros((frames, channels), np.int16), rate)


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("missing.wav", lambda path: None, "no such file"),
        ("folder.wav", lambda path: path.mkdir(), "that is a folder"),
        ("empty.wav", lambda path: path.write_bytes(b""), "empty"),
        ("text.wav", lambda path: path.write_text("this is no audio"), "not a sound file"),
        ("header.wav", lambda path: path.write_bytes(b"RIFF\x24\0\0\0WAVEfmt "), "not a sound file"),
        ("unknown.raw", lambda path: path.write_bytes(b"\0" * 64), "not a sound file"),
        ("none.wav", lambda path: _wav_of(path, 16_000, 0), "no samples"),
        ("slow.wav", lambda path: _wav_of(path, 3_000, 10), "sample rate is 3000"),
        ("fast.wav", lambda path: _wav_of(path, 400_000, 10), "sample rate is 400000"),
        ("long.wav", lambda path: _wav_of(path, 4_000, 4_000 * 7_201), "longer than 2 h"),
    ],
)
def test_unusable_files_give_one_clear_line_that_names_the_file(tmp_path, name, make, message):
    path = tmp_path / name
    make(path)
    with pytest.raises(AudioError, match=message) as caught:
        read_wav(path)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_with_nan_fails_while_it_is_read(tmp_path):
    path = tmp_path / "nan.wav"
    soundfile.write(path, np.array([0.0, np.nan] * 400, np.float32), 16_000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"nan\.wav.*NaN"):
        list(read_wav(path).frames)


def test_a_truncated_file_gives_the_samples_that_are_there(tmp_path):
    path = tmp_path / "cut.wav"
    _wav_of(path, 16_000, 16_000)
    path.write_bytes(path.read_bytes()[:16_044])
    assert sum(len(frame.samples) for frame in read_wav(path).frames) == 8_000


def test_written_wav_reads_back_exactly(tmp_path):
    path = tmp_path / "reply.wav"
    pcm = np.random.default_rng(0).integers(-32_768, 32_767, 5_000).astype(np.int16)
    write_wav(path, pcm, 22_050)
    read, rate = soundfile.read(path, dtype="int16")
    assert rate == 22_050
    np.testing.assert_array_equal(read, pcm)


def test_write_wav_refuses_floats_and_unwritable_places(tmp_path):
    with pytest.raises(AudioError, match="int16"):
        write_wav(tmp_path / "x.wav", np.zeros(4, np.float32), 16_000)
    with pytest.raises(AudioError, match="cannot be written"):
        write_wav(tmp_path / "no" / "x.wav", np.zeros(4, np.int16), 16_000)
