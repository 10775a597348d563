"""What is no speech to anybody: the noises on which a recognizer must stay silent, each float32 at 16 kHz of any length.

A seed gives the same samples again, those of babble only in a new process (`conditions.py` says why). Babble is several
people talking at once, too many for one of them to be followed: six is where single words can last be picked out, so it is
here with six and with twelve. Levels are those of a loud room seen from a microphone; DTMF pairs and digit lengths follow
ITU-T Q.23 and Q.24.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..models.errors import InputError
from ..streaming.clock import SAMPLE_RATE, ms_to_samples
from ..training.augment import colored_noise
from ..training.speech_corpus import Speech

FloatArray = NDArray[np.float32]
LEVEL = 0.05
"""Root mean square of the steady noises: -26 dB of full scale."""
DTMF_LOW, DTMF_HIGH = (697, 770, 852, 941), (1209, 1336, 1477, 1633)
DTMF_ON_MS, DTMF_OFF_MS = 100, 80
TONES_HZ = (50, 100, 220, 440, 1000, 2500)
TONE_MS = 2_000
CLICKS_PER_SECOND = 2.0
MIN_TALKERS = 6
LOOP_SECONDS = 12.0
"""How much each talker of the babble has to say before he says it again, from another place."""


def silence(seconds: float, seed: int) -> FloatArray:
    """Digital zero."""
    return np.zeros(_length(seconds), np.float32)


def white(seconds: float, seed: int) -> FloatArray:
    """Equal power at all frequencies."""
    return _at_level(colored_noise(np.random.default_rng(seed), _length(seconds), 0.0))


def pink(seconds: float, seed: int) -> FloatArray:
    """Power that falls as 1 / f, as rain and fans roughly do."""
    return _at_level(colored_noise(np.random.default_rng(seed), _length(seconds), 1.0))


def clicks(seconds: float, seed: int) -> FloatArray:
    """Short decaying knocks at random times and loudness, as keys and plosive pops; between them near silence."""
    rng, n = np.random.default_rng(seed), _length(seconds)
    found = 1e-4 * rng.standard_normal(n)
    for at in rng.integers(0, n, max(1, round(seconds * CLICKS_PER_SECOND))):
        length = min(int(rng.integers(16, 240)), n - int(at))
        knock = rng.standard_normal(length) * np.exp(-5 * np.arange(length) / length)
        found[at : at + length] += rng.uniform(0.1, 0.9) * knock / max(1.0, float(np.abs(knock).max()))
    return np.clip(found, -1, 1).astype(np.float32)


def dtmf(seconds: float, seed: int) -> FloatArray:
    """Random telephone keys, one after the other."""
    rng, n = random.Random(seed), _length(seconds)
    found = np.zeros(n, np.float32)
    on, off = ms_to_samples(DTMF_ON_MS), ms_to_samples(DTMF_OFF_MS)
    time = np.arange(on) / SAMPLE_RATE
    for at in range(0, n - on + 1, on + off):
        pair = (rng.choice(DTMF_LOW), rng.choice(DTMF_HIGH))
        found[at : at + on] = sum(0.25 * np.sin(2 * np.pi * hertz * time) for hertz in pair)
    return found


def tones(seconds: float, seed: int) -> FloatArray:
    """Steady tones from mains hum to a whistle, each for two seconds, in a random order and phase."""
    rng, n = random.Random(seed), _length(seconds)
    pieces, length = [], ms_to_samples(TONE_MS)
    time = np.arange(length) / SAMPLE_RATE
    for _ in range(0, n, length):
        hertz, phase = rng.choice(TONES_HZ), rng.uniform(0, 2 * np.pi)
        pieces.append(0.2 * np.sin(2 * np.pi * hertz * time + phase))
    return np.concatenate(pieces)[:n].astype(np.float32)


def babble(seconds: float, seed: int, talkers: int = MIN_TALKERS) -> FloatArray:
    """`talkers` espeak voices that talk without a pause, equally loud. InputError below six, DeviceError without
    espeak-ng."""
    if talkers < MIN_TALKERS:
        raise InputError(f"babble of {talkers} talkers would be speech to somebody; expected {MIN_TALKERS} or more")
    return babble_of([_monologue(seed * 1000 + talker, min(seconds, LOOP_SECONDS)) for talker in range(talkers)], seconds, seed)


def babble_of(voices: Sequence[FloatArray], seconds: float, seed: int) -> FloatArray:
    """Voices [n of any length] at one loudness, each looped from a random place of its own, as one noise."""
    rng, n = np.random.default_rng(seed), _length(seconds)
    mix = np.zeros(n, np.float32)
    for voice in voices:
        loud = np.float32(1 / (np.sqrt(np.mean(voice**2)) + 1e-9))
        at = 0
        while at < n:
            piece = np.roll(voice, int(rng.integers(len(voice))))[: n - at]
            mix[at : at + len(piece)] += loud * piece
            at += len(piece)
    return _at_level(mix)


def _babble_of_twelve(seconds: float, seed: int) -> FloatArray:
    return babble(seconds, seed, 12)


NOISES: dict[str, Callable[[float, int], FloatArray]] = {
    "silence": silence,
    "white noise": white,
    "pink noise": pink,
    "babble, 6 talkers": babble,
    "babble, 12 talkers": _babble_of_twelve,
    "clicks": clicks,
    "DTMF": dtmf,
    "tones": tones,
}
"""Every noise by its name: (seconds, seed) to samples [n] at 16 kHz."""


def _monologue(seed: int, seconds: float) -> FloatArray:
    speech, pieces, length = Speech(seed), list[FloatArray](), 0
    while length < _length(seconds):
        pieces.append(speech.say().samples)
        length += len(pieces[-1])
    return np.concatenate(pieces)


def _at_level(samples: FloatArray) -> FloatArray:
    power = np.float32(np.sqrt(np.mean(samples**2)) + 1e-9)
    levelled: FloatArray = np.clip(samples * (np.float32(LEVEL) / power), -1, 1).astype(np.float32)
    return levelled


def _length(seconds: float) -> int:
    if seconds <= 0:
        raise InputError(f"a noise of {seconds} s cannot be made: expected more than 0")
    return round(seconds * SAMPLE_RATE)
