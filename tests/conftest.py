"""Fixtures that all tests share: programs and recordings that may be absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from requirements import require_data, require_module, require_program


@pytest.fixture(scope="session")
def flite() -> str:
    """The path of flite, a synthesizer whose voices no training hears."""
    return require_program("flite")


@pytest.fixture(scope="session")
def human_digits() -> Path:
    """The folder of spoken digits by people, `{digit}_{speaker}_{index}.wav`, 8 kHz mono."""
    return require_data("human_digits")


@pytest.fixture
def espeak_library() -> None:
    """espeak-ng, by the extra that brings it."""
    require_module("espeakng_loader")
