"""Holds back what a drafted reply says until its turn is accepted, and counts what drafting was good for.

Order is kept: what was held comes out first, at once. A reply that is no draft has its gate open from the start. What may not
happen in a draft at all, as running a tool, waits for `opened`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from ..engine import EngineStats
from .turns import TurnSettings

Say = Callable[..., None]
P_END_BY_SILENCE = 0.4
"""P(end) that is worth a draft where P(end) does not end turns."""
DRAFT_WITHIN_MS = 1_200
"""Where it does: a turn that so much silence would end is worth one."""


class Gate:
    """`say(event name, fields)` passes on to the owner's `say`, once open. Times are the event loop's."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._held: list[tuple[str, dict[str, object]]] = []
        self._clock = asyncio.get_running_loop().time
        self._began_s = self._clock()
        self._ready_s: dict[str, float] = {}
        self._opened_s = self._began_s
        self.opened = asyncio.Event()
        self.first_ms: dict[str, float] = {}
        """From the decision to answer to the first event of each name."""

    @property
    def saved_ms(self) -> float:
        """How much of the work to the first sound or text was done before the gate was opened."""
        ready_s = self._ready_s.get("Audio", self._ready_s.get("ReplyDelta", self._opened_s))
        return (ready_s - self._began_s) * 1000

    def say(self, kind: str, /, **values: object) -> None:
        """Say it, now or once the gate is open."""
        if not self.opened.is_set():
            self._ready_s.setdefault(kind, self._clock())
            self._held.append((kind, values))
            return
        self.first_ms.setdefault(kind, (self._clock() - self._opened_s) * 1000)
        self._say(kind, **values)

    def open(self) -> None:
        """The turn was accepted: say what was held."""
        self.opened.set()
        self._opened_s = self._clock()
        held, self._held = self._held, []
        for kind, values in held:
            self.say(kind, **values)


@dataclass(frozen=True, slots=True)
class DraftSettings:
    """When a reply is drafted at a soft end: with P(end) of at least `p_end` (above 1: never; None: from where the turn
    needs no more silence than `DRAFT_WITHIN_MS`, or `P_END_BY_SILENCE` where silence alone ends turns), and while no more than
    `max_queued` pieces of work wait in the engine."""

    p_end: float | None = None
    max_queued: int = 4

    def allow(self, p_end: float, turns: TurnSettings, stats: Callable[[], EngineStats]) -> bool:
        """Whether a turn that ends with probability `p_end` is worth a draft now."""
        if self.p_end is not None:
            is_likely = p_end >= self.p_end
        elif turns.endpointing == "model":
            is_likely = turns.silence_needed_ms(p_end) <= DRAFT_WITHIN_MS
        else:
            is_likely = p_end >= P_END_BY_SILENCE
        return is_likely and stats().queued <= self.max_queued


@dataclass(slots=True)
class DraftCounts:
    """What became of the drafts of a session; `saved_ms` in all."""

    accepted: int = 0
    wasted: int = 0
    saved_ms: float = 0.0
