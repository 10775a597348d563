"""The command line: files behind one --wav, options and settings, errors in one line, clean ends, quick
help."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import pty
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

import textpro
from scripted_session import ScriptedSession
from textpro.cli import app, with_repeated_wav
from textpro.config import Settings
from textpro.models.errors import InputError
from textpro.train_commands import stage_settings

FLAGS = {"--fast", "--json", "--plain", "--mic", "--list-devices", "--half-duplex", "--push-to-talk", "--help", "-h", "--version"}
SCRIPTED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
sys.path.insert(0, sys.argv.pop(1))
from scripted_session import ScriptedSession
from textpro import cli, talk
talk.open_runtime = lambda settings: ScriptedSession()
talk.open_session = lambda runtime, settings, live: runtime
cli.main()
"""


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ScriptedSession:
    """A scripted session where the real one would be; its `settings` are those the command ended up with."""
    monkeypatch.chdir(tmp_path)
    scripted = ScriptedSession()

    def open_runtime(settings: Settings) -> ScriptedSession:
        scripted.settings = settings  # type: ignore[attr-defined]
        return scripted

    monkeypatch.setattr("textpro.talk.open_runtime", open_runtime)
    monkeypatch.setattr("textpro.talk.open_session", lambda runtime, settings, live: runtime)
    return scripted


@pytest.fixture
def wavs(tmp_path: Path) -> list[str]:
    """Two sound files of half a second."""
    paths = [tmp_path / "a.wav", tmp_path / "b.wav"]
    for path in paths:
        soundfile.write(path, 0.3 * np.sin(np.arange(8000) / 5), 16_000)
    return [str(path) for path in paths]


def run(*args: str) -> int:
    """The exit code of the command, run in this process."""
    with pytest.raises(SystemExit) as ended:
        app(list(args))
    return int(ended.value.code or 0)


def scripted_command(*args: str) -> list[str]:
    return [sys.executable, "-c", SCRIPTED, str(Path(__file__).parent), *args]


@pytest.mark.parametrize(
    ("given", "files"),
    [
        ("--wav A B --fast", ["A", "B"]),
        ("--wav A --wav B", ["A", "B"]),
        ("--out G --wav A --fast B --json C", ["A", "B", "C"]),
        ("--wav A --out G B", ["A", "B"]),
        ("train tokenizer --folder F", []),
    ],
)
def test_every_file_behind_wav_is_one_more_turn(given: str, files: list[str]) -> None:
    args = with_repeated_wav(given.split(), FLAGS)
    assert [args[at + 1] for at, arg in enumerate(args) if arg == "--wav"] == files
    assert [arg for arg in args if arg != "--wav"] == [arg for arg in given.split() if arg != "--wav"]


def test_files_may_follow_an_equals_sign() -> None:
    assert with_repeated_wav(["--wav=A", "B"], FLAGS) == ["--wav=A", "--wav", "B"]


def test_several_files_and_a_folder_for_the_replies(
    session: ScriptedSession, wavs: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("--wav", *wavs, "--fast", "--out", "replies") == 0
    assert sorted(path.name for path in (tmp_path / "replies").iterdir()) == ["reply_1.wav", "reply_2.wav"]
    lines = capfd.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("agent:")] == ["agent: Yes.", "agent: No."]


def test_json_is_one_event_per_line_and_nothing_else_on_stdout(
    session: ScriptedSession, wavs: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("--wav", wavs[0], "--fast", "--json", "--out", "reply.wav") == 0
    captured = capfd.readouterr()
    types = [json.loads(line)["type"] for line in captured.out.splitlines()]
    assert types[0] == "voice_activity" and types[-1] == "metrics"
    assert "reply written to reply.wav" in captured.err


def test_typed_turns(session: ScriptedSession, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("--text", "hello", "--text", "what is two plus two") == 0
    assert session.texts == ["hello", "what is two plus two"]
    assert "agent: No." in capfd.readouterr().out


def test_options_become_settings(session: ScriptedSession) -> None:
    options = ["--prosody", "off", "--model", "some/folder", "--voice", "en-gb+f2", "--log-level", "error"]
    assert run("--text", "hello", *options) == 0
    settings = session.settings  # type: ignore[attr-defined]
    assert (settings.prosody.enabled, settings.model.name) == (False, "some/folder")
    assert (settings.voice.name, settings.voice.variant) == ("en-gb", "f2")
    assert settings.output.log_level == "error"


def test_the_picture_of_the_view_is_written(session: ScriptedSession, tmp_path: Path) -> None:
    assert run("--text", "hello", "--svg", "view.svg") == 0
    assert "hello" in (tmp_path / "view.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--wav", "absent.wav"], "absent.wav: no such file"),
        (["--wav", "empty.wav"], "empty.wav: the file is empty"),
        (["--text", " "], "--text is empty"),
        (["--text", "hello", "--voice", "+f2"], "expected an accent"),
        (["--text", "hello", "--config", "absent.toml"], "absent.toml: cannot be read"),
        (["--text", "hello", "--out", "empty.wav/replies"], "no reply can be written there"),
    ],
)
def test_an_error_is_one_line_on_stderr_and_exit_code_2(
    session: ScriptedSession, tmp_path: Path, capfd: pytest.CaptureFixture[str], args: list[str], message: str
) -> None:
    (tmp_path / "empty.wav").touch()
    assert run(*args) == 2
    captured = capfd.readouterr()
    assert message in captured.err and len(captured.err.splitlines()) == 1
    assert not captured.out
    assert session.entered == 0


