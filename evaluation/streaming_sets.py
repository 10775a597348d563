"""What the streaming bench says to the recognizer: held-out sentences by training voices, with the times of their words.

Three kinds: `sentence`, one turn; `long`, sentences of one voice with pauses too short for a soft end, a long turn; `pause`,
a sentence that stops for longer than a soft end's silence and goes on, so that the turn is taken up again.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..streaming.clock import ms_to_samples
from ..training.skills import Turn
from ..training.speech_corpus import Speech
from ..training.spoken import Spoken as Utterance
from ..training.spoken import join, pad
from ..training.voices import TRAIN, Speaker, sample_speaker
from .sets import draw_sentences
from .streaming_trace import Spoken

BEFORE_MS, AFTER_MS = 400, 1_200
SHORT_PAUSE_MS, LONG_PAUSE_MS = (60, 120), (230, 380)
LONG_SAMPLES = ms_to_samples(18_000)
"""The longest speech of a `long` utterance: longer than the bundled model's window, so it is cut on the way."""
ROOM_LEVEL = np.float32(10**-3.5)
SENTENCE, LONG, PAUSE = "sentence", "long", "pause"


@dataclass(frozen=True, slots=True)
class Counts:
    """How many utterances of each kind."""

    sentences: int
    long: int
    pauses: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.sentences + self.long + self.pauses


def draw_spoken(counts: Counts, seed: int) -> Iterator[Spoken]:
    """The utterances of a seed; DeviceError without espeak-ng."""
    rng, speech = random.Random(f"streaming {seed}"), Speech(seed)
    noise = np.random.default_rng(seed)
    sentences = iter(draw_sentences(counts.sentences + 6 * counts.long + 2 * counts.pauses, seed))
    for _ in range(counts.sentences):
        yield _finished(_said(speech, next(sentences), sample_speaker(rng)), noise, SENTENCE)
    for _ in range(counts.long):
        speaker = sample_speaker(rng)
        parts = [_said(speech, next(sentences), speaker) for _ in range(6)]
        yield _finished(_joined(parts, SHORT_PAUSE_MS, rng, LONG_SAMPLES), noise, LONG)
    for _ in range(counts.pauses):
        speaker = sample_speaker(rng, TRAIN)
        parts = [_said(speech, next(sentences), speaker) for _ in range(2)]
        yield _finished(_joined(parts, LONG_PAUSE_MS, rng, LONG_SAMPLES), noise, PAUSE)


def _said(speech: Speech, turn: Turn, speaker: Speaker) -> Utterance:
    return speech.say(turn.user, speaker)


def _joined(parts: list[Utterance], pause_ms: tuple[int, int], rng: random.Random, limit_samples: int) -> Utterance:
    """As many of the parts as fit, at least one, with pauses between."""
    taken, pauses = parts[:1], list[int]()
    for part in parts[1:]:
        pause = ms_to_samples(rng.randint(*pause_ms))
        length = sum(len(one.samples) for one in (*taken, part)) + sum(pauses) + pause
        if length > limit_samples:
            break
        taken.append(part)
        pauses.append(pause)
    return join(taken, pauses)


def _finished(utterance: Utterance, rng: np.random.Generator, kind: str) -> Spoken:
    """In a quiet room, with silence around."""
    padded = pad(utterance, ms_to_samples(BEFORE_MS), ms_to_samples(AFTER_MS))
    room = ROOM_LEVEL * rng.standard_normal(len(padded.samples)).astype(np.float32)
    return Spoken(padded.samples + room, padded.words, padded.starts, padded.ends, kind)
