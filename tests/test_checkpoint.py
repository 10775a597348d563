"""The checkpoint folder: what was saved is loaded, what does not fit is refused by name, no code in it is
run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from small_checkpoint import (
    FEATURES,
    HIDDEN,
    small_backbone,
    small_projector,
    small_speech,
    small_tokenizer,
    write_small_checkpoint,
)
from textpro.models.checkpoint import load_checkpoint, save_checkpoint
from textpro.models.errors import CheckpointError
from textpro.models.fusion import Fusion, Row, user_rows


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "small"
    write_small_checkpoint(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def edit_tensors(file: Path, change) -> None:
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def edit_json(file: Path, **values) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_the_folder_holds_the_documented_files_in_half_precision(saved):
    names = {str(path.relative_to(saved)) for path in saved.rglob("*") if path.is_file()}
    assert names == {
        "README.md", "textpro_config.json", "tokenizer.json", "tokenizer_config.json",
        "projector.safetensors", "whisperpro/config.json", "whisperpro/model.safetensors",
        "backbone/config.json", "backbone/model.safetensors",
    }  # fmt: skip
    tensors = [tensor for file in saved.rglob("*.safetensors") for tensor in load_file(file).values()]
    assert {tensor.dtype for tensor in tensors} == {torch.float16}
    parameters = sum(tensor.numel() for tensor in tensors)
    assert sum(file.stat().st_size for file in saved.rglob("*.safetensors")) < 2 * parameters + 20_000


def test_the_config_says_how_the_parts_work_together(saved):
    config = json.loads((saved / "textpro_config.json").read_text())
    assert config == {
        "format": 1, "name": "small", "fusion": {"mode": "interleaving", "ratio": 5, "grouping": "fixed"},
        "marker_token": "<|prosody|>", "prosody_layer": 1, "prosody_at": "reads", "speech": "whisperpro",
        "backbone": "backbone", "text": "lower_words", "tones": ["plain", "happy", "sad", "angry"],
    }  # fmt: skip


def test_what_was_saved_is_loaded_in_single_precision(saved):
    loaded = load_checkpoint(saved)
    vocabulary = len(small_tokenizer())
    for model, original in (
        (loaded.speech.model, small_speech(vocabulary)),
        (loaded.backbone.model, small_backbone(vocabulary)),
    ):
        state = model.state_dict()
        assert state.keys() == original.state_dict().keys()
        for name, tensor in original.state_dict().items():
            assert state[name].dtype == torch.float32
            torch.testing.assert_close(state[name], tensor.half().float(), atol=0, rtol=0)
    torch.testing.assert_close(loaded.backbone.projector.w1, small_projector().w1.half().float())
    assert loaded.fusion == Fusion() and loaded.config["name"] == "small"
    assert loaded.speech.config == small_speech(vocabulary).config
    assert loaded.tokenizer.get_vocab() == small_tokenizer().get_vocab()


def test_the_loaded_backbone_embeds_a_spoken_turn(saved):
    loaded = load_checkpoint(saved)
    vectors = np.random.default_rng(0).standard_normal((7, FEATURES)).astype(np.float32)
    rows = user_rows(loaded.chat.words("hi you")[:7], vectors, loaded.fusion)
    loaded.backbone.check(rows)
    assert loaded.backbone.embed(rows).shape == (9, HIDDEN)
    assert loaded.backbone.embed([Row(3)]).shape == (1, HIDDEN)


def test_fusion_none_needs_no_projector(tmp_path):
    tokenizer = small_tokenizer()
    save_checkpoint(
        tmp_path, name="plain", speech=small_speech(len(tokenizer)), backbone=small_backbone(len(tokenizer)),
        projector=None, tokenizer=tokenizer, fusion=Fusion("none"),
    )  # fmt: skip
    assert load_checkpoint(tmp_path).backbone.projector is None


FILES = ("whisperpro/model.safetensors", "backbone/model.safetensors", "projector.safetensors")
NAMES = ("whisper.encoder.conv1.weight", "model.layers.0.mlp.up_proj.weight", "w2")
WEIGHTS = list(zip(FILES, NAMES, strict=True))


@pytest.mark.parametrize(("file", "name"), WEIGHTS)
def test_a_missing_tensor_is_named(folder, file, name):
    edit_tensors(folder / file, lambda tensors: tensors.pop(name))
    with pytest.raises(CheckpointError, match=f"missing: {name}"):
        load_checkpoint(folder)


@pytest.mark.parametrize("file", FILES)
def test_an_unknown_tensor_is_named(folder, file):
    edit_tensors(folder / file, lambda tensors: tensors.update(stray=torch.zeros(2)))
    with pytest.raises(CheckpointError, match="unknown: stray"):
        load_checkpoint(folder)


@pytest.mark.parametrize(("file", "name"), WEIGHTS)
def test_a_tensor_of_another_shape_is_named(folder, file, name):
    edit_tensors(folder / file, lambda tensors: tensors.update({name: torch.zeros(3, 3)}))
    with pytest.raises(CheckpointError, match=f"wrong shape: .*{name}"):
        load_checkpoint(folder)


CONFIGS = ("textpro_config.json", "tokenizer.json", "whisperpro/config.json", "backbone/config.json")


@pytest.mark.parametrize("file", FILES + CONFIGS)
def test_a_missing_file_is_named(folder, file):
    (folder / file).unlink()
    with pytest.raises(CheckpointError, match=Path(file).name):
        load_checkpoint(folder)


@pytest.mark.parametrize("file", FILES)
def test_a_broken_file_is_named(folder, file):
    (folder / file).write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=file.split("/")[0].split(".")[0]):
        load_checkpoint(folder)


def test_pickled_weights_are_never_read(folder):
    (folder / "backbone/model.safetensors").unlink()
    torch.save({}, folder / "backbone/pytorch_model.bin")
    with pytest.raises(CheckpointError, match="holds no safetensors"):
        load_checkpoint(folder)


def test_no_code_from_a_checkpoint_is_run(folder, tmp_path):
    trace = tmp_path / "trace"
    code = f"open({str(trace)!r}, 'w').close()\nfrom transformers import Qwen2ForCausalLM as Evil\n"
    for place in (folder, folder / "backbone"):
        (place / "evil.py").write_text(code)
    code_map = {"AutoModelForCausalLM": "evil.Evil", "AutoConfig": "evil.Evil"}
    edit_json(folder / "backbone/config.json", auto_map=code_map)
    edit_json(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": [None, "evil.Evil"]})
    load_checkpoint(folder)
    edit_json(folder / "backbone/config.json", model_type="evil")
    with pytest.raises(CheckpointError, match="backbone"):
        load_checkpoint(folder)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("file", "values", "told"),
    [
        ("textpro_config.json", {"format": 2}, "format 2"),
        ("textpro_config.json", {"backbone": "../elsewhere"}, "elsewhere"),
        ("textpro_config.json", {"prosody_layer": 9}, "prosody_layer is 9"),
        ("textpro_config.json", {"marker_token": "<|other|>"}, r"<\|other\|>"),
        ("whisperpro/config.json", {"kind": "full"}, "full"),
        ("whisperpro/config.json", {"width": 3}, "width"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(folder, file, values, told):
    edit_json(folder / file, **values)
    with pytest.raises(CheckpointError, match=told):
        load_checkpoint(folder)


def test_parts_of_different_vocabularies_are_refused(folder):
    tokenizer = small_tokenizer()
    tokenizer.add_tokens(["<|another|>"], special_tokens=True)
    tokenizer.save_pretrained(folder)
    with pytest.raises(CheckpointError, match="one vocabulary"):
        load_checkpoint(folder)


def test_weights_that_half_precision_cannot_hold_are_refused(tmp_path):
    tokenizer = small_tokenizer()
    backbone = small_backbone(len(tokenizer))
    backbone.model.norm.weight.data[0] = 1e6
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight"):
        save_checkpoint(
            tmp_path, name="wide", speech=small_speech(len(tokenizer)), backbone=backbone,
            projector=small_projector(), tokenizer=tokenizer,
        )  # fmt: skip
