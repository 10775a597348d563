"""The models that have a name: what is said of them holds, and what is fetched is asked for, complete and verified."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors import safe_open
from safetensors.numpy import save
from typer.testing import CliRunner

from hub_stand_in import StandInHub, serving
from textpro.model_commands import COLUMNS, markdown_table, models
from textpro.models.errors import InputError
from textpro.models.presets import (
    PRESETS,
    TINY_EXAMPLES,
    find_preset,
    gigabytes,
    next_preset,
    preset_folders,
    start_hint,
    state_of,
)
from textpro.training.skills import vocabulary
from tree import ROOT

LAPTOP = ("openai/whisper-base", "Qwen/Qwen2.5-0.5B-Instruct")
WEIGHTS = save({"weight": np.zeros(4, np.float32)})
runner = CliRunner()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty local cache of the hub, and nobody at its usual address."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    return tmp_path / "cache"


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInHub]:
    """A hub with the repositories of every preset, in tiny files, and things nobody should fetch."""
    files = {"config.json": b"{}", "model.safetensors": WEIGHTS, "pytorch_model.bin": b"pickle", "modeling.py": b"code"}
    names = [repository.name for preset in PRESETS.values() for repository in preset.repositories]
    stand_in = StandInHub({name: dict(files) for name in names}, dict.fromkeys(names, "apache-2.0"))
    with serving(stand_in):
        monkeypatch.setattr(constants, "ENDPOINT", stand_in.endpoint)
        template = f"{stand_in.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield stand_in


def test_the_bundled_parameters_are_those_of_its_files() -> None:
    count = 0
    for file in (ROOT / "models/tiny").rglob("*.safetensors"):
        with safe_open(file, framework="np") as opened:
            count += sum(math.prod(opened.get_slice(key).get_shape()) for key in opened.keys())  # noqa: SIM118
    assert PRESETS["tiny"].bundled_parameters == pytest.approx(count, rel=0.02), f"models/presets.py: write {count}"


def test_sizes_are_those_of_the_published_architectures() -> None:
    sizes = {name: (gigabytes(preset.download_bytes), gigabytes(preset.gpu_bytes)) for name, preset in PRESETS.items()}
    assert sizes["laptop"] == ("1.3 GB", "1.1 GB")
    assert sizes["textpro-3b"] == ("9.3 GB", "9.3 GB") and sizes["textpro-7b"] == ("18.4 GB", "18.4 GB")


def test_licences_that_are_not_open_are_marked() -> None:
    assert {name: preset.open for name, preset in PRESETS.items()} == {
        "tiny": True, "laptop": True, "textpro-3b": False, "textpro-7b": False,
    }  # fmt: skip
    assert "no commercial use" in PRESETS["textpro-3b"].licences[-1].note


def test_the_start_hint_says_what_the_bundled_model_can_do() -> None:
    hint = start_hint("tiny")
    assert hint is not None and all(example in hint for example in TINY_EXAMPLES) and len(TINY_EXAMPLES) == 5
    assert "synthetic voices" in hint and "--model laptop" in hint
    assert {word for example in TINY_EXAMPLES for word in example.split()} <= set(vocabulary())
    assert start_hint("laptop") is None and start_hint("some/folder") is None
    assert next_preset("textpro-7b") is None


def test_a_name_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match="one of tiny, laptop, textpro-3b, textpro-7b"):
        find_preset("huge")


def test_the_table_of_the_readme_has_a_row_for_each_preset() -> None:
    lines = markdown_table().splitlines()
    assert [line.split("|")[1].strip(" `") for line in lines[2:]] == list(PRESETS)
    assert {line.count("|") for line in lines} == {len(COLUMNS) + 1}


def test_listing_asks_nobody(cache: Path) -> None:
    said = json.loads(runner.invoke(models, ["--json"]).stdout)
    assert [(preset["name"], preset["state"]) for preset in said][:2] == [("tiny", "bundled"), ("laptop", "absent")]
    table = runner.invoke(models, [], env={"COLUMNS": "900"}).stdout
    assert all(name in table for name in PRESETS) and "Qwen Research Licence (not open)" in table


def test_a_download_is_verified_and_then_here(cache: Path, hub: StandInHub) -> None:
    result = runner.invoke(models, ["download", "laptop"])
    assert result.exit_code == 0, result.output
    assert result.stdout.count("2 files verified") == 2
    assert not [path for path in hub.fetched if path.endswith((".bin", ".py"))]
    assert state_of(PRESETS["laptop"]) == "here"
    folders = preset_folders(PRESETS["laptop"])
    assert folders.keys() == {"speech", "backbone"}
    assert all((folder / "model.safetensors").read_bytes() == WEIGHTS for folder in folders.values())


def test_a_missing_shard_makes_it_incomplete(cache: Path, hub: StandInHub) -> None:
    assert runner.invoke(models, ["download", "laptop"]).exit_code == 0
    folder = preset_folders(PRESETS["laptop"])["backbone"]
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert state_of(PRESETS["laptop"]) == "partly"
    with pytest.raises(InputError, match=r"model-2.safetensors missing: run textpro-agent models download laptop"):
        preset_folders(PRESETS["laptop"])


def test_a_file_that_is_not_what_the_hub_states_is_named(cache: Path, hub: StandInHub) -> None:
    hub.stated["model.safetensors"] = "0" * 64
    result = runner.invoke(models, ["download", "laptop"])
    assert result.exit_code == 2 and "model.safetensors: its content is not what the hub states" in result.stderr


def test_a_file_that_is_no_safetensors_is_named(cache: Path, hub: StandInHub) -> None:
    hub.files[LAPTOP[0]]["model.safetensors"] = b"<html>"
    result = runner.invoke(models, ["download", "laptop"])
    assert result.exit_code == 2 and "is no safetensors file" in result.stderr


def test_a_licence_that_is_not_open_is_asked_about_before_anything_is_fetched(cache: Path, hub: StandInHub) -> None:
    refused = runner.invoke(models, ["download", "textpro-3b"])
    assert refused.exit_code == 2 and "agree with --yes" in refused.stderr and "Qwen Research Licence" in refused.stderr
    assert not [path for path in hub.fetched if "/resolve/" in path]
    agreed = runner.invoke(models, ["download", "textpro-3b", "--yes"])
    assert agreed.exit_code == 0 and state_of(PRESETS["textpro-3b"]) == "here"


@pytest.mark.parametrize(("stated", "exit_code"), [("apache-2.0", 0), ("cc-by-nc-4.0", 2)])
def test_an_unknown_licence_is_that_of_the_card(cache: Path, hub: StandInHub, stated: str, exit_code: int) -> None:
    hub.licences = dict.fromkeys(hub.licences, stated)
    assert runner.invoke(models, ["download", "textpro-7b"]).exit_code == exit_code


def test_a_repository_that_is_not_there_is_named(cache: Path, hub: StandInHub) -> None:
    del hub.files[LAPTOP[1]]
    result = runner.invoke(models, ["download", "laptop"])
    assert result.exit_code == 2 and f"the hub does not give {LAPTOP[1]}" in result.stderr
    assert len(result.stderr.strip().splitlines()) <= 2


def test_offline_is_one_clear_line(cache: Path) -> None:
    result = runner.invoke(models, ["download", "laptop"])
    assert result.exit_code == 2 and len(result.stderr.strip().splitlines()) == 1
    assert "the hub cannot be reached" in result.stderr


def test_the_bundled_model_needs_no_download(cache: Path) -> None:
    result = runner.invoke(models, ["download", "tiny"])
    assert result.exit_code == 0 and "bundled" in result.stdout


def test_a_preset_that_is_not_here_says_how_to_get_it(cache: Path) -> None:
    with pytest.raises(InputError, match=r"openai/whisper-base .* is not here: run textpro-agent models download laptop"):
        preset_folders(PRESETS["laptop"])
