"""Who speaks in the synthetic corpus, and how: espeak-ng accents, voice variants, tones, and the split between them.

Tones are settings of rate, pitch, range and amplitude relative to a voice's plain ones. High, fast or loud voices that
are plain are in the data as well, and the gain is random, so no single setting gives a tone away.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from ..models.whisperpro import TONES
from ..streaming.espeak_worker import UNUSABLE_VARIANTS, EspeakVoice, english_accents, variants

PLAIN = (165.0, 50.0, 50.0, 100.0)
"""Rate in words a minute, pitch, range and amplitude in espeak's units."""

TONE_SETTINGS = {
    "plain": PLAIN,
    "happy": (200.0, 80.0, 90.0, 140.0),
    "sad": (120.0, 25.0, 15.0, 55.0),
    "angry": (215.0, 35.0, 95.0, 190.0),
}
TONE_SHARES = {"plain": 0.46, "happy": 0.18, "sad": 0.18, "angry": 0.18}

HELD_OUT_VARIANTS = ("f4", "m7", "Annie", "Andy", "linda", "pablo", "Mike", "steph2", "edward2", "grandma", "Lee", "adam")
"""Voices that no training ever hears; the tone figures are measured on them."""

TRAIN, HELD_OUT = "train", "held_out"


@dataclass(frozen=True, slots=True)
class Speaker:
    """A voice in a tone, ready for espeak."""

    voice: EspeakVoice
    tone: str


def voice_variants(split: str) -> tuple[str | None, ...]:
    """Variants of a split; None is the plain espeak voice, which belongs to training."""
    if split == HELD_OUT:
        return tuple(name for name in HELD_OUT_VARIANTS if name in variants())
    return (None, *(name for name in variants() if name not in (*HELD_OUT_VARIANTS, *UNUSABLE_VARIANTS)))


def sample_speaker(rng: random.Random, split: str = TRAIN, tone: str | None = None) -> Speaker:
    """Draw a voice. `tone` None draws one by `TONE_SHARES`; the settings jitter by 5 %."""
    if tone is None:
        tone = rng.choices(TONES, [TONE_SHARES[name] for name in TONES])[0]
    ratio = [setting / plain for setting, plain in zip(TONE_SETTINGS[tone], PLAIN, strict=True)]
    if tone == "plain" and split == TRAIN and rng.random() < 0.6:
        settings = [rng.uniform(130, 208), rng.uniform(30, 82), rng.uniform(34, 62), rng.uniform(50, 190)]
    else:
        own = 0.08 if split == TRAIN else 0.0
        settings = [
            plain * rng.uniform(1 - own, 1 + own) * factor * rng.uniform(0.95, 1.05)
            for plain, factor in zip(PLAIN, ratio, strict=True)
        ]
    rate, pitch, spread, amplitude = (round(value) for value in settings)
    voice = EspeakVoice(
        name=rng.choice(english_accents()),
        variant=rng.choice(voice_variants(split)),
        rate=rate,
        pitch=min(pitch, 99),
        range=min(spread, 99),
        amplitude=min(amplitude, 200),
    )
    return Speaker(voice, tone)
