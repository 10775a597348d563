"""A runtime without a model for tests of the server: its sessions answer every typed turn with "Yes." and hear nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from textpro.agent.events import Audio, Event, Interrupt, ReplyDelta, ReplyDone, ReplySpoken, ReplyStart, TurnEnd
from textpro.models.errors import CapacityError

RATE = 16_000


def _no_ids(*_: object) -> tuple[int, ...]:
    return ()


CHAT = SimpleNamespace(
    reply_open=_no_ids, reply_close=_no_ids, system=_no_ids, reply=_no_ids, cut_reply=_no_ids, call=_no_ids, response=_no_ids,
    words=_no_ids, user_open=_no_ids,
)  # fmt: skip


class QuietSession:
    """`reply_ms` of sound to each typed turn."""

    def __init__(self, runtime: QuietRuntime) -> None:
        self._runtime = runtime
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._running = False
        self.history: tuple[Any, ...] = ()
        self.entries: tuple[Any, ...] = ()
        self.heard_samples = 0

    async def __aenter__(self) -> QuietSession:
        if self._runtime.open >= self._runtime.slots:
            raise CapacityError("no slot is free")
        self._runtime.open += 1
        self._runtime.opened += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self._runtime.open -= 1
        self._events.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[Event]:
        while (event := await self._events.get()) is not None:
            yield event

    def said(self) -> list[Event]:
        return [event for _ in range(self._events.qsize()) if (event := self._events.get_nowait()) is not None]

    async def send_audio(self, pcm: np.ndarray, rate: int) -> None:
        self.heard_samples += len(pcm)
        await asyncio.sleep(0)

    async def send_text(self, text: str) -> None:
        self._events.put_nowait(TurnEnd(t_ms=0, text=text, p_end=1.0))
        await self.respond()

    async def respond(self) -> None:
        await self.interrupt()
        self._running = True
        self._events.put_nowait(ReplyStart(t_ms=0, context_tokens=3))
        self._events.put_nowait(ReplyDelta(t_ms=0, text="Yes."))
        pcm = np.full(RATE * self._runtime.reply_ms // 1000, 500, np.int16)
        if len(pcm):
            self._events.put_nowait(Audio(t_ms=0, pcm=pcm, sample_rate=RATE, text="Yes."))
        self._events.put_nowait(ReplySpoken(t_ms=0, tokens=2))

    async def interrupt(self, turn_id: int | None = None) -> None:
        if self._running:
            self._running = False
            self._events.put_nowait(Interrupt(t_ms=0, heard_text=""))
            self._events.put_nowait(ReplyDone(t_ms=0, text="Yes.", heard_text="", interrupted=True))

    async def commit(self) -> None:
        return None

    async def confirm(self, call_id: str, accepted: bool) -> None:
        return None

    def played(self, total_ms: float) -> None:
        if self._running and total_ms >= self._runtime.reply_ms:
            self._running = False
            self._events.put_nowait(ReplyDone(t_ms=0, text="Yes.", heard_text="Yes.", interrupted=False))

    async def settled(self) -> None:
        await asyncio.sleep(0)


class QuietRuntime:
    """`open` sessions now, `opened` ever."""

    def __init__(self, slots: int = 100, reply_ms: int = 100) -> None:
        self.slots, self.reply_ms = slots, reply_ms
        self.open = self.opened = 0
        self.engine = SimpleNamespace(check_load=lambda: None)
        part = SimpleNamespace(model=torch.nn.Linear(1, 1))
        self.checkpoint = SimpleNamespace(chat=CHAT, config={}, backbone=part, speech=part)

    def session(self, instructions: str | None = None, tools: Any = None, **settings: Any) -> QuietSession:
        return QuietSession(self)
