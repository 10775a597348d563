"""One response of the Realtime protocol as its server events: opened, filled with text, sound and calls, closed once.

Every part and item is closed before `response.done`, and nothing names the response afterwards; what comes too late is
dropped here. The order is that of the hosted service, which clients depend on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..session_log import Sound
from .config import AudioFormat
from .items import Item, Items
from .sound import SoundOut
from .wire import Json, Outbox


@dataclass(frozen=True, slots=True)
class ResponseSettings:
    """What the response was asked for. `conversation_id` None: beside the conversation."""

    conversation_id: str | None
    modalities: list[str]
    audio: Json
    max_output_tokens: int | str
    metadata: Json | None = None

    @classmethod
    def of(cls, params: Json, config: Json, conversation_id: str | None) -> ResponseSettings:
        """What `response.create` asks for with `params`; the rest is the session's `config`."""
        asked = (params.get("audio") or {}).get("output") or {}
        audio = {key: asked.get(key) or config["audio"]["output"][key] for key in ("format", "voice")}
        given = {**config, **params}
        modalities, most = given["output_modalities"], given["max_output_tokens"]
        return cls(conversation_id, modalities, {"output": audio}, most, params.get("metadata"))

    @property
    def is_spoken(self) -> bool:
        """Whether its sound is wanted."""
        return self.modalities == ["audio"]


@dataclass(slots=True)
class Usage:
    """Tokens of a response; cached are those that an earlier response of the same session had read."""

    input_text: int = 0
    input_audio: int = 0
    output: int = 0
    cached_text: int = 0
    cached_audio: int = 0

    def wire(self) -> Json:
        """The protocol's form, with all details, which clients read without asking."""
        cached = {"text_tokens": self.cached_text, "audio_tokens": self.cached_audio, "image_tokens": 0}
        entered = self.input_text + self.input_audio
        return {
            "total_tokens": entered + self.output, "input_tokens": entered, "output_tokens": self.output,
            "input_token_details": {
                "text_tokens": self.input_text, "audio_tokens": self.input_audio, "image_tokens": 0,
                "cached_tokens": self.cached_text + self.cached_audio, "cached_tokens_details": cached,
            },
            "output_token_details": {"text_tokens": self.output, "audio_tokens": 0},
        }  # fmt: skip


