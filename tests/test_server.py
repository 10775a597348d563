"""The server's limits: what ends a connection and how, that it harms nobody, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import ssl
import subprocess
from pathlib import Path

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed

from quiet_runtime import QuietRuntime
from realtime_fuzz import messages
from server_visits import connected, refusal, run, text_turn, until
from textpro.models.errors import DeviceError, InputError
from textpro.serving.realtime.connection import Limits
from textpro.serving.server import RealtimeServer, ServerSettings, open_server, tls_context


def test_an_oversize_message_closes_the_connection_and_says_so() -> None:
    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        async with connected(server) as client:
            with pytest.raises(ConnectionClosed) as closed:
                await client.send("x" * 3_000_000 for _ in range(8))
                while True:
                    await client.recv()
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1009

    run(test)


def test_bad_messages_are_answered_and_the_connection_lives() -> None:
    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        async with connected(server) as client:
            for bad in ("", "{", b"\xff\xfe", '{"type": "nothing", "event_id": "e1"}'):
                await client.send(bad)
                assert (await until(client, "error"))["error"]["type"] == "invalid_request_error"
            assert (await text_turn(client))["response"]["status"] == "completed"

    run(test)


def test_mutated_messages_and_random_bytes_break_no_connection() -> None:
    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        async with connected(server, max_queue=None) as client:
            chance = random.Random(5)
            for number, text in enumerate(messages(77, 1_000, [])):
                await client.send(text if number % 3 else chance.randbytes(chance.randrange(200)))
            await client.send(json.dumps({"type": "session.update", "session": {"type": "realtime"}, "event_id": "last"}))
            await client.send(json.dumps({"type": "no.such", "event_id": "end"}))
            while (await until(client, "error"))["error"]["event_id"] != "end":
                pass
        async with connected(server) as client:
            assert (await text_turn(client))["response"]["status"] == "completed"

    run(test)


def test_random_bytes_in_place_of_http_leave_nothing_behind() -> None:
    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        chance = random.Random(3)
        for start in (b"", b"GET ", b"POST ", b"POST / HTTP/1.1\r\n", b"\x16\x03\x01"):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(start + chance.randbytes(300) + b"\r\n\r\n")
            writer.write_eof()
            await asyncio.wait_for(reader.read(), 5)
            writer.close()
        async with connected(server) as client:
            await until(client, "session.created")

    run(test)


def test_who_does_not_read_is_dropped_and_harms_nobody() -> None:
    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        slow, fast = connected(server, max_queue=1), connected(server)
        async with slow as client, fast as other:
            client.transport.pause_reading()
            ask = json.dumps({"type": "session.update", "session": {"type": "realtime", "instructions": "x" * 90_000}})
            for _ in range(100):
                await client.send(ask)
            while server.places_taken == 2:
                assert (await text_turn(other))["response"]["status"] == "completed"
                await asyncio.sleep(0.05)
            client.transport.abort()
        assert b'textpro_sessions_closed_total{code="1008"} 1.0' in server.metrics.page()

    run(test, limits=Limits(unsent_bytes=1_000_000, send_s=1.0))


def test_a_session_ends_at_its_time_limit_and_when_nothing_comes() -> None:
    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        async with connected(server) as client:
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    await client.recv()
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1001 and closed.value.rcvd.reason

    run(test, limits=Limits(idle_s=0.2))
    run(test, limits=Limits(session_s=0.2))


def test_where_the_model_has_no_room_the_client_is_told_to_try_again_later() -> None:
    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        runtime.slots = 0
        async with connected(server) as client:
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    await client.recv()
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1013

    run(test)


def test_when_it_drains_the_running_turn_ends_and_new_clients_are_refused() -> None:
    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        async with connected(server) as talking, connected(server) as idle:
            await text_turn(talking)  # 600 ms of sound still play at the client
            draining = asyncio.create_task(server.drain())
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    await idle.recv()
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1012
            assert not draining.done()
            status, error = await refusal(server)
            assert (status, error["code"]) == (503, "draining")
            async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as http:
                assert (await http.get("/readyz")).status_code == 503
                assert (await http.get("/healthz")).json() == {"status": "ok"}
            with pytest.raises(ConnectionClosed):
                while True:
                    await talking.recv()
            await draining

    run(test, reply_ms=600)


def test_two_hundred_visits_leave_no_session_and_no_task() -> None:
    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        async def visit(number: int) -> None:
            async with connected(server) as client:
                if number % 4 == 0:
                    await text_turn(client)
                elif number % 4 == 1:
                    client.transport.abort()

        before = len(asyncio.all_tasks())
        for start in range(0, 200, 20):
            await asyncio.gather(*(visit(start + number) for number in range(20)))
        while server.places_taken:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        gc.collect()
        assert runtime.open == 0 and len(asyncio.all_tasks()) <= before

    run(test, max_sessions=40)


def test_a_taken_port_is_said_so() -> None:
    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        with pytest.raises(DeviceError, match="--port"):
            async with open_server(runtime, ServerSettings(port=server.port)):  # type: ignore[arg-type]
                pass

    run(test)


def test_with_a_certificate_it_speaks_tls(tmp_path: Path) -> None:
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "key.pem",
        "-out",
        "cert.pem",
        "-days",
        "2",
        *names,
    ]
    try:
        subprocess.run(made, cwd=tmp_path, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs the program 'openssl'")
    trusting = ssl.create_default_context(cafile=tmp_path / "cert.pem")

    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        assert server.url.startswith("https://")
        async with connected(server, ssl=trusting) as client:
            assert (await text_turn(client))["response"]["status"] == "completed"

    run(test, tls=tls_context(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")))
    with pytest.raises(InputError, match="--tls-cert"):
        tls_context(str(tmp_path / "absent.pem"), None)
