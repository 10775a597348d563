"""The Realtime server with the bundled model, used by OpenAI's own Python client as its users do."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from conversation import spoken
from realtime_server import ServerThread, server_thread
from requirements import require_module
from textpro.serving.server import RealtimeServer, ServerSettings
from textpro.streaming.resample import resample

SET_LIGHT = {
    "type": "function",
    "name": "set_light",
    "description": "Turn the light in a room on or off.",
    "parameters": {"type": "object", "properties": {"room": {"type": "string"}, "state": {"type": "string"}}},
}


@pytest.fixture(scope="module")
def thread() -> Iterator[ServerThread]:
    require_module("openai")
    require_module("espeakng_loader")
    with server_thread(model="tiny", threads=1) as thread:
        yield thread


@pytest.fixture(scope="module")
def server(thread: ServerThread) -> Iterator[RealtimeServer]:
    with thread.server(ServerSettings(port=0)) as server:
        yield server


class Talk:
    """A connection of the official client, and every event that came."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.events: list[Any] = []

    async def until(self, kind: str, count: int = 1) -> Any:
        """The next event of this type, or the `count`th."""
        while count:
            event = await self.connection.recv()
            self.events.append(event)
            assert event.type != "error", event
            count -= event.type == kind
        return self.events[-1]

    async def configure(self, **session: Any) -> None:
        await self.connection.session.update(session={"type": "realtime", **session})
        await self.until("session.updated")

    async def type(self, text: str) -> None:
        content = [{"type": "input_text", "text": text}]
        await self.connection.conversation.item.create(item={"type": "message", "role": "user", "content": content})
        await self.connection.response.create()

    async def speak(self, text: str, after_ms: int = 900) -> None:
        pcm = (resample(spoken(text, after_ms=after_ms), 16_000, 24_000) * 32767).astype("<i2").tobytes()
        for at in range(0, len(pcm), 9600):
            await self.connection.input_audio_buffer.append(audio=base64.b64encode(pcm[at : at + 9600]).decode())

    def types(self) -> list[str]:
        return [event.type for event in self.events]

    def text(self, kind: str) -> str:
        return "".join(event.delta for event in self.events if event.type == kind)


@asynccontextmanager
async def connected(server: RealtimeServer) -> AsyncIterator[Talk]:
    from openai import AsyncOpenAI

    client = AsyncOpenAI(api_key="unused", base_url=server.url)
    async with asyncio.timeout(100), client, client.realtime.connect(model="gpt-realtime") as connection:
        talk = Talk(connection)
        await talk.until("session.created")
        yield talk


def talking(server: RealtimeServer, conversation: Callable[[Talk], Awaitable[None]]) -> Talk:
    async def run() -> Talk:
        async with connected(server) as talk:
            await conversation(talk)
            return talk

    return asyncio.run(run())


def test_a_typed_turn_is_answered_in_text(server: RealtimeServer) -> None:
    async def conversation(talk: Talk) -> None:
        await talk.configure(output_modalities=["text"])
        await talk.type("what is two plus two")
        await talk.until("rate_limits.updated")

    talk = talking(server, conversation)
    assert "four" in talk.text("response.output_text.delta").lower()
    done = next(event for event in talk.events if event.type == "response.done").response
    assert (done.status, done.output[0].content[0].type) == ("completed", "output_text")
    assert done.usage.input_tokens > 0 < done.usage.output_tokens


def test_a_spoken_turn_is_found_transcribed_and_answered_aloud(server: RealtimeServer) -> None:
    async def conversation(talk: Talk) -> None:
        await talk.configure(audio={"input": {"transcription": {"model": "any"}}})
        await talk.speak("what is two plus two")
        await talk.until("rate_limits.updated")

    talk = talking(server, conversation)
    kinds = [kind for kind in dict.fromkeys(talk.types()) if not kind.startswith("session.")]
    assert kinds == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "conversation.item.input_audio_transcription.delta",
        "conversation.item.input_audio_transcription.completed",
        "response.created",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_audio_transcript.delta",
        "response.output_audio.delta",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.done",
        "rate_limits.updated",
    ]
    assert "two plus two" in talk.text("conversation.item.input_audio_transcription.delta")
    assert "four" in talk.text("response.output_audio_transcript.delta").lower()
    deltas = [base64.b64decode(event.delta) for event in talk.events if event.type == "response.output_audio.delta"]
    sound = np.frombuffer(b"".join(deltas), "<i2")
    assert 0.8 < len(sound) / 24_000 < 4 and np.abs(sound.astype(int)).max() > 1000


def test_a_function_of_the_client_is_called_and_its_result_answered(server: RealtimeServer) -> None:
    async def conversation(talk: Talk) -> None:
        await talk.configure(output_modalities=["text"], tools=[SET_LIGHT])
        await talk.type("turn on the light in the kitchen")
        call = await talk.until("response.function_call_arguments.done")
        assert (call.name, json.loads(call.arguments)) == ("set_light", {"room": "kitchen", "state": "on"})
        await talk.until("response.done")
        output = {"type": "function_call_output", "call_id": call.call_id, "output": '{"ok": true}'}
        await talk.connection.conversation.item.create(item=output)
        await talk.connection.response.create()
        await talk.until("response.done")

    talk = talking(server, conversation)
    first, second = (event.response for event in talk.events if event.type == "response.done")
    assert [item.type for item in first.output] == ["function_call"] and first.status == "completed"
    assert [item.type for item in second.output] == ["message"]
    assert "kitchen" in talk.text("response.output_text.delta")


def test_a_cancelled_response_ends_and_the_next_one_is_answered(server: RealtimeServer) -> None:
    async def conversation(talk: Talk) -> None:
        await talk.type("what can you do")
        await talk.until("response.output_audio.delta")
        await talk.connection.response.cancel()
        done = (await talk.until("response.done")).response
        assert (done.status, done.status_details.reason) == ("cancelled", "client_cancelled")
        assert done.output[0].status == "incomplete"
        await talk.type("what is two plus two")
        await talk.until("response.done")

    talk = talking(server, conversation)
    cancelled, answered = (event.response for event in talk.events if event.type == "response.done")
    assert answered.status == "completed" and "four" in answered.output[0].content[0].transcript.lower()
    at = talk.types().index("response.done")
    assert all(getattr(event, "response_id", "") != cancelled.id for event in talk.events[at + 1 :])


def test_who_speaks_over_the_reply_is_answered_and_the_reply_ends_where_it_was_heard(server: RealtimeServer) -> None:
    async def conversation(talk: Talk) -> None:
        await talk.type("what can you do")
        await talk.until("response.output_audio.delta")
        item_id = talk.events[-1].item_id
        await talk.until("response.done")
        await talk.speak("what is two plus two", after_ms=100)
        await talk.until("input_audio_buffer.speech_started")
        await talk.connection.conversation.item.truncate(item_id=item_id, content_index=0, audio_end_ms=700)
        await talk.until("conversation.item.truncated")
        silence = base64.b64encode(bytes(2 * 24_000)).decode()
        await talk.connection.input_audio_buffer.append(audio=silence)
        await talk.until("response.done")
        await talk.connection.conversation.item.retrieve(item_id=item_id)
        await talk.until("conversation.item.retrieved")

    talk = talking(server, conversation)
    whole, second = (event.response.output[0].content[0].transcript for event in talk.events if event.type == "response.done")
    heard = talk.events[-1].item.content[0].transcript
    assert whole.startswith(heard) and 0 < len(heard) < len(whole) / 2
    assert "four" in second.lower()