@pytest.mark.parametrize(
    "args",
    [
        ["--wav", "a.wav", "--text", "hello"],
        ["--text", "hello", "--fast"],
        ["--wav", "a.wav", "--svg", "view.svg", "--json"],
        ["--text", "hello", "config"],
        ["--prosody", "maybe"],
        ["sing"],
    ],
)
def test_arguments_that_do_not_go_together_are_refused(session: ScriptedSession, args: list[str]) -> None:
    assert run(*args) == 2
    assert session.entered == 0


def test_config_prints_each_value_and_its_origin(
    session: ScriptedSession, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEXTPRO_VOICE__RATE_WPM", "180")
    monkeypatch.setenv("COLUMNS", "160")
    Path("textpro.toml").write_text("[voice]\nname = 'en-gb'\n", encoding="utf-8")
    assert run("config") == 0
    rows = {line.split()[0]: line.split()[1:3] for line in capfd.readouterr().out.splitlines()}
    assert rows["voice.rate_wpm"] == ["180", "TEXTPRO_VOICE__RATE_WPM"]
    assert rows["voice.name"] == ["en-gb", "textpro.toml"]
    assert rows["turns.max_turn_ms"] == ["180000", "default"]


@dataclass(frozen=True)
class StageSettings:
    """Settings of a training stage."""

    folder: Path
    steps: int = 10
    rate: float = 0.5
    half: bool = False


def test_settings_of_a_training_stage_are_set_by_name() -> None:
    settings = stage_settings(StageSettings, {"folder": Path("run")}, ["steps=7", "rate=1e-3", "half=true"])
    assert settings == StageSettings(Path("run"), 7, 0.001, True)


@pytest.mark.parametrize(
    ("change", "message"),
    [("step=7", "one of steps, rate, half"), ("steps=x", "--set steps=x: "), ("steps", "NAME")],
)
def test_a_setting_that_a_stage_does_not_have_is_refused(change: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        stage_settings(StageSettings, {"folder": Path("run")}, [change])


def test_the_version_is_that_of_the_distribution(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capfd.readouterr().out.startswith("textpro-agent 0.")


def test_help_is_quick_and_brings_no_model_library() -> None:
    code = """
import sys, time
began = time.process_time()
sys.argv = ["textpro-agent", "--help"]
from textpro.cli import main
try:
    main()
except SystemExit:
    pass
assert not {"torch", "transformers", "pydantic", "numpy"} & sys.modules.keys()
print(f"CPU {time.process_time() - began}")
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--wav" in result.stdout and "Examples" in result.stdout
    assert float(result.stdout.rsplit("CPU ", 1)[1]) < 0.5


def test_importing_the_package_brings_no_model_library() -> None:
    code = """
import sys, textpro
for name in textpro.__all__:
    if name not in ("DraftSettings", "Runtime", "Session", "VoiceAgent"):
        assert getattr(textpro, name).__name__ == name
assert not {"torch", "transformers"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_has_a_home() -> None:
    for name in textpro.__all__:
        home = textpro.home_of(name)
        source = importlib.util.find_spec(f"textpro.{home}").origin  # type: ignore[union-attr]
        tree = ast.parse(Path(str(source)).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    with pytest.raises(AttributeError):
        textpro.NoSuchName  # noqa: B018


def test_a_closed_pipe_ends_the_json_quietly(wavs: list[str]) -> None:
    command = scripted_command("--wav", *(wavs * 40), "--fast", "--json")  # more lines than a pipe holds
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert json.loads(process.stdout.readline())["type"] == "voice_activity"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 141


def test_ctrl_c_restores_the_terminal_and_exits_with_130(wavs: list[str]) -> None:
    terminal, inside = pty.openpty()
    command = scripted_command("--wav", *wavs)
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    process = subprocess.Popen(command, stdout=inside, stderr=inside, stdin=inside, env=environment)
    os.close(inside)
    written = b""
    try:
        deadline = time.monotonic() + 60
        while b"hearing you" not in written and time.monotonic() < deadline:
            written += os.read(terminal, 4096)
        process.send_signal(signal.SIGINT)
        while True:
            try:
                written += os.read(terminal, 4096)
            except OSError:
                break
        assert process.wait(60) == 130
    finally:
        process.kill()
        os.close(terminal)
    assert written.rindex(b"\x1b[?25h") > written.rindex(b"\x1b[?25l")
    assert b"Traceback" not in written
