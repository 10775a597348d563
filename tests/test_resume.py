"""A connection is lost and another one goes on: with the session as it was, from a log, or, without the right, with nothing."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from quiet_runtime import QuietRuntime
from server_visits import BEARER, KEY, connected, run, text_turn, until
from textpro.serving.realtime.connection import Limits
from textpro.serving.resume import ResumeSettings
from textpro.serving.server import RealtimeServer, ServerSettings, open_server
from textpro.serving.server_access import Access
from textpro.serving.session_store import existing_store

OTHER_KEY = "another-key-of-many-signs"
Test = Callable[[RealtimeServer, QuietRuntime], Awaitable[None]]


async def ask(client: ClientConnection, **extensions: Any) -> dict[str, Any]:
    """Ask for a token; gives the session and the token's event."""
    await until(client, "session.created")
    wanted = {"resume": True, "playback": "acknowledged", **extensions}
    await client.send(json.dumps({"type": "session.update", "session": {"type": "realtime", "textpro": wanted}}))
    session = (await until(client, "session.updated"))["session"]
    return {"session": session, **(await until(client, "textpro.resume_token"))}


@asynccontextmanager
async def resumed(server: RealtimeServer, token: str, **options: Any) -> AsyncIterator[tuple[ClientConnection, dict[str, Any]]]:
    """Come back; gives the connection and what is said after `session.created`."""
    headers = {**options.pop("headers", {}), "Textpro-Resume": token}
    async with connected(server, additional_headers=headers, **options) as client:
        created = await until(client, "session.created")
        event = json.loads(await client.recv())
        yield client, {"session": created["session"], **event}


async def lose(server: RealtimeServer, client: ClientConnection) -> None:
    """The network is gone, and the server has noticed."""
    kept = server.keeper.places()
    client.transport.abort()
    while server.keeper.places() == kept:
        await asyncio.sleep(0.005)


async def sound_until(client: ClientConnection, kind: str | None) -> bytes:
    """The sound that comes before an event, or before nothing comes for a while."""
    pcm = b""
    while True:
        try:
            event = json.loads(await asyncio.wait_for(client.recv(), 10 if kind else 0.3))
        except TimeoutError:
            assert kind is None
            return pcm
        if event["type"] == "response.output_audio.delta":
            pcm += base64.b64decode(event["delta"])
        elif event["type"] == kind:
            return pcm


def words(event: dict[str, Any]) -> list[str]:
    parts = [item["content"][0] for item in event["items"]]
    return [part.get("text") or part.get("transcript") for part in parts]


def test_nobody_gets_a_token_unasked() -> None:
    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        async with connected(server) as client:
            await client.send(json.dumps({"type": "session.update", "session": {"type": "realtime"}}))
            await text_turn(client)
            client.transport.abort()
        while server.places_taken:
            await asyncio.sleep(0.005)
        assert runtime.open == 0

    run(test)


@pytest.mark.parametrize("way", ["header", "subprotocol"])
def test_a_lost_client_comes_back_to_its_session_and_its_items(way: str) -> None:
    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        async with connected(server) as client:
            asked = await ask(client)
            assert asked["keep_seconds"] == 60 and asked["log_seconds"] == 0
            await text_turn(client)
            opened = runtime.opened
            await lose(server, client)
        options: dict[str, Any] = {"additional_headers": {"Textpro-Resume": asked["token"]}}
        if way == "subprotocol":
            options = {"subprotocols": ["realtime", f"textpro-resume.{asked['token']}"]}
        async with connected(server, **options) as client:
            if way == "subprotocol":
                assert client.subprotocol == "realtime"
            assert (await until(client, "session.created"))["session"]["id"] == asked["session"]["id"]
            event = json.loads(await client.recv())
            assert event["type"] == "textpro.resumed" and words(event) == ["hello", "Yes."]
            assert event["response"]["status"] == "completed" and event["speech"] is None
            assert (await text_turn(client))["response"]["status"] == "completed"
            assert runtime.opened == opened and server.places_taken == 1

    run(test)


def test_what_was_not_played_of_a_reply_is_sent_again() -> None:
    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        async with connected(server) as client:
            asked = await ask(client)
            done = await text_turn(client)
            item = done["response"]["output"][0]
            for played_ms in (150, 400):
                event = {"type": "textpro.playback", "item_id": item["id"], "audio_end_ms": played_ms}
                await client.send(json.dumps(event))
            await client.send(json.dumps({"type": "conversation.item.retrieve", "item_id": item["id"]}))
            await until(client, "conversation.item.retrieved")
            await lose(server, client)
        for _ in range(2):
            async with resumed(server, asked["token"]) as (client, event):
                assert event["audio"] == [{"item_id": item["id"], "audio_start_ms": 400, "audio_end_ms": 1000}]
                pcm = await sound_until(client, None)
                assert len(pcm) / 48 == pytest.approx(600, abs=2)
                await lose(server, client)
        async with resumed(server, asked["token"]) as (client, event):
            await client.send(json.dumps({"type": "textpro.playback", "item_id": item["id"], "audio_end_ms": 1000}))
            assert (await text_turn(client))["response"]["status"] == "completed"

    run(test, reply_ms=1000)


