"""A telephone call by Twilio's Media Streams: one websocket is one conversation. The protocol is in `twilio_codec.py`; here
are the socket, who may connect, and three tasks: the caller's frames to the session, the session's events to frames, frames to
the socket. Invariant: a slow or broken call ends with a reason and holds up nobody else.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request

from ...agent.events import Failed, ReplyDone
from ...models.errors import CapacityError, InputError, TextProError
from ..conversation import DRAIN_STEPS
from .twilio_codec import PHONE_RATE, Began, Ended, Heard, Played, Pressed, Send, TwilioCodec

if TYPE_CHECKING:
    from ...agent.runtime import Runtime
    from ...agent.session import Session  # brings torch

_log = logging.getLogger(__name__)
SIGNATURE_HEADER = "X-Twilio-Signature"
START_TIMEOUT_S = 10.0
"""From the connection to the frame that begins the call."""
SEND_TIMEOUT_S = 10.0
"""How long Twilio may not take a frame."""
MAX_BAD_FRAMES = 50
"""Frames not understood, after which this is no telephone."""
MAX_REASON_BYTES = 120
NORMAL, NOT_ALLOWED, NOT_UNDERSTOOD, FAILED, TRY_LATER = 1000, 1008, 1007, 1011, 1013


class TwilioCall:
    """The call as a session's tools see it."""

    def __init__(self, began: Began) -> None:
        self.stream_sid, self.call_sid = began.stream_sid, began.call_sid
        self.parameters: Mapping[str, str] = began.parameters
        self.leaving = False

    def leave(self) -> None:
        """End the stream once the current reply was heard; the TwiML goes on behind `<Connect>`, as with `<Dial>`."""
        self.leaving = True


def plain_session(runtime: Runtime, _call: TwilioCall) -> Session:
    """A session as the runtime makes them, told what was played."""
    return runtime.session(playback="acknowledged")


@dataclass(frozen=True, slots=True)
class TwilioSettings:
    """With `auth_token` only signed connections are served. `public_url` is the `<Stream>`'s URL where it cannot be told
    from the request, as behind some proxies. `open_session` makes the session of a call, playback "acknowledged"."""

    auth_token: str | None = field(default=None, repr=False)
    public_url: str | None = None
    open_session: Callable[[Runtime, TwilioCall], Session] = plain_session
    digit_pause_ms: int = 1_500


def refusal(request: Request, settings: TwilioSettings) -> str | None:
    """Why this connection is not to be served, None if it is. A server answers it with 403 before the handshake."""
    if settings.auth_token is None:
        return None
    signatures = request.headers.get_all(SIGNATURE_HEADER)
    if len(signatures) != 1:
        return f"expected one {SIGNATURE_HEADER} header: only Twilio is served here"
    hosts = request.headers.get_all("Host")
    url = settings.public_url or f"wss://{hosts[0] if hosts else ''}{request.path}"
    expected = [signature_of(form, settings.auth_token).encode() for form in _with_and_without_port(url)]
    given = signatures[0].encode(errors="replace")
    if any(hmac.compare_digest(given, right) for right in expected):
        return None
    return f"the signature does not fit {url}: check the token, and the public URL"


def signature_of(url: str, auth_token: str) -> str:
    """What Twilio signs a websocket's URL with: HMAC-SHA1 under the account's token, in base64."""
    return base64.b64encode(hmac.digest(auth_token.encode(), url.encode(errors="replace"), "sha1")).decode()


async def serve_twilio(connection: ServerConnection, runtime: Runtime, settings: TwilioSettings | None = None) -> None:
    """Lead one call from the handshake to its end and close the connection."""
    settings = settings or TwilioSettings()
    if connection.request is None or (reason := refusal(connection.request, settings)):
        await connection.close(NOT_ALLOWED, _short(reason or "no request"))
        return
    codec = TwilioCodec(settings.digit_pause_ms)
    code, reason = NORMAL, ""
    try:
        call = await _begin(connection, codec)
        async with settings.open_session(runtime, call) as session:
            code, reason = await _lead(connection, codec, session, call)
    except ConnectionClosed:
        return
    except CapacityError as error:
        code, reason = TRY_LATER, str(error)
    except (InputError, TimeoutError) as error:
        code, reason = NOT_UNDERSTOOD, str(error) or "Twilio did not begin the call in time"
    except TextProError as error:
        code, reason = FAILED, str(error)
    if code != NORMAL:
        _log.warning("a call ended: %s", reason)
    await connection.close(code, _short(reason))


