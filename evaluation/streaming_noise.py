"""Does anything come out where nobody speaks? Tokens on each noise, as a session hears it, and without its detector.

In a session the speech detector stands before the recognizer, and a turn must begin before a token can be committed.
Without it the recognizer is made to decode the noise in pieces, which shows how much rests on the detector. Ten minutes of
each noise take long, so a run can keep its results in a file, one noise after the other, and go on from there.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from ..agent import events
from ..agent.runtime import Runtime
from ..models.errors import InputError
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


def bench_noise(
    model: str, seconds: int, seed: int, kept: Path | None, done: Callable[[str, int], None], threads: int | None = None
) -> tuple[NoiseResult, ...]:
    """Every noise of `NOISES` through sessions of a model; `done` is told the noise and the seconds that were worked off. What
    the file `kept` holds of the same model, length and seed is taken from there. InputError for a file of another run."""
    return asyncio.run(_bench(model, seconds, seed, kept, done, threads))


async def _bench(
    model: str, seconds: int, seed: int, kept: Path | None, done: Callable[[str, int], None], threads: int | None
) -> tuple[NoiseResult, ...]:
    async with Runtime(model, speak=False, threads=threads) as runtime:
        run = {"model": model, "weights": _fingerprint(runtime), "seconds": seconds, "seed": seed}
        found = {} if kept is None else _read(kept, run)
        for name in NOISES:
            if name in found:
                done(name, seconds)
                continue
            found[name] = await measure_noise(runtime, name, seconds, 0, seed, partial(done, name))
            if kept is not None:
                kept.write_text(json.dumps({"run": run, "noises": [asdict(one) for one in found.values()]}), encoding="utf-8")
    return tuple(found[name] for name in NOISES)


async def measure_noises(
    runtime: Runtime, seconds: int, alone_seconds: int, seed: int, done: Callable[[int], None]
) -> tuple[NoiseResult, ...]:
    """Every noise of `NOISES`; `done` is told the seconds that were worked off."""
    return tuple([await measure_noise(runtime, name, seconds, alone_seconds, seed, done) for name in NOISES])


async def measure_noise(
    runtime: Runtime, name: str, seconds: int, alone_seconds: int, seed: int, done: Callable[[int], None]
) -> NoiseResult:
    """One of them."""
    samples = NOISES[name](seconds, seed)
    turns, tokens, ends = await through_session(runtime, samples, done)
    alone = await _alone(runtime, samples[: alone_seconds * SAMPLE_RATE])
    return NoiseResult(name, seconds, turns, tokens, ends, min(alone_seconds, seconds), alone)


def noise_table(noises: tuple[NoiseResult, ...]) -> Table:
    """For a terminal."""
    table = Table(title="Noise", title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in ("", "seconds", "turns begun", "tokens", "per hour", "per hour without the detector"):
        table.add_column(name, justify="right" if name else "left", overflow="fold")
    for one in noises:
        alone = "" if one.alone_per_hour is None else f"{one.alone_per_hour:.0f}"
        table.add_row(one.name, f"{one.seconds:.0f}", str(one.turns), str(one.tokens), f"{one.tokens_per_hour:.0f}", alone)
    return table


def noise_values(one: NoiseResult) -> dict[str, Any]:
    """JSON values."""
    return {**asdict(one), "tokens_per_hour": one.tokens_per_hour, "alone_per_hour": one.alone_per_hour}


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


def _read(kept: Path, run: dict[str, Any]) -> dict[str, NoiseResult]:
    """What an earlier part of the same run has found."""
    if not kept.exists():
        return {}
    try:
        values = json.loads(kept.read_text(encoding="utf-8"))
        found = {one["name"]: NoiseResult(**one) for one in values["noises"]}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{kept} holds no noise results ({error}): name another file, or remove it") from error
    if values.get("run") != run:
        raise InputError(f"{kept} is of another run ({values.get('run')}, this one is {run}): name another file, or remove it")
    return found


def _fingerprint(runtime: Runtime) -> str:
    """Changes with the recognizer's weights."""
    digest = sha256()
    for tensor in runtime.checkpoint.speech.model.state_dict().values():
        digest.update(tensor.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


async def _alone(runtime: Runtime, samples: NDArray[np.float32]) -> int:
    """Words of the recognizer made to decode pieces of the noise."""
    recognizer, found = OneShot(runtime.checkpoint), 0
    step = ALONE_SECONDS * SAMPLE_RATE
    for start in range(0, len(samples), step):
        found += (await recognizer(samples[start : start + step], start)).tokens
    return found
