"""What appending the user's words while they are spoken gains by itself, apart from speculation and from everything else.

From the end of the turn to the first reply token, with the words recognized already: the rest of the turn is appended, the
reply opened and one token decoded. "appended while spoken": only the last group is left. "utterance at the end": the history is
cached and the whole utterance is appended. "all at the end": nothing is cached. The difference of the first two is all that
incremental appending gains: one short prefill.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from measuring import RESULTS, Line, finish, line, load, open_engine, parsed, parser, some_entries, times

from textpro.engine import Append, Decode, Engine, Entry, Truncate
from textpro.models.checkpoint import Checkpoint

NAME = "incremental append"
ROWS = 6


async def measure_engine(
    engine: Engine, checkpoint: Checkpoint, history: tuple[Entry, ...], said: tuple[Entry, ...], repeats: int
) -> list[list[float]]:
    """Milliseconds to the first token, where all but a group, only the history, and nothing was there before."""
    opening = tuple(Entry(token) for token in checkpoint.chat.reply_open())
    found: list[list[float]] = []
    everything = (*history, *said)
    for cached in (len(everything) - ROWS, len(history), 0):
        times_ms = list[float]()
        for repeat in range(repeats + 1):
            context = engine.open_context()
            if cached:
                await engine.run(Append(context, everything[:cached]))
            began = time.perf_counter()
            await engine.run(Append(context, everything[cached:], (checkpoint.chat.turn_end_id,)))
            await engine.run(Append(context, opening))
            async for _ in engine.stream(Decode(context, 1)):
                if repeat:
                    times_ms.append((time.perf_counter() - began) * 1000)
            await engine.run(Truncate(context, 0))
            engine.close_context(context)
        found.append(times_ms)
    return found


def measure(options: argparse.Namespace) -> list[Line]:
    """Three lines for each length of an utterance."""
    checkpoint, lines = load(options), list[Line]()

    async def ours() -> dict[int, list[list[float]]]:
        async with open_engine(checkpoint, 2, options.history + max(options.rows)) as engine:
            await engine.warm_up()
            history = some_entries(checkpoint, options.history)
            return {
                rows: await measure_engine(engine, checkpoint, history, some_entries(checkpoint, rows, 1), options.repeats)
                for rows in options.rows
            }

    for rows, found in asyncio.run(ours()).items():
        case = f"history {options.history}, utterance {rows}"
        names = ("appended while spoken", "utterance at the end", "all at the end")
        first, second, third = (line(NAME, case, name, values) for name, values in zip(names, found, strict=True))
        note = f"saves {second.p50 - first.p50:.1f} ms ({times(second, first)})"
        lines += [replace(first, note=note), second, third]
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; exit status."""
    made = parser(__doc__, RESULTS / "incremental.csv")
    made.add_argument("--rows", type=int, nargs="+", help="rows of the utterance, markers among them (default 18 60 240)")
    made.add_argument("--history", type=int, help="entries before the utterance (default 512)")
    made.add_argument("--repeats", type=int, help="default 10")
    options = parsed(made, arguments)
    options.rows = options.rows or ([18] if options.quick else [18, 60, 240])
    options.history = options.history or (64 if options.quick else 512)
    options.repeats = options.repeats or (2 if options.quick else 10)
    return finish(measure(options), options)


if __name__ == "__main__":
    sys.exit(main())
