"""A real MQTT broker of a test's own on a free port, which can be killed and started again, and a device that talks over it
and loses nothing: it drops what comes twice and asks again for what is missing."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import aiomqtt
import numpy as np

from requirements import require_program
from textpro.serving.mqtt.bridge import Broker
from textpro.serving.mqtt.topics import AT_LEAST_ONCE, AudioPacket, Channel, Topics

PATIENCE_S = 60.0
TOPICS = Topics()
Programs = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin"))


class Mosquitto:
    """A context manager; `lines` go into its configuration behind the listener."""

    def __init__(self, folder: Path, *lines: str) -> None:
        self._program = shutil.which("mosquitto", path=Programs) or require_program("mosquitto")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._folder = folder
        self._config = folder / "mosquitto.conf"
        plain = () if any("password_file" in line for line in lines) else ("allow_anonymous true",)
        user = f"user {os.environ.get('USER', 'root')}"
        self._config.write_text("\n".join([f"listener {self.port} 127.0.0.1", user, *plain, *lines, ""]))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def broker(self) -> Broker:
        return Broker("127.0.0.1", self.port)

    def start(self) -> None:
        """Start it and wait until it listens."""
        with open(self._folder / "mosquitto.log", "ab") as log:
            self._process = subprocess.Popen([self._program, "-c", str(self._config)], stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                said = (self._folder / "mosquitto.log").read_text()
                assert self._process.poll() is None and time.monotonic() < deadline, said
                time.sleep(0.01)

    def kill(self) -> None:
        """As a crash would."""
        self._process.kill()
        self._process.wait()


class Gadget:
    """A device. `messages` is what it was told, in order of `seq` and without repetitions; `sound` the audio of it."""

    def __init__(self, port: int, name: str = "gadget", **hello: Any) -> None:
        self.name, self._port = name, port
        self._hello = {"boot": "1", **hello}
        self.messages: list[dict[str, Any]] = []
        self.unnumbered: list[dict[str, Any]] = []
        self.calls: list[dict[str, Any]] = []
        self.sound: list[np.ndarray] = []
        self.status: list[str] = []
        self.repeated = 0
        self.session: str | None = None
        self.connections = 0
        self._last = 0
        self._connected = asyncio.Event()
        self._client: aiomqtt.Client | None = None
        self._task: asyncio.Task[None] | None = None
        self._audio_seq = self._audio_at = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._live())
        await self.until(lambda: self._connected.is_set())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait((self._task,))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                assert self._task is not None and not self._task.done(), "the device has stopped"
                await asyncio.sleep(0.005)

    def of(self, *types: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message.get("type") in types]

    async def told(self, message_type: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until it was told so many messages of a type."""
        await self.until(lambda: len(self.of(message_type)) >= count)
        return self.of(message_type)

    async def say(self, channel: Channel, payload: bytes | dict[str, Any], retain: bool = False) -> None:
        """Publish, again after a break until the broker has it."""
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        while True:
            await self.until(self._connected.is_set)
            assert self._client is not None
            try:
                return await self._client.publish(TOPICS.of(self.name, channel), data, AT_LEAST_ONCE, retain, timeout=1)
            except aiomqtt.MqttError:
                await asyncio.sleep(0.02)

    async def speak(self, pcm: np.ndarray, rate: int = 16_000) -> None:
        """One packet of its microphone."""
        packet = AudioPacket(self._audio_seq, 0, rate, self._audio_at, pcm)
        self._audio_seq, self._audio_at = self._audio_seq + 1, self._audio_at + len(pcm)
        await self.say(Channel.AUDIO_IN, packet.to_bytes())

    async def _live(self) -> None:
        while True:
            will = aiomqtt.Will(TOPICS.of(self.name, Channel.HELLO), b"", AT_LEAST_ONCE, retain=True)
            try:
                async with aiomqtt.Client("127.0.0.1", self._port, will=will) as client:
                    mine = [(TOPICS.of(self.name, channel), AT_LEAST_ONCE) for channel in (Channel.EVENT, Channel.AUDIO_OUT)]
                    await client.subscribe([*mine, (TOPICS.of(self.name, Channel.TOOL_CALL), 1), (TOPICS.status, 1)])
                    topic = TOPICS.of(self.name, Channel.HELLO)
                    await client.publish(topic, json.dumps(self._hello), AT_LEAST_ONCE, retain=True)
                    self._client = client
                    await self._ask_again(client)
                    self.connections += 1
                    self._connected.set()
                    async for message in client.messages:
                        await self._take(client, message.topic.value, bytes(message.payload))
            except aiomqtt.MqttError:
                self._connected.clear()
                await asyncio.sleep(0.05)

    async def _take(self, client: aiomqtt.Client, topic: str, payload: bytes) -> None:
        if topic == TOPICS.status:
            self.status.append(payload.decode())
            return
        packet = AudioPacket.from_bytes(payload) if topic.endswith("audio/out") else None
        message = {"seq": packet.seq, "type": "audio"} if packet is not None else json.loads(payload)
        if "seq" not in message:
            self.unnumbered.append(message)
            return
        if message.get("type") == "session_started":
            self.session, self._last = message["session"], 0
        if message["seq"] <= self._last:
            self.repeated += 1
        elif message["seq"] > self._last + 1:
            await self._ask_again(client)
        else:
            self._last += 1
            self.messages.append(message)
            if packet is not None:
                self.sound.append(packet.pcm)
            if topic.endswith("tool/call"):
                self.calls.append(message)

    async def _ask_again(self, client: aiomqtt.Client) -> None:
        if self.session is not None:
            resume = {"type": "resume", "session": self.session, "after_seq": self._last}
            await client.publish(TOPICS.of(self.name, Channel.CONTROL), json.dumps(resume), AT_LEAST_ONCE)


def certificates(folder: Path, names: Sequence[str] = ("authority", "server")) -> None:
    """`authority.crt`, and `server.crt` with `server.key` for 127.0.0.1, signed by it."""
    openssl = require_program("openssl") if shutil.which("openssl") is None else "openssl"

    def run(*words: str) -> None:
        subprocess.run([openssl, *words], cwd=folder, check=True, capture_output=True)

    for name in names:
        run("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key")
    usage = ("-addext", "keyUsage=critical,keyCertSign,digitalSignature")
    run("req", "-x509", "-key", "authority.key", "-subj", "/CN=test authority", "-days", "2", *usage, "-out", "authority.crt")
    run("req", "-new", "-key", "server.key", "-subj", "/CN=127.0.0.1", "-out", "server.csr")
    (folder / "server.ext").write_text("subjectAltName=IP:127.0.0.1\n")
    signed_by = ("-CA", "authority.crt", "-CAkey", "authority.key", "-CAcreateserial")
    run("x509", "-req", "-in", "server.csr", *signed_by, "-days", "2", "-extfile", "server.ext", "-out", "server.crt")
