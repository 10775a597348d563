"""Items of a Realtime conversation as the closed turns that a session goes on from. The words are all there is of them: how
they were spoken is kept only where a session goes on from its own history.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...engine import Entry
from .wire import Turn

if TYPE_CHECKING:
    from ...models.chat import ChatFormat


def entries_of(turns: Sequence[Turn], chat: ChatFormat) -> tuple[Entry, ...]:
    """The turns as rows of the context."""
    ids: list[int] = []
    opening = chat.reply_open()[len(chat.reply_close()) :]
    for turn in turns:
        match turn.kind:
            case "system":
                ids += chat.system(turn.text)
            case "assistant":
                ids += (*opening, *(chat.cut_reply(turn.text) if turn.cut else chat.reply(turn.text)), *chat.reply_close())
            case "call":
                ids += (*opening, *chat.call(turn.name, json.loads(turn.text)), *chat.reply_close())
            case "output":
                ids += (*chat.response(as_object(turn.text))[: -len(chat.reply_open())], *chat.reply_close())
            case _ if words := chat.words(turn.text):
                ids += (*chat.user_open(), *words, *chat.reply_close())
    return tuple(Entry(token) for token in ids)


def as_object(output: str) -> dict[str, object]:
    """What a client's function gave, as a tool's result: a JSON object as it is, anything else as its text."""
    try:
        value = json.loads(output)
    except (ValueError, RecursionError):
        value = output
    return value if isinstance(value, dict) else {"result": value}
