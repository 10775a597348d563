"""Training of the recognizer: losses of real synthetic speech fall, runs go on, and can begin with a checkpoint."""

import csv
from pathlib import Path

import pytest
import torch

from requirements import require_module
from textpro.models.checkpoint import load_checkpoint
from textpro.models.named import model_folder
from textpro.training import train_whisperpro as module
from textpro.training.runs import read_state
from textpro.training.train_whisperpro import MOST_CRASHES, WhisperProTraining, train_whisperpro


@pytest.fixture(autouse=True)
def espeak() -> None:
    require_module("espeakng_loader")


def settings(folder: Path, steps: int) -> WhisperProTraining:
    """Few, small steps that go on from the bundled recognizer."""
    return WhisperProTraining(
        folder,
        start=model_folder("tiny"),
        steps=steps,
        batch_frames=300,
        muon_rate=1e-4,
        adam_rate=1e-5,
        warm_up=1,
        easy_steps=100,
        report_every=1,
        save_every=2,
        pool=24,
    )


def test_a_run_begins_with_a_checkpoint_and_goes_on_at_its_step(tmp_path):
    threads = torch.get_num_threads()
    try:
        train_whisperpro(settings(tmp_path, 2))
        first = read_state(tmp_path)
        train_whisperpro(settings(tmp_path, 4))
    finally:
        torch.set_num_threads(threads)
    assert (first["step"], read_state(tmp_path)["step"]) == (2, 4)
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4]
    assert all(float(row["text"]) < 2.5 for row in rows), "a trained recognizer, not one from scratch"
    bundled = load_checkpoint(model_folder("tiny")).speech.model.state_dict()
    for name, value in first["model"].items():
        assert (value - bundled[name]).abs().max() < 0.01, name


CRASH = "DataLoader worker (pid 7) is killed by signal: Segmentation fault. "


def test_a_crash_of_the_worker_that_makes_speech_costs_the_steps_since_the_last_checkpoint_only(tmp_path, monkeypatch):
    tried = []

    def crashes_twice(_, attempt):
        tried.append(attempt)
        if attempt < 2:
            raise RuntimeError(CRASH)

    monkeypatch.setattr(module, "_train", crashes_twice)
    train_whisperpro(settings(tmp_path, 4))
    assert tried == [0, 1, 2]


def test_other_errors_and_endless_crashes_end_the_training(tmp_path, monkeypatch):
    tried = []

    def fails(_, attempt):
        tried.append(attempt)
        raise RuntimeError(CRASH if len(tried) > 1 else "out of memory")

    monkeypatch.setattr(module, "_train", fails)
    with pytest.raises(RuntimeError, match="memory"):
        train_whisperpro(settings(tmp_path, 4))
    with pytest.raises(RuntimeError, match="worker"):
        train_whisperpro(settings(tmp_path, 4))
    assert len(tried) == 2 + MOST_CRASHES
