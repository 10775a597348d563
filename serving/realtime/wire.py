"""What every part of the Realtime codec writes and reads: commands for the session, server events with their ids, faults
that become `error` events, and readers of a client's JSON that say what was wrong with it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...models.errors import InputError

Json = dict[str, Any]
MAX_DEPTH = 48
"""Nesting of a client's JSON."""


class ProtocolError(InputError):
    """A client event that cannot be done; becomes an `error` that names it, and nothing else happens."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.param = code, param


@dataclass(frozen=True, slots=True)
class Plan:
    """How the session behind the protocol has to be opened. `end_silence_ms` None leaves the server's own; `manual`: the
    client says when a turn ends; `tools` are the client's, in the protocol's form."""

    instructions: str | None = None
    tools: tuple[Json, ...] = ()
    speak: bool = True
    prosody: bool = True
    manual: bool = False
    auto_reply: bool = True
    end_silence_ms: int | None = None
    max_wait_ms: int | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Hear:
    """Give the session sound: int16 [n] at `rate` Hz."""

    pcm: NDArray[np.int16]
    rate: int


@dataclass(frozen=True, slots=True)
class EndTurn:
    """End the user's turn now, which is the item of this id where the client committed it; then call
    `RealtimeCodec.turn_ended`."""

    item_id: str | None = None


@dataclass(frozen=True, slots=True)
class Say:
    """A typed turn of the user, which begins a reply."""

    text: str


@dataclass(frozen=True, slots=True)
class Respond:
    """Begin a reply to what is there."""


@dataclass(frozen=True, slots=True)
class Played:
    """The client has played so much of the running reply."""

    total_ms: float


@dataclass(frozen=True, slots=True)
class Stop:
    """Cut the reply to a turn off, if it is still the running one."""

    turn_id: int


@dataclass(frozen=True, slots=True)
class GiveResult:
    """The client's result of a call that waits; `key` is what `RealtimeCodec.client_call` was given."""

    key: int
    output: str


@dataclass(frozen=True, slots=True)
class Decide:
    """The client's yes or no to a call that waits for the user."""

    call_id: str
    accepted: bool


@dataclass(frozen=True, slots=True)
class Apply:
    """Open the session anew by `plan`, behind `turns`: of the history that it has (`keep`), or of nothing.

    `heard_ms` is the audio that older sessions were given. Without `force` it waits where a turn is open.
    """

    plan: Plan
    turns: tuple[Turn, ...]
    keep: bool
    heard_ms: float
    force: bool = False


@dataclass(frozen=True, slots=True)
class Aside:
    """A reply beside the conversation, in a session of its own that begins with `turns`."""

    response_id: str
    plan: Plan
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class StopAside:
    """End it."""

    response_id: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One item of the conversation as the model is to read it. `kind`: user, system, assistant, call, output; `name` of a
    call, `text` its arguments as JSON; `cut` marks a reply that was not heard to its end."""

    kind: str
    text: str
    name: str = ""
    cut: bool = False


Command = Hear | EndTurn | Say | Respond | Played | Stop | GiveResult | Decide | Apply | Aside | StopAside
Output = Json | Command


def random_id(prefix: str) -> str:
    """A new id, such as item_3f..."""
    return f"{prefix}_{uuid.uuid4().hex[:21]}"


@dataclass(slots=True)
class Outbox:
    """Collects what the codec has to say, in order."""

    new_id: Callable[[str], str] = random_id
    waiting: list[Output] = field(default_factory=list)

    def event(self, type: str, /, **fields: Any) -> None:
        """A server event."""
        self.waiting.append({"type": type, "event_id": self.new_id("event"), **fields})

    def do(self, command: Command) -> None:
        """A command for the session."""
        self.waiting.append(command)

    def error(self, fault: ProtocolError, event_id: str | None) -> None:
        """Tell the client what was wrong with its event."""
        self.fault("invalid_request_error", fault.code, str(fault), fault.param, event_id)

    def fault(self, kind: str, code: str, message: str, param: str | None = None, event_id: str | None = None) -> None:
        """An `error` event."""
        detail = {"type": kind, "code": code, "message": message, "param": param, "event_id": event_id}
        self.event("error", error=detail)

    def take(self) -> list[Output]:
        """All of it; the box is empty then."""
        taken, self.waiting = self.waiting, []
        return taken


def read_message(text: str) -> Json:
    """A client's message as a JSON object. ProtocolError for anything else."""
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("invalid_json", f"the message is no JSON ({error}): send one JSON object per message") from None
    if not isinstance(value, dict):
        raise ProtocolError("invalid_event", f"a message is a JSON object with a type, not {_kind(value)}")
    _check_values(value, MAX_DEPTH)
    return value


def string(event: Mapping[str, Any], key: str, where: str = "") -> str:
    """A string that has to be there."""
    if event.get(key) is None:
        raise ProtocolError("missing_required_parameter", f"{where}{key} is missing", f"{where}{key}")
    return optional_string(event, key, where) or ""


def optional_string(event: Mapping[str, Any], key: str, where: str = "") -> str | None:
    """A string, or None where the client left it out."""
    value = event.get(key)
    if value is not None and not isinstance(value, str):
        raise wrong(f"{where}{key}", value, "a string")
    return value


def number(value: object, name: str, low: float, high: float) -> float:
    """A number within bounds, ends included."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise wrong(name, value, f"a number from {low:g} to {high:g}")
    return value


def mapping(value: object, name: str) -> Json:
    """An object."""
    if not isinstance(value, dict):
        raise wrong(name, value, "an object")
    return value


def one_of(value: object, name: str, expected: tuple[object, ...]) -> None:
    """One of a few values."""
    if not any(value == known and type(value) is type(known) for known in expected):
        raise wrong(name, value, " or ".join(json.dumps(known) for known in expected))


def wrong(name: str, value: object, expected: str) -> ProtocolError:
    """The fault of a value that is not what it should be."""
    shown = json.dumps(value, default=str)
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    return ProtocolError("invalid_value", f"{name} is {shown}: expected {expected}", name)


def _kind(value: object) -> str:
    names = {list: "an array", str: "a string", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _check_values(value: object, depth: int) -> None:
    if depth == 0:
        raise ProtocolError("invalid_event", f"the message is nested more than {MAX_DEPTH} deep")
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ProtocolError("invalid_event", "a string holds half a surrogate pair: send whole characters") from None
    elif isinstance(value, dict):
        for key, inner in value.items():
            _check_values(key, depth - 1)
            _check_values(inner, depth - 1)
    elif isinstance(value, list):
        for inner in value:
            _check_values(inner, depth - 1)
