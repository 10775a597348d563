"""What is absent skips by name, fails where all is required, and is installed by `.ci/run`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from requirements import DEBIAN_PACKAGES, require_data, require_module, require_program
from tree import ROOT, project_files


@pytest.mark.parametrize(
    ("need", "name"),
    [
        (lambda: require_program("flite"), "flite"),
        (lambda: require_module("no_such_module"), "no_such_module"),
    ],
)
def test_an_absent_need_skips_by_name(
    need: Callable[[], object], name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("TEXTPRO_REQUIRE_ALL", raising=False)
    with pytest.raises(pytest.skip.Exception, match=name):
        need()


def test_an_absent_need_fails_where_everything_is_required(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("TEXTPRO_REQUIRE_ALL", "1")
    with pytest.raises(pytest.fail.Exception, match="flite"):
        require_program("flite")


def test_recordings_are_demanded_only_where_their_folder_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TEXTPRO_REQUIRE_ALL", "1")
    monkeypatch.delenv("TEXTPRO_DATA", raising=False)
    with pytest.raises(pytest.skip.Exception, match="digits"):
        require_data("digits")
    monkeypatch.setenv("TEXTPRO_DATA", str(tmp_path))
    with pytest.raises(pytest.fail.Exception, match="digits"):
        require_data("digits")
    (tmp_path / "digits").mkdir()
    assert require_data("digits") == tmp_path / "digits"


def test_the_build_machine_installs_every_program_that_a_test_requires() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    lines = [line for line in script.splitlines() if "apt-get install" in line]
    installed = {word for line in lines for word in re.findall(r"[\w.-]+", line)}
    tests = (ROOT / path for path in project_files() if path.parts[0] == "tests" and path.suffix == ".py")
    texts = [path.read_text(encoding="utf-8") for path in tests if path.name != Path(__file__).name]
    required = {name for text in texts for name in re.findall(r"require_program\(\"(\w+)\"\)", text)}
    assert {DEBIAN_PACKAGES[name] for name in required} <= installed
