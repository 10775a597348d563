"""`textpro-agent bench streaming`: how soon, how surely and at what cost words are committed while they are spoken.

Every design hears the same utterances twice, without and with its own compute on the clock; LocalAgreement-2 decodes the
same turns in the same run. What compute changes depends on the machine, everything else on the model, the size and the seed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..agent.runtime import Runtime
from ..models.errors import InputError
from ..streaming.commit_policy import POLICIES, PolicyName
from .local_agreement import OneShot, local_agreement
from .noises import NOISES
from .streaming_measures import measure
from .streaming_noise import measure_noises
from .streaming_report import DesignResult, Report, WordRow
from .streaming_run import Design, block_ms, hear
from .streaming_sets import LONG, PAUSE, Counts, draw_spoken
from .streaming_trace import Pace, Spoken, Trace
from .timeline import draw_timeline

OnProgress = Callable[[str, int, int], None]
"""Told the stage, how much of it is done, and how much there is."""
BASELINE = "LocalAgreement-2, 1 s"


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: utterances, encoder blocks per tick to compare, seconds of each noise through a session and
    through the recognizer alone."""

    name: str
    counts: Counts
    blocks: tuple[int, ...]
    noise_seconds: int
    alone_seconds: int


QUICK = Size("quick", Counts(8, 1, 2), (1, 2), noise_seconds=20, alone_seconds=10)
FULL = Size("full", Counts(150, 30, 30), (1, 2, 3), noise_seconds=600, alone_seconds=120)

Offline = tuple[tuple[str, ...], ...]
"""The words of each turn of an utterance."""


def designs_of(size: Size, policies: Sequence[str] = ()) -> tuple[Design, ...]:
    """What is compared: policies (none named: all, the default first) with a tick for each block, then slower ticks of the
    first, and the first with a final pass that keeps what was committed. InputError for a policy that does not exist."""
    known: tuple[PolicyName, ...] = ("both", *(name for name in POLICIES if name != "both"))
    chosen = tuple(name for name in known if name in policies) or known
    if unknown := [name for name in policies if name not in known]:
        raise InputError(f"no commit policy {unknown[0]!r}: expected one of {', '.join(known)}")
    slower = (Design(chosen[0], blocks) for blocks in size.blocks if blocks > 1)
    return (*(Design(policy) for policy in chosen), *slower, Design(chosen[0], final_pass="keep"))


def bench_streaming(
    model: str,
    size: Size,
    seed: int,
    policies: Sequence[str] = (),
    progress: OnProgress | None = None,
    threads: int | None = None,
) -> Report:
    """Measure a model ("tiny" or a checkpoint's folder). TextProError without the model or espeak-ng."""
    return asyncio.run(_bench(model, size, seed, designs_of(size, policies), progress or _silent, threads))


async def _bench(
    model: str, size: Size, seed: int, designs: Sequence[Design], progress: OnProgress, threads: int | None
) -> Report:
    began = time.monotonic()
    async with Runtime(model, speak=False, threads=threads) as runtime:
        one_shot, ms = OneShot(runtime.checkpoint), block_ms(runtime)
        spoken = list(draw_spoken(size.counts, seed))
        await hear(runtime, spoken[0].samples, designs[0], Pace.UNAWARE)  # what is slow only once stays out of the figures
        results: list[DesignResult] = []
        rows: list[WordRow] = []
        heard: list[Trace] = []
        offline_words: list[Offline] = []
        for design in designs:
            name = design.label(ms)
            stage = _stage(progress, name, len(spoken))
            unaware, aware = [], []
            for one in spoken:
                free = await hear(runtime, one.samples, design, Pace.UNAWARE)
                unaware.append(free)
                aware.append(await hear(runtime, one.samples, design, Pace.AWARE) if free.late else free)
                stage(1)
            offline = [await decode_turns(runtime, one_shot, one, trace) for one, trace in zip(spoken, unaware, strict=True)]
            results.append(_result(name, spoken, unaware, aware, offline, seed))
            rows += WordRow.of(name, spoken, unaware, aware)
            if not heard:  # the baseline decodes the turns of the first design
                heard, offline_words = unaware, offline
        stage = _stage(progress, BASELINE, len(spoken))
        baseline = []
        for one, trace in zip(spoken, heard, strict=True):
            baseline.append(await _by_agreement(one_shot, one, trace))
            stage(1)
        results.append(_result(BASELINE, spoken, baseline, baseline, offline_words, seed))
        rows += WordRow.of(BASELINE, spoken, baseline, baseline)
        stage = _stage(progress, "noise", size.noise_seconds * len(NOISES))
        noises = await measure_noises(runtime, size.noise_seconds, size.alone_seconds, seed, stage)
        picture = await _picture(runtime, spoken, designs[0], model)
    seconds = time.monotonic() - began
    return Report(model, size.name, seed, seconds, tuple(results), noises, tuple(rows), picture)


def _result(
    name: str, spoken: Sequence[Spoken], unaware: Sequence[Trace], aware: Sequence[Trace], offline: Sequence[Offline], seed: int
) -> DesignResult:
    """Of all utterances, and of the long ones."""
    long = [index for index, one in enumerate(spoken) if one.kind == LONG]
    of_long = measure(
        [spoken[index] for index in long],
        [unaware[index] for index in long],
        [aware[index] for index in long],
        [offline[index] for index in long],
        seed,
    )
    return DesignResult(name, measure(spoken, unaware, aware, offline, seed), of_long if long else None)


async def decode_turns(runtime: Runtime, one_shot: OneShot, one: Spoken, trace: Trace) -> Offline:
    """Offline: the samples of each turn decoded at once, of a long one those between the session's cuts."""
    found = []
    for turn in trace.turns:
        tokens: list[int] = []
        for part in turn.parts:
            decoded = await one_shot.decode(one.samples[part.start_samples : part.end_samples], part.prompt)
            tokens += decoded if part.n_tokens is None else decoded[: part.n_tokens]
        found.append(tuple(runtime.checkpoint.speech_text(tokens).split()))
    return tuple(found)


async def _by_agreement(one_shot: OneShot, one: Spoken, heard: Trace) -> Trace:
    """The baseline over the turns of another trace."""
    parts = [await local_agreement(one_shot, one.samples, turn, one_shot.window_samples) for turn in heard.turns]
    seconds = sum(part.seconds.get("decode", 0.0) for part in parts)
    turns = tuple(turn for part in parts for turn in part.turns)
    return Trace(heard.audio_samples, turns, {"decode": seconds}, late=sum(part.late for part in parts))


async def _picture(runtime: Runtime, spoken: Sequence[Spoken], design: Design, model: str) -> str:
    """The timeline of an utterance that is taken up again after a soft end, where there is one."""
    shown = next((one for one in spoken if one.kind == PAUSE), spoken[0])
    trace = await hear(runtime, shown.samples, design, Pace.AWARE, guess_ends=True)
    return draw_timeline(shown, trace, f"One utterance, model {model}, {design.label(block_ms(runtime))}")


def _stage(progress: OnProgress, name: str, total: int) -> Callable[[int], None]:
    done = 0

    def add(count: int) -> None:
        nonlocal done
        done += count
        progress(name, done, total)

    return add


def _silent(stage: str, done: int, total: int) -> None:
    """Progress that nobody looks at."""
