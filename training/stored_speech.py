"""Sentences that another synthesizer than espeak spoke beforehand, in a folder of shards, with the times of their words."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from ..models.errors import InputError
from .spoken import Spoken

SAMPLE_RATE = 16_000
STORED_STRETCH = (0.85, 1.3)
"""How much longer, and lower in pitch and formants, such speech is played in training."""
TimedWord = tuple[str, int, int]
"""A word and the samples in which it starts and ends."""


def write_shard(path: Path, utterances: Iterable[tuple[NDArray[np.int16], list[TimedWord]]]) -> None:
    """Write sound at 16 kHz and words of some sentences."""
    pcm, words = zip(*utterances, strict=True)
    np.savez(path, pcm=np.concatenate(pcm), lengths=[len(samples) for samples in pcm], words=json.dumps(words))


@dataclass(frozen=True, slots=True)
class StoredSpeech:
    """The sentences of one folder. `utterances` hold sound, words, and the starts and ends of the words in samples."""

    utterances: tuple[tuple[NDArray[np.int16], tuple[str, ...], tuple[int, ...], tuple[int, ...]], ...]

    @classmethod
    def read(cls, folder: Path) -> StoredSpeech:
        """All shards of a folder. Raises InputError if there are none."""
        utterances = []
        for path in sorted(folder.glob("*.npz")):
            with np.load(path) as shard:
                pcm, ends = shard["pcm"], np.cumsum(shard["lengths"])
                for number, line in enumerate(json.loads(str(shard["words"]))):
                    begin = int(ends[number - 1]) if number else 0
                    texts, starts, word_ends = zip(*line, strict=True)
                    utterances.append((pcm[begin : ends[number]], texts, starts, word_ends))
        if not utterances:
            raise InputError(
                f"{folder} holds no spoken sentences: `textpro-agent train festival --folder {folder}` writes some, "
                "and so does `train pico`"
            )
        return cls(tuple(utterances))

    def draw(self, rng: random.Random, stretch: float) -> Spoken:
        """One of them, played `stretch` times as long, and as much lower in pitch and formants."""
        return stretched(*rng.choice(self.utterances), stretch)


def stretched(
    pcm: NDArray[np.int16], words: Sequence[str], starts: Sequence[int], ends: Sequence[int], stretch: float
) -> Spoken:
    """Sound at 16 kHz, played `stretch` times as long."""
    samples = soxr.resample(pcm.astype(np.float32) / 32768, SAMPLE_RATE, SAMPLE_RATE * stretch, quality="MQ")
    begun, ended = (tuple(int(at * stretch) for at in times) for times in (starts, ends))
    return Spoken(samples.astype(np.float32), tuple(words), begun, ended, None)
