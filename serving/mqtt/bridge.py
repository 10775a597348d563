"""Devices over an MQTT broker: one connection for all of them, made again with back-off when it breaks. Invariants: the
conversations outlive the connection; what a device is told is taken off its log only when the broker has confirmed it; an
agent that is gone is said to be offline by its last will.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

import aiomqtt
from aiomqtt.exceptions import MqttConnectError

from ...models.errors import InputError
from .device import Device, OpenSession
from .sequence import Backoff
from .topics import AT_LEAST_ONCE, AT_MOST_ONCE, Channel, Hello, Topics, read_json, write_json

_log = logging.getLogger(__name__)
ONLINE, OFFLINE = b"online", b"offline"
BATCH = 8
"""Messages to one device that may wait for the broker's confirmation at once."""
ENDING_S = 3.0
"""How long the last messages may take when the agent is stopped."""
PORTS = {"mqtt": 1883, "mqtts": 8883}
REFUSED = 0x80
"""What the broker answers to a subscription from here on is no quality of service."""
REFUSALS = ("Bad user name or password", "Not authorized", "Client identifier not valid", "Unsupported protocol version")


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the broker is and who we are to it. `ca` is the certificate to trust instead of the system's, `certificate` and
    `key` are ours where the broker asks for one."""

    host: str
    port: int = PORTS["mqtt"]
    tls: bool = False
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @classmethod
    def from_url(cls, url: str, password: str | None = None, **files: Path | None) -> Self:
        """Of `mqtt://host`, `mqtts://user@host:8883`, ...; InputError for anything else."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in PORTS or not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment:
            raise InputError(f"the broker {url!r} is not understood: expected mqtt://host or mqtts://user@host:8883")
        tls = parts.scheme == "mqtts"
        if not tls and any(files.values()):
            raise InputError("certificates belong to an encrypted connection: give the broker as mqtts://...")
        user = unquote(parts.username) if parts.username else None
        given = unquote(parts.password) if parts.password else None
        return cls(parts.hostname, port or PORTS[parts.scheme], tls, user, password or given, **files)

    def tls_context(self) -> ssl.SSLContext | None:
        """How the connection is encrypted and checked. InputError for a file that is none."""
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise InputError(f"a certificate or key cannot be used ({error}): expected PEM files that fit together") from None
        return context


@dataclass(frozen=True, slots=True)
class MqttSettings:
    """`keep_s`: how long a device that is away keeps its conversation; `idle_s`: after so long without a word it is over."""

    topics: Topics = field(default_factory=Topics)
    keep_s: float = 60.0
    idle_s: float = 600.0
    keepalive_s: int = 20


