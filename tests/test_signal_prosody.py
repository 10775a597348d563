"""Pitch, energy and rate measured from the signal."""

import numpy as np
import pytest

from textpro.streaming.signal_prosody import measure


def voice(pitch_hz: float, seconds: float = 1.5) -> np.ndarray:
    """Harmonics that fall off, as a voiced sound has."""
    time = np.arange(int(seconds * 16_000)) / 16_000
    return (0.1 * sum(np.sin(2 * np.pi * pitch_hz * k * time) / k for k in range(1, 12))).astype(np.float32)


@pytest.mark.parametrize("pitch_hz", [70, 100, 150, 220, 330])
def test_the_pitch_of_a_voiced_sound_is_found(pitch_hz):
    assert measure(voice(pitch_hz), 0).pitch_hz == pytest.approx(pitch_hz, rel=0.03)


def test_noise_has_no_pitch_and_silence_has_nothing_to_measure():
    noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32) * 0.1
    assert measure(noise, 0).pitch_hz is None
    silence = measure(np.zeros(16_000, np.float32), 0)
    assert (silence.pitch_hz, silence.energy_db, silence.words_per_minute) == (None, None, None)
    assert measure(np.zeros(10, np.float32), 0).energy_db is None


def test_energy_follows_the_level_and_the_rate_counts_words():
    loud, soft = measure(voice(120), 3), measure(voice(120) * np.float32(0.1), 3)
    assert loud.energy_db - soft.energy_db == pytest.approx(20, abs=0.2)
    assert loud.words_per_minute == pytest.approx(120)
