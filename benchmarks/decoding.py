"""Greedy decoding of B contexts of L entries each, against Hugging Face `generate` and the floor of reading.

Milliseconds for a step, in which each context gets one token: the time of a whole decode less the time to its first token,
over the steps between. Sampling and delivery to the event loop are in the engine's figure, `generate`'s own loop in the other.
On a GPU the engine replays recorded steps; "engine without graphs" is the same before its warm-up.
The floor: the weights once, and the keys and values of all contexts, at the speed of a large copy on this device. Weights that
stay in a processor's cache can be read faster than that: for the bundled model on a CPU the floor is no bound.
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
    synchronize,
    times,
    weight_bytes,
)

from textpro.engine import Append, Context, Decode, Engine, Entry, Truncate
from textpro.models.checkpoint import Checkpoint

NAME = "decode"


async def measure_engine(engine: Engine, entries: tuple[Entry, ...], batch: int, tokens: int, repeats: int) -> list[float]:
    """Milliseconds for a step of each repeat."""
    contexts = [engine.open_context() for _ in range(batch)]
    await asyncio.gather(*(engine.run(Append(context, entries)) for context in contexts))
    first: list[float] = []

    async def decode(context: Context) -> float:
        async for token in engine.stream(Decode(context, tokens)):
            if token.index == 0:
                first.append(time.perf_counter())
        return time.perf_counter()

    steps = []
    for _ in range(repeats + 1):
        first.clear()
        ends = await asyncio.gather(*map(decode, contexts))
        steps.append((max(ends) - max(first)) * 1000 / (tokens - 1))
        await asyncio.gather(*(engine.run(Truncate(context, len(entries))) for context in contexts))
    for context in contexts:
        engine.close_context(context)
    return steps[1:]


def measure_generate(checkpoint: Checkpoint, entries: Sequence[Entry], batch: int, tokens: int, repeats: int) -> list[float]:
    """The same by `generate`, all contexts as one batch."""
    rows = checkpoint.backbone.embed(entries)[None].expand(batch, -1, -1)
    seen = torch.ones(rows.shape[:2], dtype=torch.long, device=rows.device)

    def generate(count: int) -> float:
        synchronize()
        began = time.perf_counter()
        model.generate(
            inputs_embeds=rows, attention_mask=seen, do_sample=False, min_new_tokens=count, max_new_tokens=count,
            pad_token_id=0,
        )  # fmt: skip
        synchronize()
        return time.perf_counter() - began

    with plain_attention(checkpoint) as model, torch.inference_mode():
        generate(2)
        return [(generate(tokens) - generate(1)) * 1000 / (tokens - 1) for _ in range(repeats)]


def measure(options: argparse.Namespace) -> list[Line]:
    """Two lines for each case, three on a GPU."""
    checkpoint, lines = load(options), list[Line]()
    bandwidth = read_bandwidth(checkpoint.backbone.device)
    for length in options.lengths:
        entries = some_entries(checkpoint, length)

        async def ours(entries: tuple[Entry, ...] = entries) -> tuple[dict[int, list[float]], dict[int, list[float]]]:
            async with open_engine(checkpoint, max(options.batches), len(entries) + options.tokens) as engine:

                async def each() -> dict[int, list[float]]:
                    return {
                        batch: await measure_engine(engine, entries, batch, options.tokens, options.repeats)
                        for batch in options.batches
                    }

                before = await each() if options.device == "cuda" else {}
                await engine.warm_up()
                return await each(), before

        steps, without_graphs = asyncio.run(ours())
        for batch in options.batches:
            case = f"B={batch} L={length}"
            read = weight_bytes(checkpoint) + batch * length * cache_bytes(checkpoint)
            found = line(NAME, case, "engine", steps[batch], floor=read / bandwidth * 1000)
            plain = measure_generate(checkpoint, entries, batch, options.tokens, options.repeats)
            other = line(NAME, case, "generate", plain, floor=found.floor)
            assert found.floor is not None
            share = 100 * found.floor / found.p50
            lines += [replace(found, note=f"{times(other, found)} generate, {share:.0f} % of the floor"), other]
            if without_graphs:
                lines.append(line(NAME, case, "engine without graphs", without_graphs[batch], floor=found.floor))
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; exit status."""
    made = parser(__doc__, RESULTS / "decoding.csv")
    made.add_argument("--batches", type=int, nargs="+", help="default 1 4 16; on a GPU 1 4 16 64")
    made.add_argument("--lengths", type=int, nargs="+", help="default 128 512; on a GPU 512 2048")
    made.add_argument("--tokens", type=int, help="tokens of each decode (default 16; on a GPU 64)")
    made.add_argument("--repeats", type=int, default=3)
    options = parsed(made, arguments)
    gpu = options.device == "cuda"
    if options.quick:
        options.batches, options.lengths = options.batches or [1, 4], options.lengths or [64]
        options.tokens, options.repeats = options.tokens or 4, 1
    options.batches = options.batches or ([1, 4, 16, 64] if gpu else [1, 4, 16])
    options.lengths = options.lengths or ([512, 2048] if gpu else [128, 512])
    options.tokens = options.tokens or (64 if gpu else 16)
    return finish(measure(options), options)


if __name__ == "__main__":
    sys.exit(main())