class MqttBridge:
    """Serves all devices of a prefix until it is cancelled. `open_session` makes a device's session."""

    def __init__(
        self,
        broker: Broker,
        open_session: OpenSession,
        settings: MqttSettings | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self._broker, self._open_session = broker, open_session
        self._settings = settings or MqttSettings()
        self._topics = self._settings.topics
        self._backoff = backoff or Backoff()
        self._tls = broker.tls_context()
        self._hellos: dict[str, Hello] = {}
        self._devices: dict[str, Device] = {}
        self._ended: set[Device] = set()  # still have something to say
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self.connected = asyncio.Event()
        """Set while there is a connection and its subscriptions stand."""

    async def run(self) -> None:
        """Connect, serve, connect again. InputError if the broker refuses who we are."""
        try:
            while True:
                try:
                    await self._serve()
                except MqttConnectError as error:
                    if any(words in str(error) for words in REFUSALS):
                        raise InputError(f"the broker refuses us ({error}): check user and password") from None
                    _log.warning("no connection to the broker: %s", error)
                except aiomqtt.MqttError as error:
                    _log.warning("the connection to the broker is gone: %s", error)
                self.connected.clear()
                await asyncio.sleep(self._backoff.next_s())
        finally:
            self.connected.clear()
            for timer in self._timers.values():
                timer.cancel()
            await asyncio.gather(*(device.end("the agent stops") for device in self._devices.values()))

    async def _serve(self) -> None:
        """One connection, until it breaks; when cancelled, everybody is told before it closes."""
        async with self._client() as client:
            granted = await client.subscribe(self._topics.subscriptions())
            if any((code if isinstance(code, int) else code.value) >= REFUSED for code in granted):
                raise InputError(f"the broker does not let us read {self._topics.prefix}/+/...: check its access rules")
            await client.publish(self._topics.status, ONLINE, AT_LEAST_ONCE, retain=True)
            self._backoff.reset()
            self.connected.set()
            self._news.set()
            listening = asyncio.create_task(self._listen(client))
            publishing = asyncio.create_task(self._publish(client))
            try:
                await asyncio.wait((listening, publishing), return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                listening.cancel()  # or what still comes would open conversations again
                await asyncio.wait((listening,))
                await self._farewell(client)
                raise
            finally:
                for task in (listening, publishing):
                    task.cancel()
                await asyncio.wait((listening, publishing))
            for task in (listening, publishing):
                if not task.cancelled():
                    task.result()

    async def _farewell(self, client: aiomqtt.Client) -> None:
        await asyncio.gather(*(device.end("the agent stops") for device in self._devices.values()))
        try:
            async with asyncio.timeout(ENDING_S):
                while not all(device.log.is_sent for device in self._ended):
                    await asyncio.sleep(0.01)
                await client.publish(self._topics.status, OFFLINE, AT_LEAST_ONCE, retain=True)
        except (aiomqtt.MqttError, TimeoutError):
            _log.warning("the connection broke before all was said")

    def _client(self) -> aiomqtt.Client:
        """A connection to be entered. Its session is clean: what was asked of an agent that was not there is not done later."""
        broker = self._broker
        return aiomqtt.Client(
            broker.host,
            broker.port,
            username=broker.user,
            password=broker.password,
            tls_context=self._tls,
            will=aiomqtt.Will(self._topics.status, OFFLINE, AT_LEAST_ONCE, retain=True),
            clean_session=True,
            keepalive=self._settings.keepalive_s,
        )

    async def _listen(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            found = self._topics.read(message.topic.value)
            if found is not None and isinstance(message.payload, bytes):
                await self._take(client, *found, message.payload)

    async def _take(self, client: aiomqtt.Client, name: str, channel: Channel, payload: bytes) -> None:
        if channel is Channel.HELLO:
            try:
                await self._greet(name, payload)
            except InputError as error:
                topic = self._topics.of(name, Channel.EVENT)
                await client.publish(topic, write_json({"type": "error", "message": str(error)}), AT_MOST_ONCE)
            return
        if name not in self._devices:
            if channel is Channel.TOOL_RESULT:
                return
            self._open(name, self._hellos.get(name, Hello()))
        self._devices[name].take(channel, payload)
        self._expire(name, self._settings.idle_s, "nothing was said for long")

    async def _greet(self, name: str, payload: bytes) -> None:
        """A device says who it is; an empty message, its last will, says that it is away."""
        if not payload:
            self._hellos.pop(name, None)
            if name in self._devices:
                self._expire(name, self._settings.keep_s, "the device is gone")
            return
        hello = read_json(Hello, payload)
        device = self._devices.get(name)
        self._hellos[name] = hello
        if device is not None and device.hello != hello:
            await device.end("the device has started anew")
            device = None
        if device is None:
            self._open(name, hello)
        self._expire(name, self._settings.idle_s, "nothing was said for long")

    def _open(self, name: str, hello: Hello) -> None:
        device = Device(name, hello, self._topics, self._open_session, self._news.set)
        self._devices[name] = device
        device.start(self._over)

    def _over(self, device: Device) -> None:
        if self._devices.get(device.name) is device:
            del self._devices[device.name]
            self._timers.pop(device.name).cancel()
        self._ended.add(device)
        self._news.set()

    def _expire(self, name: str, after_s: float, reason: str) -> None:
        """End the device's conversation then, unless something comes before."""

        def end() -> None:
            closing = asyncio.create_task(self._devices[name].end(reason))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

        if name in self._timers:
            self._timers[name].cancel()
        self._timers[name] = asyncio.get_running_loop().call_later(after_s, end)

    async def _publish(self, client: aiomqtt.Client) -> None:
        """Send what is due, a few messages of each device at a time."""
        while True:
            await self._news.wait()
            self._news.clear()
            for device in (*self._ended, *self._devices.values()):
                rewinds, batch = device.log.rewinds, device.log.due(BATCH)
                if batch:
                    await asyncio.gather(*(client.publish(said.topic, said.payload, AT_LEAST_ONCE) for said in batch))
                    device.log.sent(batch[-1], rewinds)
                if not device.log.is_sent:
                    self._news.set()
            self._ended = {device for device in self._ended if not device.log.is_sent}
