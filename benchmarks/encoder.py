"""Whisper's encoder on windows of 5, 10, 15 and 30 s, eager against a CUDA graph, beside its floor.

transformers' encoder takes padded windows of 30 s only; shorter ones go through the same layers by the recognizer's own loop,
which at 30 s computes what transformers does. The floor: the operations of the products over what this device
reaches in a large product. Without a GPU only the eager way is timed, by default with a small random Whisper.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from gpu_timing import captured
from measuring import RESULTS, Line, finish, is_full, line, load, parsed, parser, product_rate, timed, times

from textpro.models.whisper_encoder import WINDOWS_S, encode

NAME = "encoder"
FRAMES_PER_SECOND = 100
"""Mel frames; the encoder's own are half as many."""


def operations(config: Any, frames: int) -> float:
    """Multiplications and additions of one window of so many of the encoder's frames."""
    wide, inner = config.d_model, config.encoder_ffn_dim
    products = 4 * wide * wide + 2 * wide * inner
    layers = config.encoder_layers * (2 * frames * products + 4 * frames * frames * wide)
    return layers + 2 * 3 * wide * (2 * frames * config.num_mel_bins + frames * wide)


def measure(options: argparse.Namespace) -> list[Line]:
    """One line for each window and batch, two on a GPU."""
    checkpoint, lines = load(options), list[Line]()
    if not is_full(checkpoint):
        sys.exit(f"{options.model} encodes in blocks and has no windows: take random:mini, random:7b or another full Whisper")
    model = checkpoint.speech.model
    encoder, config = model.model.encoder, model.config
    rate = product_rate(model.device, model.dtype)
    random = torch.Generator(model.device).manual_seed(0)
    with torch.inference_mode():
        for batch in options.batches:
            for seconds in options.seconds:
                shape = (batch, config.num_mel_bins, seconds * FRAMES_PER_SECOND)
                mel = torch.randn(shape, generator=random, device=model.device).to(model.dtype)
                floor = 1000 * batch * operations(config, seconds * FRAMES_PER_SECOND // 2) / rate
                case = f"{seconds} s, B={batch}"
                eager = line(NAME, case, "eager", timed(lambda mel=mel: encode(encoder, mel), options.repeats), floor=floor)
                if model.device.type == "cuda":
                    graph = captured(lambda mel=mel: encode(encoder, mel))
                    found = line(NAME, case, "graphed", timed(graph, options.repeats), floor=floor)
                    lines.append(
                        replace(found, note=f"{times(eager, found)} eager, {100 * floor / found.p50:.0f} % of the floor")
                    )
                    del graph
                else:
                    eager = replace(eager, note="graphed: skipped, needs CUDA")
                lines.append(eager)
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; exit status."""
    made = parser(__doc__, RESULTS / "encoder.csv")
    made.add_argument("--seconds", type=int, nargs="+", help="windows (default 5 10 15 30)")
    made.add_argument("--batches", type=int, nargs="+", help="default 1; on a GPU 1 4 8")
    made.add_argument("--repeats", type=int, help="default 10")
    options = parsed(made, arguments)
    if options.model == "tiny":
        options.model = "random:mini"
    options.seconds = options.seconds or ([5] if options.quick else [*WINDOWS_S])
    options.batches = options.batches or ([1, 4, 8] if options.device == "cuda" and not options.quick else [1])
    options.repeats = options.repeats or (2 if options.quick else 10)
    return finish(measure(options), options)


if __name__ == "__main__":
    sys.exit(main())
