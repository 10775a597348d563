"""`textpro-agent eval`: answers by text and by speech on two held-out sets, word error rates, tones.

The figures depend on the model, the size and the seed alone, not on how fast the machine is. The quick size
takes about three minutes on two cores and has wide intervals; `full` is for figures that are written down.
"""

from __future__ import annotations

import asyncio
import json as json_lines
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..agent.runtime import Runtime
from ..models.errors import InputError
from .answers import SetResult, measure_set
from .conditions import CONDITIONS, Speakers
from .recognition import measure_recognition, measure_tones
from .report import Report
from .sets import HELD_OUT_SETS, draw_sentences

OnProgress = Callable[[str, int, int], None]
"""Told the stage, how much of it is done, and how much there is; what is done may pass it by a few turns."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: turns of each held-out set by text and by speech; sentences of each condition,
    and how many of them through a session too; utterances for tones."""

    name: str
    text_turns: int
    speech_turns: int
    sentences: int
    streamed: int
    tones: int


QUICK = Size("quick", text_turns=100, speech_turns=40, sentences=24, streamed=5, tones=60)
FULL = Size("full", text_turns=1_000, speech_turns=300, sentences=200, streamed=40, tones=400)
SIZES = {size.name: size for size in (QUICK, FULL)}


def evaluate(model: str, n: Size, seed: int, progress: OnProgress | None = None) -> Report:
    """Measure a model ("tiny" or a checkpoint's folder). Raises TextProError without the model or
    espeak-ng."""
    return asyncio.run(_evaluate(model, n, seed, progress or _silent))


def run(model: str, size: str, seed: int, json: bool) -> int:
    """The command: the report to stdout, as tables or as one JSON object; progress to stderr. Returns the
    exit code."""
    if size not in SIZES:
        raise InputError(f"no size {size!r}: expected {' or '.join(SIZES)}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=min(done, total))

        report = evaluate(model, SIZES[size], seed, show)
    if json:
        sys.stdout.write(json_lines.dumps(report.to_dict(), ensure_ascii=False) + "\n")
    else:
        Console(highlight=False).print(report.tables())
    return 0


async def _evaluate(model: str, n: Size, seed: int, progress: OnProgress) -> Report:
    began = time.monotonic()
    async with Runtime(model, speak=False) as runtime:
        speakers = Speakers(seed)
        sets: list[SetResult] = []
        for name in HELD_OUT_SETS:
            done = _counter(progress, f"answers, {name}", n.text_turns + n.speech_turns)
            sets.append(await measure_set(runtime, name, n.text_turns, n.speech_turns, speakers, seed, done))
        sentences = draw_sentences(n.sentences, seed)
        done = _counter(progress, "recognition", n.sentences * len(CONDITIONS))
        conditions = await measure_recognition(runtime, sentences, n.streamed, speakers, seed, done)
        tones = await measure_tones(
            runtime, draw_sentences(n.tones, seed + 1), speakers, seed, _counter(progress, "tones", n.tones)
        )
    return Report(model, n.name, seed, time.monotonic() - began, tuple(sets), conditions, tones)


def _counter(progress: OnProgress, stage: str, total: int) -> Callable[[int], None]:
    done = 0

    def add(count: int) -> None:
        nonlocal done
        done += count
        progress(stage, done, total)

    return add


def _silent(stage: str, done: int, total: int) -> None:
    """Progress that nobody looks at."""
