"""Room in a conversation that grows past its context: the oldest whole turns go, the instructions stay.

A turn is what stands from one opening of the user to the next: words, reply, calls and their results. So the model never
reads half of one. As many go as leave half of the context free, or a fourth where the last turn is too long for that, so it is
seldom done: what stays gets new places and is computed again. Called between turns, when nobody holds a position in the
context.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..engine import Append, Context, Engine, Entry, Truncate
from ..models.chat import ChatFormat

SHORT, WANTED = 4, 2
"""Room is short below a fourth of the context; then half of it is made free."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """What was forgotten: `turns` of the conversation, `entries` of the context."""

    turns: int
    entries: int


async def make_room(
    engine: Engine, context: Context, chat: ChatFormat, history_start: int, needed: int = 0
) -> Dropped | None:
    """Drop the oldest turns behind position `history_start` if room is short, or less than the entries `needed`; None if it is
    not, or there are none. Raises what the engine raises; then the session cannot go on."""
    if context.room * SHORT >= context.capacity and context.room >= needed:
        return None
    entries, capacity = context.entries, context.capacity
    starts = turn_starts(entries, chat, history_start)
    keep_from = context.length
    for free in (max(capacity // WANTED, needed), max(capacity // SHORT, needed)):  # the last turn may be a long one
        kept = capacity - free - history_start
        if fits := [start for start in starts if context.length - start <= kept]:
            keep_from = fits[0]
            break
    if keep_from == history_start:
        return None
    await engine.run(Truncate(context, history_start))
    if stays := tuple(replace(entry, position=None) for entry in entries[keep_from:]):
        await engine.run(Append(context, stays))
    return Dropped(sum(start < keep_from for start in starts), keep_from - history_start)


def turn_starts(entries: Sequence[Entry], chat: ChatFormat, history_start: int) -> list[int]:
    """Positions from `history_start` on where a turn of the user begins; results of tools, which look like one, belong to
    the turn before."""
    opening = chat.user_open()
    result = chat.response({})[: len(opening) + 1]
    ids = tuple(entry.token_id for entry in entries)

    def begins(start: int, form: Sequence[int]) -> bool:
        return ids[start : start + len(form)] == form

    places = range(history_start, len(ids))
    return [start for start in places if begins(start, opening) and not begins(start, result)]
