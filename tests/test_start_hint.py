"""At the start the bundled model says what it knows: to whoever sits at a terminal, and to nobody else."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripted_session import ScriptedSession
from textpro.cli import app
from textpro.models.presets import TINY_EXAMPLES


@pytest.fixture(autouse=True)
def session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    scripted = ScriptedSession()
    monkeypatch.setattr("textpro.talk.open_runtime", lambda settings: scripted)
    monkeypatch.setattr("textpro.talk.open_session", lambda runtime, settings, live: runtime)


def said(capfd: pytest.CaptureFixture[str], *args: str) -> str:
    """Both streams of a typed turn, as one line: the terminal breaks long ones."""
    with pytest.raises(SystemExit) as ended:
        app(["--text", "hello", *args])
    assert not ended.value.code
    captured = capfd.readouterr()
    return " ".join((captured.out + captured.err).split())


def test_at_a_terminal_tiny_names_five_things_to_say_and_the_next_preset(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    text = said(capfd, "--plain")
    assert "synthetic voices and a small grammar" in text and "--model laptop" in text
    assert len(TINY_EXAMPLES) == 5 and all(example in text for example in TINY_EXAMPLES)
    assert text.index("small grammar") < text.index("agent:"), "before the first turn"


@pytest.mark.parametrize(
    "options", [["--json"], ["--plain", "--model", "laptop"], ["--plain", "--encoder", "a", "--backbone", "b"]]
)
def test_other_models_and_json_say_nothing_of_it(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    assert "small grammar" not in said(capfd, *options)


def test_a_pipe_or_a_log_is_not_told(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "0")
    assert "small grammar" not in said(capfd, "--plain")
