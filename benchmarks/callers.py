"""How many callers at once: N simulated people, who speak 40 % of the time, in sessions of one Runtime in real time.

For each N the time from the last user sample to the first reply token. The largest N whose 95th percentile is under
`--bound-ms` is the capacity; the search ends at the first N that is over it. The silence that ends a turn is in the figure
(`SILENCE_MS` in caller.py); what comes behind it is a line of its own. Replies are text: a voice would be a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from caller import RATE, SILENCE_MS, Answered, Caller, questions, session_of, spoken_script
from measuring import RESULTS, Line, cache_bytes, finish, line, load, machine, parsed, parser

from textpro.agent.runtime import Runtime
from textpro.models.checkpoint import Checkpoint

NAME = "callers"
SHARE = 0.4
CONTEXT_LENGTH = 2048


@dataclass(frozen=True, slots=True)
class Crowd:
    """What came of N callers: their questions, ticks that were left out, the tick, resident bytes while they spoke."""

    callers: int
    turns: list[Answered | None]
    skipped_ticks: int
    tick_ms: float
    resident: int

    @property
    def answered(self) -> list[Answered]:
        """Those of the questions that were."""
        return [turn for turn in self.turns if turn is not None]


async def measure_crowd(runtime: Runtime, callers: int, seconds: float) -> Crowd:
    """N callers for so many seconds, who begin one after the other."""
    said = questions(min(callers, 6) + 2)
    cycle = max(one.last for one in said) / SHARE
    scripts = [
        spoken_script(said[number % len(said) :] + said[: number % len(said)], seconds, SHARE, round(number * cycle / callers))
        for number in range(callers)
    ]
    async with AsyncExitStack() as sessions:
        running = [Caller(await sessions.enter_async_context(session_of(runtime)), script) for script in scripts]
        turns = [turn for found in await asyncio.gather(*(caller.call() for caller in running)) for turn in found]
        tick_ms = runtime.engine.stats().tick_ms
        resident = psutil.Process().memory_info().rss
    return Crowd(callers, turns, sum(caller.skipped_ticks for caller in running), tick_ms, resident)


async def measure_crowds(checkpoint: Checkpoint, options: argparse.Namespace) -> list[Crowd]:
    """One crowd after the other, from small to large, up to the first that waits too long."""
    found = list[Crowd]()
    slots = max(options.callers)
    async with Runtime(checkpoint, speak=False, slots=slots, context_length=CONTEXT_LENGTH) as runtime:
        await measure_crowd(runtime, 1, 1)
        for callers in sorted(options.callers):
            found.append(await measure_crowd(runtime, callers, options.seconds))
            if not _holds(found[-1], options.bound_ms):
                break
    return found


def _holds(crowd: Crowd, bound_ms: float) -> bool:
    """Whether nine of ten questions were answered, and 19 of 20 of those in time."""
    enough = len(crowd.answered) >= 0.9 * len(crowd.turns)
    return enough and float(np.percentile([turn.total_ms for turn in crowd.answered], 95)) < bound_ms


def report(crowds: Sequence[Crowd], checkpoint: Checkpoint, bound_ms: float) -> list[Line]:
    """Two lines for each N, the capacity, and the memory of a session."""
    lines = list[Line]()
    for crowd in crowds:
        if not crowd.answered:
            continue
        case, missed = f"N={crowd.callers}", len(crowd.turns) - len(crowd.answered)
        note = f"{missed} of {len(crowd.turns)} not answered, {crowd.skipped_ticks} ticks left out"
        note += f", tick {crowd.tick_ms:.0f} ms" if crowd.tick_ms else ""
        floor = float(np.median([turn.silence_ms for turn in crowd.answered]))
        lines += [
            line(NAME, case, "last sample to first token", [turn.total_ms for turn in crowd.answered], floor=floor, note=note),
            line(NAME, case, "of it behind the silence", [turn.late_ms for turn in crowd.answered]),
        ]
    held = max((crowd.callers for crowd in crowds if crowd.answered and _holds(crowd, bound_ms)), default=0)
    tried = f"of {', '.join(str(crowd.callers) for crowd in crowds)} tried"
    lines.append(line(NAME, f"p95 under {bound_ms:.0f} ms", "largest N", [float(held)], "callers", note=tried))
    slot = CONTEXT_LENGTH * cache_bytes(checkpoint) / 1e6
    lines.append(line(NAME, f"slot of {CONTEXT_LENGTH} entries", "keys and values", [slot], "MB"))
    if len(crowds) > 1:
        grown = (crowds[-1].resident - crowds[0].resident) / (crowds[-1].callers - crowds[0].callers) / 1e6
        lines.append(line(NAME, "each further session", "resident memory", [grown], "MB", note="slots that are touched among it"))
    return lines


def draw(crowds: Sequence[Crowd], file: Path, bound_ms: float, title: str) -> None:
    """p50 and p95 against N as an SVG file."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "textpro"  # the same figures give the same file
    from matplotlib import pyplot

    known = [crowd for crowd in crowds if crowd.answered]
    counts = [crowd.callers for crowd in known]
    figure, axes = pyplot.subplots(figsize=(7, 4.2))
    for percent, mark, dash in ((50, "o", "--"), (95, "s", "-")):
        totals = [float(np.percentile([turn.total_ms for turn in crowd.answered], percent)) for crowd in known]
        axes.plot(counts, totals, marker=mark, linestyle=dash, color="#1f4e79", label=f"p{percent}")
    axes.axhline(bound_ms, color="#b3261e", linestyle=":", label=f"{bound_ms:.0f} ms")
    silence = float(np.median([turn.silence_ms for crowd in known for turn in crowd.answered]))
    axes.axhline(silence, color="#5b6770", linestyle="-.", label="the silence that ends a turn")
    axes.set(xlabel="callers, speaking 40 % of the time", ylabel="last sample to first reply token, ms", title=title)
    axes.set_ylim(bottom=0)
    axes.set_xticks(counts)
    axes.legend()
    figure.savefig(file, format="svg", metadata={"Date": None}, bbox_inches="tight")
    pyplot.close(figure)


