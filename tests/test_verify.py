"""`textpro-agent verify` on the bundled model, on random stand-ins of a pair and of the released layout, and on broken ones."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import typer
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from chat_templates import WITH_DEFAULT
from small_pair import AUDIO, example_audio, runtime_with, write_qwen, write_whisper
from test_named_models import write_slm
from textpro.engine import Entry
from textpro.evaluation.verify import Plan, Verification, verify
from textpro.evaluation.verify_checks import (
    Limits,
    check_replies,
    check_template,
    check_vectors,
    check_weights,
    check_word_errors,
    check_words,
    compare,
)
from textpro.evaluation.verify_report import markdown
from textpro.evaluation.verify_talk import Played, Sound, play
from textpro.models.checkpoint import Checkpoint
from textpro.models.named import Pair, open_model
from textpro.verify_command import verify as command

RANDOM = Plan(sentences=0, realtime=False, limits=Limits(10.0, 60_000, 20))
"""Random weights hear nothing right."""


@pytest.fixture(autouse=True)
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One example recording is enough."""
    place = tmp_path / "examples"
    place.mkdir()
    shutil.copy(AUDIO / "lost_keys_happy.wav", place)
    monkeypatch.setattr("textpro.evaluation.verify_talk.EXAMPLES", place)
    return place


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    place = tmp_path_factory.mktemp("pair")
    write_whisper(place / "whisper")
    write_qwen(place / "qwen", template=WITH_DEFAULT)
    return Pair(place / "whisper", place / "qwen")


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    place = tmp_path_factory.mktemp("released")
    write_whisper(place / "whisperpro")
    write_slm(place / "slm", "interleaving")
    return Pair(place / "whisperpro", place / "slm")


def run(*args: str) -> Result:
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, list(args))


def statuses(found: Verification) -> dict[str, str]:
    return {check.name: check.status for check in found.checks}


def test_the_bundled_model_passes_and_the_report_says_so(tmp_path: Path) -> None:
    report = tmp_path / "report.md"
    result = run("tiny", "--fast", "--json", "--sentences", "0", "--report", str(report), "--max-latency-ms", "60000")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    done = {check["name"]: check["status"] for check in found["checks"]}
    assert found["passed"] and set(done.values()) == {"ok", "not run"}
    assert [name for name, status in done.items() if status == "not run"] == ["input as the chat template"]
    text = report.read_text(encoding="utf-8")
    assert "# Verification of tiny" in text and "transformers" in text and "float32" in text
    for file in found["files"]:
        assert file["sha256"] in text and len(file["sha256"]) == 64
    assert "model/whisperpro/model.safetensors" in text


def test_a_pair_of_random_weights_is_right_in_everything_but_what_it_hears(pair: Pair) -> None:
    found = verify(pair, RANDOM)
    failed = [check for check in found.checks if check.status == "not ok"]
    assert not failed, failed
    assert statuses(found)["prosody as plain transformers"] == "not run"
    assert statuses(found)["input as the chat template"] == "ok", "with the instructions of the template"
    assert found.settings["mode"] == "none" and found.settings["default_system"] == "yes"


def test_a_released_layout_is_right_with_its_prosody_and_says_where_settings_come_from(released: Pair) -> None:
    found = verify(released, RANDOM)
    assert not [check for check in found.checks if check.status == "not ok"], found.checks
    assert statuses(found)["prosody as plain transformers"] == "ok"
    assert found.settings["mode"] == "interleaving (fusion_mode in textpro_config.json)"
    assert found.settings["ratio"] == "5 (the paper)"
    assert found.settings["grouping"] == "array_split (our reading of the paper)"
    assert "interleaving (fusion_mode in textpro_config.json)" in markdown(found)


def test_a_backbone_in_bf16_is_judged_by_the_tolerance_of_bf16(released: Pair) -> None:
    found = verify(released, replace(RANDOM, device="cpu", dtype="bfloat16"))
    assert not [check for check in found.checks if check.status == "not ok"], found.checks
    (reply,) = [check for check in found.checks if check.name == "reply as plain generate"]
    assert reply.tolerance.endswith("within 0.5") and found.machine["precision"] == "recognizer float32, backbone bfloat16"


def test_a_tensor_that_does_not_fit_is_named_without_the_place(released: Pair, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(released.backbone, tmp_path / "private" / "slm"))
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors["model.layers.1.mlp.up_proj.weight"] = torch.zeros(3, 3)
    save_file(tensors, file, metadata={"format": "pt"})
    report = tmp_path / "report.md"
    result = run("--encoder", str(released.encoder), "--backbone", str(folder), "--report", str(report))
    assert result.exit_code == 1
    assert "not ok" in result.stdout and "model.layers.1.mlp.up_proj.weight (3, 3)" in result.stdout
    text = report.read_text(encoding="utf-8")
    assert "model.layers.1.mlp.up_proj.weight (3, 3)" in text and "private" not in text
    assert text.count("not run") == 9


