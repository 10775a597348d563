"""Who speaks the test sentences, and through what: training voices, voices never trained on, noise, a
telephone.

All conditions of a seed say the same sentences, so their word error rates compare. A condition whose
program is absent is reported as not measured. espeak-ng's waveform depends a little on what it said before
(its pitch flutter goes on), so the same samples need the same conditions in the same order, which
`evaluate` keeps.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from ..models.whisperpro import TONES
from ..streaming.clock import SAMPLES_PER_MS
from ..training.augment import add_noise, colored_noise, telephone
from ..training.skills import Turn
from ..training.speech_corpus import Speech
from ..training.voices import HELD_OUT, TRAIN, Speaker, sample_speaker
from .flite import FLITE_VOICES, flite_voices, speak

FloatArray = NDArray[np.float32]
SNR_DB = 15.0
BABBLE_VOICES = 5
QUIET_MS = 300
"""Silence around an utterance; it carries the noise, too."""
TONE_GAIN_DB = 9.0
"""Loudness alone must not tell the tone, so tone utterances get a random gain of at most this."""


class Effect(Enum):
    """What lies between the mouth and the microphone."""

    NONE = "clean"
    WHITE = "white noise"
    BABBLE = "babble"
    TELEPHONE = "telephone"


@dataclass(frozen=True, slots=True)
class Condition:
    """A line of the recognition table. `voices` is a split of espeak's voices, or a flite voice."""

    name: str
    voices: str
    effect: Effect = Effect.NONE

    @property
    def missing(self) -> str | None:
        """Why it cannot be measured here; None where it can."""
        if self.voices in (TRAIN, HELD_OUT) or self.voices in flite_voices():
            return None
        return f"flite with the voice {self.voices} is not installed"


CONDITIONS = (
    Condition("training voices", TRAIN),
    Condition("unseen voice variants", HELD_OUT),
    *(Condition(f"flite {voice}", voice) for voice in FLITE_VOICES),
    Condition("white noise 15 dB", TRAIN, Effect.WHITE),
    Condition("babble 15 dB", TRAIN, Effect.BABBLE),
    Condition("telephone band", TRAIN, Effect.TELEPHONE),
)


@dataclass(frozen=True, slots=True, eq=False)
class Utterance:
    """float32 samples [n] at 16 kHz with quiet around, and what was said how; `tone` None where nobody
    chose one."""

    samples: FloatArray
    text: str
    tone: str | None


class Speakers:
    """Says sentences under conditions; one for a whole evaluation."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._speech = Speech(seed)
        self._babble: list[FloatArray] = []

    def under(self, condition: Condition, sentences: Sequence[Turn]) -> Iterator[Utterance]:
        """Each sentence, in the tone it asks for, under a condition that is not missing."""
        name = f"{condition.name} {self._seed}"
        rng, noise = random.Random(name), np.random.default_rng([*name.encode()])
        for turn in sentences:
            if condition.voices in (TRAIN, HELD_OUT):
                speaker = sample_speaker(rng, condition.voices, turn.tone)
                samples, tone = self._speech.say(turn.user, speaker).samples, speaker.tone
            else:
                samples, tone = speak(turn.user, condition.voices), None
            yield Utterance(self._through(condition.effect, quiet_around(samples), noise), turn.user, tone)

    def in_tones(self, sentences: Sequence[Turn]) -> Iterator[Utterance]:
        """The sentences in all tones in turn, by voice variants never trained on, at random loudness."""
        rng = random.Random(f"tones {self._seed}")
        for index, turn in enumerate(sentences):
            speaker = sample_speaker(rng, HELD_OUT, TONES[index % len(TONES)])
            samples = self._speech.say(turn.user, speaker).samples
            gain = 10 ** (rng.uniform(-TONE_GAIN_DB, TONE_GAIN_DB) / 20)
            yield Utterance(quiet_around(np.clip(samples * np.float32(gain), -1, 1)), turn.user, speaker.tone)

    def dialogue(self, turns: Sequence[Turn], rng: random.Random, split: str = TRAIN) -> Iterator[Utterance]:
        """The turns of a dialogue, all by one voice, each in the tone that it asks for."""
        one = sample_speaker(rng, split).voice
        for turn in turns:
            drawn = sample_speaker(rng, split, turn.tone)
            speaker = Speaker(replace(drawn.voice, name=one.name, variant=one.variant), drawn.tone)
            yield Utterance(quiet_around(self._speech.say(turn.user, speaker).samples), turn.user, drawn.tone)

    def _through(self, effect: Effect, samples: FloatArray, rng: np.random.Generator) -> FloatArray:
        match effect:
            case Effect.NONE:
                return samples
            case Effect.WHITE:
                return add_noise(samples, colored_noise(rng, len(samples), 0.0), SNR_DB)
            case Effect.BABBLE:
                return add_noise(samples, self._voices_at_once(len(samples), rng), SNR_DB)
            case Effect.TELEPHONE:
                return telephone(samples)

    def _voices_at_once(self, n: int, rng: np.random.Generator) -> FloatArray:
        if not self._babble:
            speech = Speech(self._seed)
            self._babble = [np.concatenate([speech.say().samples for _ in range(4)]) for _ in range(BABBLE_VOICES)]
        mix = np.zeros(n, np.float32)
        for voice in self._babble:
            mix += np.resize(np.roll(voice, int(rng.integers(len(voice)))), n)
        return mix


def quiet_around(samples: FloatArray) -> FloatArray:
    """With silence before and after."""
    return np.pad(samples, QUIET_MS * SAMPLES_PER_MS)
