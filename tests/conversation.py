"""Real audio for tests, spoken by espeak-ng, and the shortest way to play it to a session."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from requirements import require_module
from textpro.agent.events import Event
from textpro.agent.session import Session

Samples = NDArray[np.float32]


def spoken(text: str, tone: str = "plain", seed: int = 0, before_ms: int = 400, after_ms: int = 1200) -> Samples:
    """`text` said by a training voice in a tone, at 16 kHz, with a quiet room around it."""
    require_module("espeakng_loader")
    from textpro.streaming.espeak_worker import EspeakVoice
    from textpro.training.speech_corpus import Speech
    from textpro.training.voices import TONE_SETTINGS, Speaker

    rate, pitch, spread, amplitude = (round(value) for value in TONE_SETTINGS[tone])
    voice = EspeakVoice("en-us", None, rate, pitch, spread, amplitude)
    samples = Speech(seed).say(text, Speaker(voice, tone)).samples
    padded = np.pad(samples, (before_ms * 16, after_ms * 16))
    noise = np.random.default_rng(seed).standard_normal(len(padded)).astype(np.float32)
    return padded + np.float32(10**-3.5) * noise


async def converse(session: Session, audio: Samples, piece: Callable[[], int] = lambda: 320, rate: int = 16_000) -> list[Event]:
    """Play audio at `rate` to a session in pieces, wait until all is done, and give what the session said so far."""
    at = 0
    while at < len(audio):
        size = piece()
        await session.send_audio(audio[at : at + size], rate)
        at += size
    await session.settled()
    await asyncio.sleep(0)
    await session.settled()
    return session.said()
