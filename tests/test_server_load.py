"""Many at once on one server: idle ones beside those who talk, one that does not read, hundreds that come and go. Sound stays on
schedule, and nothing is left. At full size (`make load`) with the bundled model."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx2
import numpy as np
import psutil
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from load_size import FULL, check_schedule, full_size, sized
from paced_runtime import Listener, MachineWaits, PacedRuntime
from phone import CONNECTED, Caller
from realtime_server import ServerThread, server_thread
from requirements import require_module
from scripted_engine import ScriptedTalk
from server_visits import text_turn
from textpro.agent.session_settings import SessionSettings
from textpro.evaluation.load import LoadRun, LoadSettings
from textpro.evaluation.load_caller import CallerSettings
from textpro.evaluation.load_speech import spoken_utterances
from textpro.serving.realtime.connection import Limits
from textpro.serving.server import MAX_MESSAGE, SECRETS_PATH, RealtimeServer, ServerSettings
from textpro.serving.telephone.twilio import TwilioSettings

MAX_GROWTH = 24 * 1024 * 1024
"""Bytes by which a process may be larger after another 200 visits: what the allocator keeps. A session of the model has 14 MB."""
STOPPED_S = 30
"""A client that has not read for so long is gone."""
ATTACK = Path(__file__).with_name("fuzz_attack.py")
_log = logging.getLogger("load")


LONG = "x" * 100_000


@contextmanager
def open_house(runtime: PacedRuntime, **settings: object) -> Iterator[tuple[ServerThread, RealtimeServer, str]]:
    twilio = TwilioSettings(open_session=lambda _runtime, _call: runtime.session())  # type: ignore[arg-type, return-value]
    given = ServerSettings(port=0, twilio=twilio, **settings)  # type: ignore[arg-type]
    with server_thread() as thread, thread.server(given, runtime=runtime) as server:
        yield thread, server, f"ws://127.0.0.1:{server.port}"


@contextmanager
def talking(url: str, runtime: PacedRuntime, count: int = 1) -> Iterator[None]:
    """So many sessions that hear sound on a schedule, which was kept when the block has ended."""
    listeners = [Listener(f"{url}/v1/realtime", runtime, f"paced {number}") for number in range(count)]
    with MachineWaits() as waits:
        for listener in listeners:
            listener.start()
        yield
        for listener in listeners:
            listener.stop()
    for listener in listeners:
        check_schedule(listener.pieces, waits)


@asynccontextmanager
async def visiting(url: str, **options: object) -> AsyncIterator[ClientConnection]:
    async with connect(f"{url}/v1/realtime", compression=None, max_size=None, **options) as client:  # type: ignore[arg-type]
        yield client


async def settled(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


def test_fifty_idle_connections_and_three_talking_ones_keep_their_schedule() -> None:
    runtime = PacedRuntime(reply_ms=1_000)

    async def idle(url: str) -> None:
        async with contextlib.AsyncExitStack() as held:
            clients = [await held.enter_async_context(visiting(url)) for _ in range(50)]
            await asyncio.sleep(sized(2, 30))
            for client in clients:
                assert json.loads(await client.recv())["type"] == "session.created"

    with open_house(runtime, max_sessions=60) as (_, _, url), talking(url, runtime, 3):
        asyncio.run(idle(url))


def test_a_client_that_stops_reading_is_dropped_and_delays_nobody() -> None:
    """At full size with the limits that a server has unless told otherwise."""
    runtime = PacedRuntime()
    limits = Limits() if FULL else Limits(send_s=1)

    async def stubborn(thread: ServerThread, server: RealtimeServer, url: str) -> None:
        async with visiting(url, max_queue=1) as client:
            client.transport.pause_reading()
            ask = json.dumps({"type": "session.update", "session": {"type": "realtime", "instructions": "x" * 90_000}})
            async with asyncio.timeout(STOPPED_S):
                for _ in range(150):
                    await client.send(ask)
                while thread.call(lambda: server.places_taken) > 1:
                    await asyncio.sleep(0.05)
            client.transport.abort()

    with open_house(runtime, limits=limits) as (thread, server, url):
        with talking(url, runtime):
            asyncio.run(stubborn(thread, server, url))
        assert b'textpro_sessions_closed_total{code="1008"} 1.0' in server.metrics.page()


def test_the_largest_messages_that_are_allowed_delay_nobody() -> None:
    """Each is read in pieces between which others get their turn, or refused."""
    runtime = PacedRuntime()
    second = base64.b64encode(bytes(48_000)).decode()

    async def heavy(url: str) -> None:
        async with visiting(url) as client:
            for size in (1, 20, 100):
                await client.send(json.dumps({"type": "input_audio_buffer.append", "audio": second * size}))
            await client.send(json.dumps({"type": "session.update", "session": {"instructions": "x" * 500_000}}))
            await client.send(json.dumps({"type": "conversation.item.create", "item": [[["x"] * 20] * 20] * 20}))
            await client.send(json.dumps({"type": "no.such", "event_id": "end"}))
            async with asyncio.timeout(60):
                while True:
                    event = json.loads(await client.recv())
                    if event["type"] == "error" and event["error"]["event_id"] == "end":
                        return

    with open_house(runtime) as (_, _, url), talking(url, runtime):
        asyncio.run(heavy(url))


def test_two_hundred_visits_of_every_kind_leave_memory_tasks_and_sockets_as_before() -> None:
    runtime = PacedRuntime(reply_ms=100)

    async def visit(url: str, kind: int) -> None:
        http = url.replace("ws", "http", 1)
        match kind % 5:
            case 0:
                async with visiting(url) as client:
                    await text_turn(client)
            case 1:
                async with visiting(url) as client:
                    client.transport.abort()
            case 2:
                async with connect(f"{url}/twilio", compression=None) as client:
                    for frame in (CONNECTED, Caller().start(), *Caller().silence(40)):
                        await client.send(frame)
                    if kind % 2:
                        client.transport.abort()
            case 3:
                async with httpx2.AsyncClient(base_url=http, verify=False) as pages:
                    assert (await pages.post("/v1/realtime/client_secrets", json={})).status_code == 200
                    assert (await pages.get("/nothing")).status_code == 404
            case _:
                _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
                writer.write(b"GET /v1/realtime HTTP/1.1\r\nHost: localhost\r\nUpgr")
                await writer.drain()
                writer.transport.abort()

    async def visits(url: str, count: int) -> None:
        for start in range(0, count, 20):
            await asyncio.gather(*(visit(url, start + number) for number in range(20)))

    process = psutil.Process()
    with open_house(runtime, max_sessions=100) as (thread, server, url):
        before = after = (0, 0, 0)
        for count in (60, 200):  # the first ones bring what is kept for good
            before = after
            asyncio.run(visits(url, count))
            thread.run(settled(lambda: server.places_taken == 0 and runtime.open == 0))
            thread.run(asyncio.sleep(0.2))
            gc.collect()
            after = (process.memory_info().rss, len(thread.call(asyncio.all_tasks)), process.num_fds())
        assert runtime.opened >= 100
        assert after[0] - before[0] < MAX_GROWTH and after[1:] == before[1:], (before, after)


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (f"GET /v1/realtime HTTP/1.1\r\nHost: localhost\r\nCookie: {LONG}\r\n\r\n", (400, 431)),
        (f"GET /{LONG} HTTP/1.1\r\nHost: localhost\r\n\r\n", (400, 414)),
        (f"POST {SECRETS_PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300000\r\n\r\n{LONG * 3}", (413,)),
    ],
    ids=("header", "path", "body"),
)
def test_a_request_that_is_too_long_is_refused_and_the_server_goes_on(request_head: str, status: tuple[int, ...]) -> None:
    async def ask(url: str) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        answer = b""
        with contextlib.suppress(ConnectionError):  # the rest may be refused before it was sent
            writer.write(request_head.encode())
            await writer.drain()
        with contextlib.suppress(ConnectionError):
            answer = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        async with visiting(url) as client:
            assert (await text_turn(client))["response"]["status"] == "completed"
        return answer

    with open_house(PacedRuntime(reply_ms=100)) as (_, _, url):
        answer = asyncio.run(ask(url))
    assert answer == b"" or int(answer.split()[1]) in status


def test_an_oversize_frame_of_a_call_ends_it_or_is_dropped_and_other_calls_go_on() -> None:
    async def call(url: str, size: int) -> int:
        async with connect(f"{url}/twilio", compression=None) as client, asyncio.timeout(60):
            caller = Caller()
            after = () if size > MAX_MESSAGE else (caller.silence(20)[0], caller.stop())
            with pytest.raises(ConnectionClosed) as closed:  # while sending already, where the server is quick
                for frame in (CONNECTED, caller.start(), ("x" * 3_000_000 for _ in range(size // 3_000_000)), *after):
                    await client.send(frame)
                await client.recv()
            return int(closed.value.rcvd.code) if closed.value.rcvd is not None else 0

    async def calls(url: str) -> list[int]:
        return [await call(url, size) for size in (3_000_000, 24_000_000, 3_000_000)]

    with open_house(PacedRuntime()) as (_, _, url):
        assert asyncio.run(calls(url)) == [1000, 1009, 1000]


def test_a_session_that_is_cancelled_while_it_opens_gives_its_slot_back() -> None:
    """A client that is gone before its session was ready would otherwise take a slot for good."""

    async def opening() -> bool:
        talk = ScriptedTalk([], settings=SessionSettings(instructions="be kind"))
        entering = asyncio.create_task(talk.session.__aenter__())
        await asyncio.sleep(0)
        entering.cancel()
        await asyncio.gather(entering, return_exceptions=True)
        return bool(talk.session._engine.context.closed)  # type: ignore[attr-defined]

    assert asyncio.run(opening())


@pytest.mark.parametrize("steps", range(4))
def test_a_session_that_is_closed_right_after_an_interruption_gives_its_slot_back(steps: int) -> None:
    """So many steps of the loop later. Who waits for the cancelled reply must not take the session's own end for the reply's."""

    async def closing() -> bool:
        talk = ScriptedTalk([], "one two three four five")
        await talk.session.__aenter__()
        await talk.session.send_text("hello")
        while not talk.of("reply_delta"):
            await asyncio.sleep(0)
        await talk.session.interrupt()
        for _ in range(steps):
            await asyncio.sleep(0)
        leaving = asyncio.create_task(talk.session.__aexit__())
        await asyncio.wait({leaving}, timeout=5)
        is_over = leaving.done() and bool(talk.engine.context.closed)
        leaving.cancel()
        return is_over

    assert asyncio.run(closing())


@full_size
def test_with_the_model_fifty_idle_and_three_talking_callers_hear_sound_without_gaps() -> None:
    require_module("espeakng_loader")
    caller = CallerSettings(turns=6, interruptions=0.3)

    async def load(url: str) -> None:
        settings = LoadSettings(url=url, callers=3, idle=50, minutes=5, caller=caller)
        report = await LoadRun(settings, await spoken_utterances()).run(asyncio.Event())
        values = report.to_dict()
        if not report.kept_pace:
            pytest.skip(f"this machine is too busy to call at the pace of speech: {values['sent_late_ms']}")
        assert report.passed and report.is_whole, values
        assert values["gaps"]["all"] == 0 and values["turns"]["right"] == values["turns"]["checked"], values

    with server_thread(model="tiny", slots=60) as thread, thread.server(ServerSettings(port=0, max_sessions=55)) as server:
        asyncio.run(load(f"ws://127.0.0.1:{server.port}/v1/realtime"))


@full_size
def test_with_the_model_two_hundred_visits_leave_memory_tasks_and_slots_as_before() -> None:
    sound = (np.random.default_rng(0).standard_normal(24_000) * 2_000).astype("<i2").tobytes()
    append = json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(sound).decode()})
    text_only = json.dumps({"type": "session.update", "session": {"type": "realtime", "output_modalities": ["text"]}})

    async def visit(url: str, number: int) -> None:
        async with visiting(url) as client:
            await client.send(text_only)
            await client.send(append)
            if number % 4 == 0:
                await text_turn(client)
            elif number % 4 == 1:
                client.transport.abort()

    async def visits(url: str) -> None:
        for start in range(0, 200, 4):
            await asyncio.gather(*(visit(url, start + number) for number in range(4)))

    process = psutil.Process()
    with server_thread(model="tiny", slots=10) as thread, thread.server(ServerSettings(port=0, max_sessions=8)) as server:
        assert thread.runtime is not None
        engine, url = thread.runtime.engine, f"ws://127.0.0.1:{server.port}"
        before = after = (0, 0)
        for _ in range(2):  # the first ones bring what is kept for good
            before = after
            asyncio.run(visits(url))
            thread.run(settled(lambda: server.places_taken == 0 and engine.stats().slots_taken == 0))
            thread.run(asyncio.sleep(0.5))
            gc.collect()
            after = (process.memory_info().rss, len(thread.call(asyncio.all_tasks)))
            _log.info("%.0f MB resident", after[0] / 2**20)
        assert after[0] - before[0] < MAX_GROWTH and after[1] == before[1], (before, after)


@full_size
def test_with_the_model_twenty_thousand_mutated_messages_and_random_frames_leave_nothing_and_delay_nobody() -> None:
    """15,000 messages of the Realtime protocol, 100 calls of some 50 frames and 2,000 frames of random bytes, while a session
    of another runtime in the same process hears its sound on schedule."""
    paced = PacedRuntime()
    settings = ServerSettings(port=0, max_sessions=16, twilio=TwilioSettings())
    with server_thread(model="tiny", slots=20) as thread, thread.server(settings) as server:
        assert thread.runtime is not None
        engine, url = thread.runtime.engine, f"ws://127.0.0.1:{server.port}"
        with thread.server(ServerSettings(port=0), runtime=paced) as other:
            tasks = len(thread.call(asyncio.all_tasks))
            with talking(f"ws://127.0.0.1:{other.port}", paced):
                attack = subprocess.run([sys.executable, ATTACK, url], check=True, capture_output=True, text=True, timeout=500)
                answers = int(attack.stdout)
            thread.run(settled(lambda: server.places_taken + other.places_taken + engine.stats().slots_taken == 0))
            thread.run(settled(lambda: len(asyncio.all_tasks()) <= tasks))
        assert asyncio.run(_answered(url)) == "completed"
        _log.info("%d messages came back", answers)
        assert answers > 10_000, "most messages are answered, if by an error"


async def _answered(url: str) -> str:
    async with visiting(url) as client, asyncio.timeout(60):
        return str((await text_turn(client))["response"]["status"])
