"""What conversations with the bundled model leave behind: nothing that waits for the garbage collector. A session is full of
references in circles, and the collector counts objects, not bytes: dozens of ended ones, 14 MB each, could wait for it."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from websockets.asyncio.client import connect

from quiet_runtime import QuietRuntime
from realtime_server import server_thread
from server_visits import text_turn
from textpro.models.speech_stream import SpeechStream
from textpro.serving.server import ServerSettings
from textpro.streaming.ring import AudioRing
from textpro.streaming.vad import SileroVad

LARGE = (AudioRing, SileroVad, SpeechStream)
"""What most of a session's memory is: 2.5, 6.3 and 5.1 MB."""


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_a_session_that_is_over_gives_its_sound_back_without_the_garbage_collector(no_collector: None) -> None:
    noise = (np.random.default_rng(0).standard_normal(24_000) * 2_000).astype("<i2").tobytes()
    append = json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(noise).decode()})
    text_only = json.dumps({"type": "session.update", "session": {"type": "realtime", "output_modalities": ["text"]}})

    async def visit(url: str, kind: str) -> None:
        async with connect(url, compression=None) as client:
            await client.send(text_only)
            await client.send(append)
            if kind == "answered":
                await text_turn(client)
            elif kind == "lost":
                client.transport.abort()

    async def settled(is_over: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not is_over():
                await asyncio.sleep(0.01)

    def held() -> Counter[str]:
        return Counter(type(thing).__name__ for thing in gc.get_objects() if type(thing) in LARGE)

    with server_thread(model="tiny", slots=4) as thread, thread.server(ServerSettings(port=0)) as server:
        assert thread.runtime is not None
        engine, before = thread.runtime.engine, held()
        for kind in ("answered", "lost", "left"):
            asyncio.run(visit(f"ws://127.0.0.1:{server.port}/v1/realtime", kind))
        thread.run(settled(lambda: server.places_taken == 0 and engine.stats().slots_taken == 0))
        thread.run(asyncio.sleep(0.1))
        assert held() == before


def test_while_a_server_runs_the_collector_looks_at_nothing_that_was_loaded_before() -> None:
    """A full collection stops every thread: 0.23 s where it looks at all that torch and transformers have loaded."""
    with server_thread() as thread, thread.server(ServerSettings(port=0), runtime=QuietRuntime()):
        watched = len(gc.get_objects())
    assert 20 * watched < len(gc.get_objects())
