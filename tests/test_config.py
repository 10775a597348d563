"""Settings: four layers in order, the origin of each value, faults named in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from textpro.config import Settings, load_settings
from textpro.models.errors import InputError
from textpro.streaming.espeak_frames import EspeakVoice


@pytest.fixture(autouse=True)
def nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory; the tests set what they need."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_anything_the_defaults_are_in_effect() -> None:
    loaded = load_settings()
    assert loaded.values == Settings()
    assert {setting.origin for setting in loaded.listed()} == {"default"}


def test_later_layers_win_and_each_value_knows_its_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("textpro.toml").write_text(
        "[voice]\nname = 'en-gb'\nrate_wpm = 150\npitch_percent = 40\n[model]\nslots = 2\n", encoding="utf-8"
    )
    monkeypatch.setenv("TEXTPRO_VOICE__RATE_WPM", "180")
    monkeypatch.setenv("TEXTPRO_VOICE__PITCH_PERCENT", "45")
    loaded = load_settings(command_line={"voice": {"pitch_percent": 60}})
    found = {setting.name: (setting.value, setting.origin) for setting in loaded.listed()}
    assert found["model.slots"] == (2, "textpro.toml")
    assert found["voice.name"] == ("en-gb", "textpro.toml")
    assert found["voice.rate_wpm"] == (180, "TEXTPRO_VOICE__RATE_WPM")
    assert found["voice.pitch_percent"] == (60, "command line")
    assert found["voice.range_percent"] == (50, "default")


def test_a_file_that_is_given_replaces_that_of_the_working_directory(tmp_path: Path) -> None:
    Path("textpro.toml").write_text("[voice]\nname = 'en-gb'\n", encoding="utf-8")
    other = tmp_path / "other.toml"
    other.write_text("[voice]\nrate_wpm = 120\n", encoding="utf-8")
    voice = load_settings(other).values.voice
    assert (voice.name, voice.rate_wpm) == ("en-us", 120)


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        (
            "[voice]\nrate_wpm = 900\n",
            r"textpro\.toml: 'voice\.rate_wpm' is 900: .*less than or equal to 450",
        ),
        (
            "[voice]\nspeed = 9\n",
            r"textpro\.toml: there is no setting 'voice\.speed'; expected one of voice\.",
        ),
        (
            "[vioce]\nname = 'en'\n",
            r"textpro\.toml: there is no setting 'vioce'; expected one of model, voice",
        ),
        ("voice = 3\n", r"textpro\.toml: 'voice' is a group"),
        ("[voice\n", r"textpro\.toml: is no TOML"),
    ],
)
def test_a_fault_in_the_file_is_named_with_its_place(toml: str, message: str) -> None:
    Path("textpro.toml").write_text(toml, encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        load_settings()
    assert "\n" not in str(caught.value)


def test_a_fault_in_the_environment_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTPRO_TURNS__MAX_TURN_MS", "soon")
    with pytest.raises(InputError, match=r"TEXTPRO_TURNS__MAX_TURN_MS: 'turns\.max_turn_ms' is 'soon'"):
        load_settings()


def test_a_variable_that_names_a_whole_group_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTPRO_VOICE", "en-gb")
    with pytest.raises(InputError, match="TEXTPRO_VOICE names a group of settings"):
        load_settings()


def test_variables_of_other_kinds_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTPRO_REQUIRE_ALL", "1")
    assert load_settings().values == Settings()


def test_a_missing_file_that_was_asked_for_is_an_error() -> None:
    with pytest.raises(InputError, match=r"absent\.toml: cannot be read"):
        load_settings(Path("absent.toml"))


def test_every_setting_is_described() -> None:
    assert not [setting.name for setting in load_settings().listed() if not setting.description]


def test_the_default_voice_is_the_synthesizers_own() -> None:
    voice, plain = Settings().voice, EspeakVoice()
    assert (voice.name, voice.variant, voice.rate_wpm) == (plain.name, plain.variant, plain.rate)
    assert (voice.pitch_percent, voice.range_percent) == (plain.pitch, plain.range)
    assert voice.amplitude_percent == plain.amplitude
