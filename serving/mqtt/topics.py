"""What is said on which MQTT topic: names, quality of service and payloads (docs/mqtt.md). Pure; everything that a device
sends is checked here and is an InputError that says what was expected.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ...models.errors import AudioError, InputError

PREFIX = "textpro"
STATUS = "status"
AT_MOST_ONCE, AT_LEAST_ONCE = 0, 1
MAX_JSON_BYTES = 64 * 1024
MAX_AUDIO_BYTES = 256 * 1024
_DEVICE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_PREFIX = re.compile(r"[^+#\x00/]+(/[^+#\x00/]+)*")
_HEADER = struct.Struct("!IIIQ")

Pcm = NDArray[np.int16]


class Channel(StrEnum):
    """The part of a topic behind the device's name."""

    HELLO = "hello"
    AUDIO_IN = "audio/in"
    TEXT = "text"
    CONTROL = "control"
    TOOL_RESULT = "tool/result"
    AUDIO_OUT = "audio/out"
    EVENT = "event"
    TOOL_CALL = "tool/call"


FROM_DEVICE = {
    Channel.HELLO: AT_LEAST_ONCE,
    Channel.AUDIO_IN: AT_MOST_ONCE,
    Channel.TEXT: AT_LEAST_ONCE,
    Channel.CONTROL: AT_LEAST_ONCE,
    Channel.TOOL_RESULT: AT_LEAST_ONCE,
}
"""What the agent reads, and with which quality of service; what it says has AT_LEAST_ONCE."""


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics under one prefix, which may have several levels."""

    prefix: str = PREFIX

    def __post_init__(self) -> None:
        if not _PREFIX.fullmatch(self.prefix):
            raise InputError(f"the prefix {self.prefix!r} is no topic: expected levels joined by /, without + and #")

    @property
    def status(self) -> str:
        """Where the agent says whether it is there, retained."""
        return f"{self.prefix}/{STATUS}"

    def of(self, device: str, channel: Channel) -> str:
        """The topic of a device's channel. InputError for a name that is no level of a topic."""
        if not _DEVICE.fullmatch(device):
            raise InputError(f"a device cannot be called {device!r}: expected letters, digits and _.-, at most 64")
        return f"{self.prefix}/{device}/{channel}"

    def subscriptions(self) -> list[tuple[str, int]]:
        """What the agent listens to."""
        return [(f"{self.prefix}/+/{channel}", qos) for channel, qos in FROM_DEVICE.items()]

    def read(self, topic: str) -> tuple[str, Channel] | None:
        """The device and its channel; None for a topic that no device of ours speaks on."""
        head, _, rest = topic.removeprefix(f"{self.prefix}/").partition("/")
        if not topic.startswith(f"{self.prefix}/") or not _DEVICE.fullmatch(head) or rest not in list(FROM_DEVICE):
            return None
        return head, Channel(rest)


@dataclass(frozen=True, slots=True, eq=False)
class AudioPacket:
    """A piece of sound either way: a header of 20 bytes, big-endian (seq, turn_id, sample_rate: uint32; first_sample:
    uint64), then `pcm`, int16 [n] little-endian. To the agent `seq` counts packets from 0 and `first_sample` samples of the
    stream; from the agent `seq` is that of everything it says to the device, and `first_sample` counts within the reply."""

    seq: int
    turn_id: int
    sample_rate: int
    first_sample: int
    pcm: Pcm

    def to_bytes(self) -> bytes:
        """The payload."""
        return _HEADER.pack(self.seq, self.turn_id, self.sample_rate, self.first_sample) + self.pcm.astype("<i2").tobytes()

    @classmethod
    def from_bytes(cls, payload: bytes) -> AudioPacket:
        """AudioError for what is no packet."""
        size = len(payload) - _HEADER.size
        if not 0 <= size <= MAX_AUDIO_BYTES or size % 2:
            raise AudioError(
                f"an audio packet of {len(payload)} bytes: expected {_HEADER.size} of header and up to {MAX_AUDIO_BYTES} of "
                "16-bit samples"
            )
        seq, turn_id, sample_rate, first_sample = _HEADER.unpack_from(payload)
        pcm = np.frombuffer(payload, "<i2", offset=_HEADER.size).astype(np.int16)
        return cls(seq, turn_id, sample_rate, first_sample, pcm)


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class DeviceTool(_Message):
    """A tool that the device offers; the agent publishes calls of it, and waits for the result."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=lambda: {"type": "object", "properties": {}})
    time_limit_s: float = Field(default=10.0, gt=0, le=600)
    confirm: bool | str = False
    filler: str | None = "One moment."
    cancel_on_interrupt: bool = False


class Hello(_Message):
    """Who a device is. `boot` is new at each start of the device: with the same one it has only been away."""

    boot: str = ""
    instructions: str | None = None
    tools: tuple[DeviceTool, ...] = ()
    playback: Literal["acknowledged", "assumed"] = "assumed"
    voice_activity: bool = False


class Typed(_Message):
    """A typed turn. One whose `seq` is not above the last one's is a repetition and not answered again."""

    text: str
    seq: int | None = None


class Commit(_Message):
    """The turn is over."""

    type: Literal["commit"]


class StopReply(_Message):
    """Cut the reply off."""

    type: Literal["interrupt"]


class EndAudio(_Message):
    """No more audio comes for now; an open turn is over."""

    type: Literal["end_audio"]


class Heard(_Message):
    """The device has played the first `total_ms` of the reply of this turn."""

    type: Literal["played"]
    turn_id: int
    total_ms: float = Field(ge=0)


class Confirm(_Message):
    """The user's decision about a call that waits for it."""

    type: Literal["confirm"]
    call_id: str
    accepted: bool


class Resume(_Message):
    """Say everything again that came after `after_seq`."""

    type: Literal["resume"]
    session: str
    after_seq: int = Field(ge=0)


Control = Commit | StopReply | EndAudio | Heard | Confirm | Resume
_CONTROL: TypeAdapter[Control] = TypeAdapter(Annotated[Control, Field(discriminator="type")])


class ToolAnswer(_Message):
    """What came of a tool call: a result, or an error in words."""

    id: str
    result: Any = None
    error: str | None = None


Body = TypeVar("Body", Hello, Typed, ToolAnswer)


def read_json(kind: type[Body], payload: bytes) -> Body:
    """A device's message. InputError that names what does not fit."""
    return _checked(TypeAdapter(kind), kind.__name__, payload)


def read_control(payload: bytes) -> Control:
    """A device's command. InputError that names what does not fit."""
    return _checked(_CONTROL, "control", payload)


def write_json(values: Mapping[str, Any]) -> bytes:
    """A message of the agent."""
    return json.dumps(values, ensure_ascii=False).encode()


Checked = TypeVar("Checked")


def _checked(adapter: TypeAdapter[Checked], name: str, payload: bytes) -> Checked:
    if len(payload) > MAX_JSON_BYTES:
        raise InputError(f"a {name.lower()} message of {len(payload)} bytes: expected at most {MAX_JSON_BYTES}")
    try:
        return adapter.validate_json(payload)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise InputError(f"a {name.lower()} message does not fit: {place + ': ' if place else ''}{fault['msg']}") from None
