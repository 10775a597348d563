"""Whatever comes over a real socket, mutated messages of both protocols and random bytes in place of frames, breaks no server,
leaves nothing behind, and does not delay the sound of another session."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import random
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from load_size import check_schedule, sized
from paced_runtime import Listener, MachineWaits, PacedRuntime
from realtime_fuzz import messages
from realtime_server import ServerThread, server_thread
from server_visits import text_turn
from textpro.serving.server import RealtimeServer, ServerSettings
from textpro.serving.telephone.twilio import TwilioSettings
from twilio_fuzz import twilio_frames

Attack = Callable[[str], Awaitable[None]]


@contextmanager
def besieged() -> Iterator[tuple[ServerThread, RealtimeServer, str, PacedRuntime]]:
    """A server while another session hears sound on a schedule; in the end the schedule was kept and nothing is left."""
    runtime = PacedRuntime()
    twilio = TwilioSettings(open_session=lambda _runtime, _call: runtime.session())  # type: ignore[arg-type, return-value]
    settings = ServerSettings(port=0, max_sessions=500, twilio=twilio)
    with server_thread() as thread, thread.server(settings, runtime=runtime) as server:
        url = f"ws://127.0.0.1:{server.port}"
        tasks_before = len(thread.call(asyncio.all_tasks))
        listener = Listener(f"{url}/v1/realtime", runtime)
        with MachineWaits() as waits:
            listener.start()
            listener_tasks = len(thread.call(asyncio.all_tasks))
            yield thread, server, url, runtime
            thread.run(_settled(lambda: server.places_taken == 1))
            assert len(thread.call(asyncio.all_tasks)) <= listener_tasks + 1
            listener.stop()
        gc.collect()  # not before: it holds up the whole process
        asyncio.run(_is_alive(f"{url}/v1/realtime"))
        thread.run(_settled(lambda: server.places_taken == 0))
        assert runtime.open == 0 and len(thread.call(asyncio.all_tasks)) <= tasks_before
        check_schedule(listener.pieces, waits)


async def _settled(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def _is_alive(url: str) -> None:
    async with connect(url, compression=None) as client, asyncio.timeout(20):
        assert (await text_turn(client))["response"]["status"] == "completed"


async def _drained(client: ClientConnection) -> None:
    """Take what comes, to the end of the connection."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            await client.recv()


def test_mutated_realtime_messages_delay_nobody_and_leave_nothing() -> None:
    each = sized(600, 5_000)

    async def one(url: str, seed: int) -> None:
        chance, ids = random.Random(seed), list[str]()
        async with connect(f"{url}/v1/realtime", compression=None, max_size=None) as client:
            drain = asyncio.create_task(_learn(client, ids))
            for text in messages(seed, each, ids):
                await client.send(text)
                if chance.random() < 0.05:
                    await asyncio.sleep(0.002)
            await client.send(json.dumps({"type": "no.such", "event_id": "end"}))
            await asyncio.wait_for(drain, 60)

    async def _learn(client: ClientConnection, ids: list[str]) -> None:
        """Ids of the server go back to it in other messages; ends with the answer to the last one."""
        while True:
            event = json.loads(await client.recv())
            ids += [value for key in ("item_id", "response_id") if isinstance(value := event.get(key), str)]
            del ids[:-40]
            if event["type"] == "error" and event["error"]["event_id"] == "end":
                return

    async def attack(url: str) -> None:
        await asyncio.gather(*(one(url, seed) for seed in range(4)))

    with besieged() as (_, _, url, runtime):
        asyncio.run(attack(url))
        assert runtime.opened > 1


def test_mutated_frames_of_telephone_calls_delay_nobody_and_leave_nothing() -> None:
    calls = sized(24, 200)

    async def one(url: str, seed: int) -> None:
        async with connect(f"{url}/twilio", compression=None, max_size=None) as client:
            drain = asyncio.create_task(_drained(client))
            with contextlib.suppress(ConnectionClosed):
                for frame in twilio_frames(random.Random(seed), 50):
                    await client.send(frame)
            await client.close()
            await drain

    async def attack(url: str) -> None:
        for start in range(0, calls, 8):
            await asyncio.gather(*(one(url, start + number) for number in range(8)))

    with besieged() as (_, _, url, runtime):
        asyncio.run(attack(url))
        assert runtime.opened > calls // 4


def test_two_thousand_frames_of_random_bytes_delay_nobody_and_leave_nothing() -> None:
    """1,700 whole frames whose payload is random, and 300 connections that send bytes that are no frames at all."""

    async def whole(url: str, path: str, count: int, seed: int) -> None:
        chance = random.Random(seed)
        sent = 0
        while sent < count:
            async with connect(f"{url}{path}", compression=None, max_size=None) as client:
                drain = asyncio.create_task(_drained(client))
                with contextlib.suppress(ConnectionClosed):
                    while sent < count:
                        data = chance.randbytes(chance.randrange(400))
                        await client.send(data if chance.random() < 0.7 else data.decode("latin-1"))
                        sent += 1
                        if chance.random() < 0.02:
                            await asyncio.sleep(0.002)
                await client.close()
                await drain

    async def broken(url: str, path: str, count: int, seed: int) -> None:
        chance = random.Random(seed)
        host, port = url.removeprefix("ws://").split(":")
        for _ in range(count):
            reader, writer = await asyncio.open_connection(host, int(port))
            ask = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            writer.write(f"{ask}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            assert b"101 Switching" in answer
            with contextlib.suppress(ConnectionError):
                writer.write(_bytes_of_no_frame(chance))
                await writer.drain()
                if chance.random() < 0.3:
                    writer.transport.abort()
                else:
                    writer.write_eof()
                await asyncio.wait_for(reader.read(), 20)
            writer.close()

    async def attack(url: str) -> None:
        await asyncio.gather(
            whole(url, "/v1/realtime", 1_000, 1),
            whole(url, "/twilio", 700, 2),
            broken(url, "/v1/realtime", 150, 3),
            broken(url, "/twilio", 150, 4),
        )

    with besieged() as (_, _, url, _):
        asyncio.run(attack(url))


def _bytes_of_no_frame(chance: random.Random) -> bytes:
    """Random bytes, a frame that ends too soon, claims a huge length, an unknown kind, half a text, or control frames."""
    match chance.randrange(6):
        case 0:
            return chance.randbytes(chance.randrange(1, 300))
        case 1:
            return _frame(1, chance.randbytes(50))[: chance.randrange(2, 40)]
        case 2:
            return bytes([0x81, 0xFF]) + struct.pack(">Q", chance.choice((2**62, 2**63 + 5, 2**40))) + chance.randbytes(20)
        case 3:
            return _frame(chance.choice((3, 7, 11, 15)), b"x")
        case 4:
            return _frame(1, b"\xff\xfe\xc3")
        case _:
            return b"".join(_frame(chance.choice((8, 9, 10)), chance.randbytes(chance.randrange(125))) for _ in range(5))


def _frame(kind: int, payload: bytes) -> bytes:
    """A masked frame, masked with zeros, of fewer than 126 bytes."""
    return bytes([0x80 | kind, 0x80 | len(payload)]) + bytes(4) + payload
