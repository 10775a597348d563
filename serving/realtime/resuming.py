"""What a lost connection leaves and a later one finds: the conversation as a log, and what a client that comes back is told.

It is told everything at once instead of what it missed: the items with their words so far, the last response, and then the
sound that it has not played, so it makes no difference whether the session stayed, was opened anew, or the server restarted.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from ..session_log import HeardMark, SessionLog
from .extensions import Extensions
from .hearing import Hearing
from .items import Item, Items
from .known import Known
from .replies import Replies, Running
from .wire import Json, Outbox, Output

WHOLE_CONTEXT = -1
_FIELDS = tuple(field.name for field in fields(Item))


class Resuming:
    """Of one conversation."""

    def __init__(
        self, out: Outbox, items: Items, hearing: Hearing, replies: Replies, known: Known, extensions: Extensions
    ) -> None:
        self._out, self._items, self._hearing, self._replies = out, items, hearing, replies
        self._known, self._extensions = known, extensions

    @property
    def is_wanted(self) -> bool:
        """Whether the client may come back when its connection is lost."""
        return self._extensions.resumes

    @property
    def mark(self) -> HeardMark | None:
        """What the client said last that it has played."""
        return self._replies.mark

    def leave(self, now_ms: float) -> list[Output]:
        """The connection is lost, and the client may come back."""
        self._replies.now_ms = now_ms
        self._replies.leave()
        self._hearing.leave()
        return self._out.take()

    def refuse(self, reason: str) -> list[Output]:
        """What the client wanted to resume is not there."""
        self._out.fault("invalid_request_error", "resume_refused", reason, "textpro-resume")
        return self._out.take()

    def remember(self, config: Json, conversation_id: str) -> tuple[SessionLog, int | None]:
        """The log without its entries, and how many rows of the session's input these are: None for its history as it stands,
        `WHOLE_CONTEXT` for all."""
        reach: int | None = None
        unread = {item.id for item in self._known.unread}
        items: dict[str, Item] = {item.id: item for item in self._items}
        running = self._replies.running
        if running is not None and running.is_spoken and not running.is_cut:
            reach = WHOLE_CONTEXT
        elif running is not None:
            reach = running.context_tokens
            begin = 1 + next((at for at, key in enumerate(items) if key == running.behind), -1)
            for item_id in list(items)[begin:]:
                unread.add(item_id)
                items[item_id] = _as_heard(items[item_id], running)
        speech = self._hearing.speech
        if self._hearing.reply_due and speech is not None and speech.committed is not None:
            unread.add(speech.committed.id)
        over, spoken = self._hearing.unfinished
        for item in (*over, *spoken):
            items[item.id] = item
        unread |= {item.id for item in spoken}
        state = {
            "conversation_id": conversation_id, "fed_ms": self._hearing.covered_ms, "tokens": self._hearing.tokens,
        }  # fmt: skip
        log = SessionLog(
            config["id"],
            "",
            config,
            items=tuple(_record(item) for item in items.values()),
            unread=tuple(item_id for item_id in items if item_id in unread),
            unheard=self._replies.unheard,
            heard=self._replies.mark,
            state=state,
        )
        return log, reach

    def restore(self, log: SessionLog) -> None:
        """Go on from a log."""
        for record in log.items:
            self._items.append(Item(**record))
        self._known.go_on([item for item in self._items if item.id in log.unread])
        self._hearing.fed_ms = self._hearing.base_ms = float(log.state["fed_ms"])
        self._hearing.tokens = int(log.state["tokens"])
        self._replies.leftover, self._replies.mark = log.unheard, log.heard
        self._extensions.go_on()

    def come_back(self, config: Json, now_ms: float) -> list[Output]:
        """What the client is told that has another connection, or whose conversation was restored."""
        hearing, replies = self._hearing, self._replies
        replies.now_ms = now_ms
        unheard, speech = replies.unheard, hearing.speech
        speaking = hearing.turn_open and speech is not None and speech.is_announced
        self._out.event("session.created", session=config)
        self._out.event(
            "textpro.resumed",
            items=[item.wire(so_far=True) for item in self._items],
            response=None if replies.latest is None else replies.latest.shown(),
            speech=None if not speaking or speech is None else {"item_id": speech.item_id},
            input_audio_ms=int(hearing.fed_ms),
            audio=[
                {"item_id": sound.item_id, "audio_start_ms": round(sound.start_ms), "audio_end_ms": round(sound.end_ms)}
                for sound in unheard
            ],
        )
        replies.come_back(unheard)
        return self._out.take()


def _as_heard(item: Item, running: Running) -> Item:
    """An item of a reply that is not complete, as it is if nothing more of it comes."""
    if item.kind != "message" or item.role != "assistant":
        return item
    if item.content != "output_audio":
        return replace(item, heard=item.text, status="incomplete")
    end_ms = item.audio_ms
    if running.is_cut:
        end_ms = min(end_ms, max(0.0, running.cut_played_ms - item.at_ms))
    return replace(item, heard=item.heard_by(end_ms), status="incomplete")


def _record(item: Item) -> dict[str, Any]:
    return {name: getattr(item, name) for name in _FIELDS} | {"clauses": list(item.clauses)}
