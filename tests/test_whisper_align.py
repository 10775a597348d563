"""Heads that follow the audio are found on timed speech, kept beside the checkpoint and used by whoever loads it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from following_whisper import HEAD, SLOT, spoken_in_slots, write_following
from small_pair import write_whisper
from textpro.cli import app
from textpro.evaluation.streaming_align import MAX_HEADS, choose, find_heads
from textpro.models.errors import CheckpointError
from textpro.models.pair import load_full_whisper
from textpro.models.whisper_full import FullSettings, FullWhisper
from textpro.models.whisper_settings import CONFIG, store, with_stored
from textpro.models.whisper_times import token_ends


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("following")
    write_following(place)
    return place


def short_words(speech: FullWhisper, n: int) -> tuple[str, ...]:
    """Words that its tokenizer writes as one token."""
    words = [word for word in ("the", "is", "what", "are", "I", "my") if len(speech.tokenizer.encode(f" {word}")) == 1]
    return tuple(words[index % len(words)] for index in range(n))


def test_the_head_that_follows_is_found_and_times_words(folder: Path) -> None:
    speech, done = load_full_whisper(folder), list[int]()
    spoken = [spoken_in_slots(short_words(speech, n), seed=n) for n in (8, 20, 30)]
    found = find_heads(speech, spoken, done.append)
    assert found.heads == (HEAD,) and found.shares[0] > 0.95 and found.n_tokens == 58 and sum(done) == 3
    assert found.off_ms.count == 58 and found.off_ms.p95 is not None and found.off_ms.p95 <= 120


def test_the_ends_by_the_head_are_those_of_the_slots(folder: Path) -> None:
    speech = load_full_whisper(folder)
    one = spoken_in_slots(short_words(speech, 12))
    tokens = [speech.tokenizer.encode(f" {word}")[0] for word in one.words]
    ends = token_ends(
        speech.model, [HEAD], speech.encode(one.samples), speech.prompt(speech.language_id("en")), tokens, 12 * SLOT
    )
    np.testing.assert_allclose(ends[:-1], one.ends[:-1], atol=SLOT // 2)


def test_no_head_of_a_random_whisper_follows_and_it_is_said(tmp_path: Path) -> None:
    write_whisper(tmp_path)
    speech = load_full_whisper(tmp_path)
    with pytest.raises(CheckpointError, match=r"no attention head of this Whisper .* expected at least 50%"):
        find_heads(speech, [spoken_in_slots(short_words(speech, 30))], lambda count: None)


def test_heads_are_taken_by_their_hits_the_best_first_and_not_too_many() -> None:
    shares = np.array([[0.1, 0.9, 0.4], [0.95, 0.7, 0.8]])
    assert choose(shares) == (((1, 0), (0, 1), (1, 2)), (0.95, 0.9, 0.8))
    assert len(choose(np.full((4, 8), 0.9))[0]) == MAX_HEADS
    with pytest.raises(CheckpointError, match="the policy agreement can still be used"):
        choose(np.full((2, 2), 0.4))


def test_what_was_found_is_kept_beside_what_the_file_says_already(folder: Path, tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text(json.dumps({"fusion_mode": "global"}))
    store(tmp_path, {"alignment_heads": [[1, 0]], "encoder_window_s": 5})
    assert json.loads((tmp_path / CONFIG).read_text())["fusion_mode"] == "global"
    assert with_stored(tmp_path) == FullSettings(alignment_heads=((1, 0),), encoder_window_s=5)
    own = FullSettings("en", alignment_heads=((0, 1),), encoder_window_s=10)
    assert with_stored(tmp_path, own) == own and with_stored(folder / "nowhere", own) == own
    for wrong in ({"alignment_heads": [[1]]}, {"encoder_window_s": "5"}):
        store(tmp_path, {"alignment_heads": [], "encoder_window_s": None, **wrong})
        with pytest.raises(CheckpointError, match="expected pairs of a layer and a head"):
            with_stored(tmp_path)


def test_the_command_refuses_a_folder_that_is_not_there(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["models", "align", str(tmp_path / "nowhere")])
    assert result.exit_code != 0 and "expected the folder of a Whisper" in result.output


def test_the_commands_run_on_spoken_sentences(tmp_path: Path, espeak_library: None) -> None:
    write_whisper(tmp_path)
    aligned = CliRunner().invoke(app, ["models", "align", str(tmp_path), "--utterances", "2"])
    assert aligned.exit_code != 0 and "no attention head" in aligned.output and not (tmp_path / CONFIG).exists()
    measured = CliRunner().invoke(app, ["models", "windows", str(tmp_path), "--utterances", "2"])
    assert measured.exit_code == 0 and " 5 s: " in measured.output and "written to" in measured.output
    assert "encoder_window_s" in json.loads((tmp_path / CONFIG).read_text())
