"""The repository's files as the packaging and structure tests see them: folders, package files, texts."""

from __future__ import annotations

import os
import tomllib
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = (
    "kernels", "models", "engine", "streaming", "agent", "serving", "training", "evaluation", "textpro",
)  # fmt: skip
"""The package's folders, from the ground floor up."""


@cache
def pyproject() -> dict[str, Any]:
    """The parsed `pyproject.toml`."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@cache
def project_files() -> tuple[Path, ...]:
    """Every file that `.gitignore` does not name, relative to the root, sorted."""
    lines = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    ignored = [".git", *(line.strip("/") for line in lines if line)]

    def kept(name: str) -> bool:
        return not any(fnmatch(name, pattern) for pattern in ignored)

    found = []
    for folder, subfolders, names in os.walk(ROOT):
        subfolders[:] = filter(kept, subfolders)
        found += [(Path(folder) / name).relative_to(ROOT) for name in filter(kept, names)]
    return tuple(sorted(found))


def package_files() -> dict[str, Path]:
    """Each file of the package by its path inside a wheel (`textpro/agent/events.py`), with its path here."""
    found = {}
    for path in project_files():
        if path.parts[0] == "textpro":
            found[path.as_posix()] = path
        elif path.parts[0] in FOLDERS:
            found[f"textpro/{path.as_posix()}"] = path
    return found


def package_modules() -> dict[str, Path]:
    """Each module of the package by its import name, with its path in the tree."""
    modules = {}
    for inside, path in package_files().items():
        if path.suffix == ".py":
            name = inside.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            modules[name] = path
    return modules