async def _begin(connection: ServerConnection, codec: TwilioCodec) -> TwilioCall:
    """Wait for the frame that begins the call. InputError or TimeoutError without one."""
    async with asyncio.timeout(START_TIMEOUT_S):
        while True:
            for command in codec.receive(await connection.recv()):
                if isinstance(command, Began):
                    return TwilioCall(command)


async def _lead(connection: ServerConnection, codec: TwilioCodec, session: Session, call: TwilioCall) -> tuple[int, str]:
    """The call, until one side ends it; the close code and reason."""
    frames: asyncio.Queue[str] = asyncio.Queue()
    async with contextlib.AsyncExitStack() as ends:
        speaking = await ends.enter_async_context(_task(_speak(codec, session, call, frames)))
        hearing = await ends.enter_async_context(_task(_hear(connection, codec, session, frames)))
        writing = await ends.enter_async_context(_task(_write(connection, frames)))
        await asyncio.wait((speaking, hearing, writing), return_when=asyncio.FIRST_COMPLETED)
        ended = [task for task in (speaking, writing, hearing) if task.done()]
        for task in ended:
            if (error := task.exception()) is not None:
                raise error
        return ended[0].result()


async def _hear(
    connection: ServerConnection, codec: TwilioCodec, session: Session, frames: asyncio.Queue[str]
) -> tuple[int, str]:
    bad = 0
    async for frame in connection:
        try:
            commands = codec.receive(frame)
        except InputError as error:
            bad += 1
            _log.info("a frame of a call was dropped: %s", error)
            if bad >= MAX_BAD_FRAMES:
                return NOT_UNDERSTOOD, f"{bad} frames were not understood, the last: {error}"
            continue
        for command in commands:
            match command:
                case Heard(pcm):
                    await session.send_audio(pcm, PHONE_RATE)
                case Pressed():
                    await session.send_text(command.words)
                case Played(total_ms):
                    await _drained()
                    session.played(total_ms)
                case Send(text):
                    frames.put_nowait(text)
                case Ended():
                    return NORMAL, "the call is over"
    return NORMAL, ""


async def _speak(codec: TwilioCodec, session: Session, call: TwilioCall, frames: asyncio.Queue[str]) -> tuple[int, str]:
    async for event in session:
        for send in codec.speak(event):
            frames.put_nowait(send.frame)
        if isinstance(event, Failed):
            return FAILED, event.reason
        if isinstance(event, ReplyDone) and call.leaving:
            return NORMAL, "the agent left the call"
    return FAILED, "the session was closed"


async def _write(connection: ServerConnection, frames: asyncio.Queue[str]) -> tuple[int, str]:
    while True:
        frame = await frames.get()
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await connection.send(frame)
        except TimeoutError:
            return NOT_ALLOWED, f"no frame was taken for {SEND_TIMEOUT_S:g} s"


async def _drained() -> None:
    """Let the events that wait be taken: an acknowledgement is not to meet a reply that it is not about."""
    for _ in range(DRAIN_STEPS):
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def _task(work: Coroutine[None, None, tuple[int, str]]) -> AsyncIterator[asyncio.Task[tuple[int, str]]]:
    """A task that is cancelled and has ended when the context is left."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait((task,))


def _with_and_without_port(url: str) -> tuple[str, ...]:
    """Twilio signs the URL with or without its standard port."""
    parts = urlsplit(url)
    host, colon, port = parts.netloc.rpartition(":")
    if not colon or not port.isdigit():
        return url, parts._replace(netloc=f"{parts.netloc}:443").geturl()
    return url, parts._replace(netloc=host).geturl()


def _short(reason: str) -> str:
    """A close reason fits into 123 bytes."""
    return reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
