"""Many callers for many minutes on one runtime, in real time: does its memory stay flat? `make soak`: sixteen for ten minutes.

Each caller says the two recorded sentences of the demo in turn, waits for what the agent answers, and hangs up after a few
turns for the next caller to take the place; a typed turn comes in between. Every ten seconds a line says how much memory the
process holds, how many turns were answered, how far behind ticks are. The first fifth is warm-up; if the median of the last
fifth lies over that of the second by more than is allowed, or anybody was not answered, it ends with status 1.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from textpro.agent.events import Event
from textpro.agent.runtime import Runtime
from textpro.agent.session import Session
from textpro.streaming.clock import SAMPLE_RATE
from textpro.streaming.wav import read_wav

AUDIO = Path(__file__).resolve().parent.parent / "examples" / "audio"
PIECE_MS, SILENCE_MS = 100, 1_500
TURNS_PER_CALL = 6
ANSWER_S = 60.0
"""An answer that takes longer is missing."""


@dataclass(slots=True)
class Tally:
    """What has happened so far."""

    turns: int = 0
    calls: int = 0
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Line:
    """One look at the process."""

    seconds: float
    rss_mb: float
    turns: int
    calls: int
    queued: int
    tick_ms: int
    stretched_s: float
    evicted: int


def rss_mb() -> float:
    """Memory that this process holds, in MiB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def growth_mb(memory: Sequence[float]) -> float:
    """By how much the median of the last fifth of the measurements lies over that of the second fifth; at least five."""
    fifth = len(memory) // 5
    if fifth < 1:
        raise ValueError(f"{len(memory)} measurements are too few to say whether memory grows: expected 5 or more")
    return statistics.median(memory[-fifth:]) - statistics.median(memory[fifth : 2 * fifth])


async def answered(session: Session, tally: Tally) -> bool:
    """Read events to the end of a reply, or of the turn if there was none; False when the session is over."""
    event: Event
    async with asyncio.timeout(ANSWER_S):
        async for event in session:
            if event.type == "failed":
                tally.faults.append(event.to_json())
                return False
            if event.type in ("reply_done", "turn_dropped"):
                tally.turns += event.type == "reply_done"
                return True
    return False


async def say(session: Session, sound: NDArray[np.float32]) -> None:
    """Samples [n] at 16 kHz at the pace of real time, and a silence behind them."""
    whole = np.concatenate([sound, np.zeros(SAMPLE_RATE * SILENCE_MS // 1000, np.float32)])
    size = SAMPLE_RATE * PIECE_MS // 1000
    due = time.monotonic()
    for start in range(0, len(whole), size):
        await session.send_audio(whole[start : start + size], SAMPLE_RATE)
        due += PIECE_MS / 1000
        await asyncio.sleep(max(0.0, due - time.monotonic()))


async def call(runtime: Runtime, sounds: Sequence[NDArray[np.float32]], until: float, tally: Tally) -> None:
    """One call after the other, until the time is over."""
    while time.monotonic() < until:
        async with runtime.session(tools=[], behind_ms=500) as session:
            tally.calls += 1
            for turn in range(TURNS_PER_CALL):
                if turn % 3 == 2:
                    await session.send_text("what is seven plus eight")
                else:
                    await say(session, sounds[turn % len(sounds)])
                try:
                    if not await answered(session, tally):
                        break
                except TimeoutError:
                    tally.faults.append(f"no answer within {ANSWER_S:g} s")
                    break
                if time.monotonic() >= until:
                    break


async def watch(runtime: Runtime, every_s: float, tally: Tally, lines: list[Line]) -> None:
    """A line now and then, for ever."""
    began = time.monotonic()
    while True:
        await asyncio.sleep(every_s)
        stats = runtime.engine.stats()
        seconds = time.monotonic() - began
        line = Line(
            round(seconds, 1), round(rss_mb(), 1), tally.turns, tally.calls,
            stats.queued, stats.tick_ms, round(stats.stretched_s, 1), stats.evicted,
        )  # fmt: skip
        lines.append(line)
        sys.stdout.write(
            f"{line.seconds:7.1f} s  {line.rss_mb:8.1f} MiB  {line.turns:5d} turns  {line.calls:4d} calls  "
            f"{line.queued:3d} queued  tick {line.tick_ms} ms  {line.evicted} evicted\n"
        )
        sys.stdout.flush()


async def soak(callers: int, slots: int, minutes: float, every_s: float) -> tuple[list[Line], Tally]:
    """Run the callers on the bundled model."""
    files = [read_wav(path) for path in sorted(AUDIO.glob("*.wav"))]
    sounds = [np.concatenate([frame.samples for frame in file.frames]) for file in files]
    tally, lines = Tally(), list[Line]()
    async with Runtime("tiny", slots=slots, max_sessions=callers) as runtime:
        watching = asyncio.create_task(watch(runtime, every_s, tally, lines))
        until = time.monotonic() + 60 * minutes
        await asyncio.gather(*(call(runtime, sounds, until, tally) for _ in range(callers)))
        watching.cancel()
    return lines, tally


def main() -> int:
    """0 where memory stayed flat and everybody was answered."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--slots", type=int, default=12, help="fewer than callers: those that rest are evicted and replayed")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--every-s", type=float, default=10.0, help="distance of the lines")
    parser.add_argument("--allowed-mb", type=float, default=20.0, help="growth that still counts as flat")
    parser.add_argument("--csv", type=Path, help="where the lines go too")
    chosen = parser.parse_args()
    lines, tally = asyncio.run(soak(chosen.callers, min(chosen.slots, chosen.callers), chosen.minutes, chosen.every_s))
    if chosen.csv is not None:
        with chosen.csv.open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(Line.__slots__)
            table.writerows([getattr(line, name) for name in Line.__slots__] for line in lines)
    grown = growth_mb([line.rss_mb for line in lines])
    flat = grown <= chosen.allowed_mb
    verdict = "flat" if flat else "GROWING"
    sys.stdout.write(
        f"memory {verdict}: {grown:+.1f} MiB from the second fifth to the last, {chosen.allowed_mb:g} allowed; "
        f"{tally.turns} turns of {tally.calls} calls, ticks stretched {lines[-1].stretched_s:g} s, {len(tally.faults)} faults\n"
    )
    sys.stdout.writelines(f"  {fault}\n" for fault in tally.faults[:10])
    return 0 if flat and not tally.faults and tally.turns else 1


if __name__ == "__main__":
    raise SystemExit(main())
