"""What a user names becomes the checkpoint that the engine runs: presets from the hub's cache, and released folders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from small_pair import PlainWhisper, example_audio, projector_tensors, write_qwen, write_whisper
from textpro.models.errors import CheckpointError, InputError
from textpro.models.named import join_released, open_model
from textpro.models.presets import PRESETS
from textpro.models.released import load_released
from textpro.models.speech_stream import StreamingWhisperPro
from textpro.models.whisper_decoding import Transcribe
from textpro.models.whisper_full import FullWhisper

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def cached(cache: Path, repository: str) -> Path:
    """The folder of a repository's snapshot, as the hub's cache lays it out."""
    place = cache / f"models--{repository.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs/main").write_text(COMMIT, encoding="utf-8")
    return place / "snapshots" / COMMIT


def write_slm(folder: Path, mode: str) -> None:
    """A released language model: its tensors, the projector beside them, the fusion's settings."""
    write_qwen(folder)
    values = projector_tensors()
    names = {"w1": "0.weight", "b1": "0.bias", "w2": "2.weight", "b2": "2.bias"}
    save_file({f"prosody_projector.{names[key]}": value for key, value in values.items()}, folder / "projector.safetensors")
    settings = {"fusion_mode": mode, "prosody_layer": 2}
    (folder / "textpro_config.json").write_text(json.dumps(settings), encoding="utf-8")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_the_bundled_preset_is_the_chunked_model() -> None:
    assert isinstance(open_model("tiny").speech, StreamingWhisperPro)


def test_a_preset_without_prosody_is_a_plain_pair(cache: Path) -> None:
    speech, backbone = (cached(cache, repository.name) for repository in PRESETS["laptop"].repositories)
    write_whisper(speech)
    write_qwen(backbone)
    checkpoint = open_model("laptop")
    assert isinstance(checkpoint.speech, FullWhisper) and checkpoint.fusion.mode == "none"


def test_a_released_preset_hears_what_plain_transformers_hears(cache: Path) -> None:
    speech, backbone = (cached(cache, repository.name) for repository in PRESETS["textpro-7b"].repositories)
    write_whisper(speech)
    write_slm(backbone, "interleaving")
    checkpoint = open_model("textpro-7b")
    samples, whisper = example_audio("lost_keys_happy.wav"), checkpoint.speech
    assert isinstance(whisper, FullWhisper)
    heard = whisper.transcribe(Transcribe(object(), samples, prosody=True))
    limit = whisper.token_limit(len(samples))
    ids, states = PlainWhisper(speech).generate(samples, limit, layer=2, language=None, task="transcribe")
    assert list(heard.tokens) == ids and ids
    np.testing.assert_allclose(heard.vectors, states, atol=1e-4)
    assert (checkpoint.fusion.mode, checkpoint.fusion.grouping) == ("interleaving", "array_split")
    assert checkpoint.tokenizer.convert_ids_to_tokens(checkpoint.fusion.marker_id) == "<|repo_name|>"
    projector = checkpoint.backbone.projector
    assert projector is not None
    assert all(torch.equal(getattr(projector, name), value) for name, value in projector_tensors().items())


def test_a_preset_that_its_files_contradict_is_refused(cache: Path) -> None:
    speech, backbone = (cached(cache, repository.name) for repository in PRESETS["textpro-3b"].repositories)
    write_whisper(speech)
    write_slm(backbone, "interleaving")
    with pytest.raises(CheckpointError, match=r"mode is 'interleaving' by .* and 'global' by option"):
        open_model("textpro-3b")


def test_released_parts_without_the_feature_settings_are_refused(tmp_path: Path) -> None:
    write_whisper(tmp_path / "speech")
    write_slm(tmp_path / "slm", "global")
    parts = load_released(tmp_path / "slm", tmp_path / "speech")
    assert join_released(parts, "pair").config["name"] == "pair"
    (tmp_path / "speech/preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match="preprocessor_config"):
        join_released(parts, "pair")


def test_a_name_that_is_neither_preset_nor_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one of tiny, laptop, textpro-3b, textpro-7b or a folder"):
        open_model(tmp_path / "absent")
    with pytest.raises(CheckpointError, match=r"textpro_config.json is missing"):
        open_model(tmp_path)
