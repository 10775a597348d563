"""The conversation of one Realtime connection as its items: in order, in the protocol's form, and as the turns that the
model is to read when a session is opened anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .wire import Json, ProtocolError, Turn, mapping, one_of, optional_string, string, wrong

MAX_ITEMS = 2_000
MAX_TEXT = 100_000
"""Characters of one item."""
MAX_ID = 128


@dataclass(slots=True)
class Item:
    """One item. `text` is what was typed, said or transcribed, the arguments of a call or its output.

    `content` is its content type; `heard` what was heard of a reply that was cut off, None for all of it. `at_ms` and
    `text_at` say where a reply's item begins in the sound and text of the session's reply.
    """

    id: str
    kind: str = "message"
    role: str = "user"
    content: str = "input_text"
    text: str = ""
    status: str = "completed"
    has_transcript: bool = True
    call_id: str = ""
    name: str = ""
    heard: str | None = None
    audio_ms: float = 0.0
    at_ms: float = 0.0
    text_at: int = 0
    clauses: list[tuple[str, float]] = field(default_factory=list)

    def wire(self, so_far: bool = False) -> Json:
        """The protocol's form; a key without a value is left out, which clients need. `so_far`: with the words of a reply
        that is not complete."""
        base: Json = {"id": self.id, "object": "realtime.item", "type": self.kind, "status": self.status}
        if self.kind == "function_call":
            return {**base, "name": self.name, "call_id": self.call_id, "arguments": self.text}
        if self.kind == "function_call_output":
            return {**base, "call_id": self.call_id, "output": self.text}
        return {**base, "role": self.role, "content": self._parts(so_far or self.status != "in_progress")}

    def turns(self) -> tuple[Turn, ...]:
        """What the model reads of it."""
        if self.kind == "function_call":
            return (Turn("call", self.text, self.name),)
        if self.kind == "function_call_output":
            return (Turn("output", self.text),)
        if self.role == "assistant":
            cut = self.heard is not None
            return (Turn("assistant", self.text if self.heard is None else self.heard, cut=cut),)
        return (Turn(self.role, self.text),) if self.text.strip() else ()

    def heard_by(self, audio_ms: float) -> str:
        """The text whose sound had been played by then; inside a clause, as many whole words as its share."""
        text, left = "", audio_ms
        for clause, length_ms in self.clauses:
            if left + 1 >= length_ms:
                text, left = text + clause, left - length_ms
                continue
            words = clause.split(" ")
            return text + " ".join(words[: int(len(words) * max(left, 0) / length_ms)])
        return text

    def _parts(self, has_words: bool) -> list[Json]:
        text = self.text if self.heard is None else self.heard
        match self.content:
            case "input_audio":
                return [{"type": "input_audio", "transcript": text if self.has_transcript else None}]
            case "output_audio":
                return [{"type": "output_audio", "transcript": text}] if has_words else []
            case "output_text":
                return [{"type": "output_text", "text": text}] if has_words else []
        return [{"type": "input_text", "text": text}]


class Items:
    """The items of the conversation, in order."""

    def __init__(self) -> None:
        self._items: list[Item] = []
        self._promised: set[str] = set()

    def __iter__(self) -> Any:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def find(self, item_id: str) -> Item | None:
        """The item of that id, if there is one."""
        return next((item for item in self._items if item.id == item_id), None)

    def get(self, item_id: str, code: str = "invalid_value", param: str = "item_id") -> Item:
        """The item of that id. ProtocolError if there is none."""
        if (item := self.find(item_id)) is None:
            raise ProtocolError(code, f"there is no item {item_id[:MAX_ID]!r} in the conversation", param)
        return item

    def add(self, item: Item, behind: str | None = None) -> str | None:
        """Put a client's item at the end, or behind another ("root": first); gives the id of the item before it.
        ProtocolError where that is not there, the id is taken, or the conversation is full."""
        if len(self._items) >= MAX_ITEMS:
            raise ProtocolError("conversation_too_long", f"the conversation has {MAX_ITEMS} items: delete some, or begin another")
        if self.find(item.id) is not None or item.id in self._promised:
            raise ProtocolError("invalid_value", f"there is an item {item.id!r} already: give each its own id", "item.id")
        at = len(self._items)
        if behind == "root":
            at = 0
        elif behind is not None:
            at = self._items.index(self.get(behind, param="previous_item_id")) + 1
        self._items.insert(at, item)
        return self._items[at - 1].id if at else None

    def promise(self, item_id: str) -> str:
        """An item of the server will have this id, which the client has been told."""
        self._promised.add(item_id)
        return item_id

    def append(self, item: Item) -> str | None:
        """Put an item of the server at the end; gives the id of the item before it."""
        self._promised.discard(item.id)
        before = self.last_id()
        self._items.append(item)
        return before

    def before(self, item: Item) -> str | None:
        """The id of the item before it."""
        at = next((place for place, known in enumerate(self._items) if known is item), 0)
        return self._items[at - 1].id if at else None

    def last_id(self) -> str | None:
        """The id of the last item."""
        return self._items[-1].id if self._items else None

    def read_turns(self, values: list[Any], new_id: Callable[[str], str]) -> tuple[Turn, ...]:
        """The `input` of a response: items, and references to those of the conversation. ProtocolError for a wrong one."""
        items = []
        for at, value in enumerate(values):
            where = f"response.input[{at}]"
            if mapping(value, where).get("type") == "item_reference":
                items.append(self.get(string(value, "id", f"{where}."), param=f"{where}.id"))
            else:
                items.append(read_item(value, new_id("item"), where))
        return tuple(turn for item in items for turn in item.turns())

    def remove(self, item: Item) -> None:
        """Take it out."""
        self._items.remove(item)


def read_item(value: Any, new_id: str, where: str = "item") -> Item:
    """A client's item. ProtocolError where it cannot be used."""
    given = mapping(value, where)
    place = f"{where}."
    item_id = optional_string(given, "id", place) or new_id
    if len(item_id) > MAX_ID or item_id == "root":
        raise wrong(f"{place}id", item_id, f'at most {MAX_ID} characters, and not "root"')
    kind = string(given, "type", place)
    one_of(kind, f"{place}type", ("message", "function_call", "function_call_output"))
    match kind:
        case "function_call":
            arguments = _text(string(given, "arguments", place), f"{place}arguments")
            try:
                mapping(json.loads(arguments), f"{place}arguments")
            except (ValueError, RecursionError):
                raise wrong(f"{place}arguments", arguments, "a JSON object as a string") from None
            call_id = optional_string(given, "call_id", place) or new_id
            return Item(item_id, kind, "", text=arguments, name=string(given, "name", place), call_id=call_id)
        case "function_call_output":
            output = _text(string(given, "output", place), f"{place}output")
            return Item(item_id, kind, "", text=output, call_id=string(given, "call_id", place))
    role = string(given, "role", place)
    one_of(role, f"{place}role", ("user", "assistant", "system"))
    return _message(given, item_id, role, place)


def _message(given: Json, item_id: str, role: str, place: str) -> Item:
    content = given.get("content")
    if not isinstance(content, list):
        raise wrong(f"{place}content", content, "an array of parts")
    texts: list[str] = []
    for at, part in enumerate(content):
        name = f"{place}content[{at}]"
        match mapping(part, name).get("type"):
            case "input_text" | "output_text" | "text":
                texts.append(string(part, "text", f"{name}."))
            case "input_audio" | "output_audio" | "audio" if isinstance(part.get("transcript"), str):
                texts.append(part["transcript"])
            case "input_audio" | "output_audio" | "audio" | "input_image" as kind:
                reason = f"{name} is {kind} without a transcript: send sound with input_audio_buffer.append"
                raise ProtocolError("unsupported_content_type", reason, f"{name}.type")
            case kind:
                raise wrong(f"{name}.type", kind, "input_text, or output_text of the assistant")
    text = _text(" ".join(texts), f"{place}content")
    return Item(item_id, role=role, content="output_text" if role == "assistant" else "input_text", text=text)


def _text(text: str, name: str) -> str:
    if len(text) > MAX_TEXT:
        raise ProtocolError("invalid_value", f"{name} has {len(text)} characters: expected at most {MAX_TEXT}", name)
    return text
