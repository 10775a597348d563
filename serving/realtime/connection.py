"""One websocket that speaks the Realtime protocol: messages to the codec, what it gives to the socket and the sessions.

Nothing grows without bound: a client that sends faster than it can be heard is not read for a while, one that does not read
is dropped, and so is one that stays too long or says nothing.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from ...models.errors import CapacityError, TextProError
from .live import Live, now_ms
from .wire import Json, Output

_log = logging.getLogger(__name__)
TICK_S = 0.05
CLOSE_S = 2.0
MAX_UNHEARD_MS = 30_000
"""Audio that may wait; then the client waits."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one connection: bytes that may wait for a client that does not read, seconds in which it has to take a
    message, seconds without a message of its own, seconds in all."""

    unsent_bytes: int = 16 * 1024 * 1024
    send_s: float = 20.0
    idle_s: float = 900.0
    session_s: float = 3600.0


class After(Enum):
    """What becomes of a conversation whose connection has ended: it is over, it failed, its log stays, or it waits for the
    client as it is."""

    OVER = "over"
    FAILED = "failed"
    LOGGED = "logged"
    KEPT = "kept"


@dataclass(frozen=True, slots=True)
class Closing:
    """Why a connection ends, as the close frame says it."""

    code: int
    reason: str
    after: After = After.LOGGED


class Ending(Exception):
    """Raised inside the connection's tasks to end all of them."""

    def __init__(self, closing: Closing) -> None:
        super().__init__(closing.reason)
        self.closing = closing


class RealtimeConnection:
    """`run` leads it until it has to end, `close` closes the socket."""

    def __init__(self, socket: ServerConnection, live: Live, limits: Limits) -> None:
        self._socket, self._live, self._codec, self._limits = socket, live, live.codec, limits
        self._unsent: deque[str] = deque()
        self._unsent_bytes = 0
        self._news = asyncio.Event()
        self._ending: asyncio.Future[Closing] = asyncio.get_running_loop().create_future()
        self._last_message = time.monotonic()
        self.draining = False

    async def run(self, first: list[Output]) -> Closing:
        """Send what comes first, and go on until somebody ends it; gives why."""
        self._live.join(self._send)
        self._live.take(first)
        tasks = [asyncio.create_task(part) for part in (self._receive(), self._write(), self._tick())]
        try:
            waiting: list[asyncio.Future[Any]] = [*tasks, self._live.work, self._ending]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            return self._why([*tasks, self._live.work])
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self, closing: Closing) -> None:
        """Close the socket, if it is not closed."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._socket.close(closing.code, closing.reason)
        except TimeoutError:  # it does not read
            self._socket.transport.abort()

    def end(self, code: int, reason: str, after: After = After.LOGGED) -> None:
        """End it for this reason; the first one counts."""
        if not self._ending.done():
            self._ending.set_result(Closing(code, reason, after))

    def _send(self, event: Json) -> None:
        text = json.dumps(event)
        self._unsent.append(text)
        self._unsent_bytes += len(text)
        self._news.set()
        if self._unsent_bytes > self._limits.unsent_bytes:
            reason = "slow consumer: too much waits to be read; read faster"
            self.end(CloseCode.POLICY_VIOLATION, reason, After.KEPT)

    async def _receive(self) -> None:
        async for message in self._socket:
            self._last_message = time.monotonic()
            if isinstance(message, bytes):
                message = message.decode("utf-8", "replace")
            self._live.take(self._codec.receive(message, now_ms()))
            await asyncio.sleep(0)
            while self._live.waiting_ms > MAX_UNHEARD_MS:
                await asyncio.sleep(TICK_S)
                self._last_message = time.monotonic()

    async def _write(self) -> None:
        while True:
            while self._unsent:
                text = self._unsent.popleft()
                self._unsent_bytes -= len(text)
                try:
                    async with asyncio.timeout(self._limits.send_s):
                        await self._socket.send(text)
                except TimeoutError:
                    reason = f"slow consumer: a message was not taken for {self._limits.send_s:g} s"
                    raise Ending(Closing(CloseCode.POLICY_VIOLATION, reason, After.KEPT)) from None
            if self._codec.has_failed:
                reason = "the session failed; the last error event says why"
                raise Ending(Closing(CloseCode.INTERNAL_ERROR, reason, After.FAILED))
            self._news.clear()
            await self._news.wait()

    async def _tick(self) -> None:
        began = time.monotonic()
        while True:
            await asyncio.sleep(TICK_S)
            self._live.take(self._codec.tick(now_ms()))
            now = time.monotonic()
            if self.draining and self._codec.is_idle and not self._unsent:
                self.end(CloseCode.SERVICE_RESTART, "the server restarts: connect again")
            if now - began > self._limits.session_s:
                self.end(CloseCode.GOING_AWAY, f"the session reached its limit of {self._limits.session_s / 60:g} minutes")
            if now - self._last_message > self._limits.idle_s:
                self.end(CloseCode.GOING_AWAY, f"no message for {self._limits.idle_s:g} s")

    def _why(self, tasks: list[asyncio.Task[None]]) -> Closing:
        if self._ending.done():
            return self._ending.result()
        for task in tasks:
            if not task.done() or task.cancelled():
                continue
            match task.exception():
                case None | ConnectionClosed():
                    continue
                case Ending() as ending:
                    return ending.closing
                case CapacityError() as error:
                    reason = _short(f"no room for another session: {error}")
                    return Closing(CloseCode.TRY_AGAIN_LATER, reason, After.FAILED)
                case TextProError() as error:
                    return Closing(CloseCode.INTERNAL_ERROR, _short(str(error)), After.FAILED)
                case error:
                    _log.error("a connection failed", exc_info=error)
                    reason = "the server made a mistake with this connection"
                    return Closing(CloseCode.INTERNAL_ERROR, reason, After.FAILED)
        said_goodbye = self._socket.close_code in (CloseCode.NORMAL_CLOSURE, CloseCode.NO_STATUS_RCVD)
        return Closing(self._socket.close_code or CloseCode.NORMAL_CLOSURE, "", After.OVER if said_goodbye else After.KEPT)


def _short(reason: str) -> str:
    """As much of it as a close frame holds."""
    return reason.encode()[:120].decode(errors="ignore")
