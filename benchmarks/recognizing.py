"""A full Whisper's passes over the segments of several sessions: together and with a draft, against one after the other.

Each session has heard `--seconds` of speech and is recognized once more, as in a tick. "together, drafted": all in common
passes, each with the words of its last tick as a draft, all of which are right, as at the end of a turn whose last tick had
heard it all; "together": without a draft, as in a first tick; "one by one": each alone and without a draft; "transformers":
`generate` of transformers for each. The floor: the encoder's products at the speed of a large product, and the decoder's
weights read once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from encoder import FRAMES_PER_SECOND, operations
from measuring import RESULTS, Line, finish, is_full, line, load, parsed, parser, product_rate, read_bandwidth, timed, times

from textpro.models.whisper_decoding import Transcribe
from textpro.models.whisper_full import FullWhisper

NAME = "recognizing"
SAMPLE_RATE = 16_000


def measure(options: argparse.Namespace) -> list[Line]:
    """Four lines for each number of sessions."""
    checkpoint, lines = load(options), list[Line]()
    speech = checkpoint.speech
    if not is_full(checkpoint) or not isinstance(speech, FullWhisper):
        sys.exit(f"{options.model} encodes in blocks and keeps its words: take random:0.5b, random:7b or another full Whisper")
    list(speech.record())
    model, device = speech.model, speech.model.device
    samples = np.random.default_rng(0).standard_normal(options.seconds * SAMPLE_RATE).astype(np.float32) / 20
    words = speech.transcribe(Transcribe(object(), samples)).tokens
    window = speech.window_samples * FRAMES_PER_SECOND // SAMPLE_RATE
    products = operations(model.config, window // 2) / product_rate(device, model.dtype)
    weights = sum(one.numel() * one.element_size() for one in model.model.decoder.parameters()) / read_bandwidth(device)

    def items(sessions: int, draft: tuple[int, ...] = ()) -> list[Transcribe]:
        return [Transcribe(number, samples, draft=draft) for number in range(sessions)]

    def generate(sessions: int) -> None:
        for _ in range(sessions):
            padded = speech.extractor(samples, sampling_rate=SAMPLE_RATE, return_tensors="pt")
            features = padded["input_features"].to(device, model.dtype)
            model.generate(features, max_new_tokens=len(words), min_new_tokens=len(words), language="en")

    for sessions in options.sessions:
        ways = {
            "together, drafted": lambda sessions=sessions: speech.run(items(sessions, words)),
            "together": lambda sessions=sessions: speech.run(items(sessions)),
            "one by one": lambda sessions=sessions: [speech.run([item]) for item in items(sessions)],
            "transformers": lambda sessions=sessions: generate(sessions),
        }
        case, floor = f"S={sessions}, {options.seconds} s", 1000 * (sessions * products + weights)
        with torch.inference_mode():
            found = {name: line(NAME, case, name, timed(way, options.repeats), floor=floor) for name, way in ways.items()}
        alone, other = found["one by one"], found["transformers"]
        for name in ("together, drafted", "together"):
            note = f"{times(alone, found[name])} one by one, {times(other, found[name])} transformers"
            found[name] = replace(found[name], note=note)
        lines += found.values()
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; exit status."""
    made = parser(__doc__, RESULTS / "recognizing.csv")
    made.add_argument("--sessions", type=int, nargs="+", help="default 1 4; on a GPU 1 4 16")
    made.add_argument("--seconds", type=int, default=5, help="of speech that each has heard")
    made.add_argument("--repeats", type=int, help="default 5")
    options = parsed(made, arguments)
    if options.model == "tiny":
        options.model = "random:mini" if options.quick else "random:0.5b"
    options.sessions = options.sessions or ([1, 4, 16] if options.device == "cuda" and not options.quick else [1, 4])
    options.repeats = options.repeats or (2 if options.quick else 5)
    return finish(measure(options), options)


if __name__ == "__main__":
    sys.exit(main())
