"""The voices of a simulation: sentences of espeak-ng, with pauses cut into the user's, and noises. The audio of a sentence is
made once in a run: espeak-ng gives the same sentence some samples more or less each time.

A pause is cut into the sentence spoken as a whole: a fragment spoken alone would end with the melody of a sentence's end.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import numpy as np
import soxr
from numpy.typing import NDArray

from ..streaming.clock import SAMPLE_RATE, ms_to_samples
from ..streaming.espeak_frames import EspeakVoice
from ..streaming.synthesis import AS_SET, Manner, SpeechChunk, Synthesizer
from ..streaming.voices import VoiceSource
from ..training.augment import colored_noise
from .scenario import Noise, Speaker

Samples = NDArray[np.float32]
_QUIET = 1e-3
_FADE_MS = 5


class UserVoice:
    """Speaks for all users of a run."""

    def __init__(self, source: VoiceSource) -> None:
        self._source = source
        self._spoken: dict[tuple[str, Speaker], tuple[Samples, list[int]]] = {}

    async def say(self, parts: Sequence[str | int], speaker: Speaker) -> Samples:
        """Words and pauses in ms as float32 [n] at 16 kHz, without silence around them."""
        texts = [part for part in parts if isinstance(part, str)]
        samples, ends = await self._sentence(" ".join(texts), speaker)
        pieces, at, words = [], 0, 0
        for part in parts:
            if isinstance(part, int):
                pieces.append(np.zeros(ms_to_samples(part), np.float32))
                continue
            words += len(part.split())
            end = len(samples) if words >= len(ends) else ends[words - 1]
            pieces.append(_faded(samples[at:end], at > 0, end < len(samples)))
            at = end
        return np.concatenate(pieces) * np.float32(10 ** (speaker.gain_db / 20))

    async def _sentence(self, text: str, speaker: Speaker) -> tuple[Samples, list[int]]:
        """The sentence and where each word ends in it, in samples."""
        key = (text, speaker.model_copy(update={"gain_db": 0.0}))
        if key not in self._spoken:
            voice = self._source.synthesizer(EspeakVoice(speaker.accent, speaker.variant, *speaker.settings))
            chunks = [chunk async for chunk in voice.synthesize(text)]
            pcm = np.concatenate([chunk.pcm for chunk in chunks]).astype(np.float32) / 32768
            scale = SAMPLE_RATE / voice.sample_rate
            ends = [int(word.end_samples * scale) for chunk in chunks for word in chunk.words]
            samples = np.asarray(soxr.resample(pcm, voice.sample_rate, SAMPLE_RATE, quality="MQ"), np.float32)
            loud = np.flatnonzero(np.abs(samples) > _QUIET)
            first, last = int(loud[0]), int(loud[-1]) + 1
            self._spoken[key] = samples[first:last], [end - first for end in ends]
        return self._spoken[key]


class SpokenOnce:
    """A synthesizer that gives the same audio for the same text; for one session after the other."""

    def __init__(self, voice: Synthesizer) -> None:
        self._voice = voice
        self._spoken: dict[tuple[str, Manner], list[SpeechChunk]] = {}
        self._generation = 0

    @property
    def sample_rate(self) -> int:
        """Samples per second of every chunk."""
        return self._voice.sample_rate

    async def synthesize(self, text: str, *, manner: Manner = AS_SET) -> AsyncGenerator[SpeechChunk, None]:
        """Speak `text`."""
        generation = self._generation
        if (text, manner) not in self._spoken:
            self._spoken[text, manner] = [chunk async for chunk in self._voice.synthesize(text, manner=manner)]
        for chunk in self._spoken[text, manner]:
            if generation == self._generation:
                yield chunk

    def cancel(self) -> None:
        """Nothing more of what was begun. What is being made is finished, for the next time."""
        self._generation += 1


def _faded(samples: Samples, at_start: bool, at_end: bool) -> Samples:
    """Without a click where it was cut."""
    samples = samples.copy()
    n = min(ms_to_samples(_FADE_MS), len(samples))
    ramp = np.linspace(0, 1, n, dtype=np.float32)
    if at_start:
        samples[:n] *= ramp
    if at_end and n:
        samples[-n:] *= ramp[::-1]
    return samples


def noise(step: Noise) -> Samples:
    """float32 [n] at 16 kHz; the same for the same step."""
    rng, n = np.random.default_rng(0), ms_to_samples(step.for_ms)
    match step.noise:
        case "hum":
            sound = np.sin(2 * np.pi * 50 / SAMPLE_RATE * np.arange(n)) * np.sqrt(2)
        case "clicks":
            sound = (np.arange(n) % (SAMPLE_RATE // 5) < 40).astype(float) * 10
        case colour:
            sound = colored_noise(rng, n, {"white": 0.0, "pink": 1.0, "brown": 2.0}[colour])
    return np.asarray(np.clip(sound * 10 ** (step.level_db / 20), -1, 1), np.float32)
