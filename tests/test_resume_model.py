"""Resume with the bundled model: the oracle is the same conversation without an interruption."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect

from conversation import spoken
from realtime_server import ServerThread, server_thread
from requirements import require_module
from textpro.engine import Entry
from textpro.serving.resume import ResumeSettings
from textpro.serving.server import RealtimeServer, ServerSettings
from textpro.streaming.resample import resample

EXTENSIONS = {"resume": True, "playback": "acknowledged"}


@pytest.fixture(scope="module")
def thread() -> Iterator[ServerThread]:
    require_module("espeakng_loader")
    with server_thread(model="tiny", threads=1, slots=3) as thread:
        yield thread


def pcm_of(text: str, after_ms: int = 900) -> bytes:
    return (resample(spoken(text, tone="happy", after_ms=after_ms), 16_000, 24_000) * 32767).astype("<i2").tobytes()


class Visitor:
    """A client that plays nothing by itself; `sound` is what it was sent."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.sound: dict[str, bytes] = {}
        self.token = ""

    async def send(self, type: str, **fields: Any) -> None:
        await self._socket.send(json.dumps({"type": type, **fields}))

    async def until(self, *kinds: str) -> dict[str, Any]:
        while True:
            event: dict[str, Any] = json.loads(await asyncio.wait_for(self._socket.recv(), 60))
            if event["type"] == "response.output_audio.delta":
                self.sound[event["item_id"]] = self.sound.get(event["item_id"], b"") + base64.b64decode(event["delta"])
            if event["type"] in kinds:
                return event

    async def configure(self, **session: Any) -> None:
        await self.send("session.update", session={"type": "realtime", "textpro": EXTENSIONS} | session)
        self.token = (await self.until("textpro.resume_token"))["token"]

    async def speak(self, pcm: bytes) -> None:
        for at in range(0, len(pcm), 9600):
            await self.send("input_audio_buffer.append", audio=base64.b64encode(pcm[at : at + 9600]).decode())

    async def hear(self) -> dict[str, Any]:
        """A reply, played to its end; gives the item."""
        item: dict[str, Any] = (await self.until("response.done"))["response"]["output"][-1]
        await self.send("textpro.playback", item_id=item["id"], audio_end_ms=10**6)
        return item

    async def ask(self, text: str) -> dict[str, Any]:
        content = [{"type": "input_text", "text": text}]
        await self.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})
        await self.send("response.create")
        return await self.hear()

    def lose(self) -> None:
        self._socket.transport.abort()


class Line:
    """Opens connections to a server."""

    def __init__(self, server: RealtimeServer) -> None:
        self._url = f"{server.url.replace('http', 'ws', 1)}/realtime"

    def __call__(self, token: str | None = None) -> Any:
        return connect(self._url, max_size=None, additional_headers={} if token is None else {"Textpro-Resume": token})


def rows_of(server: RealtimeServer) -> tuple[Entry, ...]:
    """What the model has read in the only session of the server."""
    (held,) = server.keeper._held.values()
    session = held.live._session._session
    assert session is not None
    return session.history


def same_input(rows: Sequence[Entry], other: Sequence[Entry]) -> bool:
    return len(rows) == len(other) and all(one.same_input(two) for one, two in zip(rows, other, strict=True))


QUESTIONS = ("what is two plus two", "what is seven minus three")


def test_after_a_restart_the_next_greedy_reply_is_that_of_a_conversation_without_one(
    thread: ServerThread, tmp_path: Path
) -> None:
    first, second = pcm_of(QUESTIONS[0]), pcm_of(QUESTIONS[1])
    audio = {"input": {"transcription": {"model": "any"}}}

    async def uninterrupted(line: Line, server: RealtimeServer) -> tuple[list[str], tuple[Entry, ...]]:
        async with line() as socket:
            visitor = Visitor(socket)
            await visitor.configure(audio=audio)
            said = []
            for pcm in (first, second):
                await visitor.speak(pcm)
                said.append((await visitor.hear())["content"][0]["transcript"])
            said.append((await visitor.ask("what did I ask first"))["content"][0]["transcript"])
            return said, thread.call(rows_of, server)

    async def before(line: Line, server: RealtimeServer) -> tuple[str, list[str], tuple[Entry, ...]]:
        async with line() as socket:
            visitor = Visitor(socket)
            await visitor.configure(audio=audio)
            await visitor.speak(first)
            said = [(await visitor.hear())["content"][0]["transcript"]]
            while not (rows := thread.call(rows_of, server)):
                await asyncio.sleep(0.01)
            visitor.lose()
            return visitor.token, said, rows

    async def after(line: Line, server: RealtimeServer, token: str) -> tuple[list[str], tuple[Entry, ...]]:
        async with line(token) as socket:
            visitor = Visitor(socket)
            event = await visitor.until("textpro.resumed", "error")
            assert [item["role"] for item in event["items"]] == ["user", "assistant"] and event["audio"] == []
            await visitor.speak(second)
            said = [(await visitor.hear())["content"][0]["transcript"]]
            said.append((await visitor.ask("what did I ask first"))["content"][0]["transcript"])
            return said, thread.call(rows_of, server)

    settings = ServerSettings(port=0)
    with thread.server(settings) as server:
        expected, expected_rows = asyncio.run(uninterrupted(Line(server), server))
    kept = ServerSettings(port=0, resume=ResumeSettings(state=tmp_path / "state"))
    with thread.server(kept) as server:
        token, said, first_rows = asyncio.run(before(Line(server), server))
    with thread.server(kept) as server:
        rest, rows = asyncio.run(after(Line(server), server, token))
    assert [*said, *rest] == expected
    assert any(entry.vector is not None for entry in first_rows)
    assert same_input(rows[: len(first_rows)], first_rows)  # what was read before, bit by bit
    common = min(len(rows), len(expected_rows))
    assert common > len(first_rows)
    assert [entry.token_id for entry in rows[:common]] == [entry.token_id for entry in expected_rows[:common]]


