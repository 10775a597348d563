"""A server with a runtime without a model, and visits to it over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from quiet_runtime import QuietRuntime
from textpro.serving.server import RealtimeServer, ServerSettings, open_server
from textpro.serving.server_access import Access

KEY = "a-key-of-twenty-signs"
BEARER = {"Authorization": f"Bearer {KEY}"}


def run(test: Callable[[RealtimeServer, QuietRuntime], Awaitable[None]], access: Access | None = None, **settings: Any) -> None:
    """A test in a loop with a server; in the end no task and no session is left."""

    async def running() -> None:
        runtime = QuietRuntime(reply_ms=settings.pop("reply_ms", 100))
        async with asyncio.timeout(30):
            async with open_server(runtime, ServerSettings(port=0, **settings), access) as server:  # type: ignore[arg-type]
                await test(server, runtime)
            assert runtime.open == 0
            left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            await asyncio.wait_for(asyncio.gather(*left, return_exceptions=True), 2)

    asyncio.run(running())


@asynccontextmanager
async def connected(server: RealtimeServer, path: str = "realtime", **options: Any) -> AsyncIterator[ClientConnection]:
    url = server.url.replace("http", "ws", 1)
    async with connect(f"{url}/{path}", compression=None, max_size=None, **options) as client:
        yield client


async def until(client: ClientConnection, kind: str) -> dict[str, Any]:
    while True:
        event: dict[str, Any] = json.loads(await client.recv())
        if event["type"] == kind:
            return event


async def text_turn(client: ClientConnection) -> dict[str, Any]:
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}
    await client.send(json.dumps({"type": "conversation.item.create", "item": item}))
    await client.send(json.dumps({"type": "response.create"}))
    return await until(client, "response.done")


async def refusal(server: RealtimeServer, **options: Any) -> tuple[int, dict[str, Any]]:
    with pytest.raises(InvalidStatus) as refused:
        async with connected(server, **options):
            pass
    return refused.value.response.status_code, json.loads(refused.value.response.body or b"{}")["error"]
