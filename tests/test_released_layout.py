"""The released layout: from every plausible naming every tensor arrives equal; what does not fit is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from released_layouts import FEATURES, HIDDEN, LAYERS, MARKER, OTHER_MARKER, Layout, StandIn, write_json, write_released
from textpro.models.errors import CheckpointError
from textpro.models.released import ReleasedParts, load_released
from textpro.models.released_settings import FusionOptions

LAYOUTS = {
    "plain transformers": Layout(),
    "wrapped for training": Layout("module.", "module.", ("module.projector.0", "module.projector.2")),
    "parts under names": Layout("speech_encoder.", "llm.", ("prosody_projector.fc1", "prosody_projector.fc2")),
    "projector beside, without a prefix": Layout(linears=("0", "2"), projector_file="projector.safetensors"),
    "projector with layers inside a list": Layout(linears=("model.projector.net.0", "model.projector.net.2")),
    "sharded": Layout("whisper.", "backbone.", shards=3),
    "a reconstruction decoder of the same shapes": Layout(reconstruction="reconstruction_decoder"),
    "a reconstruction decoder under Whisper's name": Layout("codec.", "", reconstruction="codec.recon.decoder"),
    "another decoder beside": Layout(reconstruction="mel_decoder"),
    "one folder for all": Layout("speech_encoder.", "llm.", ("projector.linear1", "projector.linear2"), one_folder=True),
    "one folder, sharded, in bf16": Layout("whisper.", "backbone.", one_folder=True, shards=2, dtype=torch.bfloat16),
    "an output matrix of its own": Layout(tied=False),
    "tied matrices stored twice": Layout(stored_twice=True),
    "as wide as the backbone": Layout(linears=("projector.2", "projector.10"), square=True),
    "configuration one level down": Layout(nested_config="model_config"),
}


@pytest.fixture
def broken(tmp_path: Path) -> StandIn:
    """A plain stand-in that a test may change."""
    return write_released(tmp_path, Layout())


def load(stand_in: StandIn, **options) -> ReleasedParts:
    return load_released(stand_in.backbone_folder, stand_in.speech_folder, **options)


def edit(folder: Path | None, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    file = Path(str(folder)) / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_tensor_arrives_equal(name: str, tmp_path: Path) -> None:
    layout = LAYOUTS[name]
    stand_in = write_released(tmp_path, layout)
    parts = load(stand_in, dtype=layout.dtype)
    for arrived, written in ((parts.speech, stand_in.speech), (parts.backbone, stand_in.backbone)):
        expected, found = written.state_dict(), arrived.state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected)
        assert not arrived.training
    for field, expected_value in zip(("w1", "b1", "w2", "b2"), stand_in.projector, strict=True):
        assert torch.equal(getattr(parts.projector, field), expected_value)
    assert bool(parts.left_out) == (layout.reconstruction is not None)
    assert all(str(layout.reconstruction) in left for left in parts.left_out)


def test_it_computes_what_plain_transformers_computes(broken: StandIn) -> None:
    parts, tokens = load(broken), torch.arange(1, 9)[None]
    mel = torch.randn(1, 8, 40)
    with torch.inference_mode():
        expected = broken.backbone.eval()(tokens).logits
        assert torch.equal(parts.backbone(tokens).logits, expected)
        heard = broken.speech.eval()(mel, decoder_input_ids=tokens).logits
        assert torch.equal(parts.speech(mel, decoder_input_ids=tokens).logits, heard)
    rotary = parts.backbone.model.rotary_emb.inv_freq
    assert torch.allclose(rotary, 1e6 ** -(torch.arange(0, 6, 2) / 6))


def test_each_part_knows_its_tokenizer(tmp_path: Path) -> None:
    together = load(write_released(tmp_path / "a", LAYOUTS["one folder for all"]))
    apart = load(write_released(tmp_path / "b", Layout()))
    for parts in (together, apart):
        assert "<|notimestamps|>" in (parts.speech_folder / "tokenizer.json").read_text(encoding="utf-8")
        assert MARKER in (parts.backbone_folder / "tokenizer.json").read_text(encoding="utf-8")


def test_settings_come_from_the_files_then_from_the_paper(tmp_path: Path) -> None:
    parts = load(
        write_released(tmp_path, Layout(settings=(("fusion", {"type": "x", "mode": "global_prepend"}),))),
        options=FusionOptions(prosody_layer=1),
    )
    fusion, settings = parts.settings.fusion, parts.settings
    assert (fusion.mode, fusion.ratio, fusion.grouping) == ("global", 5, "array_split")
    assert (settings.marker_token, settings.prosody_layer, settings.prosody_at) == (MARKER, 1, "predicts")
    assert settings.origins["mode"] == "fusion.mode in textpro_config.json"
    assert settings.origins["prosody_layer"] == "option" and settings.origins["ratio"] == "the paper"


@pytest.mark.parametrize(
    ("said", "options"),
    [
        ({"prosody_token": OTHER_MARKER}, FusionOptions()),
        ({"prosody_token_id": -2}, FusionOptions()),
        ({}, FusionOptions(marker_token=OTHER_MARKER)),
        ({}, FusionOptions(marker_id=-2)),
    ],
)
def test_the_marker_may_be_another_token(broken: StandIn, said: dict[str, object], options: FusionOptions) -> None:
    tokenizer = json.loads((broken.backbone_folder / "tokenizer.json").read_text(encoding="utf-8"))
    marker_id = next(token["id"] for token in tokenizer["added_tokens"] if token["content"] == OTHER_MARKER)
    said = {key: marker_id if value == -2 else value for key, value in said.items()}
    if options.marker_id is not None:
        options = FusionOptions(marker_id=marker_id)
    write_json(broken.backbone_folder / "textpro_config.json", said)
    settings = load(broken, options=options).settings
    assert (settings.fusion.marker_id, settings.marker_token) == (marker_id, OTHER_MARKER)


@pytest.mark.parametrize(
    ("said", "options", "message"),
    [
        ({"fusion_mode": None}, FusionOptions(), "does not say how prosody is fused"),
        ({"fusion_mode": "cross_attention"}, FusionOptions(), "'cross_attention'"),
        ({}, FusionOptions(mode="global"), "mode is 'interleaving' by fusion_mode in textpro_config.json and 'global' by option"),
        ({"text_ratio": "5:1", "group_size": 4}, FusionOptions(), "ratio is 5 .* and 4"),
        ({"prosody_layer": LAYERS + 1}, FusionOptions(), f"a layer from 1 to {LAYERS}"),
        ({"prosody_token": "<|absent|>"}, FusionOptions(), r"<\|absent\|>"),
        ({"prosody_token_id": 9999}, FusionOptions(), "9999"),
        ({"prosody_token_id": 3, "prosody_token": MARKER}, FusionOptions(), r"marker is '<\|repo_name\|>'"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    broken: StandIn, said: dict[str, object], options: FusionOptions, message: str
) -> None:
    write_json(broken.backbone_folder / "textpro_config.json", said)
    with pytest.raises(CheckpointError, match=message):
        load(broken, options=options)


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("backbone", lambda t: t.pop("model.layers.1.mlp.up_proj.weight"), "model.layers.1.mlp.up_proj.weight missing"),
        ("backbone", lambda t: t.update({"model.norm.weight": torch.zeros(7)}), r"model.norm.weight \(7,\) for \(24,\)"),
        ("backbone", lambda t: t.update({"model.layers.0.lora_A.weight": torch.zeros(2, 24)}), r"lora_A.weight \(2, 24\)"),
        ("backbone", lambda t: t.update({"model.layers.2.mlp.up_proj.weight": torch.zeros(2, 24)}), "layers.2.mlp.up_proj"),
        ("backbone", lambda t: t.pop("projector.linear1.bias"), r"projector.linear1.weight \(24, 32\)"),
        ("backbone", lambda t: t.update({"projector.norm.weight": torch.zeros(24)}), r"projector.norm.weight \(24,\)"),
        ("backbone", lambda t: t.update({"extra.weight": torch.zeros(24, 32), "extra.bias": torch.zeros(24)}), "extra.bias"),
        ("backbone", lambda t: [t.pop(name) for name in list(t) if "projector" in name], "no projector"),
        ("backbone", lambda t: t.update({"projector.linear2.weight": torch.zeros(32, 24)}), r"linear2.weight \(32, 24\)"),
        ("backbone", lambda t: t.update({"lm_head.weight": torch.zeros_like(t["model.embed_tokens.weight"])}), "values differ"),
        ("backbone", lambda t: t.update({"model.norm.weight": torch.zeros(24, dtype=torch.int8)}), "no floating point"),
        ("backbone", lambda t: t.pop("model.embed_tokens.weight"), "name ends in embed_tokens.weight"),
        ("speech", lambda t: t.pop("model.decoder.layers.2.fc1.bias"), "model.decoder.layers.2.fc1.bias missing"),
        ("speech", lambda t: t.update({"model.encoder.conv1.weight": torch.zeros(2, 8, 3)}), r"conv1.weight \(2, 8, 3\)"),
        ("speech", lambda t: t.update({"emotion_head.weight": torch.zeros(4, 32)}), r"emotion_head.weight \(4, 32\)"),
        ("speech", lambda t: t.update({"model.decoder.layers.3.fc1.bias": torch.zeros(16)}), "model.decoder.layers.3.fc1.bias"),
        ("speech", lambda t: t.update({f"copy.{k}": v.clone() for k, v in t.items()}), "more than once, under 'copy.model"),
        ("speech", lambda t: [t.pop(name) for name in list(t) if "encoder.conv1" in name], "no Whisper encoder"),
    ],
)  # fmt: skip
def test_a_tensor_that_does_not_fit_is_refused_by_name(broken: StandIn, part: str, change, message: str) -> None:
    edit(broken.backbone_folder if part == "backbone" else broken.speech_folder, change)
    with pytest.raises(CheckpointError, match=message):
        load(broken)


def test_what_running_does_not_need_can_be_left_out_by_name(broken: StandIn) -> None:
    edit(broken.speech_folder, lambda tensors: tensors.update({"emotion_head.weight": torch.zeros(4, FEATURES)}))
    assert load(broken, leave_out=("emotion_head.",)).left_out == ("emotion_head.weight",)


def test_a_square_projector_without_numbers_has_no_order(tmp_path: Path) -> None:
    stand_in = write_released(tmp_path, Layout(linears=("projector.up", "projector.out"), square=True))
    with pytest.raises(CheckpointError, match=rf"projector.out.weight \({HIDDEN}, {HIDDEN}\)"):
        load(stand_in)


def test_a_shard_that_is_missing_is_named(tmp_path: Path) -> None:
    stand_in = write_released(tmp_path, Layout(shards=2))
    (stand_in.backbone_folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-00002-of-00002.safetensors\).*index"):
        load(stand_in)


def test_a_tensor_in_two_files_is_refused(broken: StandIn) -> None:
    edit(broken.backbone_folder, lambda tensors: save_file(tensors, broken.backbone_folder / "copy.safetensors"))
    with pytest.raises(CheckpointError, match=r"stands in .* and in "):
        load(broken)


def test_pickles_are_never_opened(broken: StandIn) -> None:
    class Trap:
        def __reduce__(self):
            return (Path.touch, (broken.backbone_folder / "ran",))

    torch.save(Trap(), broken.backbone_folder / "pytorch_model.bin")
    load(broken)
    (broken.backbone_folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"pytorch_model.bin, which may run code"):
        load(broken)
    assert not (broken.backbone_folder / "ran").exists()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("model.safetensors", "no tensors", "is broken"),
        ("config.json", "{", "is no JSON"),
        ("config.json", "{}", "expected one configuration of Qwen2"),
        ("config.json", "[]", "expected a JSON object"),
        ("tokenizer.json", None, "tokenizer.json is missing"),
        ("tokenizer.json", "{}", "is no tokenizer"),
    ],
)
def test_a_file_that_is_missing_or_broken_is_named(broken: StandIn, file: str, content: str | None, message: str) -> None:
    path = broken.backbone_folder / file
    if content is None:
        path.unlink()
    else:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match=message):
        load(broken)


def test_quantized_weights_are_refused(broken: StandIn) -> None:
    write_json(broken.backbone_folder / "config.json", {"quantization_config": {"bits": 4}})
    with pytest.raises(CheckpointError, match="quantized"):
        load(broken)
