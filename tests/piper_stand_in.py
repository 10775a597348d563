"""A Piper voice that a test writes: a real voice file for the real Piper, with a network that only hums. Each phoneme
sounds for a fixed number of frames at a level of its own, longer at a higher length scale."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from requirements import require_module

SAMPLE_RATE = 16_000
HOP = 256
FRAMES = 10
"""Frames of each phoneme at length scale 1."""
SYMBOLS = [*"_^$ ", *"abcdefghijklmnopqrstuvwxyzæçðøħŋœɐɑɒɔəɚɛɜɝɡɪɫɬɹɾʃʊʌʒθᵻʔˈˌː!'\",-.:;?–—", *map(chr, (0x329, 0x303, 0x32F))]


def write_voice(folder: Path, *, durations: bool = True, speakers: int = 1) -> Path:
    """The .onnx file, with its .onnx.json beside it; `durations` adds what Piper calls alignments."""
    onnx = require_module("onnx")
    helper, numpy_helper, kind = onnx.helper, onnx.numpy_helper, onnx.TensorProto

    def constant(name: str, value: object, dtype: type) -> object:
        return numpy_helper.from_array(np.array(value, dtype), name)

    constants = [
        constant("frames", [FRAMES], np.float32),
        constant("hop", [HOP], np.float32),
        constant("one", [1], np.int64),
        constant("two", [2], np.int64),
        constant("flat", [1, 1, -1], np.int64),
        constant("last", [-1], np.int64),
        constant("quiet", [0.001], np.float32),
        constant("loud", [0.3], np.float32),
    ]
    node = helper.make_node
    nodes = [
        node("Slice", ["scales", "one", "two"], ["length_scale"]),
        node("Mul", ["length_scale", "frames"], ["scaled"]),
        node("Round", ["scaled"], ["n_frames"]),
        node("Mul", ["n_frames", "hop"], ["n_samples"]),
        node("Cast", ["n_samples"], ["width"], to=kind.INT64),
        node("Cast", ["input"], ["ids"], to=kind.FLOAT),
        node("Mul", ["ids", "quiet"], ["above"]),
        node("Add", ["above", "loud"], ["levels"]),
        node("Unsqueeze", ["levels", "last"], ["column"]),
        node("Concat", ["one", "one", "width"], ["shape"], axis=0),
        node("Expand", ["column", "shape"], ["rows"]),
        node("Reshape", ["rows", "flat"], ["output"]),
    ]
    outputs = [helper.make_tensor_value_info("output", kind.FLOAT, [1, 1, None])]
    if durations:
        nodes += [
            node("Mul", ["ids", "quiet"], ["small"]),
            node("Floor", ["small"], ["zeros"]),
            node("Add", ["zeros", "n_frames"], ["durations"]),
        ]
        outputs.append(helper.make_tensor_value_info("durations", kind.FLOAT, [1, None]))
    inputs = [
        helper.make_tensor_value_info("input", kind.INT64, [1, None]),
        helper.make_tensor_value_info("input_lengths", kind.INT64, [1]),
        helper.make_tensor_value_info("scales", kind.FLOAT, [3]),
    ]
    if speakers > 1:
        inputs.append(helper.make_tensor_value_info("sid", kind.INT64, [1]))
    graph = helper.make_graph(nodes, "hum", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path = folder / "hum.onnx"
    onnx.save(model, str(path))
    config = {
        "audio": {"sample_rate": SAMPLE_RATE},
        "espeak": {"voice": "en-us"},
        "phoneme_type": "espeak",
        "num_symbols": len(SYMBOLS),
        "num_speakers": speakers,
        "inference": {"noise_scale": 0.667, "length_scale": 1.0, "noise_w": 0.8},
        "hop_length": HOP,
        "phoneme_id_map": {symbol: [number] for number, symbol in enumerate(SYMBOLS)},
    }
    path.with_name("hum.onnx.json").write_text(json.dumps(config), encoding="utf-8")
    return path
