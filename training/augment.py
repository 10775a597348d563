"""What happens to a voice between the mouth and the file: gain, spectrum, room, noise, babble, telephone, tract, masks.

All functions take and give float32 at 16 kHz and never change the length, so word times stay true.
"""

from __future__ import annotations

import random
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..streaming.mel import WINDOW_SAMPLES, mel_filters

FloatArray = NDArray[np.float32]
N_BINS = WINDOW_SAMPLES // 2 + 1
BABBLE_WITHOUT_TARGET = (6, 9)
"""Talkers at once of whom none is meant: nothing is to be recognized."""


def _power_of_two(n: int) -> int:
    return 1 << max(n - 1, 1).bit_length()


def colored_noise(rng: np.random.Generator, n: int, exponent: float) -> FloatArray:
    """Noise of power 1 whose spectrum falls as 1 / f ** exponent (0 white, 1 pink, 2 brown), [n]."""
    size = _power_of_two(n)
    spectrum = rng.standard_normal(size // 2 + 1) + 1j * rng.standard_normal(size // 2 + 1)
    spectrum /= np.maximum(np.arange(size // 2 + 1), max(1, size // 400)) ** (exponent / 2)
    noise = np.fft.irfft(spectrum, size)[:n]
    return (noise / (noise.std() + 1e-9)).astype(np.float32)


def add_noise(samples: FloatArray, noise: FloatArray, snr_db: float) -> FloatArray:
    """Mix at a signal-to-noise ratio that counts only the loud half of the signal."""
    loud = np.abs(samples)
    level = float(np.sqrt(np.mean(samples[loud > 0.1 * loud.max()] ** 2))) if loud.max() > 1e-5 else 0.02
    noise_level = float(np.sqrt(np.mean(noise**2))) + 1e-9
    return samples + noise * np.float32(level / noise_level * 10 ** (-snr_db / 20))


def room(samples: FloatArray, rng: np.random.Generator) -> FloatArray:
    """A random exponentially decaying echo; the direct sound keeps its time."""
    n = int(rng.uniform(0.05, 0.35) * 16_000)
    tail = rng.standard_normal(n) * np.exp(-6.9 * np.arange(n) / n)
    tail[: int(rng.uniform(0.001, 0.01) * 16_000)] = 0
    response = tail / (np.sqrt((tail**2).sum()) + 1e-9) * rng.uniform(0.1, 0.7)
    response[0] = 1.0
    size = _power_of_two(len(samples) + n)
    wet = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(response, size), size)[: len(samples)]
    return wet.astype(np.float32)


def equalize(samples: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Another microphone, or another mouth: a smooth random curve over the frequencies, some 6 dB up and down."""
    size = _power_of_two(len(samples))
    octaves = np.log2(np.maximum(np.fft.rfftfreq(size, 1 / 16_000), 60) / 60)
    points = np.linspace(0, octaves[-1], 9)
    gain_db = np.interp(octaves, points, rng.normal(0, 6, len(points)))
    return np.fft.irfft(np.fft.rfft(samples, size) * 10 ** (gain_db / 20), size)[: len(samples)].astype(np.float32)


def telephone(samples: FloatArray) -> FloatArray:
    """300 to 3,400 Hz and mu-law steps, as a narrow-band call gives."""
    size = _power_of_two(len(samples))
    spectrum = np.fft.rfft(samples, size)
    frequency = np.fft.rfftfreq(size, 1 / 16_000)
    spectrum[(frequency < 300) | (frequency > 3400)] = 0
    narrow = np.clip(np.fft.irfft(spectrum, size)[: len(samples)], -1, 1)
    coded = np.round(np.sign(narrow) * np.log1p(255 * np.abs(narrow)) / np.log(256) * 127) / 127
    return (np.sign(coded) * np.expm1(np.abs(coded) * np.log(256)) / 255).astype(np.float32)


@lru_cache(maxsize=64)
def warped_filters(step: int) -> FloatArray:
    """Mel filters of a vocal tract that is `step` * 2.5 % shorter, [bins, n_mels]."""
    factor = 1 + 0.025 * step
    source = np.arange(N_BINS) / factor
    low = np.minimum(source.astype(int), N_BINS - 2)
    weight = np.clip(source - low, 0, 1)[:, None]
    bank = mel_filters()
    return ((1 - weight) * bank[low] + weight * bank[low + 1]).astype(np.float32)


def spec_augment(mel: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Mask up to two bands and two stretches of a copy of mel [frames, n_mels] by its mean."""
    mel = mel.copy()
    fill = mel.mean()
    for _ in range(rng.integers(0, 3)):
        width, start = rng.integers(1, 11), rng.integers(0, mel.shape[1] - 10)
        mel[:, start : start + width] = fill
    for _ in range(rng.integers(0, 3)):
        width = rng.integers(1, 9)
        start = int(rng.integers(0, max(1, len(mel) - int(width))))
        mel[start : start + width] = fill
    return mel


class Augmenter:
    """Draws a chain of the effects above; remembers some voices to build babble from."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._python = random.Random(seed)
        self._voices: list[FloatArray] = []

    def remember(self, samples: FloatArray) -> None:
        """Keep a voice for babble, replacing an old one."""
        if len(self._voices) < 64:
            self._voices.append(samples)
        else:
            self._voices[self._python.randrange(64)] = samples

    def babble(self, n: int, least: int = 3, most: int = 7) -> FloatArray:
        """From `least` to `most` remembered voices at once, about equally loud, [n]."""
        mix = np.zeros(n, np.float32)
        for _ in range(self._python.randint(least, most)):
            voice = self._python.choice(self._voices)
            gain = 10 ** (self._python.uniform(-2, 2) / 20) / (float(np.sqrt(np.mean(voice**2))) + 1e-9)
            mix += np.float32(gain) * np.resize(np.roll(voice, self._python.randrange(len(voice))), n)
        return mix

    def __call__(self, samples: FloatArray) -> FloatArray:
        """An augmented copy, [n]."""
        chance = self._python.random
        if chance() < 0.5:
            samples = equalize(samples, self._rng)
        if chance() < 0.25:
            samples = room(samples, self._rng)
        if chance() < 0.45:
            noise = colored_noise(self._rng, len(samples), self._python.choice((0.0, 1.0, 1.0, 2.0)))
            samples = add_noise(samples, noise, self._python.uniform(5, 35))
        if self._voices and chance() < 0.15:
            samples = add_noise(samples, self.babble(len(samples)), self._python.uniform(4, 25))
        if chance() < 0.15:
            samples = telephone(samples)
        samples = samples * np.float32(10 ** (self._python.uniform(-9, 9) / 20))
        if chance() < 0.85:
            floor = 10 ** self._python.uniform(-4.6, -2.8)
            samples = samples + np.float32(floor) * self._rng.standard_normal(len(samples)).astype(np.float32)
        return np.clip(samples, -1, 1)

    def noise_only(self, n: int) -> FloatArray:
        """Silence, noise, hum, clicks or babble without a word to recognize, [n]."""
        kind = self._python.randrange(12)
        level = np.float32(10 ** self._python.uniform(-4.5, -0.7))
        if kind > 4 and self._voices:
            babble = self.babble(n, *BABBLE_WITHOUT_TARGET)
            if self._python.random() < 0.3:
                babble = room(babble, self._rng)
            loudness = 10 ** self._python.uniform(-2.5, -0.7) / (float(np.sqrt(np.mean(babble**2))) + 1e-9)
            return np.clip(babble * np.float32(loudness), -1, 1)
        if kind == 0:
            return np.zeros(n, np.float32)
        if kind == 1:
            tone = np.sin(2 * np.pi * self._python.uniform(50, 3000) / 16_000 * np.arange(n))
            return (level * tone).astype(np.float32)
        if kind == 2:
            clicks = np.zeros(n, np.float32)
            clicks[self._rng.integers(0, n, max(1, n // 8000))] = 1.0
            return level * np.convolve(clicks, self._rng.standard_normal(80), "same").astype(np.float32)
        return level * colored_noise(self._rng, n, self._python.choice((0.0, 1.0, 2.0)))
