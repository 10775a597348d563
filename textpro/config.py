"""The settings of `textpro-agent`, and where each came from. Four layers, the later ones win: the defaults
below, `textpro.toml` (of the working directory, or the file given), the environment
(`TEXTPRO_VOICE__RATE_WPM=180`), the command line. `Settings(...)` itself reads nothing but its arguments;
`load_settings` puts the layers together.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from .models.errors import InputError

FILE_NAME = "textpro.toml"
ENV_PREFIX = "TEXTPRO_"
ENV_DELIMITER = "__"
COMMAND_LINE = "command line"
DEFAULT = "default"


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ModelSettings(_Group):
    """Which model answers."""

    name: str = "tiny"
    """`tiny` (the bundled one), another preset of `textpro-agent models`, or the path of a checkpoint folder."""
    encoder: Path | None = None
    """Folder of any Whisper; with `backbone`, in place of `name`."""
    backbone: Path | None = None
    """Folder of any chat model of the ChatML kind; with `encoder`, in place of `name`."""
    device: str = "auto"
    """Where it computes: cpu, cuda, cuda:1; auto takes a GPU for all but the bundled kind, which computes on the CPU."""
    slots: int = Field(default=4, ge=1, le=1024)
    """Conversations that one model process serves at once."""
    max_load: float | None = Field(default=None, gt=0, le=1)
    """Share of the engine's time that sessions may fill by measured cost; empty: slots alone count."""
    max_sessions: int | None = Field(default=None, ge=1, le=100_000)
    """Open conversations, if more than slots: those that rest leave their slot to others."""
    threads: int | None = Field(default=None, ge=1, le=1024)
    """CPU threads of torch; empty: torch's own choice, but one fewer than there are cores at most."""


class VoiceSettings(_Group):
    """How the replies sound (docs/voices.md)."""

    enabled: bool = True
    """Whether replies are spoken at all, or text only."""
    engine: Literal["espeak", "piper", "http"] = "espeak"
    """Who speaks: espeak-ng, a Piper voice file, or an HTTP endpoint."""
    follow_tone: bool = True
    """Whether replies sound after how the user sounded."""
    name: str = Field(default="en-us", min_length=1)
    """Accent: en-us, en-gb, en-gb-scotland, ..."""
    variant: str | None = None
    """Speaker of the accent: f2, m3, ...; empty for the accent's own."""
    rate_wpm: int = Field(default=165, ge=80, le=450)
    """Words per minute."""
    pitch_percent: int = Field(default=50, ge=0, le=100)
    """Pitch, 0 low to 100 high."""
    range_percent: int = Field(default=50, ge=0, le=100)
    """How much the pitch moves, 0 monotone to 100 lively."""
    amplitude_percent: int = Field(default=100, ge=0, le=300)
    """Loudness; 100 is plain."""
    file: Path | None = None
    """Voice file of Piper (.onnx, its .onnx.json beside it)."""
    speaker: int | None = Field(default=None, ge=0)
    """Speaker of a Piper file with several."""
    url: str | None = None
    """Base URL of the HTTP endpoint, such as http://localhost:8880/v1."""
    http_model: str = "tts-1"
    """Model to ask the HTTP endpoint for."""
    http_voice: str = "alloy"
    """Voice to ask the HTTP endpoint for."""
    api_key_variable: str | None = None
    """Environment variable that holds the endpoint's key."""
    timeout_s: float = Field(default=10.0, gt=0, le=120)
    """Seconds that the endpoint may keep silent."""


class TurnSettings(_Group):
    """When the user's turn is over."""

    soft_end_silence_ms: int = Field(default=100, ge=40, le=5000)
    """Milliseconds of silence after which a reply is prepared, though the turn may still go on."""
    end_silence_ms: int = Field(default=640, ge=40, le=10_000)
    """Milliseconds of silence that end the turn where endpointing is vad."""
    max_turn_ms: int = Field(default=180_000, ge=1000, le=600_000)
    """Milliseconds after which a turn ends in any case."""
    endpointing: Literal["auto", "model", "vad"] = "auto"
    """What ends a turn: model (the probability that it is over), vad (silence alone), auto (what the model is calibrated for)."""
    sure_p_end: float = Field(default=0.7, ge=0, le=1)
    """Probability of the end from which the shortest silence is enough; at the default the checkpoint's own counts, if any."""
    sure_silence_ms: int = Field(default=200, ge=40, le=10_000)
    """That silence, in milliseconds."""
    unsure_p_end: float = Field(default=0.2, ge=0, le=1)
    """Probability of the end up to which the longest silence is needed; at the default the checkpoint's own counts, if any."""
    unsure_silence_ms: int = Field(default=2000, ge=40, le=10_000)
    """That silence, in milliseconds."""


class ListeningSettings(_Group):
    """How speech becomes words."""

    policy: Literal["agreement", "alignment", "both"] = "both"
    """What makes a word count as heard while speech goes on: two passes agree, its place in the sound is sure, both."""
    final_pass: Literal["replace", "keep"] = "replace"
    """Whether the last pass over a turn may replace what was committed, or keeps it."""
    language: str | None = None
    """Language of the user, as en, for a recognizer of many; empty: found once and kept."""
    behind_ms: int = Field(default=500, ge=0, le=60_000)
    """Milliseconds of sound that may wait to be heard before recognition during speech is left out until it has caught up."""


class ProsodySettings(_Group):
    """How the user sounds; personal data."""

    enabled: bool = True
    """Whether it is used, sent and kept at all."""