@dataclass(slots=True)
class Response:
    """Writes to `out`; items of the conversation are added to `items`."""

    id: str
    settings: ResponseSettings
    out: Outbox
    items: Items
    on_item: Callable[[Item], None]
    usage: Usage = field(default_factory=Usage)
    is_closed: bool = False
    output: list[Item] = field(default_factory=list)
    _done: Json | None = None
    _open: Item | None = None
    _sound: SoundOut | None = None

    def begin(self) -> None:
        """Announce it."""
        self.out.event("response.created", response=self._wire("in_progress", None, None))

    def say(self, delta: str) -> None:
        """More text."""
        if not self.is_closed and delta:
            item = self._message()
            item.text += delta
            kind = "output_audio_transcript" if self.settings.is_spoken else "output_text"
            self.out.event(f"response.{kind}.delta", **self._place(item), delta=delta)

    def sound(self, pcm: NDArray[np.int16], rate: int, clause: str) -> float:
        """More sound, of `clause`; gives how many ms of it the client gets."""
        if self.is_closed or not self.settings.is_spoken or not len(pcm):
            return 0.0
        item = self._message()
        if self._sound is None:
            self._sound = SoundOut(AudioFormat.of(self.settings.audio["output"]["format"]))
        if encoded := self._sound.encode(pcm, rate):
            self.out.event("response.output_audio.delta", **self._place(item), delta=encoded)
        length_ms = len(pcm) * 1000 / rate
        if item.clauses and item.clauses[-1][0] == clause:
            item.clauses[-1] = (clause, item.clauses[-1][1] + length_ms)
        else:
            item.clauses.append((clause, length_ms))
        item.audio_ms += length_ms
        return length_ms

    def kept(self, pcm: NDArray[np.int16], rate: int) -> Sound | None:
        """The sound that was given last, so that it can be sent again; None where no item has it."""
        item = self._open
        if item is None or self.is_closed:
            return None
        start_ms = item.audio_ms - len(pcm) * 1000 / rate
        return Sound(item.id, start_ms, rate, pcm, self._place(item), self.settings.audio["output"]["format"])

    def go_on(self, item_id: str, sound: SoundOut) -> bool:
        """All of the open item's sound that the client lacks went through `sound`, and what follows does; False if it is not
        open any more."""
        if self._open is None or self._open.id != item_id or self.is_closed:
            return False
        self._sound = sound
        return True

    def shown(self) -> Json:
        """As it stands."""
        running = {**self._wire("in_progress", None, None), "output": [item.wire(so_far=True) for item in self.output]}
        return running if self._done is None else self._done

    def call(self, name: str, arguments: str, call_id: str) -> None:
        """A call of a client's function, whole."""
        if self.is_closed:
            return
        self._close_message("completed")
        item = Item(self.out.new_id("item"), "function_call", "", status="in_progress", call_id=call_id, name=name)
        self._add(item)
        place = {**self._place(item), "call_id": call_id}
        del place["content_index"]
        self.out.event("response.function_call_arguments.delta", **place, delta=arguments)
        item.text = arguments
        self.out.event("response.function_call_arguments.done", **place, name=name, arguments=arguments)
        self._finish_item(item, "completed")

    def close(self, status: str, reason: str | None = None, error: Json | None = None) -> None:
        """End it; only the first time counts."""
        if self.is_closed:
            return
        self._close_message("completed" if status == "completed" else "incomplete")
        self.is_closed = True
        details: Json | None = None
        if status != "completed":
            details = {"type": status, **({"reason": reason} if reason else {}), **({"error": error} if error else {})}
        self._done = self._wire(status, details, self.usage.wire())
        self.out.event("response.done", response=self._done)

    def _wire(self, status: str, details: Json | None, usage: Json | None) -> Json:
        return {
            "id": self.id, "object": "realtime.response", "status": status, "status_details": details,
            "output": [item.wire() for item in self.output] if usage is not None else [],
            "conversation_id": self.settings.conversation_id, "output_modalities": self.settings.modalities,
            "max_output_tokens": self.settings.max_output_tokens, "audio": self.settings.audio,
            "usage": usage, "metadata": self.settings.metadata,
        }  # fmt: skip

    def _message(self) -> Item:
        """The message that is being said; opened by the first text or sound."""
        if self._open is None:
            content = "output_audio" if self.settings.is_spoken else "output_text"
            item = Item(self.out.new_id("item"), role="assistant", content=content, status="in_progress")
            self._open = item
            self._add(item)
            self.out.event("response.content_part.added", **self._place(item), part=self._part(item))
        return self._open

    def _add(self, item: Item) -> None:
        self.on_item(item)
        self.output.append(item)
        self.out.event("response.output_item.added", response_id=self.id, output_index=self._index(item), item=item.wire())
        if self.settings.conversation_id is not None:
            before = self.items.append(item)
            self.out.event("conversation.item.added", previous_item_id=before, item=item.wire())

    def _close_message(self, status: str) -> None:
        item = self._open
        if item is None:
            return
        place = self._place(item)
        if self.settings.is_spoken:
            if self._sound is not None and status == "completed" and (rest := self._sound.rest()):
                self.out.event("response.output_audio.delta", **place, delta=rest)
            self.out.event("response.output_audio.done", **place)
            self.out.event("response.output_audio_transcript.done", **place, transcript=item.text)
        else:
            self.out.event("response.output_text.done", **place, text=item.text)
        self.out.event("response.content_part.done", **place, part=self._part(item))
        self._finish_item(item, status)
        self._open = self._sound = None

    def _finish_item(self, item: Item, status: str) -> None:
        item.status = status
        if self.settings.conversation_id is not None:
            self.out.event("conversation.item.done", previous_item_id=self.items.before(item), item=item.wire())
        self.out.event("response.output_item.done", response_id=self.id, output_index=self._index(item), item=item.wire())

    def _part(self, item: Item) -> Json:
        return {"type": "audio", "transcript": item.text} if self.settings.is_spoken else {"type": "text", "text": item.text}

    def _place(self, item: Item) -> Json:
        return {"response_id": self.id, "item_id": item.id, "output_index": self._index(item), "content_index": 0}

    def _index(self, item: Item) -> int:
        return next(place for place, known in enumerate(self.output) if known is item)
