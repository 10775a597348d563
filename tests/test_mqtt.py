"""Devices over a real broker: turns, tools, sound, order; a broker that dies in mid-turn; who may connect, and who is gone."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import numpy as np
import pytest

from mosquitto import PATIENCE_S, TOPICS, Gadget, Mosquitto, Programs, certificates
from requirements import absent
from scripted_engine import Message, ScriptedTalk
from scripted_session import ScriptedSession
from textpro.agent.session_settings import SessionSettings
from textpro.evaluation.partner import SilentVoice
from textpro.models.errors import CapacityError, InputError
from textpro.serving.mqtt.bridge import Broker, MqttBridge, MqttSettings
from textpro.serving.mqtt.sequence import Backoff
from textpro.serving.mqtt.topics import Channel, Hello

LONG = "one two three four five six seven eight nine ten"


class Agents:
    """Makes sessions whose model follows a script, and keeps them."""

    def __init__(self, *script: Message, token_ms: float = 1.0) -> None:
        self._script, self._token_ms = script, token_ms
        self.talks: list[ScriptedTalk] = []
        self.hellos: list[Hello] = []

    def open(self, hello: Hello, tools: Sequence[Any]) -> Any:
        settings = SessionSettings(playback=hello.playback)
        talk = ScriptedTalk(tools, *self._script, settings=settings, synthesizer=SilentVoice())
        talk.engine._token_ms = self._token_ms
        self.talks.append(talk)
        self.hellos.append(hello)
        return talk.session


@asynccontextmanager
async def bridge(broker: Broker, open_session: Any, **settings: Any) -> AsyncIterator[MqttBridge]:
    serving = MqttBridge(broker, open_session, MqttSettings(**settings), Backoff(0.05, 0.1))
    task = asyncio.create_task(serving.run())
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.wait((task, asyncio.create_task(serving.connected.wait())), return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    try:
        yield serving
    finally:
        task.cancel()
        await asyncio.wait((task,))


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 2 * PATIENCE_S))


def numbers(device: Gadget) -> list[int]:
    return [message["seq"] for message in device.messages]


def test_a_typed_turn_is_answered_in_words_and_sound_all_numbered_in_order(tmp_path: Path) -> None:
    agents = Agents("It is noon.")

    async def scenario() -> None:
        async with bridge(server.broker, agents.open), Gadget(server.port) as device:
            await device.say(Channel.TEXT, {"text": "what is the time"})
            (done,) = await device.told("reply_done")
            await device.told("metrics")
        assert (done["text"], done["interrupted"]) == ("It is noon.", False)
        assert sum(map(len, device.sound)) == 3 * 1600  # three words of the silent voice
        assert numbers(device) == list(range(1, len(device.messages) + 1))
        assert {message.get("session", device.session) for message in device.messages} == {device.session}

    with Mosquitto(tmp_path) as server:
        run(scenario)


def test_a_device_brings_its_tools_and_answers_the_calls(tmp_path: Path) -> None:
    agents = Agents((("robot_move", {"direction": "forward", "meters": 2}),), "Done.", (("robot_stop", {}),), "Stopped.")
    tools = [{"name": "robot_move", "description": "Drive."}, {"name": "robot_stop", "time_limit_s": 0.05}]

    async def scenario() -> None:
        async with bridge(server.broker, agents.open), Gadget(server.port, tools=tools, instructions="Be short.") as device:
            await device.say(Channel.TEXT, {"text": "go on"})
            await device.until(lambda: bool(device.calls))
            (call,) = device.calls
            assert (call["name"], call["arguments"]) == ("robot_move", {"direction": "forward", "meters": 2})
            answer = {"id": call["id"], "result": {"at": [0, 2]}}
            await device.say(Channel.TOOL_RESULT, answer)
            await device.say(Channel.TOOL_RESULT, answer)  # a repetition is nothing
            await device.told("reply_done")
            assert device.of("tool_result")[0]["result"] == {"at": [0, 2]}
            await device.say(Channel.TEXT, {"text": "stop"})
            await device.told("reply_done", 2)  # nobody answers in time
            late = [message for message in device.calls if message["name"] == "robot_stop"]
            assert late[-1]["cancelled"] and late[-1]["id"] == late[0]["id"]
            assert "took more than" in device.of("tool_result")[1]["result"]["error"]
        assert agents.hellos[0].instructions == "Be short."

    with Mosquitto(tmp_path) as server:
        run(scenario)


def test_a_broker_that_dies_in_mid_reply_costs_neither_words_nor_sound(tmp_path: Path) -> None:
    agents = Agents(LONG, token_ms=40)

    async def scenario() -> None:
        async with bridge(server.broker, agents.open) as serving, Gadget(server.port) as device:
            await device.say(Channel.TEXT, {"text": "count", "seq": 1})
            await device.told("reply_delta", 3)
            server.kill()
            await device.until(lambda: not serving.connected.is_set())
            await asyncio.wait_for(agents.talks[0].session.settled(), PATIENCE_S)  # the reply goes on without a connection
            assert not device.of("reply_done")
            server.start()
            (done,) = await device.told("reply_done")
            await device.say(Channel.TEXT, {"text": "count", "seq": 1})  # as a client would that is not sure
            await device.say(Channel.TEXT, {"text": "again", "seq": 2})
            await device.told("reply_done", 2)
        assert device.connections == 2 and len(agents.talks) == 1
        assert done["text"] == "".join(delta["text"] for delta in device.of("reply_delta") if delta["turn_id"] == 1)
        assert done["text"].strip() == LONG
        assert numbers(device) == list(range(1, len(device.messages) + 1))
        assert [end["text"] for end in device.of("turn_end")] == ["count", "again"]

    with Mosquitto(tmp_path) as server:
        run(scenario)


def test_a_broker_that_dies_while_the_user_speaks_leaves_the_turn_open_and_whole(tmp_path: Path) -> None:
    session = ScriptedSession(replies=("Yes.",))
    said = np.concatenate([np.full(16_000, 8_000), np.zeros(16_000)]).astype(np.int16)
    said[:16_000] += np.arange(16_000, dtype=np.int16) % 997

    async def scenario() -> None:
        async with bridge(server.broker, lambda *_: session) as serving, Gadget(server.port) as device:
            for index, piece in enumerate(said.reshape(-1, 320)):
                if index == 30:
                    await device.until(lambda: len(session.frames) == 30)
                    server.kill()
                    await device.until(lambda: not serving.connected.is_set())
                    server.start()
                    await device.until(serving.connected.is_set)
                await device.speak(piece)
            await device.until(lambda: len(session.frames) == 100)
            await device.told("turn_end")
        assert (session.entered, device.connections) == (1, 2)
        np.testing.assert_array_equal(np.concatenate(session.frames), said)

    with Mosquitto(tmp_path) as server:
        run(scenario)


def test_what_was_played_is_acknowledged_by_the_device_and_an_interruption_remembers_it(tmp_path: Path) -> None:
    agents = Agents(LONG, "Well.")

    async def scenario() -> None:
        async with bridge(server.broker, agents.open), Gadget(server.port, playback="acknowledged") as device:
            await device.say(Channel.TEXT, {"text": "count"})
            await device.until(lambda: sum(map(len, device.sound)) == 10 * 1600)
            await device.say(Channel.CONTROL, {"type": "played", "turn_id": 7, "total_ms": 900})  # of another turn
            await device.say(Channel.CONTROL, {"type": "played", "turn_id": 1, "total_ms": 300})
            await device.say(Channel.CONTROL, {"type": "interrupt"})
            (done,) = await device.told("reply_done")
        assert (done["heard_text"].strip(), done["interrupted"]) == ("one two three", True)

    with Mosquitto(tmp_path) as server:
        run(scenario)


def test_messages_that_do_not_fit_are_answered_and_the_conversation_goes_on(tmp_path: Path) -> None:
    agents = Agents("Yes.")
    bad = [
        (Channel.TEXT, b"\xff{", "a typed message does not fit"),
        (Channel.TEXT, b'{"text": " "}', "holds no words"),
        (Channel.CONTROL, b'{"type": "dance"}', "a control message does not fit"),
        (Channel.CONTROL, b'{"type": "confirm", "call_id": "x", "accepted": true}', "no call 'x' waits"),
        (Channel.CONTROL, b'{"type": "resume", "session": "x", "after_seq": 1}', "the session x is over"),
        (Channel.AUDIO_IN, b"123", "an audio packet of 3 bytes"),
        (Channel.AUDIO_IN, b"\0" * 24, "The sample rate is 0 Hz"),
        (Channel.TOOL_RESULT, b"[]", "a toolanswer message does not fit"),
    ]

    async def scenario() -> None:
        async with bridge(server.broker, agents.open), Gadget(server.port) as device:
            await device.told("session_started")
            for channel, payload, _ in bad:
                await device.say(channel, payload)
            await device.told("error", len(bad))
            await device.say(Channel.HELLO, b'{"tools": 1}')
            await device.until(lambda: bool(device.unnumbered))
            await device.say(Channel.TEXT, {"text": "are you there"})
            await device.told("reply_done")
        assert len(agents.talks) == 1
        faults = [error["message"] for error in device.of("error")]
        assert all(any(words in fault for fault in faults) for _, _, words in bad), faults
        assert "tools" in device.unnumbered[0]["message"]

    with Mosquitto(tmp_path) as server:
        run(scenario)


def test_a_device_that_is_gone_for_too_long_loses_its_conversation_and_one_that_starts_anew_gets_another(
    tmp_path: Path,
) -> None:
    agents = Agents("Yes.")

    async def scenario() -> None:
        async with bridge(server.broker, agents.open, keep_s=0.1), Gadget(server.port) as device:
            await device.told("session_started")
            first = device.session
            await device.say(Channel.HELLO, {"boot": "2"}, retain=True)
            await device.told("session_started", 2)
            assert device.of("session_ended")[0]["reason"] == "the device has started anew" and device.session != first
            await device.say(Channel.HELLO, b"", retain=True)  # what its last will says
            await device.told("session_ended", 2)
            assert device.of("session_ended")[1]["reason"] == "the device is gone"

    with Mosquitto(tmp_path) as server:
        run(scenario)


def test_a_device_is_told_that_no_conversation_is_free_and_that_the_agent_stops(tmp_path: Path) -> None:
    def full(*_: Any) -> Any:
        raise CapacityError("all 4 slots are taken: try later")

    async def scenario() -> None:
        agents = Agents("Yes.")
        async with Gadget(server.port) as device, Gadget(server.port, "other") as other:
            async with bridge(server.broker, full):
                (ended,) = await device.told("session_ended")
                assert ended["reason"] == "all 4 slots are taken: try later"
            await device.until(lambda: device.status[-1:] == ["offline"])
            async with bridge(server.broker, agents.open):
                await other.told("session_started")
            await other.until(lambda: other.of("session_ended")[-1]["reason"] == "the agent stops")
            assert [*other.status[-2:]] == ["online", "offline"]

    with Mosquitto(tmp_path) as server:
        run(scenario)


def test_only_the_right_password_is_let_in_over_an_encrypted_connection(tmp_path: Path) -> None:
    certificates(tmp_path)
    program = shutil.which("mosquitto_passwd", path=Programs) or absent("needs mosquitto_passwd (Debian package mosquitto)")
    passwords = tmp_path / "passwords"
    subprocess.run([program, "-c", "-b", str(passwords), "agent", "secret"], check=True)
    passwords.chmod(0o644)
    lines = [f"certfile {tmp_path}/server.crt", f"keyfile {tmp_path}/server.key", f"password_file {passwords}"]
    tmp_path.chmod(0o755)

    async def attempt(broker: Broker) -> str:
        task = asyncio.create_task(MqttBridge(broker, Agents().open).run())
        with pytest.raises(InputError) as refused:
            await asyncio.wait_for(task, PATIENCE_S)
        return str(refused.value)

    async def scenario() -> None:
        url = f"mqtts://agent@127.0.0.1:{server.port}"
        ca = tmp_path / "authority.crt"
        assert "the broker refuses us" in await attempt(Broker.from_url(url, "wrong", ca=ca))
        right = Broker.from_url(url, "secret", ca=ca)
        async with bridge(right, Agents("Yes.").open):
            client = aiomqtt.Client(
                "127.0.0.1", server.port, username="agent", password="secret", tls_context=right.tls_context()
            )
            async with client:
                await client.subscribe(TOPICS.status, 1)
                async for message in client.messages:
                    assert message.payload == b"online"
                    break
        distrusting = asyncio.create_task(MqttBridge(Broker.from_url(url, "secret"), Agents().open).run())
        await asyncio.wait((distrusting,), timeout=0.5)
        assert not distrusting.done()  # the authority is unknown: no connection, tried again
        distrusting.cancel()

    with Mosquitto(tmp_path, *lines) as server:
        run(scenario)


def test_the_agent_waits_for_a_broker_that_comes_later(tmp_path: Path) -> None:
    async def scenario() -> None:
        server.kill()
        serving = MqttBridge(server.broker, Agents("Yes.").open, backoff=Backoff(0.02, 0.05))
        task = asyncio.create_task(serving.run())
        await asyncio.wait((task,), timeout=0.2)
        assert not task.done() and not serving.connected.is_set()
        server.start()
        await asyncio.wait_for(serving.connected.wait(), PATIENCE_S)
        task.cancel()
        await asyncio.wait((task,))

    with Mosquitto(tmp_path) as server:
        run(scenario)


def test_json_of_the_agent_is_plain_for_any_client(tmp_path: Path) -> None:
    agents = Agents("Größe: neun.")

    async def scenario() -> None:
        async with bridge(server.broker, agents.open), aiomqtt.Client("127.0.0.1", server.port) as client:
            await client.subscribe("textpro/kitchen/event", 1)
            await client.publish("textpro/kitchen/text", json.dumps({"text": "how big"}), 1)  # without a hello
            async for message in client.messages:
                event = json.loads(bytes(message.payload))
                if event["type"] == "reply_done":
                    assert event["text"] == "Größe: neun."
                    break

    with Mosquitto(tmp_path) as server:
        run(scenario)
