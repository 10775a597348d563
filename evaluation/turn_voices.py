"""Whole sentences with word times, by voices that no training hears: held-out variants of espeak-ng, and CMU flite.

flite tells when each phone ends but not each word, so every word is also asked for alone, and the phones are counted off; a
sentence in which the counts differ (flite says some words otherwise in company) is not used.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ..models.errors import DeviceError
from ..streaming.clock import SAMPLE_RATE
from ..training.speech_corpus import Speech
from ..training.voices import HELD_OUT, sample_speaker
from .flite import PROGRAM, flite_voices, speak

ESPEAK, FLITE = "espeak", "flite"
_TIME_LIMIT_S = 60
_SILENCE = "pau"


@dataclass(frozen=True, slots=True, eq=False)
class Sentence:
    """float32 [n] at 16 kHz, its words and the sample at which each ends; `voice` is "espeak" or "flite" and a name."""

    samples: NDArray[np.float32]
    words: tuple[str, ...]
    ends_samples: tuple[int, ...]
    voice: str


class HeldOutVoices:
    """Says sentences; one for a whole set, since espeak-ng's waveform depends a little on what it said before."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(f"turn voices {seed}")
        self._espeak = Speech(seed)

    def by_espeak(self, text: str, tone: str | None) -> Sentence:
        """A held-out voice variant; `tone` None draws one."""
        speaker = sample_speaker(self._rng, HELD_OUT, tone)
        spoken = self._espeak.say(text, speaker)
        return Sentence(spoken.samples, spoken.words, spoken.ends, f"{ESPEAK} {speaker.voice.variant} {speaker.tone}")

    def by_flite(self, text: str) -> Sentence | None:
        """One of flite's voices; None where its words cannot be told apart. DeviceError without flite."""
        voices = flite_voices()
        if not voices:
            raise DeviceError("flite is not installed: install it, or leave its half of the set out")
        voice = self._rng.choice(voices)
        words = tuple(text.split())
        phones = _phone_ends(_flite(voice, text, "-psdur"))
        ends_s = word_ends([len(_phones_of(voice, word)) for word in words], phones)
        if ends_s is None:
            return None
        samples = speak(text, voice)
        return Sentence(samples, words, tuple(min(int(end * SAMPLE_RATE), len(samples)) for end in ends_s), f"{FLITE} {voice}")


def word_ends(phones_per_word: Sequence[int], phones: Sequence[tuple[str, float]]) -> list[float] | None:
    """Seconds at which each word ends, from (phone, its end) of the sentence; None where the counts do not add up."""
    ends = [end for phone, end in phones if phone != _SILENCE]
    if sum(phones_per_word) != len(ends) or 0 in phones_per_word:
        return None
    last = np.cumsum(phones_per_word) - 1
    return [ends[index] for index in last]


@cache
def _phones_of(voice: str, word: str) -> tuple[str, ...]:
    return tuple(phone for phone in _flite(voice, word, "-ps").split() if phone != _SILENCE)


def _phone_ends(printed: str) -> list[tuple[str, float]]:
    pairs = [entry.rpartition(":") for entry in printed.split()]
    return [(phone, float(end)) for phone, _, end in pairs]


def _flite(voice: str, text: str, what: str) -> str:
    command = [PROGRAM, "-voice", voice, "-t", text, what, "-o", "none"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIME_LIMIT_S, check=False)
    if done.returncode:
        raise DeviceError(f"flite cannot say {text!r} as {voice} ({done.stderr.strip()}): try it by hand")
    return done.stdout
