"""A conversation as a YAML file: what a user does, and what must and must not come of it (docs/scenarios.md).

Read by `read_scenario`, which names file, line and step of whatever is wrong. Times are milliseconds of virtual time.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from ..agent import events
from ..agent.session_settings import SessionSettings
from ..models.errors import InputError, TextProError
from ..training.voices import TONE_SETTINGS
from .simulate_costs import COSTS
from .simulate_settings import session_settings

OWN_EVENTS = ("sound_start", "sound_end", "tool_run")
"""What the simulation adds to the session's events: the first sample of a reply is heard, its sound is over, a tool runs."""
EVENTS = (
    *(
        re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
        for name, kind in vars(events).items()
        if inspect.isclass(kind) and issubclass(kind, events.Event) and kind is not events.Event
    ),
    *OWN_EVENTS,
)
DEFAULT_WITHIN_MS = 8_000


def _known(name: str) -> str:
    if name not in EVENTS:
        raise ValueError(f"there is no event {name!r}; expected one of {', '.join(EVENTS)}")
    return name


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Speaker(_Part):
    """A voice of espeak-ng, and its tone."""

    accent: str = "en-us"
    variant: str | None = None
    tone: Literal["plain", "happy", "sad", "angry"] = "plain"
    rate: float = Field(default=1.0, ge=0.5, le=2.0)
    """Against the tone's own speed."""
    gain_db: float = Field(default=0.0, ge=-40, le=20)

    @property
    def settings(self) -> tuple[int, int, int, int]:
        """Rate, pitch, range and amplitude as espeak-ng takes them."""
        rate, pitch, spread, amplitude = TONE_SETTINGS[self.tone]
        return round(rate * self.rate), round(pitch), round(spread), round(amplitude)


class _Step(_Part):
    absent: list[str] = []
    """Events that must not come during this step."""

    _lists = field_validator("absent", mode="before")(_listed)

    @field_validator("absent")
    @classmethod
    def _events(cls, names: list[str]) -> list[str]:
        return [_known(name) for name in names]


class Say(_Step):
    """Speak: words, and between them pauses in milliseconds, which are cut into the sentence spoken as a whole."""

    say: list[str | int]
    at_reply_ms: int | None = Field(default=None, ge=0)
    """Begin when so much of the agent's reply was heard."""
    voice: Speaker | None = None

    _says = field_validator("say", mode="before")(_listed)

    @field_validator("say")
    @classmethod
    def _spoken(cls, parts: list[str | int]) -> list[str | int]:
        if not parts or isinstance(parts[0], int) or any(type(a) is type(b) for a, b in pairwise(parts)):
            raise ValueError("expected words, or a list of words and pauses in ms in turns that begins with words")
        return parts


class Type(_Step):
    """Send a typed turn."""

    type: str = Field(min_length=1)


class Silence(_Step):
    """Say nothing."""

    silence: int = Field(ge=0, le=20_000)


class Noise(_Step):
    """A sound that is no speech."""

    noise: Literal["white", "pink", "brown", "hum", "clicks"]
    for_ms: int = Field(default=500, ge=20, le=10_000)
    level_db: float = Field(default=-20.0, ge=-60, le=0)
    at_reply_ms: int | None = Field(default=None, ge=0)


class Press(_Step):
    """What a client does by a button: end the turn, cut the reply off, decide on a waiting call."""

    press: Literal["commit", "interrupt", "accept", "refuse"]
    at_reply_ms: int | None = Field(default=None, ge=0)


class Expect(_Step):
    """Wait silently for the next event of this kind."""

    expect: str
    within_ms: int = Field(default=DEFAULT_WITHIN_MS, ge=0, le=30_000)
    since: Literal["act", "speech_start", "speech_end", "step", "sound_start"] = "act"
    """What `within_ms` counts from; `act` is the end of the last thing that the user did."""
    after_ms: int = Field(default=0, ge=0)
    """Not earlier than this."""
    text: str | None = None
    contains: list[str] = []
    lacks: list[str] = []
    heard: Literal["all", "part", "nothing"] | None = None
    heard_text: str | None = None
    tool: str | None = None
    arguments: dict[str, Any] | None = None
    fields: dict[str, Any] = {}

    _texts = field_validator("contains", "lacks", mode="before")(_listed)
    _event = field_validator("expect")(_known)


class Absent(_Part):
    """Stay silent, and none of these events may come."""

    absent: list[str]
    for_ms: int = Field(ge=20, le=20_000)

    _lists = field_validator("absent", mode="before")(_listed)

    @field_validator("absent")
    @classmethod
    def _events(cls, names: list[str]) -> list[str]:
        return [_known(name) for name in names]


class Memory(_Part):
    """What the context, spelled, must hold in this order and must not hold. `<cut>` stands for the cut-off mark."""

    memory: Literal["holds", "lacks"]
    words: list[str] = Field(min_length=1)

    _lists = field_validator("words", mode="before")(_listed)


KINDS: dict[str, type[_Part]] = {
    "say": Say, "type": Type, "silence": Silence, "noise": Noise, "press": Press,
    "expect": Expect, "memory": Memory, "absent": Absent,
}  # fmt: skip


def _kind(value: Any) -> str | None:
    if isinstance(value, dict):
        return next((name for name in KINDS if name in value), None)
    return next((name for name, kind in KINDS.items() if isinstance(value, kind)), None)


