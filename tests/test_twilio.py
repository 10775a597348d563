"""Calls over a real websocket: who is let in, keys pressed, a reply heard and cut off, hanging up, and a spoken question."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request

from phone import CONNECTED, Caller
from quiet_runtime import QuietRuntime
from scripted_engine import Message, ScriptedTalk
from textpro import Runtime
from textpro.agent.events import Event, Failed
from textpro.agent.session_settings import SessionSettings
from textpro.evaluation.partner import SilentVoice
from textpro.models.errors import CapacityError
from textpro.serving.server import ServerSettings, open_server
from textpro.serving.telephone.twilio import TwilioCall, TwilioSettings, refusal, serve_twilio, signature_of
from textpro.streaming.audio import int16_from_mono
from textpro.streaming.resample import resample

ROOT = Path(__file__).parents[1]
TOKEN = "12345"
SIGNATURES = {
    "wss://voice.example.com/twilio": "/9CePW9ateVCsfEI0ovxcY95674=",
    "wss://voice.example.com:8443/twilio": "jau0bC8pmx4eTLoN3+oKptexI/k=",
    "wss://voice.example.com/twilio/": "4aurb5Z1hSi9C/iRt/M4CEy95JA=",
}
"""As Twilio's own Python library 9.13 signs them with TOKEN."""


class Line:
    """A caller on a connection: everything that comes is taken, and played when the test says so."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection, self.caller = connection, Caller()

    async def begin(self, **parameters: str) -> None:
        await self.send(CONNECTED, self.caller.start(**parameters))

    async def send(self, *frames: str) -> None:
        for frame in frames:
            await self.connection.send(frame)

    async def take(self) -> str:
        """The next frame's event; marks that a clear returns go back at once."""
        async with asyncio.timeout(30):
            text = await self.connection.recv()
        await self.send(*self.caller.take(str(text)))
        return str(json.loads(text)["event"])

    async def until(self, event: str, count: int = 1) -> None:
        while count:
            count -= await self.take() == event

    async def hear_until(self, condition: Callable[[], bool]) -> None:
        """Play everything as it comes, until then or to the end of the call."""
        while not condition():
            await self.send(*self.caller.play())
            try:
                async with asyncio.timeout(0.02):
                    text = await self.connection.recv()
            except TimeoutError:
                continue
            except ConnectionClosed:
                return
            await self.send(*self.caller.take(str(text)))


class Tapped:
    """A session whose events are noted as they are read."""

    def __init__(self, session: Any, events: list[Event]) -> None:
        self._session, self._events = session, events

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    async def __aenter__(self) -> Tapped:
        await self._session.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.__aexit__()

    async def __aiter__(self) -> AsyncIterator[Event]:
        async for event in self._session:
            self._events.append(event)
            yield event


class Office:
    """Sessions with scripted models, each call with the next script; keeps them, and what they said."""

    def __init__(self, *scripts: tuple[Message, ...]) -> None:
        self.scripts, self.talks, self.calls = list(scripts), list[ScriptedTalk](), list[TwilioCall]()
        self.tools: list[Any] = []
        self.events: list[Event] = []

    def open(self, _runtime: Any, call: TwilioCall) -> Any:
        settings = SessionSettings(playback="acknowledged")
        talk = ScriptedTalk(self.tools, *self.scripts.pop(0), settings=settings, synthesizer=SilentVoice())
        self.talks.append(talk)
        self.calls.append(call)
        return Tapped(talk.session, self.events)

    @property
    def settings(self) -> TwilioSettings:
        return TwilioSettings(open_session=self.open)

    @property
    def history(self) -> str:
        return self.talks[-1].history

    def said(self, event_type: str) -> list[Any]:
        return [event for event in self.events if event.type == event_type]


@asynccontextmanager
async def calling(settings: TwilioSettings, runtime: Any = None) -> AsyncIterator[Line]:
    async def answer(connection: ServerConnection) -> None:
        await serve_twilio(connection, runtime, settings)

    async with serve(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}/twilio") as connection:
            yield Line(connection)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 120))


async def close_of(line: Line) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed):
        async with asyncio.timeout(30):
            while True:
                await line.connection.recv()
    return line.connection.close_code or 0, line.connection.close_reason or ""


