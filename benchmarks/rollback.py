"""Taking back the end of a context and putting something else there, three ways.

A speculative reply of `--taken` tokens is in a context of L entries; it is taken back and the six rows of a group are appended
in its place. "truncate": the engine, whose truncate lowers a number. "crop": transformers' DynamicCache, which is cut and then
copied whole by the next step. "prefill again": transformers without the cache, from the first row.
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
    finish,
    line,
    load,
    open_engine,
    parsed,
    parser,
    plain_attention,
    some_entries,
    timed,
    times,
)
from transformers import DynamicCache

from textpro.engine import Append, Engine, Entry, Truncate
from textpro.models.checkpoint import Checkpoint

NAME = "take back"
ROWS = 6


async def measure_engine(
    engine: Engine, entries: tuple[Entry, ...], draft: tuple[Entry, ...], piece: tuple[Entry, ...], repeats: int
) -> tuple[list[float], list[float]]:
    """Milliseconds of truncate and append together, and of truncate alone."""
    context, both, alone = engine.open_context(), list[float](), list[float]()
    await engine.run(Append(context, entries))
    for repeat in range(repeats + 2):
        await engine.run(Append(context, draft))
        began = time.perf_counter()
        await engine.run(Truncate(context, len(entries)))
        between = time.perf_counter()
        await engine.run(Append(context, piece))
        ended = time.perf_counter()
        await engine.run(Truncate(context, len(entries)))
        if repeat > 1:
            both.append((ended - began) * 1000)
            alone.append((between - began) * 1000)
    engine.close_context(context)
    return both, alone


def measure_transformers(
    checkpoint: Checkpoint, entries: Sequence[Entry], draft: Sequence[Entry], piece: Sequence[Entry], repeats: int
) -> tuple[list[float], list[float]]:
    """Milliseconds of crop and append, and of a prefill from the first row."""
    embed = checkpoint.backbone.embed
    before, taken, rows = (embed(part)[None] for part in (entries, draft, piece))
    with plain_attention(checkpoint) as model, torch.inference_mode():
        cache = DynamicCache()
        model(inputs_embeds=torch.cat((before, taken), 1), past_key_values=cache, use_cache=True, logits_to_keep=1)

        def crop_and_append() -> None:
            cache.crop(-len(draft))
            model(inputs_embeds=rows, past_key_values=cache, use_cache=True, logits_to_keep=1)

        def go_back() -> None:
            cache.crop(-len(piece))
            model(inputs_embeds=taken, past_key_values=cache, use_cache=True, logits_to_keep=1)

        def prefill() -> None:
            whole = torch.cat((before, rows), 1)
            model(inputs_embeds=whole, past_key_values=DynamicCache(), use_cache=True, logits_to_keep=1)

        return timed(crop_and_append, repeats, between=go_back), timed(prefill, max(2, repeats // 3), warm=1)


def measure(options: argparse.Namespace) -> list[Line]:
    """Four lines for each length."""
    checkpoint, lines = load(options), list[Line]()
    piece, draft = some_entries(checkpoint, ROWS, seed=1), some_entries(checkpoint, options.taken, seed=2)
    for length in options.lengths:
        entries, case = some_entries(checkpoint, length), f"L={length}"

        async def ours(entries: tuple[Entry, ...] = entries) -> tuple[list[float], list[float]]:
            async with open_engine(checkpoint, 1, len(entries) + options.taken) as engine:
                await engine.warm_up()
                return await measure_engine(engine, entries, draft, piece, options.repeats)

        both, alone = asyncio.run(ours())
        cropped, again = measure_transformers(checkpoint, entries, draft, piece, options.repeats)
        found = line(NAME, case, "engine: truncate, append", both)
        others = [line(NAME, case, "transformers: crop, append", cropped), line(NAME, case, "transformers: prefill again", again)]
        note = f"{times(others[0], found)} crop, {times(others[1], found)} prefill again"
        lines += [replace(found, note=note), line(NAME, case, "engine: truncate alone", alone), *others]
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; exit status."""
    made = parser(__doc__, RESULTS / "rollback.csv")
    made.add_argument("--lengths", type=int, nargs="+", help="default 128 512 1536; on a GPU 512 2048 4096")
    made.add_argument("--taken", type=int, default=32, help="tokens that are taken back")
    made.add_argument("--repeats", type=int, help="default 20")
    options = parsed(made, arguments)
    usual = [512, 2048, 4096] if options.device == "cuda" else [128, 512, 1536]
    options.lengths = options.lengths or ([64] if options.quick else usual)
    options.repeats = options.repeats or (3 if options.quick else 20)
    return finish(measure(options), options)


if __name__ == "__main__":
    sys.exit(main())
