"""Digits spoken by people over a telephone-like band: the detector of speech cuts none of them off. Some of the recordings
are enough for a test; TEXTPRO_DATA names the folder that holds them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from textpro.streaming.resample import resample
from turn_spans import audible_span, clipped_samples, turn_spans

RATE = 16_000
SPEAKERS = ("george", "jackson", "lucas", "nicolas")
UTTERANCES_EACH = 2
"""Utterances of ten digits of each speaker; there are fifty."""
MOST_CLIPPED = 60 * RATE // 1000
ROOM = 10**-3.5


def utterance(folder: Path, speaker: str, index: int, rng: np.random.Generator) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """The ten digits in a random order with pauses of 100 to 900 ms in a quiet room -> samples [n], audible span of each."""
    parts, spans, at = [], [], 0
    for digit in rng.permutation(10):
        samples, rate = soundfile.read(folder / f"{digit}_{speaker}_{index}.wav", dtype="float32")
        samples = resample(samples, rate)
        samples = samples * np.float32(0.3 / np.abs(samples).max())
        pause = int(rng.integers(RATE // 10, 9 * RATE // 10)) if at else RATE
        begin, end = audible_span(samples)
        spans.append((at + pause + begin, at + pause + end))
        parts += [np.zeros(pause, np.float32), samples]
        at += pause + len(samples)
    stream = np.concatenate([*parts, np.zeros(2 * RATE, np.float32)])
    return stream + np.float32(ROOM) * rng.standard_normal(len(stream)).astype(np.float32), spans


def test_nothing_of_a_digit_is_cut_off_by_the_detector(human_digits: Path) -> None:
    clipped: list[int] = []
    for number, speaker in enumerate(SPEAKERS):
        rng = np.random.default_rng(number)
        for index in range(0, 50, 50 // UTTERANCES_EACH):
            samples, digits = utterance(human_digits, speaker, index, rng)
            turns = turn_spans(samples)
            clipped += [clipped_samples(digit, turns) for digit in digits]
    whole = sum(count <= MOST_CLIPPED for count in clipped)
    assert whole >= 0.99 * len(clipped), f"{len(clipped) - whole} of {len(clipped)} digits lost more than 60 ms"