def test_a_connection_that_hangs_gives_way_to_the_one_that_resumes() -> None:
    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        async with connected(server, max_queue=1) as hanging:
            asked = await ask(hanging)
            await text_turn(hanging)
            async with resumed(server, asked["token"]) as (client, event):
                assert event["type"] == "textpro.resumed" and words(event) == ["hello", "Yes."]
                with pytest.raises(ConnectionClosed) as closed:
                    while True:
                        await hanging.recv()
                assert closed.value.rcvd is not None and closed.value.rcvd.code == 4001
                assert (await text_turn(client))["response"]["status"] == "completed"
                assert runtime.open == 1

    run(test, max_sessions=1)


def test_a_wrong_token_or_one_of_another_key_gets_an_error_and_a_new_session() -> None:
    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        async with connected(server, additional_headers=BEARER) as client:
            asked = await ask(client)
            await text_turn(client)
            await lose(server, client)
        other = {"Authorization": f"Bearer {OTHER_KEY}"}
        for token, headers in ((asked["token"], other), ("x" * 43, BEARER), ("", BEARER), (asked["token"][:-1], BEARER)):
            async with resumed(server, token or "?", headers=headers) as (client, event):
                assert (event["type"], event["error"]["code"]) == ("error", "resume_refused")
                assert event["session"]["id"] != asked["session"]["id"]
                assert (await text_turn(client))["response"]["status"] == "completed"
        async with resumed(server, asked["token"], headers=BEARER) as (_, event):
            assert event["type"] == "textpro.resumed"
        assert b'textpro_resumed_total{done="no"} 4.0' in server.metrics.page()

    run(test, access=Access([KEY, OTHER_KEY]))


def test_who_says_goodbye_cannot_come_back_and_takes_no_place() -> None:
    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        async with connected(server) as client:
            asked = await ask(client)
        while server.places_taken:
            await asyncio.sleep(0.005)
        async with resumed(server, asked["token"]) as (_, event):
            assert event["error"]["code"] == "resume_refused"

    run(test)


def test_a_session_is_kept_for_its_time_only() -> None:
    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        async with connected(server) as client:
            asked = await ask(client)
            await text_turn(client)
            await lose(server, client)
        assert runtime.open == 1
        while server.places_taken:
            await asyncio.sleep(0.005)
        async with resumed(server, asked["token"]) as (_, event):
            assert event["error"]["code"] == "resume_refused"

    run(test, resume=ResumeSettings(keep_s=0.2))


def test_where_nothing_is_kept_the_token_is_null() -> None:
    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        async with connected(server) as client:
            assert (await ask(client))["token"] is None
            client.transport.abort()
        while server.places_taken:
            await asyncio.sleep(0.005)

    run(test, resume=ResumeSettings(keep_s=0))


def test_a_kept_session_keeps_its_place_and_gives_it_up_to_who_is_there() -> None:
    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        async with connected(server) as client:
            asked = await ask(client)
            await text_turn(client)
            await lose(server, client)
        assert (server.places_taken, runtime.open) == (1, 1)
        async with connected(server) as newcomer:
            assert (await text_turn(newcomer))["response"]["status"] == "completed"
            assert (server.places_taken, runtime.open) == (1, 1)
            with pytest.raises(InvalidStatus) as refused:
                async with resumed(server, asked["token"]):
                    pass
            assert refused.value.response.status_code == 503
        while server.places_taken:
            await asyncio.sleep(0.005)
        async with resumed(server, asked["token"]) as (client, event):
            assert event["type"] == "textpro.resumed" and words(event) == ["hello", "Yes."]
            assert event["session"]["id"] == asked["session"]["id"]
            assert (await text_turn(client))["response"]["status"] == "completed"

    run(test, max_sessions=1)


def test_the_limit_of_a_key_counts_who_comes_back_once() -> None:
    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        tokens = []
        for _ in range(2):
            async with connected(server, additional_headers=BEARER) as client:
                tokens.append((await ask(client))["token"])
                await lose(server, client)
        assert server.keeper.places() == 1  # the first one has made room
        async with resumed(server, tokens[1], headers=BEARER) as (_, event):
            assert event["type"] == "textpro.resumed"
            with pytest.raises(InvalidStatus) as refused:
                async with connected(server, additional_headers=BEARER):
                    pass
            assert refused.value.response.status_code == 429

    run(test, access=Access([KEY], sessions_per_key=1))


