"""Appends of many sessions in common steps of the engine, against one forward for each session.

Each session appends six rows (a marker with prosody and five tokens), again and again, to a context of `--length` entries.
"packed": all sessions at once, through the engine. "one by one": the same engine, each append waits for the one before, so
each is a forward of its own. "transformers": plain transformers, for each session a forward with its own DynamicCache.
Milliseconds for a round, in which each session appends once. The floor: the weights and the sessions' keys and values read
once, at the speed of a large copy on this device.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from measuring import (
    RESULTS,
    Line,
    cache_bytes,
    finish,
    line,
    load,
    open_engine,
    parsed,
    parser,
    plain_attention,
    read_bandwidth,
    some_entries,
    timed,
    times,
    weight_bytes,
)
from transformers import DynamicCache

from textpro.engine import Append, Context, Engine, Entry, Truncate
from textpro.models.checkpoint import Checkpoint

NAME = "packed append"
ROWS = 6


async def measure_engine(
    engine: Engine, entries: tuple[Entry, ...], piece: tuple[Entry, ...], sessions: int, rounds: int
) -> tuple[list[float], list[float]]:
    """Milliseconds for a round, packed and one by one."""
    contexts = [engine.open_context() for _ in range(sessions)]
    await asyncio.gather(*(engine.run(Append(context, entries)) for context in contexts))

    async def append(context: Context) -> None:
        await engine.run(Append(context, piece))

    packed, single = [], []
    for repeat in range(rounds + 2):
        began = time.perf_counter()
        await asyncio.gather(*map(append, contexts))
        between = time.perf_counter()
        await asyncio.gather(*(engine.run(Truncate(context, len(entries))) for context in contexts))
        again = time.perf_counter()
        for context in contexts:
            await append(context)
        ended = time.perf_counter()
        await asyncio.gather(*(engine.run(Truncate(context, len(entries))) for context in contexts))
        if repeat > 1:
            packed.append((between - began) * 1000)
            single.append((ended - again) * 1000)
    for context in contexts:
        engine.close_context(context)
    return packed, single


def measure_transformers(
    checkpoint: Checkpoint, entries: Sequence[Entry], piece: Sequence[Entry], sessions: int, rounds: int
) -> list[float]:
    """Milliseconds for a round of single forwards, each with the cache of its session."""
    embed = checkpoint.backbone.embed
    with plain_attention(checkpoint) as model, torch.inference_mode():
        caches = [DynamicCache() for _ in range(sessions)]
        for cache in caches:
            model(inputs_embeds=embed(entries)[None], past_key_values=cache, use_cache=True, logits_to_keep=1)

        def append_each() -> None:
            for cache in caches:
                rows = embed(piece)[None]
                model(inputs_embeds=rows, past_key_values=cache, use_cache=True, logits_to_keep=1)

        def go_back() -> None:
            for cache in caches:
                cache.crop(-len(piece))

        return timed(append_each, rounds, between=go_back)


def measure(options: argparse.Namespace) -> list[Line]:
    """Three lines for each number of sessions."""
    checkpoint, lines = load(options), list[Line]()
    entries = some_entries(checkpoint, options.length)
    piece = some_entries(checkpoint, ROWS, seed=1)
    bandwidth = read_bandwidth(checkpoint.backbone.device)
    plain = {
        sessions: measure_transformers(checkpoint, entries, piece, sessions, options.rounds) for sessions in options.sessions
    }

    async def ours() -> dict[int, tuple[list[float], list[float]]]:
        async with open_engine(checkpoint, max(options.sessions), options.length) as engine:
            await engine.warm_up()
            return {
                sessions: await measure_engine(engine, entries, piece, sessions, options.rounds) for sessions in options.sessions
            }

    for sessions, (packed, single) in asyncio.run(ours()).items():
        read = weight_bytes(checkpoint) + sessions * options.length * cache_bytes(checkpoint)
        case = f"S={sessions} L={options.length}"
        alone = line(NAME, case, "engine, one by one", single)
        other = line(NAME, case, "transformers, one by one", plain[sessions])
        found = line(NAME, case, "engine, packed", packed, floor=read / bandwidth * 1000)
        note = f"{times(alone, found)} and {times(other, found)} the throughput of one by one"
        lines += [replace(found, note=note), alone, other]
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; exit status."""
    made = parser(__doc__, RESULTS / "appends.csv")
    made.add_argument("--sessions", type=int, nargs="+", help="default 1 4 16 64")
    made.add_argument("--length", type=int, default=512, help="entries that each context holds already")
    made.add_argument("--rounds", type=int, help="timed rounds for each line (default 12)")
    options = parsed(made, arguments)
    options.sessions = options.sessions or ([1, 4] if options.quick else [1, 4, 16, 64])
    options.rounds = options.rounds or (3 if options.quick else 12)
    return finish(measure(options), options)


if __name__ == "__main__":
    sys.exit(main())
