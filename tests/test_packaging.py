"""The wheel holds the whole package and works on its own; pins, licences and versions agree with it."""

from __future__ import annotations

import email
import importlib.metadata
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tree import FOLDERS, ROOT, package_files, package_modules, project_files, pyproject

IMPORT_ALL = """
import importlib, sys
for name in sys.argv[2:]:
    file = importlib.import_module(name).__file__
    assert file.startswith(sys.argv[1]), f"{name} was imported from {file}"
"""


@dataclass(frozen=True, slots=True)
class Environment:
    """A new virtual environment that holds the wheel and sees the dependencies of this one."""

    folder: Path
    python: Path


def run(*command: str | Path, cwd: Path) -> str:
    result = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    assert result.returncode == 0, f"{command} failed:\n{result.stdout}\n{result.stderr}"
    return result.stdout


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def direct_dependencies() -> set[str]:
    project = pyproject()["project"]
    extras = project["optional-dependencies"]
    requirements = [*project["dependencies"], *extras["espeak"], *extras["piper"], *extras["mcp"], *extras["dev"]]
    return {re.split(r"[^\w-]", requirement)[0] for requirement in requirements}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "source"
    for path in project_files():
        if path.parts[0] in FOLDERS or len(path.parts) == 1:
            (copy / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, copy / path)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, copy, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    folder = tmp_path_factory.mktemp("environment").resolve()
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    options = ["--disable-pip-version-check", "--no-deps", "--no-index", "--quiet"]
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, wheel, cwd=folder)
    # A path file inside a path file's folder is not read, so an editable install stays out of sight.
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return Environment(folder, python)


def test_the_lists_in_pyproject_name_every_package() -> None:
    packages = [name for name, path in package_modules().items() if path.name == "__init__.py"]
    assert sorted(pyproject()["tool"]["setuptools"]["packages"]) == sorted(packages)


def test_every_folder_with_code_is_a_package() -> None:
    folders = {path.parent for path in package_modules().values()}
    assert not [str(folder) for folder in folders if not (ROOT / folder / "__init__.py").is_file()]


def test_the_wheel_holds_every_module_and_data_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert inside == set(package_files())


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
        assert any(entry.endswith(".dist-info/licenses/LICENSE") for entry in archive.namelist())
    assert metadata["Version"] == pyproject()["project"]["version"]
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Description-Content-Type"] == "text/markdown"


def test_every_module_of_the_wheel_imports_away_from_the_repository(environment: Environment) -> None:
    modules = sorted(package_modules())
    run(environment.python, "-c", IMPORT_ALL, environment.folder, *modules, cwd=environment.folder)


def test_the_wheel_brings_the_command(environment: Environment) -> None:
    script = environment.folder / "bin" / "textpro-agent"
    assert "--wav" in run(script, "--help", cwd=environment.folder)


def test_the_installed_version_is_that_of_the_tree() -> None:
    version = pyproject()["project"]["version"]
    assert importlib.metadata.version("textpro-agent") == version, "run make: the installed version is stale"
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.sub(r"\.dev\d+$", "", version) in changelog, "CHANGELOG.md has nothing on this version"


def test_every_dependency_is_pinned_except_triton() -> None:
    assert direct_dependencies() - pins().keys() == {"triton"}
    assert pins()["torch"] == "2.13.0"


def test_every_pinned_distribution_has_its_licence_listed() -> None:
    listed = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    assert not [name for name in (*pins(), "triton") if f"| {name} |" not in listed]


def test_plain_make_and_the_build_machine_use_the_pins() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "-c constraints.txt -e '.[espeak,piper,mcp,aec,dev]'" in makefile
    assert not re.search(r"\bapt(-get)?\b", makefile)