def test_a_slow_consumer_may_come_back() -> None:
    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        async with connected(server, max_queue=1) as client:
            asked = await ask(client)
            client.transport.pause_reading()
            update = {"type": "session.update", "session": {"type": "realtime", "instructions": "x" * 90_000}}
            for _ in range(100):
                await client.send(json.dumps(update))
            while not server.keeper.places():
                await asyncio.sleep(0.02)
            client.transport.abort()
        async with resumed(server, asked["token"]) as (_, event):
            assert event["type"] == "textpro.resumed"

    run(test, limits=Limits(unsent_bytes=1_000_000, send_s=1.0))


def restarted(first: Test, second: Test, folder: Path, **settings: Any) -> None:
    """Two servers after each other with the same folder."""
    for number, test in enumerate((first, second)):
        resume = ResumeSettings(state=folder, **settings)
        run(test, resume=resume, reply_ms=1000 if number == 0 else 200)


def test_a_conversation_goes_on_after_a_restart_of_the_server(tmp_path: Path) -> None:
    known: dict[str, Any] = {}

    async def first(server: RealtimeServer, runtime: QuietRuntime) -> None:
        async with connected(server) as client:
            known.update(await ask(client))
            assert known["log_seconds"] == 86_400
            known["item"] = (await text_turn(client))["response"]["output"][0]
            await client.send(json.dumps({"type": "textpro.playback", "item_id": known["item"]["id"], "audio_end_ms": 250}))
            await client.send(json.dumps({"type": "conversation.item.retrieve", "item_id": known["item"]["id"]}))
            await until(client, "conversation.item.retrieved")
            await server.close()
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    await client.recv()
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1012

    async def second(server: RealtimeServer, runtime: QuietRuntime) -> None:
        async with resumed(server, known["token"]) as (client, event):
            assert event["type"] == "textpro.resumed" and event["session"]["id"] == known["session"]["id"]
            assert words(event) == ["hello", "Yes."] and event["session"]["textpro"]["resume"] is True
            assert event["audio"] == [{"item_id": known["item"]["id"], "audio_start_ms": 250, "audio_end_ms": 1000}]
            assert len(await sound_until(client, None)) / 48 == pytest.approx(750, abs=2)
            assert (await text_turn(client))["response"]["status"] == "completed"

    restarted(first, second, tmp_path / "state")


def test_what_a_server_has_written_by_the_time_it_is_killed_is_there_for_the_next_one(tmp_path: Path) -> None:
    resume = ResumeSettings(state=tmp_path / "state")

    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        async with connected(server) as client:
            asked = await ask(client)
            await text_turn(client)
            store, token_hash = existing_store(tmp_path / "state"), hashlib.sha256(asked["token"].encode()).hexdigest()
            while (log := store.load(token_hash, "local", time.time())) is None or len(log.items) < 2:
                await asyncio.sleep(0.02)
            store.close()
            settings = ServerSettings(port=0, resume=resume)  # the first server goes on, and has closed nothing
            async with open_server(runtime, settings) as other, resumed(other, asked["token"]) as (_, event):  # type: ignore[arg-type]
                assert event["type"] == "textpro.resumed" and words(event) == ["hello", "Yes."]

    run(test, resume=resume)


def test_what_is_forgotten_while_the_server_runs_stays_forgotten(tmp_path: Path) -> None:
    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        store = existing_store(tmp_path / "state")
        async with connected(server) as client:
            asked = await ask(client)
            while not store.forget():
                await asyncio.sleep(0.05)
            await text_turn(client)
            await lose(server, client)
        assert server.keeper.push_out()
        await server.keeper.settled()
        async with resumed(server, asked["token"]) as (_, event):
            assert event["error"]["code"] == "resume_refused"
        store.close()

    run(test, resume=ResumeSettings(state=tmp_path / "state"))


def test_a_log_ends_with_its_time_and_with_a_goodbye(tmp_path: Path) -> None:
    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        tokens = []
        for goodbye in (True, False):
            async with connected(server) as client:
                tokens.append((await ask(client))["token"])
                await text_turn(client)
                await asyncio.sleep(0.4)
                if not goodbye:
                    await lose(server, client)
                    server.keeper.push_out()
                    await server.keeper.settled()
        await asyncio.sleep(0.8)
        for token in tokens:
            async with resumed(server, token) as (_, event):
                assert event["error"]["code"] == "resume_refused"

    run(test, resume=ResumeSettings(state=tmp_path / "state", retention_s=0.8))


def test_two_servers_of_one_process_share_nothing_but_the_folder(tmp_path: Path) -> None:
    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        settings = ServerSettings(port=0, resume=ResumeSettings(state=tmp_path / "state"))
        async with connected(server) as client:
            asked = await ask(client)
            await lose(server, client)
        async with open_server(runtime, settings) as other, resumed(other, asked["token"]) as (_, event):  # type: ignore[arg-type]
            assert event["error"]["code"] == "resume_refused"

    run(test)
