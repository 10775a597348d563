"""Keeps the user's running turn in the backbone's context: markers with prosody before each group of words.

Groups that are complete are appended while the user speaks. At a soft end the context is compared with the checkpoint's
layout of the whole turn, cut back to the longest equal prefix and completed in one forward, so the input is exactly the
offline one whatever was appended before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..engine import Append, Context, Engine, Entry, Truncate
from ..models.chat import ChatFormat
from ..models.fusion import Fusion, enough_vectors, user_rows

Vectors = Sequence[NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Synced:
    """The probability that the turn ends here, where it was asked for, and the engine's time."""

    p_end: float | None
    seconds: float


class Interleaver:
    """The user's side of one context."""

    def __init__(self, engine: Engine, context: Context, chat: ChatFormat, fusion: Fusion) -> None:
        self._engine, self._context, self._chat, self._fusion = engine, context, chat, fusion
        self._base: int | None = None

    async def open(self) -> None:
        """Begin the user's turn behind what is in the context."""
        if self._base is None:
            self._before = self._context.length
            await self._append(self._chat.user_open())
            self._base = self._context.length

    async def drop(self) -> None:
        """Take the whole turn out of the context: it held no words."""
        if self._base is not None:
            await self._engine.run(Truncate(self._context, self._before))
            self._base = None

    async def stream(self, tokens: Sequence[int], vectors: Vectors | None) -> Synced:
        """Bring the complete groups of what is committed into the context, as far as they are final already."""
        if group := self._fusion.final_group:
            complete = len(tokens) // group * group
            return await self._sync(tokens[:complete], vectors[:complete] if vectors is not None else None, ())
        return Synced(None, 0.0)

    async def complete(self, tokens: Sequence[int], vectors: Vectors | None) -> Synced:
        """Make the context hold exactly the whole turn and give the probability that it ends here."""
        return await self._sync(tokens, vectors, (self._chat.turn_end_id,))

    def close(self) -> None:
        """The turn is over; its rows stay."""
        self._base = None

    async def _sync(self, tokens: Sequence[int], vectors: Vectors | None, probe: tuple[int, ...]) -> Synced:
        await self.open()
        assert self._base is not None
        stacked = enough_vectors(np.stack(vectors), len(tokens), self._fusion) if vectors else None
        entries = tuple(Entry(row.token_id, row.vector) for row in user_rows(tokens, stacked, self._fusion))
        held = self._context.rows(self._base, self._context.length - self._base)
        kept = 0
        while kept < min(len(held), len(entries)) and held[kept].same_input(entries[kept]):
            kept += 1
        if kept < len(held):
            await self._engine.run(Truncate(self._context, self._base + kept))
        if kept == len(entries) and not probe:
            return Synced(None, 0.0)
        done = await self._engine.run(Append(self._context, entries[kept:], probe))
        p_end = done.probabilities[probe[0]] if probe else None
        return Synced(p_end, done.seconds)

    async def _append(self, tokens: Sequence[int]) -> None:
        await self._engine.run(Append(self._context, tuple(Entry(token) for token in tokens)))
