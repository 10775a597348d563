"""A conversation with its sessions, to which a connection comes and which it may leave and come back to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ...engine import Entry
from ..session_log import SessionLog
from .codec import RealtimeCodec
from .session import RealtimeSession, SessionDefaults
from .wire import Json, Output

if TYPE_CHECKING:
    from ...agent.runtime import Runtime


class Live:
    """`work` is its task, which ends only if it fails. `watch` sees every server event, read or not; `entries` is what the
    model has read of a conversation that goes on."""

    def __init__(
        self,
        runtime: Runtime,
        codec: RealtimeCodec,
        defaults: SessionDefaults,
        watch: Callable[[Json], None],
        entries: tuple[Entry, ...] = (),
    ) -> None:
        self.codec, self._watch = codec, watch
        self._send: Callable[[Json], None] | None = None
        self._session = RealtimeSession(runtime, codec, defaults, self.take, now_ms, entries)
        self.work = asyncio.create_task(self._session.run())

    @property
    def waiting_ms(self) -> float:
        """Audio that waits to be heard."""
        return self._session.waiting_ms

    def join(self, send: Callable[[Json], None]) -> None:
        """A connection is there, which takes every event from now on."""
        self._send = send

    def leave(self) -> None:
        """It is lost; what it missed is told to the next one."""
        self._send = None
        self.take(self.codec.resuming.leave(now_ms()))

    def take(self, outputs: list[Output]) -> None:
        """Send and do what the codec gave."""
        for output in outputs:
            if isinstance(output, dict):
                self._watch(output)
                if self._send is not None:
                    self._send(output)
            else:
                self._session.put(output)

    def log(self, model: str) -> SessionLog:
        """All of it as it stands; `model` names the checkpoint."""
        return self._session.log(model)

    async def close(self) -> None:
        """End it."""
        self._send = None
        self.work.cancel()
        await asyncio.gather(self.work, return_exceptions=True)


def now_ms() -> float:
    """The clock of all connections."""
    return time.monotonic() * 1000
