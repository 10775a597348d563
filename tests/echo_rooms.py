"""Rooms in which a microphone hears what we play: impulse response, delay, level, noise, distortion, and a user who speaks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from requirements import require_module
from textpro.streaming.echo_reference import PlayedSound

Samples = NDArray[np.float32]
RATE = 16_000
BEFORE = RATE  # silence before we speak
REPLY = "Hello and welcome. I can turn lights on and off. Ask me to add two numbers, or tell me how you feel today."


@cache
def said(text: str, variant: str | None = None) -> Samples:
    """`text` in a voice of espeak-ng, 16 kHz."""
    require_module("espeakng_loader")
    from textpro.streaming.espeak_worker import EspeakVoice
    from textpro.training.speech_corpus import Speech
    from textpro.training.voices import Speaker

    return Speech(0).say(text, Speaker(EspeakVoice("en-us", variant, 165, 50, 50, 100), "plain")).samples


def convolved(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """The first len(a) samples of a * b."""
    size = 1 << (len(a) + len(b)).bit_length()
    return np.fft.irfft(np.fft.rfft(a, size) * np.fft.rfft(b, size), size)[: len(a)]


@dataclass(frozen=True)
class Room:
    """`reverberation_s` until the tail is down by 60 dB; `delay_ms` from the report to the echo; levels in dB."""

    reverberation_s: float = 0.3
    delay_ms: float = 120.0
    gain_db: float = -12.0
    noise_db: float = -65.0
    distorts: bool = False
    seed: int = 0

    def impulse(self) -> NDArray[np.float64]:
        """Direct sound and a decaying tail of half its energy."""
        n = int(self.reverberation_s * RATE)
        tail = np.random.default_rng(self.seed).standard_normal(n) * 10 ** (-3 * np.arange(n) / n)
        tail[0] = 0.0
        tail *= 0.7 / np.linalg.norm(tail)
        tail[0] = 1.0
        return tail / np.linalg.norm(tail)


@dataclass(frozen=True, eq=False)
class Heard:
    """What the microphone gave, and what the echo and the user are in it; the user speaks in `user_at`."""

    mic: Samples
    echo: NDArray[np.float64]
    user: NDArray[np.float64]
    user_at: slice
    reply: Samples


def hear(room: Room, reply: Samples, user: Samples | None = None, at_s: float = 4.0, over_echo_db: float = 3.0) -> Heard:
    """The reply sounds after a second of silence; the user speaks from `at_s` on, so much louder than the echo."""
    sounds = np.concatenate([np.zeros(BEFORE), reply, np.zeros(RATE)])
    made = np.tanh(3 * sounds) / 3 if room.distorts else sounds
    echo = 10 ** (room.gain_db / 20) * convolved(made, room.impulse())
    delay = round(room.delay_ms * RATE / 1000)
    echo = np.roll(np.concatenate([echo, np.zeros(RATE)]), delay)[: len(echo)]
    level = np.sqrt((echo[BEFORE : BEFORE + len(reply)] ** 2).mean())
    voice, place = np.zeros(len(echo)), slice(0, 0)
    if user is not None:
        place = slice(round(at_s * RATE), round(at_s * RATE) + len(user))
        voice[place] = user * level * 10 ** (over_echo_db / 20) / np.sqrt((user**2).mean())
    noise = 10 ** (room.noise_db / 20) * np.random.default_rng(room.seed + 1).standard_normal(len(echo))
    return Heard(np.clip(echo + voice + noise, -1, 1).astype(np.float32), echo, voice, place, reply)


def led(heard: Heard, played: PlayedSound, push, piece: int = 320, seed: int = 0, start: int = 0) -> Samples:
    """The microphone through `push`, as a transport leads it: in pieces, the reports up to 20 ms late. `start`: samples that
    went before."""
    rng = np.random.default_rng(seed)
    played.begin()
    played.add((np.clip(heard.reply, -1, 1) * 32767).astype(np.int16), RATE)
    given = [np.zeros(0, np.float32)]
    for at in range(0, len(heard.mic), piece):
        given.append(push(heard.mic[at : at + piece]))
        sounded = min(at + piece - BEFORE - int(rng.integers(0, 320)), len(heard.reply))
        if sounded > 0:
            played.played(sounded * 1000 / RATE, start + at + piece)
    return np.concatenate(given)


def power_db(sound: NDArray[np.floating]) -> float:
    """Mean power."""
    return float(10 * np.log10((sound.astype(float) ** 2).mean() + 1e-12))


def loud_chunks(sound: NDArray[np.floating], size: int, floor_db: float) -> NDArray[np.bool_]:
    """Which chunks are louder than that."""
    cut = sound[: len(sound) // size * size].reshape(-1, size)
    return 10 * np.log10((cut.astype(float) ** 2).mean(1) + 1e-12) > floor_db
