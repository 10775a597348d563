"""The page of settings is what the code says, and its example is a settings file that loads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from textpro.config import Settings, load_settings

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools")


def test_the_page_of_settings_is_up_to_date() -> None:
    import config_page

    assert config_page.render() == PAGE, "run: python tools/config_page.py"


def test_every_setting_has_a_row_with_its_default_and_a_sentence() -> None:
    rows = {name: rest for name, *rest in (re.split(r" \| ", row[2:-2]) for row in PAGE.splitlines() if row.startswith("| `"))}
    names = {f"`{group}.{name}`" for group, field in Settings.model_fields.items() for name in type(field.default).model_fields}
    assert rows.keys() == names and len(names) > 40
    assert rows["`turns.end_silence_ms`"][1] == "whole number, from 40 to 10,000"
    assert rows["`voice.timeout_s`"][1] == "number, above 0 to 120"
    assert rows["`voice.engine`"][1] == "`espeak` or `piper` or `http`"
    assert rows["`model.encoder`"][:2] == ["", "path"]
    assert all(said.endswith(".") for *_, said in rows.values())


def test_the_pages_example_is_a_settings_file(tmp_path: Path) -> None:
    file = tmp_path / "textpro.toml"
    file.write_text(PAGE.split("```toml\n")[1].split("```")[0])
    values = load_settings(file).values
    assert (values.voice.rate_wpm, values.prosody.enabled) == (180, False)