def test_the_server_takes_signed_calls_beside_its_clients_and_refuses_others() -> None:
    async def scenario() -> None:
        office = Office(("Hello.",))
        url = "wss://voice.example.com/twilio"
        twilio = TwilioSettings(auth_token=TOKEN, public_url=url, open_session=office.open)
        settings = ServerSettings(port=0, max_sessions=1, twilio=twilio)
        async with open_server(QuietRuntime(), settings) as server:  # type: ignore[arg-type]
            place = f"ws://127.0.0.1:{server.port}/twilio"
            with pytest.raises(InvalidStatus) as unsigned:
                async with connect(place):
                    pass
            assert unsigned.value.response.status_code == 403
            signed = {"X-Twilio-Signature": SIGNATURES[url]}
            async with connect(place, additional_headers=signed) as connection:
                line = Line(connection)
                await line.begin()
                while not office.calls:
                    await asyncio.sleep(0.01)
                assert server.places_taken == 1
                with pytest.raises(InvalidStatus) as full:
                    async with connect(place, additional_headers=signed):
                        pass
                assert full.value.response.status_code == 503
            while server.places_taken:
                await asyncio.sleep(0.01)

    run(scenario)


@pytest.mark.parametrize("url", SIGNATURES)
def test_a_websocket_is_signed_as_twilios_own_library_does(url: str) -> None:
    assert signature_of(url, TOKEN) == SIGNATURES[url]


@pytest.mark.parametrize(
    ("host", "signed", "public_url", "welcome"),
    [
        ("voice.example.com", "wss://voice.example.com/twilio", None, True),
        ("voice.example.com:443", "wss://voice.example.com/twilio", None, True),
        ("voice.example.com:8443", "wss://voice.example.com:8443/twilio", None, True),
        ("127.0.0.1:8765", "wss://voice.example.com/twilio", "wss://voice.example.com/twilio", True),
        ("127.0.0.1:8765", "wss://voice.example.com/twilio", None, False),
        ("voice.example.com", "wss://voice.example.com/twilio/", None, False),
        ("voice.example.com", None, None, False),
    ],
)
def test_with_a_token_only_what_twilio_signed_is_served(
    host: str, signed: str | None, public_url: str | None, welcome: bool
) -> None:
    settings = TwilioSettings(auth_token=TOKEN, public_url=public_url)
    headers = {"Host": host, **({} if signed is None else {"X-Twilio-Signature": SIGNATURES[signed]})}
    request = Request("/twilio", Headers(headers))
    assert (refusal(request, settings) is None) == welcome
    assert refusal(request, TwilioSettings()) is None


def test_an_unsigned_call_is_turned_away_before_a_session_is_opened() -> None:
    office = Office(("Hello.",))

    async def scenario() -> None:
        async with calling(TwilioSettings(auth_token=TOKEN, open_session=office.open)) as line:
            code, reason = await close_of(line)
        assert (code, office.talks) == (1008, []) and "X-Twilio-Signature" in reason

    run(scenario)


def test_pressed_keys_are_a_turn_whose_reply_is_heard_to_its_end() -> None:
    office = Office(("It is on the way.",))

    async def scenario() -> None:
        async with calling(office.settings) as line:
            await line.begin(customer="7")
            await line.send(*map(line.caller.press, "47#"))
            await line.until("mark", 4)  # of five words of 100 ms; the end follows while they play
            assert not office.said("reply_done")
            await line.hear_until(lambda: bool(office.said("reply_done")))
            await line.send(line.caller.stop())
            assert await close_of(line) == (1000, "the call is over")

    run(scenario)
    (done,) = office.said("reply_done")
    assert (done.heard_text.strip(), done.interrupted) == ("It is on the way.", False)
    assert office.said("turn_end")[0].text == "four seven"
    assert office.calls[0].parameters == {"customer": "7"} and office.calls[0].call_sid == "CA0001"


def test_a_reply_that_is_cut_off_is_cleared_and_remembered_as_far_as_its_marks_came_back() -> None:
    office = Office(("One two three four five six seven eight.", "Well then."))

    async def scenario() -> None:
        async with calling(office.settings) as line:
            await line.begin()
            await line.send(*map(line.caller.press, "1#"))
            await line.until("mark", 7)
            await line.send(*line.caller.play(marks=3))
            await line.send(*map(line.caller.press, "2#"))
            await line.until("clear")
            await line.hear_until(lambda: len(office.said("reply_done")) == 2)

    run(scenario)
    first, second = office.said("reply_done")
    assert (first.heard_text.strip(), first.interrupted) == ("One two three", True)
    assert (second.heard_text.strip(), second.interrupted) == ("Well then.", False)
    assert "One two three<|cut_off|>" in office.history and "four" not in office.history.split("One two")[1]


