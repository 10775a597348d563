"""The doctor: every check says ok or what to do, never raises, and only what is required makes the command fail."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from textpro import doctor
from textpro.doctor import Finding
from tree import ROOT

runner = CliRunner()
app = typer.Typer()
app.command()(doctor.doctor)


def program(folder: Path, name: str, script: str) -> None:
    """An executable of that name."""
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


def test_on_this_machine_nothing_required_is_missing() -> None:
    result = runner.invoke(app, ["--json"])
    findings = [Finding(**finding) for finding in json.loads(result.stdout)]
    assert result.exit_code == 0, result.stdout
    assert len(findings) == len(doctor.CHECKS) and {finding.name for finding in findings} >= {"python", "torch", "disk", "model"}
    assert all(bool(finding.remedy) == (finding.status != "ok") for finding in findings)
    assert not any("check failed" in finding.detail for finding in findings)


def test_one_line_for_each_check_and_exit_1_when_something_required_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Finding:
        raise RuntimeError("boom")

    checks = (
        lambda: Finding("one", "ok", "fine"),
        lambda: Finding("two", "warning", "x" * 200, "do this"),
        lambda: Finding("three", "missing", "gone", "do that"),
        broken,
    )
    monkeypatch.setattr(doctor, "CHECKS", checks)
    result = runner.invoke(app)
    lines = result.stdout.splitlines()
    assert result.exit_code == 1 and len(lines) == 4
    assert lines[0].split() == ["ok", "one", "fine"] and lines[1].endswith("-> do this")
    assert lines[2].startswith("MISSING") and "RuntimeError: boom" in lines[3]
    monkeypatch.setattr(doctor, "CHECKS", checks[:2])
    assert runner.invoke(app).exit_code == 0


def test_a_taken_port_is_a_warning() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        finding = doctor.check_port(port)
    assert finding.status == "warning" and str(port) in finding.detail and "--port" in finding.remedy
    assert doctor.check_port(port).status == "ok"


def test_a_broken_bundled_model_is_missing(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(ROOT / "models/tiny", tmp_path / "tiny"))
    assert doctor.check_model(folder).status == "ok"
    os.truncate(folder / "backbone/model.safetensors", 100)
    finding = doctor.check_model(folder)
    assert finding.status == "missing" and finding.remedy
    (folder / "tokenizer.json").unlink()
    assert "tokenizer.json" in doctor.check_model(folder).detail


def test_without_portaudio_the_package_to_install_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    finding = doctor.check_audio()
    assert finding.status == "warning" and "libportaudio2" in finding.remedy


def test_sound_devices_that_crash_or_are_absent_are_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = "get_portaudio_version = lambda: (0, 'PortAudio V19, x')\ndef query_devices(kind): raise ValueError(kind)\n"
    (tmp_path / "sounddevice.py").write_text(module, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert doctor.check_audio().detail == "PortAudio V19; microphone none; speaker none"
    (tmp_path / "sounddevice.py").write_text("import os; os.abort()\n", encoding="utf-8")
    assert doctor.check_audio().status == "warning"


def test_a_card_that_torch_does_not_use_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.check_driver().status == "ok"
    program(tmp_path, "nvidia-smi", "print('Some Card, 580.1')")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    finding = doctor.check_driver()
    assert finding.status == "warning" and "Some Card, 580.1" in finding.detail and "CUDA build" in finding.remedy
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert doctor.check_driver() == Finding("gpu driver", "ok", "Some Card, 580.1")


def test_a_tool_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "nvidia-smi", "import time; time.sleep(60)")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(doctor, "_TIME_LIMIT_S", 0.2)
    assert doctor.check_driver().detail == "nvidia-smi does not answer"


def test_without_the_espeak_extra_the_doctor_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    finding = doctor.check_espeak()
    assert finding.status == "warning" and "textpro-agent[espeak]" in finding.remedy


def test_a_full_disk_and_little_memory_are_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "NEEDED_DISK_BYTES", 10**18)
    monkeypatch.setattr(doctor, "NEEDED_MEMORY_BYTES", 10**18)
    assert "HF_HOME" in doctor.check_disk().remedy
    assert doctor.check_memory().status == "warning"


def test_extras_are_those_the_package_offers() -> None:
    detail = doctor.check_extras().detail
    assert "espeak" in detail and "dev" not in detail