def test_a_weight_that_is_no_number_is_named(pair: Pair, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(pair.encoder, tmp_path / "whisper"))
    tensors = load_file(folder / "model.safetensors")
    tensors["model.decoder.layers.1.fc1.weight"][0, 0] = torch.nan
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    check = check_weights(open_model(Pair(folder, pair.backbone)), "a folder")
    assert (check.status, check.detail) == ("not ok", "not finite: speech model.decoder.layers.1.fc1.weight")


@pytest.fixture(scope="module")
def spoken(released: Pair) -> tuple[Checkpoint, Played]:
    """One turn of the stand-in that has everything."""
    checkpoint = open_model(released)

    async def talk() -> Played:
        async with runtime_with(checkpoint) as runtime:
            return await play(runtime, Sound("it", example_audio("lost_keys_sad.wav"), None), 16, realtime=False)

    return checkpoint, asyncio.run(talk())


def changed(played: Played, at: int, entry: Entry) -> Played:
    entries = list(played.entries)
    entries[at] = entry
    return replace(played, entries=tuple(entries))


def test_what_differs_from_plain_transformers_is_found(spoken: tuple[Checkpoint, Played]) -> None:
    checkpoint, played = spoken
    right = compare(checkpoint, played, 16)
    for check in (check_words([right]), check_template([right]), check_replies([right], torch.float32)):
        assert check.status == "ok"
    marker = next(at for at, entry in enumerate(played.entries) if entry.vector is not None)
    vector = played.entries[marker].vector
    assert vector is not None
    louder = compare(checkpoint, changed(played, marker, Entry(None, vector + np.float32(0.1))), 16)
    assert check_vectors([louder], torch.float32).status == "not ok" != check_vectors([right], torch.float32).status
    word = played.entries[marker + 1].token_id
    assert word is not None
    other = compare(checkpoint, changed(played, marker + 1, Entry(word + 1)), 16)
    assert check_words([other]).status == "not ok" == check_template([other]).status
    assert check_words([other]).detail == "it: other tokens"
    rows = [entry.token_id for entry in played.entries]
    opened = checkpoint.chat.reply_open()
    reply = next(at for at in range(marker, len(rows)) if tuple(rows[at : at + len(opened)]) == opened) + len(opened)
    first = rows[reply]
    assert first is not None
    swapped = compare(checkpoint, changed(played, reply, Entry((first + 7) % 200)), 16)
    assert swapped.words and not swapped.equal_reply and swapped.gap > 1e-3
    assert check_replies([swapped], torch.float32).status == "not ok"


def test_a_reply_that_differs_between_equally_good_tokens_is_no_fault(spoken: tuple[Checkpoint, Played]) -> None:
    right = compare(*spoken, 16)
    near = replace(right, equal_reply=False, gap=5e-4)
    assert check_replies([near], torch.float32).status == "ok"
    assert check_replies([replace(near, gap=0.2)], torch.float32).status == "not ok"
    assert check_replies([replace(near, gap=0.2)], torch.bfloat16).status == "ok"


def test_word_errors_are_counted_over_what_is_known_and_judged() -> None:
    sounds = [Sound("a", np.zeros(1, np.float32), "Turn on 2 lights!"), Sound("b", np.zeros(1, np.float32), None)]
    right = check_word_errors([(sounds[0], " turn on two lights"), (sounds[1], "anything")], 0.0)
    assert (right.status, right.measured) == ("ok", "0.0% of 4 words")
    assert check_word_errors([(sounds[0], "turn off two lights")], 0.2).status == "not ok"
    assert check_word_errors([(sounds[1], "anything")], 0.2).status == "not run"


def test_own_recordings_count_but_are_not_told(pair: Pair, tmp_path: Path, examples: Path) -> None:
    shutil.rmtree(examples)
    wav = tmp_path / "my_secret_meeting.wav"
    soundfile.write(wav, example_audio("lost_keys_happy.wav"), 16_000)
    wav.with_suffix(".txt").write_text("the merger is on monday", encoding="utf-8")
    found = verify(pair, replace(RANDOM, wavs=(wav,)))
    text = markdown(found) + json.dumps(found.to_dict())
    assert "own recording 1" in text and "5 words" in text
    for private in ("secret", "merger", str(tmp_path), str(pair.encoder.parent)):
        assert private not in text


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ((), "MODEL, or both --encoder and --backbone"),
        (("tiny", "--encoder", "a", "--backbone", "b"), "MODEL, or both"),
        (("--encoder", "a"), "MODEL, or both"),
        (("absent-folder",), "no model at absent-folder"),
        (("laptop",), "run textpro-agent models download laptop (1.3 GB), or agree with --yes"),
        (("tiny", "--report", "absent/report.md"), "there is no folder absent"),
        (("tiny", "--wav", "absent.wav"), "absent.wav"),
        *([] if torch.cuda.is_available() else [(("tiny", "--device", "cuda"), "torch sees no GPU here")]),
    ],
)
def test_what_cannot_begin_is_one_line_and_exit_code_2(
    args: tuple[str, ...], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    result = run(*args)
    assert result.exit_code == 2 and told in result.stderr and len(result.stderr.strip().splitlines()) == 1
