"""The bundled model behind a Realtime server on a free port, in a thread with an event loop of its own, for tests whose
clients block or run a loop themselves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from textpro.agent.runtime import Runtime
from textpro.serving.server import RealtimeServer, ServerSettings, open_server
from textpro.serving.server_access import Access


class ServerThread:
    """`call` runs a function on the server's loop; `another` opens one more server with the same runtime there."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.runtime: Runtime | None = None

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout=120)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        async def calling() -> Any:
            return function(*args)

        return self.run(calling())

    @contextmanager
    def server(self, settings: ServerSettings, access: Access | None = None, runtime: Any = None) -> Iterator[RealtimeServer]:
        @asynccontextmanager
        async def opened() -> AsyncIterator[RealtimeServer]:
            async with open_server(runtime or self.runtime, settings, access) as server:
                yield server

        held = opened()
        try:
            yield self.run(held.__aenter__())
        finally:
            self.run(held.__aexit__(None, None, None))

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


@contextmanager
def server_thread(**runtime: Any) -> Iterator[ServerThread]:
    """With a runtime of the bundled model, unless `runtime` is empty."""
    thread = ServerThread()
    try:
        if runtime:
            thread.runtime = Runtime(**runtime)
            thread.run(thread.runtime.__aenter__())
        yield thread
    finally:
        if thread.runtime is not None:
            thread.run(thread.runtime.__aexit__(None, None, None))
        thread.stop()
