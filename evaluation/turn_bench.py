"""`textpro-agent bench turns` and `calibrate turns`: draw or read a set of turns, ask for P(end) at every silence, report.

What is decided depends on the model, the set and the seed alone; voice-to-voice latency is of this machine, at real-time pace.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..agent.gate import DraftSettings
from ..agent.runtime import Runtime
from ..agent.session import Session
from ..agent.session_settings import SessionSettings
from ..agent.tools import Toolbox
from ..agent.turns import Endpointing, TurnSettings
from ..models.errors import InputError
from ..models.named import Pair
from ..streaming.espeak import EspeakProcess, EspeakSynthesizer
from .turn_decisions import PROSODY, TEXT, Decision, judge_turns, scored
from .turn_files import read_turns
from .turn_fit import Fit, fit_policy
from .turn_latency import Latencies, draw_questions, measure_latency
from .turn_report import TurnReport, make_rows
from .turn_sets import SpokenTurn, count_by_source, draw_turns
from .turn_settings import as_set
from .turn_sweep import Scored

OnProgress = Callable[[str, int, int], None]
"""Told the stage, how much of it is done, and how much there is."""
SLOTS = 4
NO_DRAFTS = DraftSettings(p_end=math.inf)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a bench measures: how ends of turns are told, and voice to voice under the rule `endpointing` that ends them, with
    speculation and without. InputError where nothing is left."""

    decisions: bool = True
    latency: bool = True
    endpointing: Endpointing = "auto"

    def __post_init__(self) -> None:
        if not (self.decisions or self.latency):
            raise InputError("neither decisions nor latency: leave out --no-decisions or --no-latency")

    def settings(self) -> tuple[tuple[str, SessionSettings], ...]:
        """Whose voice-to-voice latency is measured, by name; the one without speculation comes last."""
        turns = TurnSettings(endpointing=self.endpointing)
        name = "default settings" if self.endpointing == "auto" else f"endpointing {self.endpointing}"
        return (name, SessionSettings(turns=turns)), ("without speculation", SessionSettings(turns=turns, drafts=NO_DRAFTS))


ALL = Measured()


@dataclass(frozen=True, slots=True)
class TurnSize:
    """How many turns are judged, and how many questions are asked at real-time pace under each setting."""

    name: str
    turns: int
    questions: int


QUICK = TurnSize("quick", turns=100, questions=6)
FULL = TurnSize("full", turns=400, questions=30)


def bench_turns(
    model: str | Path | Pair, size: TurnSize, seed: int, data: Path | None, progress: OnProgress, measured: Measured = ALL
) -> TurnReport:
    """Measure a model on generated turns, or on those in `data`. TextProError without the model, the set or espeak-ng."""
    return asyncio.run(_bench(model, size, seed, data, progress, measured))


def fit_turns(
    model: str | Path | Pair, size: TurnSize, seed: int, data: Path | None, max_cut_off_rate: float, progress: OnProgress
) -> tuple[Fit, str]:
    """Fit the rule for a model; also the name of the set that it was fitted to."""
    return asyncio.run(_fit(model, size, seed, data, max_cut_off_rate, progress))


async def _bench(
    model: str | Path | Pair, size: TurnSize, seed: int, data: Path | None, progress: OnProgress, measured: Measured
) -> TurnReport:
    began = time.monotonic()
    turns, set_name = _turns(size, seed, data) if measured.decisions else ([], f"{size.questions} questions")
    async with Runtime(model, speak=False, slots=SLOTS) as runtime:
        decisions = await judge_turns(runtime, turns, _counter(progress, "silences", len(turns)))
        latencies = await _latencies(runtime, size, seed, progress, measured) if measured.latency else ()
        defaults = as_set([one for turn in by_turn(decisions) for one in turn], runtime.checkpoint.config)
    rows = make_rows(decisions, seed) if decisions else ()
    return TurnReport(name_of(model), set_name, seed, time.monotonic() - began, tuple(decisions), rows, defaults, latencies)


async def _fit(
    model: str | Path | Pair, size: TurnSize, seed: int, data: Path | None, max_cut_off_rate: float, progress: OnProgress
) -> tuple[Fit, str]:
    turns, set_name = _turns(size, seed, data)
    async with Runtime(model, speak=False, slots=SLOTS) as runtime:
        decisions = await judge_turns(runtime, turns, _counter(progress, "silences", len(turns)))
    return fit_policy(by_turn(decisions), max_cut_off_rate), set_name


def by_turn(decisions: list[Decision]) -> list[list[Scored]]:
    """The decisions of each turn, with P(end) as a session of this model would have it: with prosody where there is any."""
    way = PROSODY if any(one.p_prosody is not None for one in decisions) else TEXT
    turns: dict[str, list[Scored]] = {}
    for decision, one in zip(decisions, scored(decisions, way), strict=True):
        turns.setdefault(decision.turn, []).append(one)
    return list(turns.values())


async def _latencies(
    runtime: Runtime, size: TurnSize, seed: int, progress: OnProgress, measured: Measured
) -> tuple[Latencies, ...]:
    """Each of the measured settings on the same questions, answered aloud by espeak-ng."""
    questions = draw_questions(size.questions, seed)
    found = []
    async with EspeakProcess() as voice:

        def open_session(settings: SessionSettings) -> Session:
            return Session(runtime.engine, runtime.checkpoint, EspeakSynthesizer(voice), Toolbox(), settings)

        await measure_latency("", partial(open_session, SessionSettings()), questions[:1], lambda n: None)  # warms up
        for name, settings in measured.settings():
            done = _counter(progress, f"voice to voice, {name}", len(questions))
            found.append(await measure_latency(name, partial(open_session, settings), questions, done))
    return tuple(found)


def _turns(size: TurnSize, seed: int, data: Path | None) -> tuple[list[SpokenTurn], str]:
    """The turns and what the set is called."""
    if data is None:
        turns = draw_turns(size.turns, seed)
        kind = "synthetic"
    else:
        turns = read_turns(data, size.turns)
        kind = data.name
    counts = ", ".join(f"{count} {source}" for source, count in sorted(count_by_source(turns).items()))
    return turns, f"{kind} turns: {counts}"


def name_of(model: str | Path | Pair) -> str:
    """As reports call it."""
    return f"{model.encoder.name} + {model.backbone.name}" if isinstance(model, Pair) else str(model)


def _counter(progress: OnProgress, stage: str, total: int) -> Callable[[int], None]:
    done = 0

    def add(count: int) -> None:
        nonlocal done
        done += count
        progress(stage, done, total)

    return add
