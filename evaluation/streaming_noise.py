"""Does anything come out where nobody speaks? Tokens on each noise, as a session hears it, and without its detector.

In a session the speech detector stands before the recognizer, and a turn must begin before a token can be committed.
Without it the recognizer is made to decode the noise in pieces, which shows how much rests on the detector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..agent import events
from ..agent.runtime import Runtime
from ..streaming.clock import SAMPLE_RATE
from .local_agreement import OneShot
from .noises import NOISES

ALONE_SECONDS = 5


@dataclass(frozen=True, slots=True)
class NoiseResult:
    """`seconds` of a noise through a session: turns begun, tokens committed, turns ended with words; and the tokens of the
    recognizer alone on `alone_seconds` of it."""

    name: str
    seconds: float
    turns: int
    tokens: int
    turn_ends: int
    alone_seconds: float
    alone_tokens: int

    @property
    def tokens_per_hour(self) -> float:
        """Of a session."""
        return self.tokens * 3600 / self.seconds

    @property
    def alone_per_hour(self) -> float | None:
        """Of the recognizer without a detector before it; None where that was not measured."""
        return self.alone_tokens * 3600 / self.alone_seconds if self.alone_seconds else None


async def measure_noises(
    runtime: Runtime, seconds: int, alone_seconds: int, seed: int, done: Callable[[int], None]
) -> tuple[NoiseResult, ...]:
    """Every noise of `NOISES`; `done` is told the seconds that were worked off."""
    found = []
    for name, make in NOISES.items():
        samples = make(seconds, seed)
        turns, tokens, ends = await through_session(runtime, samples, done)
        alone = await _alone(runtime, samples[: alone_seconds * SAMPLE_RATE])
        found.append(NoiseResult(name, seconds, turns, tokens, ends, min(alone_seconds, seconds), alone))
    return tuple(found)


async def through_session(
    runtime: Runtime, samples: NDArray[np.float32], done: Callable[[int], None] | None = None
) -> tuple[int, int, int]:
    """Turns begun, tokens committed and turns ended with words when a session hears float32 samples [n] at 16 kHz."""
    turns = tokens = ends = 0
    async with runtime.session() as session:
        for start in range(0, len(samples), SAMPLE_RATE):
            await session.send_audio(samples[start : start + SAMPLE_RATE], SAMPLE_RATE)
            await session.settled()
            for event in session.said():
                match event:
                    case events.TurnStart():
                        turns += 1
                    case events.TokensCommitted():
                        tokens += len(event.tokens)
                    case events.TurnEnd():
                        ends += 1
            if done is not None:
                done(1)
    return turns, tokens, ends


async def _alone(runtime: Runtime, samples: NDArray[np.float32]) -> int:
    """Words of the recognizer made to decode pieces of the noise."""
    recognizer, found = OneShot(runtime.checkpoint), 0
    step = ALONE_SECONDS * SAMPLE_RATE
    for start in range(0, len(samples), step):
        found += (await recognizer(samples[start : start + step], start)).tokens
    return found
