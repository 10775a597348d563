"""Nothing is said where nobody speaks, and nothing that is said is cut, wherever it begins in a block."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from conversation import spoken
from textpro.agent.runtime import Runtime
from textpro.evaluation import noises, streaming_noise
from textpro.evaluation.noises import DTMF_HIGH, DTMF_LOW, LEVEL, NOISES, babble, babble_of
from textpro.evaluation.streaming_noise import through_session
from textpro.models.errors import InputError
from turn_spans import audible_span, clipped_samples, turn_spans

SECOND = 16_000
BLOCK = 5_120
ALIGNMENTS = 20


def spectrum(samples: np.ndarray) -> np.ndarray:
    return np.abs(np.fft.rfft(samples)) ** 2


@pytest.mark.parametrize("name", [name for name in NOISES if not name.startswith("babble")])
def test_a_noise_has_its_length_stays_in_range_and_comes_again_with_its_seed(name: str) -> None:
    samples = NOISES[name](1.5, 3)
    assert samples.shape == (24_000,) and samples.dtype == np.float32
    assert np.abs(samples).max() <= 1
    np.testing.assert_array_equal(samples, NOISES[name](1.5, 3))
    assert name == "silence" or not np.array_equal(samples, NOISES[name](1.5, 4))


def test_silence_is_silent_and_steady_noises_are_as_loud_as_said() -> None:
    assert not noises.silence(1, 0).any()
    for make in (noises.white, noises.pink):
        assert np.sqrt(np.mean(make(4, 1) ** 2)) == pytest.approx(LEVEL, rel=0.02)


def test_white_noise_is_flat_and_pink_noise_falls_by_three_decibels_an_octave() -> None:
    for make, expected in ((noises.white, 0.0), (noises.pink, -3.0)):
        power = spectrum(make(16, 2))
        octaves = [10 * np.log10(power[low * 16 : low * 32].mean()) for low in (250, 500, 1_000, 2_000)]
        assert np.mean(np.diff(octaves)) == pytest.approx(expected, abs=0.3)


def test_clicks_are_short_and_rare() -> None:
    loud = np.abs(noises.clicks(30, 5)) > 0.02
    assert 0 < loud.mean() < 0.03
    assert 20 <= np.count_nonzero(np.diff(np.flatnonzero(loud)) > 400) <= 90


def test_every_dtmf_key_is_one_low_and_one_high_tone_followed_by_quiet() -> None:
    samples = noises.dtmf(3, 7)
    for key in range(10):
        at = key * 2_880
        strongest = np.argsort(spectrum(samples[at : at + 1_600]))[::-1][:2] * 10
        low, high = sorted(strongest)
        assert min(abs(low - hertz) for hertz in DTMF_LOW) <= 10 and min(abs(high - hertz) for hertz in DTMF_HIGH) <= 10
        assert not samples[at + 1_600 : at + 2_880].any()


def test_a_tone_is_one_frequency() -> None:
    samples = noises.tones(8, 1)
    for start in range(0, 8 * SECOND, 2 * SECOND):
        power = spectrum(samples[start : start + 2 * SECOND])
        assert power.max() / power.sum() > 0.99


def test_babble_holds_all_voices_equally_loud_and_without_pauses() -> None:
    time = np.arange(2 * SECOND) / SECOND
    voices = [np.sin(2 * np.pi * hertz * time).astype(np.float32) * 0.01 * hertz for hertz in (200, 300, 400, 500, 600, 700)]
    mix = babble_of(voices, 4, 0)
    assert mix.shape == (4 * SECOND,)
    power = spectrum(mix)
    shares = np.array([power[hertz * 4 - 8 : hertz * 4 + 9].sum() for hertz in (200, 300, 400, 500, 600, 700)])
    assert shares.min() / shares.max() > 0.8
    with pytest.raises(InputError, match="speech to somebody"):
        babble(1, 0, talkers=5)
    with pytest.raises(InputError, match="more than 0"):
        noises.white(0, 0)


def test_babble_of_real_voices_is_loud_all_the_time(espeak_library: None) -> None:
    samples = babble(4, 1)
    parts = samples[: len(samples) // 8_000 * 8_000].reshape(-1, 8_000)
    assert np.sqrt(np.mean(parts**2, axis=1)).min() > LEVEL / 3


def tokens_on(cases: list[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """Tokens that a session commits in twenty seconds of each noise and seed; ten minutes of each are `bench noise`'s."""

    async def run() -> dict[tuple[str, int], int]:
        async with Runtime("tiny", speak=False) as runtime:
            return {(name, seed): (await through_session(runtime, NOISES[name](20, seed)))[1] for name, seed in cases}

    return asyncio.run(run())


def test_nothing_is_said_about_noise() -> None:
    cases = [(name, 1) for name in NOISES if not name.startswith("babble")]
    assert tokens_on(cases) == dict.fromkeys(cases, 0)


def test_nothing_is_said_about_babble_of_six_talkers_or_more(espeak_library: None) -> None:
    cases = [(name, seed) for name in NOISES if name.startswith("babble") for seed in (1, 2)]
    assert tokens_on(cases) == dict.fromkeys(cases, 0)


def test_a_run_over_the_noises_goes_on_where_it_was_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    quiet = {name: NOISES[name] for name in ("silence", "tones", "clicks")}
    kept, heard = tmp_path / "noise.json", list[str]()

    def stop_at_clicks(name: str, seconds: int) -> None:
        heard.append(name)
        if name == "clicks":
            raise KeyboardInterrupt

    monkeypatch.setattr(streaming_noise, "NOISES", quiet)
    with pytest.raises(KeyboardInterrupt):
        streaming_noise.bench_noise("tiny", 1, 3, kept, stop_at_clicks)
    monkeypatch.setitem(quiet, "silence", lambda seconds, seed: pytest.fail("silence was measured already"))
    found = streaming_noise.bench_noise("tiny", 1, 3, kept, lambda name, seconds: heard.append(name))
    assert [(one.name, one.seconds, one.tokens) for one in found] == [(name, 1, 0) for name in quiet]
    assert heard == ["silence", "tones", "clicks"] * 2
    with pytest.raises(InputError, match="is of another run"):
        streaming_noise.bench_noise("tiny", 1, 4, kept, lambda name, seconds: None)
    kept.write_text("[]")
    with pytest.raises(InputError, match="holds no noise results"):
        streaming_noise.bench_noise("tiny", 1, 3, kept, lambda name, seconds: None)


def test_no_first_word_is_clipped_and_no_last_one_lost_wherever_speech_begins_in_a_block() -> None:
    """What the recognizer is given holds all of the sound, for starts all over a block of the encoder."""
    samples = spoken("stop the music please", before_ms=0, after_ms=0)
    begin, end = audible_span(samples)
    rng = np.random.default_rng(3)
    for alignment in range(ALIGNMENTS):
        before = SECOND // 2 + alignment * BLOCK // ALIGNMENTS + int(rng.integers(BLOCK // ALIGNMENTS))
        padded = np.pad(samples, (before, SECOND)).astype(np.float32)
        padded += np.float32(10**-3.5) * rng.standard_normal(len(padded)).astype(np.float32)
        assert clipped_samples((before + begin, before + end), turn_spans(padded)) == 0, f"{before} samples before the speech"