class AudioSettings(_Group):
    """The microphone and the loudspeaker of --mic."""

    input_device: str | None = None
    """Microphone, by index or part of the name; empty for the system's default."""
    output_device: str | None = None
    """Loudspeaker, by index or part of the name; empty for the system's default."""
    half_duplex: bool = False
    """Whether the microphone is deaf while the agent speaks, for loudspeakers that it hears too."""
    push_to_talk: bool = False
    """Whether the microphone is heard only while talking is switched on with the space key."""
    echo: Literal["off", "guard", "cancel"] = "guard"
    """The agent's own voice in the microphone: guard (told from the user's), cancel (taken out before; extra aec), off."""


class OutputSettings(_Group):
    """What the command shows and writes."""

    view: Literal["auto", "live", "plain", "json"] = "auto"
    """`auto`: live on a terminal, plain lines elsewhere; `json`: one event per line."""
    replies: Path | None = None
    """Where spoken replies go: a .wav file (later replies get _2, _3, ...) or a folder (reply_1.wav, ...)."""
    transcript: Path | None = None
    """Where the conversation is written down: a .md or .json file that is not there yet, readable by its owner alone."""
    record: Path | None = None
    """Folder in which each session is written down for a replay, readable by its owner alone."""
    record_days: int | None = Field(default=None, ge=1, le=36_500)
    """Days that recordings in that folder are kept: older ones are deleted when the next one begins; empty: for good."""
    log_level: Literal["debug", "info", "warning", "error"] = "warning"
    """What libraries and the runtime may log to stderr."""


class Settings(BaseSettings):
    """All settings, by group."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_nested_delimiter=ENV_DELIMITER, extra="forbid", frozen=True)

    model: ModelSettings = ModelSettings()
    voice: VoiceSettings = VoiceSettings()
    turns: TurnSettings = TurnSettings()
    listening: ListeningSettings = ListeningSettings()
    prosody: ProsodySettings = ProsodySettings()
    audio: AudioSettings = AudioSettings()
    output: OutputSettings = OutputSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Nothing but the arguments: `load_settings` adds the other layers, in the open."""
        return (init_settings,)


@dataclass(frozen=True, slots=True)
class Setting:
    """One effective setting: `name` is group.field, `origin` where its value came from."""

    name: str
    value: object
    origin: str
    description: str


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """The effective settings; `origins` names the layer of each setting that is not a default, by
    group.field."""

    values: Settings
    origins: Mapping[str, str]

    def listed(self) -> Iterator[Setting]:
        """Every setting, in the order of their definition."""
        for group_name in type(self.values).model_fields:
            group = getattr(self.values, group_name)
            for field_name, field in type(group).model_fields.items():
                name = f"{group_name}.{field_name}"
                origin = self.origins.get(name, DEFAULT)
                yield Setting(name, getattr(group, field_name), origin, field.description or "")


def load_settings(config: Path | None = None, command_line: Mapping[str, Mapping[str, object]] | None = None) -> LoadedSettings:
    """Put the layers together: the file `config` (without it `textpro.toml` of the working directory, if
    there is one), the environment, and `command_line` (group -> field -> value).

    Raises InputError, one line that names the setting and its origin, for a file that is missing or no TOML,
    a setting that does not exist, and a value that does not fit.
    """
    file = config or Path(FILE_NAME)
    layers: list[tuple[str, Mapping[str, Any]]] = []
    if config is not None or file.is_file():
        layers.append((str(file), _read_toml(file)))
    layers += [("environment", _read_environment()), (COMMAND_LINE, command_line or {})]
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer, groups in layers:
        for group, fields in groups.items():
            if not isinstance(fields, Mapping):
                raise InputError(f"{layer}: '{group}' is a group of settings; expected {group}.<name> = value.")
            for name, value in fields.items():
                merged.setdefault(group, {})[name] = value
                origins[f"{group}.{name}"] = _variable(group, name) if layer == "environment" else layer
    try:
        settings = Settings(**merged)
    except ValidationError as error:
        raise InputError(_explained(error, origins)) from None
    return LoadedSettings(settings, origins)


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); give a settings file.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: is no TOML ({error}).") from None


def _read_environment() -> dict[str, Any]:
    try:
        found = EnvSettingsSource(Settings)()
    except SettingsError:
        names = sorted(
            name for name in os.environ
            if name.upper().removeprefix(ENV_PREFIX).lower() in Settings.model_fields
        )  # fmt: skip
        expected = _variable("voice", "name")
        raise InputError(f"{', '.join(names)} names a group of settings; expected e.g. {expected}.") from None
    return found


def _variable(group: str, name: str) -> str:
    return f"{ENV_PREFIX}{group}{ENV_DELIMITER}{name}".upper()


def _explained(error: ValidationError, origins: Mapping[str, str]) -> str:
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"])
    origin = next((origin for name, origin in origins.items() if name.startswith(place)), None)
    known = ", ".join(_names(str(problem["loc"][0])))
    if problem["type"] == "extra_forbidden":
        message = f"there is no setting '{place}'; expected one of {known}."
    else:
        reason = str(problem["msg"])
        message = f"'{place}' is {problem['input']!r}: {reason[:1].lower()}{reason[1:]}."
    return f"{origin}: {message}" if origin else message


def _names(group: str) -> list[str]:
    field = Settings.model_fields.get(group)
    if field is None:
        return list(Settings.model_fields)
    return [f"{group}.{name}" for name in type(field.default).model_fields]