def test_an_agent_can_leave_the_call_once_its_words_were_heard() -> None:
    office = Office(((("transfer", {}),), "A person will help you."))

    def transfer() -> None:
        """Hand the caller over."""
        office.calls[0].leave()

    office.tools = [transfer]

    async def scenario() -> None:
        async with calling(office.settings) as line:
            await line.begin()
            await line.send(*map(line.caller.press, "0#"))
            await line.until("mark", 4)
            assert line.connection.close_code is None
            await line.hear_until(lambda: False)
            assert await close_of(line) == (1000, "the agent left the call")

    run(scenario)


def test_frames_that_are_not_understood_do_not_end_a_call_but_many_do() -> None:
    office = Office(("Yes.",))

    async def scenario() -> None:
        async with calling(office.settings) as line:
            await line.begin()
            await line.send(*["{}"] * 40, *map(line.caller.press, "1#"))
            await line.until("mark")
            await line.send(*["nonsense"] * 10)
            code, reason = await close_of(line)
        assert code == 1007 and "50 frames were not understood" in reason

    run(scenario)


@pytest.mark.parametrize(
    ("open_session", "code", "words"),
    [
        (CapacityError("all 4 slots are taken: call again later"), 1013, "all 4 slots are taken"),
        (Failed(t_ms=0, reason="the engine stopped"), 1011, "the engine stopped"),
    ],
)
def test_a_call_that_cannot_be_led_ends_with_the_reason(open_session: Any, code: int, words: str) -> None:
    def open_it(_runtime: Any, _call: TwilioCall) -> Any:
        if isinstance(open_session, Exception):
            raise open_session
        talk = ScriptedTalk([])
        talk.session._outbox.put_nowait(open_session)
        return talk.session

    async def scenario() -> None:
        async with calling(TwilioSettings(open_session=open_it)) as line:
            await line.begin()
            assert await close_of(line) == (code, f"{words}{': call again later' if code == 1013 else ''}")

    run(scenario)


def test_what_is_no_call_is_closed_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textpro.serving.telephone.twilio.START_TIMEOUT_S", 0.05)

    async def scenario() -> None:
        async with calling(TwilioSettings()) as line:
            await line.send(CONNECTED)
            assert await close_of(line) == (1007, "Twilio did not begin the call in time")

    run(scenario)


def test_the_bundled_model_answers_a_caller() -> None:
    samples, rate = soundfile.read(ROOT / "examples/audio/lost_keys_sad.wav", dtype="float32")
    said = int16_from_mono(resample(samples, rate, 8_000))
    said = np.pad(said, (1_600, 12_000 - len(said) % 160))
    office = Office()

    async def scenario() -> None:
        async with Runtime(threads=1) as runtime:

            def open_it(runtime: Runtime, call: TwilioCall) -> Any:
                return Tapped(runtime.session(playback="acknowledged"), office.events)

            async with calling(TwilioSettings(open_session=open_it), runtime) as line:
                await line.begin()
                await line.send(*map(line.caller.media, said[: len(said) // 160 * 160].reshape(-1, 160)))
                await line.hear_until(lambda: bool(office.said("reply_done")))
                assert np.abs(line.caller.sound).max() > 2_000

    run(scenario)
    (done,) = office.said("reply_done")
    assert "keys" in office.said("turn_end")[0].text and done.heard_text == done.text != ""


def test_the_example_twiml_says_where_to_stream_to_and_what_follows() -> None:
    response = ElementTree.parse(ROOT / "examples/twiml.xml").getroot()
    stream = response.find("Connect/Stream")
    assert response.tag == "Response" and stream is not None
    assert str(stream.get("url")).startswith("wss://") and "?" not in str(stream.get("url"))
    assert [str(child.get("name")) for child in stream.findall("Parameter")] == ["customer"]
    assert [child.tag for child in response][-1] != "Connect"
