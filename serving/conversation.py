"""What the file and text transports share: one session's events in order to a view, where its turns stand,
and its reply audio to a player. One task reads the events; everything it touches is touched on the event loop
only. What the reader raises, the transport raises at its next look.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from ..agent.events import (
    Audio,
    Duck,
    Event,
    Failed,
    Interrupt,
    ReplyDone,
    TurnDropped,
    TurnEnd,
    TurnResumed,
    TurnStart,
    Unduck,
    VoiceActivity,
)
from ..models.errors import EngineError
from .playback import ReplyFiles, ReplyPlayer

if TYPE_CHECKING:
    from ..agent.session import Session  # brings torch

DRAIN_STEPS = 4
"""Turns of the event loop in which the reader takes what is already waiting."""


class View(Protocol):
    """Where a conversation is shown."""

    def show(self, event: Event) -> None:
        """Take the next event."""
        ...

    def notice(self, text: str) -> None:
        """Say something that is no event, in one line."""
        ...

    def played(self, turn_id: int, total_ms: float) -> None:
        """The first `total_ms` of the sound of the turn's reply have been played."""
        ...

    def status(self, text: str) -> None:
        """How the microphone stands, as "muted"; empty for nothing to say."""
        ...


class Conversation:
    """A session, as a transport drives it; an async context manager around the transport's work."""

    def __init__(self, session: Session, view: View, out: Path | None = None) -> None:
        self.session = session
        self.view = view
        self.player = ReplyPlayer(session.played, keep=out is not None)
        self._files = ReplyFiles(out) if out is not None else None
        self._reader: asyncio.Task[None] | None = None
        self._failed: str | None = None
        self._open_turn = False
        self._awaited_turn: int | None = None  # the turn whose reply is not complete
        self._reply_over = False
        self.turns_ended = 0
        self.turns_dropped = 0
        self.replies_done = 0
        self.events_taken = 0
        self.news = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._reader is not None
        await self.drained()
        self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await self._reader
        self._write_reply()

    @property
    def is_idle(self) -> bool:
        """Whether no turn is open and every reply is complete and played."""
        return not (self._open_turn or self._awaited_turn is not None or self.player.pending_ms)

    def check(self) -> None:
        """Raise what ended the session or the reading of its events, if anything did. EngineError."""
        if self._failed is not None:
            raise EngineError(f"the session ended: {self._failed}")
        if self._reader is not None and self._reader.done():
            self._reader.result()
            raise EngineError("the session was closed before the conversation was over; start it again.")

    async def drained(self) -> None:
        """Let the reader take the events that are already there."""
        for _ in range(DRAIN_STEPS):
            await asyncio.sleep(0)

    def play(self, duration_ms: int) -> None:
        """So much audio time has passed: the reply plays on, and is written when it has been played to its
        end."""
        self.player.advance(duration_ms)
        if self.player.turn_id is not None:
            self.view.played(self.player.turn_id, self.player.played_ms)
        self._write_reply_when_played()

    def play_all(self) -> None:
        """Take all the audio that is there as played at once."""
        self.play(self.player.pending_ms + 1)

    async def _read(self) -> None:
        try:
            async for event in self.session:
                self._take(event)
                self.news.set()
        finally:
            self.news.set()

    def _take(self, event: Event) -> None:
        match event:
            case TurnStart():
                self._open_turn = True
            case TurnResumed():
                self._open_turn = True
                self._reply_ends(event.turn_id, cut_off=True)
            case TurnEnd():
                self._open_turn, self._awaited_turn = False, event.turn_id
                self.turns_ended += 1
            case TurnDropped():
                self._open_turn = False
                self.turns_dropped += 1
            case Interrupt():
                self._reply_ends(event.turn_id, cut_off=True)
            case Duck() if event.turn_id == self.player.turn_id:
                self.player.duck()
            case Unduck() if event.turn_id == self.player.turn_id:
                self.player.unduck()
            case Audio():
                if self.player.is_other_reply(event):
                    self._write_reply()
                    self._reply_over = False
                self.player.add(event)
            case ReplyDone():
                self.replies_done += 1
                self._reply_ends(event.turn_id, cut_off=event.interrupted)
                if self.player.turn_id == event.turn_id:
                    self.player.end()
            case Failed():
                self._failed = event.reason
        if not isinstance(event, VoiceActivity):
            self.events_taken += 1
        self.view.show(event)
        self._write_reply_when_played()

    def _reply_ends(self, turn_id: int, cut_off: bool) -> None:
        if self._awaited_turn is not None and turn_id >= self._awaited_turn:
            self._awaited_turn = None
        if self.player.turn_id == turn_id:
            self._reply_over = True
            if cut_off:
                self.player.drop_unplayed()

    def _write_reply_when_played(self) -> None:
        if self._reply_over and not self.player.pending_ms:
            self._write_reply()

    def _write_reply(self) -> None:
        heard = self.player.take_heard()
        if heard is not None and self._files is not None:
            path = self._files.write(*heard)
            self.view.notice(f"reply written to {path}")
