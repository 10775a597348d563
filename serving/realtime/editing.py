"""What a client does to the items of the conversation: put in, look up, take out, cut to what was heard. Any item at any time;
a cut past the end of an item's sound is a cut at its end, because clients estimate and end a session over an error.
"""

from __future__ import annotations

from .items import Items, read_item
from .known import Known
from .replies import Replies
from .wire import Json, Outbox, ProtocolError, number, optional_string, string

LONGEST_MS = 10**12


class Editing:
    """The `conversation.item` events of one connection."""

    def __init__(self, out: Outbox, items: Items, known: Known, replies: Replies) -> None:
        self._out, self._items, self._known, self._replies = out, items, known, replies

    def create(self, event: Json) -> None:
        """Put an item in; the output of a call goes to the call."""
        behind = optional_string(event, "previous_item_id")
        item = read_item(event.get("item"), self._out.new_id("item"))
        call = self._replies.calls.get(item.call_id) if item.kind == "function_call_output" else None
        if call is not None and call.output is not None:
            raise ProtocolError("invalid_value", f"the call {item.call_id[:80]!r} has its output already", "item.call_id")
        at_end = behind is None or behind == (self._items.last_id() or "root")
        before = self._items.add(item, behind)
        for step in ("added", "done"):
            self._out.event(f"conversation.item.{step}", previous_item_id=before, item=item.wire())
        if call is not None:
            self._replies.result(call, item.text)
        elif at_end:
            self._known.add(item, self._replies.now_ms)
        else:
            self._known.edit(self._replies.now_ms)

    def retrieve(self, event: Json) -> None:
        """Give an item; without its sound, which is not kept."""
        item = self._items.get(string(event, "item_id"), "item_retrieve_invalid_item_id")
        self._out.event("conversation.item.retrieved", item=item.wire())

    def delete(self, event: Json) -> None:
        """Take an item out."""
        item = self._items.get(string(event, "item_id"), "item_delete_invalid_item_id")
        self._items.remove(item)
        self._known.remove(item, self._replies.now_ms)
        self._out.event("conversation.item.deleted", item_id=item.id)

    def truncate(self, event: Json) -> None:
        """Cut a reply's item to what was heard of it."""
        item = self._items.get(string(event, "item_id"), "item_truncate_invalid_item_id")
        if item.role != "assistant" or item.content != "output_audio":
            raise ProtocolError("unsupported_content_type", "Only model output audio messages can be truncated", "item_id")
        index, end = event.get("content_index", 0), event.get("audio_end_ms")
        number(0 if index is None else index, "content_index", 0, 0)
        if end is None:
            raise ProtocolError("missing_required_parameter", "audio_end_ms is missing", "audio_end_ms")
        audio_ms = min(number(end, "audio_end_ms", 0, LONGEST_MS), item.audio_ms)
        whole = audio_ms + 1 >= item.audio_ms and item.status == "completed"
        was_whole = item.heard is None
        if not self._replies.truncate(item, audio_ms) and was_whole and not whole:
            self._known.edit(self._replies.now_ms)
        if not whole:
            item.heard = item.heard_by(audio_ms)
        self._out.event("conversation.item.truncated", item_id=item.id, content_index=0, audio_end_ms=int(end))