def measure(options: argparse.Namespace) -> list[Line]:
    """The lines; draws the plot where one is wanted."""
    checkpoint = load(options)
    crowds = asyncio.run(measure_crowds(checkpoint, options))
    if options.svg is not None and any(crowd.answered for crowd in crowds):
        about = machine(options.model, options.device)
        draw(crowds, options.svg, options.bound_ms, f"{about.model} on {about.device}, silence of {SILENCE_MS} ms")
    if options.device == "cuda":
        sys.stdout.write(f"{torch.cuda.max_memory_allocated() / 1e9:.1f} GB of GPU memory at most\n")
    return report(crowds, checkpoint, options.bound_ms)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; exit status."""
    made = parser(__doc__, RESULTS / "callers.csv")
    made.add_argument("--callers", type=int, nargs="+", help="numbers to try (default 1 4 8 12; on a GPU 1 16 32 64 96)")
    made.add_argument("--seconds", type=float, help="audio of each caller, offsets included (default 14)")
    made.add_argument("--bound-ms", type=float, default=500, help="of the 95th percentile")
    made.add_argument("--svg", type=Path, metavar="FILE", help="draw the percentiles against N")
    options = parsed(made, arguments)
    usual = [1, 16, 32, 64, 96] if options.device == "cuda" else [1, 4, 8, 12]
    options.callers = options.callers or ([1, 2] if options.quick else usual)
    options.seconds = options.seconds or (3 if options.quick else 14)
    if min(options.callers) < 1 or options.seconds * RATE < 1:
        made.error("--callers and --seconds must be above 0")
    return finish(measure(options), options)


if __name__ == "__main__":
    sys.exit(main())