AnyStep = Say | Type | Silence | Noise | Press | Expect | Memory | Absent
Step = Annotated[
    Annotated[Say, Tag("say")]
    | Annotated[Type, Tag("type")]
    | Annotated[Silence, Tag("silence")]
    | Annotated[Noise, Tag("noise")]
    | Annotated[Press, Tag("press")]
    | Annotated[Expect, Tag("expect")]
    | Annotated[Memory, Tag("memory")]
    | Annotated[Absent, Tag("absent")],
    Discriminator(
        _kind, custom_error_type="step", custom_error_message=f"a step has one of these as its first word: {', '.join(KINDS)}"
    ),
]


class ScriptedTool(_Part):
    """How one of the demo tools behaves here."""

    name: str
    takes_ms: int = Field(default=0, ge=0)
    result: dict[str, Any] = {"ok": True}
    fails: str | None = None
    confirm: bool | str = False
    filler: str | None = "One moment."
    time_limit_s: float = Field(default=10.0, gt=0)
    cancel_on_interrupt: bool = False


class Line(_Part):
    """The way of the sound between user and session."""

    rate: int = Field(default=16_000, ge=8_000, le=48_000)
    """Samples per second in which the user's sound arrives."""
    piece_ms: int = Field(default=20, ge=20, le=2_000)
    """It arrives in pieces of this length; a multiple of 20."""
    noise_db: float = Field(default=-70.0, ge=-100, le=-10)
    """The room."""
    echo_db: float | None = Field(default=None, ge=-60, le=0)
    """How loud the microphone hears the agent; nothing: wears headphones."""
    echo_delay_ms: int = Field(default=40, ge=0, le=400)
    """How much later; a multiple of 20."""
    echo_room_ms: int = Field(default=0, ge=0, le=600)
    """How long the room's reverberation takes to decay by 60 dB."""
    acknowledges: bool = True
    """Whether the client says what it has played."""

    @field_validator("piece_ms", "echo_delay_ms")
    @classmethod
    def _frames(cls, value: int) -> int:
        if value % 20:
            raise ValueError("expected a multiple of 20 ms")
        return value


class Scenario(_Part):
    """One conversation."""

    name: str = Field(min_length=5)
    about: str = Field(min_length=5)
    """The complaint that it guards against, with its source."""
    voice: Speaker = Speaker()
    line: Line = Line()
    session: dict[str, Any] = {}
    """Fields of SessionSettings; groups such as `turns` are mappings of their own."""
    costs: str = "zero"
    tools: list[ScriptedTool] = []
    steps: list[Step] = []
    totals: dict[str, int] = {}
    """How often an event has come by the end."""
    kind: Literal["talk", "replay"] = "talk"
    """replay: a recorded session is led again, and its events must be the same; it has a recording and no steps."""
    recording: Path | None = None
    """The file that --record wrote, seen from the scenario's folder."""
    path: Path = Path("scenario")
    lines: tuple[int, ...] = ()
    """Where each step begins in the file."""

    @field_validator("costs")
    @classmethod
    def _table(cls, name: str) -> str:
        if name not in COSTS:
            raise ValueError(f"there is no table of costs {name!r}; expected one of {', '.join(COSTS)}")
        return name

    @field_validator("totals")
    @classmethod
    def _events(cls, totals: dict[str, int]) -> dict[str, int]:
        return {_known(name): count for name, count in totals.items()}

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Scenario:
        if self.kind == "talk" and (self.recording is not None or not self.steps):
            raise ValueError("steps: a conversation has at least one step and no recording; kind: replay has a recording")
        if self.kind == "replay" and (self.recording is None or self.steps):
            raise ValueError("recording: kind: replay names a recording and has no steps")
        return self

    @property
    def recording_path(self) -> Path:
        """Where the recording of a replay is."""
        return self.path.parent / (self.recording or "")

    @model_validator(mode="after")
    def _settings(self) -> Scenario:
        self.session_settings()
        return self

    def session_settings(self) -> SessionSettings:
        """What the session is opened with."""
        playback = "acknowledged" if self.line.acknowledges else "assumed"
        try:
            return session_settings({"playback": playback, **self.session})
        except TextProError as error:
            raise ValueError(str(error)) from None


class _Loader(yaml.SafeLoader):
    """YAML in which `on`, `off`, `yes` and `no` are words, as in YAML 1.2."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))


def read_scenario(path: Path) -> Scenario:
    """InputError, one line: file, line, step, what was expected."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); give a scenario, a .yaml file") from None
    return parse_scenario(text, path)


def parse_scenario(text: str, path: Path) -> Scenario:
    """The same from text."""
    try:
        tree = yaml.compose(text, Loader=_Loader)
        values = yaml.load(text, Loader=_Loader)  # a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 1
        raise InputError(f"{path}:{line}: no YAML: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}:1: expected a mapping with name, about and steps")
    steps = values.get("steps")
    count = len(steps) if isinstance(steps, list) else 0
    lines = tuple(_line_of(tree, ("steps", index)) for index in range(count))
    try:
        return Scenario.model_validate({**values, "path": path, "lines": lines})
    except ValidationError as error:
        problem = error.errors()[0]
        place = problem["loc"]
        step = ""
        if place[:1] == ("steps",) and len(place) > 1:
            step = f"step {int(place[1]) + 1}: "
            place = (*place[:2], *place[3:]) if len(place) > 3 else place  # without the kind of the step
        names = [str(part) for part in place if isinstance(part, str) and part != "steps"]
        where = f"{'.'.join(names)}: " if names else ""
        message = str(problem["msg"]).removeprefix("Value error, ")
        raise InputError(f"{path}:{_line_of(tree, place)}: {step}{where}{message[:1].lower()}{message[1:]}") from None


def _line_of(node: yaml.Node | None, place: Sequence[str | int]) -> int:
    """Line, from 1, of the deepest node on the way to `place` that there is; the file may lack the rest."""
    line = 1
    for part in place:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == part), None)
            if found is None:
                continue
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line