def test_a_turn_that_is_cut_by_a_lost_connection_goes_on_in_the_next_one(thread: ServerThread) -> None:
    pcm = pcm_of(QUESTIONS[0])
    half = len(pcm) // 2 // 9600 * 9600

    async def talk(line: Line) -> tuple[str, str]:
        async with line() as socket:
            visitor = Visitor(socket)
            await visitor.configure(audio={"input": {"transcription": {"model": "any"}}})
            await visitor.speak(pcm[:half])
            item_id = (await visitor.until("input_audio_buffer.speech_started"))["item_id"]
            visitor.lose()
        async with line(visitor.token) as socket:
            visitor = Visitor(socket)
            event = await visitor.until("textpro.resumed", "error")
            assert event["speech"] == {"item_id": item_id}
            received = round(event["input_audio_ms"] * 48) // 2 * 2
            assert 0 < received <= half
            await visitor.speak(pcm[received:])
            heard = await visitor.until("conversation.item.input_audio_transcription.completed")
            assert heard["item_id"] == item_id
            return heard["transcript"], (await visitor.hear())["content"][0]["transcript"]

    with thread.server(ServerSettings(port=0)) as server:
        heard, said = asyncio.run(talk(Line(server)))
    assert heard == QUESTIONS[0] and "four" in said.lower()


def test_words_of_an_open_turn_and_the_sound_of_a_reply_outlive_the_server(thread: ServerThread, tmp_path: Path) -> None:
    pcm = pcm_of("please tell me what is two plus two", after_ms=0)
    kept = ServerSettings(port=0, resume=ResumeSettings(state=tmp_path / "state"))

    async def before(line: Line) -> tuple[str, dict[str, Any], bytes]:
        async with line() as socket:
            visitor = Visitor(socket)
            events = {**EXTENSIONS, "events": ["tokens_committed"]}
            await visitor.configure(textpro=events, audio={"input": {"transcription": {"model": "any"}}})
            await visitor.send(
                "conversation.item.create",
                item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": "what can you do"}]},
            )
            await visitor.send("response.create")
            item = (await visitor.until("response.done"))["response"]["output"][0]
            await visitor.send("textpro.playback", item_id=item["id"], audio_end_ms=500)
            await visitor.send("conversation.item.retrieve", item_id=item["id"])
            await visitor.until("conversation.item.retrieved")
            visitor.lose()
            return visitor.token, item, visitor.sound[item["id"]]

    async def between(line: Line, token: str, item: dict[str, Any], whole: bytes) -> None:
        async with line(token) as socket:
            visitor = Visitor(socket)
            event = await visitor.until("textpro.resumed", "error")
            (rest,) = event["audio"]
            assert (rest["item_id"], rest["audio_start_ms"]) == (item["id"], 500)
            await visitor.send("conversation.item.retrieve", item_id=item["id"])
            again = await visitor.until("conversation.item.retrieved")
            assert again["item"]["content"] == item["content"]
            pcm_again, pcm_whole = (np.frombuffer(data, "<i2").astype(float) for data in (visitor.sound[item["id"]], whole))
            assert abs(len(pcm_again) + 12_000 - len(pcm_whole)) < 240
            near = [np.corrcoef(pcm_again[200:-400], pcm_whole[12_000 + 200 + shift :][: len(pcm_again) - 600])[0, 1]
                    for shift in range(-8, 9)]  # fmt: skip
            assert max(near) > 0.9  # resampled from another place on
            await visitor.send("textpro.playback", item_id=item["id"], audio_end_ms=10**6)
            await visitor.speak(pcm)
            await visitor.until("textpro.tokens_committed")
            visitor.lose()

    async def after(line: Line, token: str) -> str:
        async with line(token) as socket:
            event = await Visitor(socket).until("textpro.resumed", "error")
            assert event["audio"] == [] and event["items"][-1]["role"] == "user"
            return str(event["items"][-1]["content"][0]["transcript"])

    with thread.server(kept) as server:
        token, item, whole = asyncio.run(before(Line(server)))
    with thread.server(kept) as server:
        asyncio.run(between(Line(server), token, item, whole))
    with thread.server(kept) as server:
        words = asyncio.run(after(Line(server), token))
    assert words and "please tell me what is two plus two".startswith(words)
