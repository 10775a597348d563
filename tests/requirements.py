"""What a test may need beyond the Python packages, each skipped by name where it is absent.

With `TEXTPRO_REQUIRE_ALL=1` (a build machine, which installs everything) such a skip is a failure instead. A
GPU is never demanded, and recordings only where `TEXTPRO_DATA` says that they are there.
"""

from __future__ import annotations

import importlib
import os
import shutil
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest

DEBIAN_PACKAGES = {
    "flite": "flite",
    "pulseaudio": "pulseaudio",
    "pactl": "pulseaudio-utils",
    "mosquitto": "mosquitto",
    "chromium": "chromium",
    "festival": "festvox-kdlpc16k",
    "openssl": "openssl",
}
"""Programs that tests use, with the Debian package of each; `.ci/run` installs what some test requires."""


def require_program(name: str) -> str:
    """The path of a program of `DEBIAN_PACKAGES`; skips or fails the test where it is not installed."""
    package = DEBIAN_PACKAGES[name]
    return shutil.which(name) or absent(f"needs the program '{name}' (Debian package {package})")


def require_module(name: str) -> ModuleType:
    """The imported module; skips or fails the test where it, or a library it loads, is not installed."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        absent(f"needs the module '{name}' ({error})")


def require_data(name: str) -> Path:
    """The folder `name` of recordings under `TEXTPRO_DATA`, no part of the project; skips without them."""
    folder = os.environ.get("TEXTPRO_DATA")
    if not folder:
        pytest.skip(f"needs the recordings '{name}': set TEXTPRO_DATA to the folder that holds them")
    path = Path(folder) / name
    if not path.is_dir():
        absent(f"needs the recordings '{name}', which TEXTPRO_DATA ({folder}) does not hold")
    return path


def require_cuda() -> str:
    """The name of the CUDA device; skips without one."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return torch.cuda.get_device_name()


def absent(reason: str) -> NoReturn:
    if os.environ.get("TEXTPRO_REQUIRE_ALL") == "1":
        pytest.fail(f"{reason}; TEXTPRO_REQUIRE_ALL=1 allows no skip", pytrace=False)
    pytest.skip(reason)
