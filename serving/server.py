"""`textpro-agent serve`: one port for websockets that speak the Realtime protocol and for the few pages beside them.

Who may connect is decided before the handshake ends, so a refusal is an HTTP status with a reason. Every connection has a
place that admission counted; when the server drains, new ones are refused and running turns finish.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.frames import CloseCode
from websockets.http11 import Request as Handshake
from websockets.http11 import Response
from websockets.typing import Subprotocol

from ..models.errors import DeviceError, InputError
from .realtime.codec import RealtimeCodec
from .realtime.config import check_session
from .realtime.connection import Limits, RealtimeConnection
from .realtime.session import RealtimeSession, SessionDefaults
from .realtime.wire import Json
from .server_access import DEFAULT_SECRET_S, SECRET_SECONDS, Access, Caller, Refused, check_binding
from .server_http import Answer, Request, connection_class
from .server_metrics import Metrics
from .twilio import TwilioSettings, refusal, serve_twilio

if TYPE_CHECKING:
    from ..agent.runtime import Runtime

_log = logging.getLogger(__name__)
REALTIME_PATHS = ("/v1/realtime", "/realtime")
TWILIO_PATH = "/twilio"
SECRETS_PATH = "/v1/realtime/client_secrets"
MAX_MESSAGE = 21 * 1024 * 1024
"""Bytes of one message: an append of 15 MiB in base64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """`model` is the name that clients are told; `speaks` whether the runtime has a voice; `max_sessions` has to fit into its
    slots; `drain_s` is how long running turns may take when the server stops. With `twilio` telephone calls are taken as
    well, by their signature instead of a key."""

    host: str = "127.0.0.1"
    port: int = 8765
    model: str = "textpro"
    speaks: bool = True
    max_sessions: int = 4
    drain_s: float = 30.0
    limits: Limits = field(default_factory=Limits)
    defaults: SessionDefaults = field(default_factory=SessionDefaults)
    tls: ssl.SSLContext | None = None
    twilio: TwilioSettings | None = None


@dataclass(slots=True)
class _Visit:
    """What was decided about a connection before its handshake."""

    caller: Caller
    session: Json


class RealtimeServer:
    """Made by `open_server`."""

    def __init__(self, runtime: Runtime, settings: ServerSettings, access: Access) -> None:
        check_binding(settings.host, access.has_keys)
        self._runtime, self._settings, self._access = runtime, settings, access
        self.metrics = Metrics()
        self._connections: set[RealtimeConnection] = set()
        self._visits: dict[ServerConnection, _Visit] = {}
        self._calls: set[ServerConnection] = set()
        self._server: Server | None = None
        self.is_draining = False

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        return int(next(iter(self._server.sockets)).getsockname()[1])

    @property
    def url(self) -> str:
        """What clients take as their base URL."""
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        return f"http{'s' if self._settings.tls else ''}://{host}:{self.port}/v1"

    @property
    def places_taken(self) -> int:
        """Connections that admission counts."""
        return len(self._visits) + len(self._calls)

    async def start(self) -> None:
        """Listen. DeviceError where the address cannot be had."""
        settings = self._settings
        try:
            self._server = await serve(
                self._serve,
                settings.host,
                settings.port,
                ssl=settings.tls,
                process_request=self._process_request,
                select_subprotocol=_select_subprotocol,
                create_connection=connection_class(self._answer, self._leave),
                max_size=MAX_MESSAGE,
                max_queue=8,
                compression=None,
                open_timeout=10,
                close_timeout=2,
                server_header=None,
                logger=_quiet_logger(),
            )
        except OSError as error:
            place = f"{settings.host}:{settings.port}"
            reason = f"cannot listen at {place} ({error.strerror}): is another server there? Give another --port."
            raise DeviceError(reason) from None

    async def drain(self) -> None:
        """Take nobody new, let running turns finish, and end."""
        self.is_draining = True
        for connection in self._connections:
            connection.draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_s):
                while self._connections or self._calls:
                    await asyncio.sleep(0.05)

    async def close(self) -> None:
        """End what is still there."""
        self.is_draining = True
        for connection in self._connections:
            connection.end(CloseCode.SERVICE_RESTART, "the server restarts: connect again")
        if self._server is not None:
            self._server.close(code=CloseCode.SERVICE_RESTART, reason="the server restarts: connect again")
            await self._server.wait_closed()

    def _process_request(self, socket: ServerConnection, request: Handshake) -> Response | None:
        """Decide on a GET request: a page, a refusal, or None for a websocket."""
        path, settings = urlsplit(request.path).path, self._settings
        headers = {name.title(): value for name, value in request.headers.raw_items()}
        try:
            if path == TWILIO_PATH and settings.twilio is not None:
                if reason := refusal(request, settings.twilio):
                    raise Refused(HTTPStatus.FORBIDDEN, "not_signed", reason)
                self._check_room()
                self._calls.add(socket)
                return None
            if path not in REALTIME_PATHS:
                return self._page(path, headers).response()
            if "websocket" not in headers.get("Upgrade", "").lower():
                reason = "this is a websocket: connect with a client of the Realtime protocol"
                raise Refused(HTTPStatus.UPGRADE_REQUIRED, "websocket_required", reason)
            self._visits[socket] = self._visit(headers)
        except Refused as refused:
            self.metrics.refused.labels(refused.code).inc()
            _log.info("refused a connection: %s", refused.code)
            return Answer.refusal(refused).response()
        return None

    def _visit(self, headers: dict[str, str]) -> _Visit:
        self._access.check_origin(headers)
        caller, session = self._access.caller(headers, time.time())
        self._check_room()
        self._access.admit(caller)
        return _Visit(caller, session)

    def _page(self, path: str, headers: dict[str, str]) -> Answer:
        match path:
            case "/healthz":
                return Answer.of({"status": "ok"})
            case "/readyz" if self.is_draining:
                return Answer.of({"status": "draining"}, HTTPStatus.SERVICE_UNAVAILABLE)
            case "/readyz":
                free = self._settings.max_sessions - len(self._visits)
                status = HTTPStatus.OK if free else HTTPStatus.SERVICE_UNAVAILABLE
                return Answer.of({"status": "ready" if free else "full", "free_sessions": free}, status)
            case "/metrics":
                self._access.check_origin(headers)
                self._access.caller(headers, time.time(), secrets_count=False)
                return Answer(HTTPStatus.OK, self.metrics.page(), "text/plain; version=0.0.4; charset=utf-8")
        pages = "/v1/realtime (websocket), /v1/realtime/client_secrets (POST), /healthz, /readyz, /metrics"
        raise Refused(HTTPStatus.NOT_FOUND, "not_found", f"there is nothing at {path[:200]}: this server has {pages}")

    def _answer(self, request: Request) -> Answer:
        """A request with a body."""
        try:
            if urlsplit(request.path).path != SECRETS_PATH:
                raise Refused(HTTPStatus.NOT_FOUND, "not_found", f"there is no {request.method} at {request.path[:200]}")
            if request.method != "POST":
                raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", "make client secrets with POST")
            self._access.check_origin(request.headers)
            caller, _ = self._access.caller(request.headers, time.time(), secrets_count=False)
            return self._make_secret(caller, request.body)
        except Refused as refused:
            self.metrics.refused.labels(refused.code).inc()
            return Answer.refusal(refused)

    def _make_secret(self, caller: Caller, body: bytes) -> Answer:
        try:
            wanted = json.loads(body) if body.strip() else {}
            if not isinstance(wanted, dict) or not isinstance(wanted.get("expires_after") or {}, dict):
                raise InputError("the body is a JSON object with expires_after and session, both optional")
            seconds = (wanted.get("expires_after") or {}).get("seconds", DEFAULT_SECRET_S)
            low, high = SECRET_SECONDS
            if isinstance(seconds, bool) or not isinstance(seconds, int) or not low <= seconds <= high:
                raise InputError(f"expires_after.seconds is {seconds!r}: expected a whole number from {low} to {high}")
            session = check_session(wanted.get("session"))
        except (ValueError, RecursionError, InputError) as error:
            raise Refused(HTTPStatus.BAD_REQUEST, "invalid_value", str(error)) from None
        now = time.time()
        value, expires_at = self._access.make_secret(caller, seconds, wanted.get("session") or {}, now)
        return Answer.of({"value": value, "expires_at": expires_at, "session": {**session, "expires_at": expires_at}})

    def _check_room(self) -> None:
        if self.is_draining:
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "draining", "the server is about to stop: connect again in a moment")
        if self.places_taken >= self._settings.max_sessions:
            reason = f"all {self._settings.max_sessions} sessions of this server are taken: try again later"
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "too_many_sessions", reason)

    async def _serve(self, socket: ServerConnection) -> None:
        if socket in self._calls:
            await serve_twilio(socket, self._runtime, self._settings.twilio)
            return
        visit = self._visits[socket]
        settings = self._settings
        codec = RealtimeCodec(
            settings.model,
            speaks=settings.speaks,
            expires_at=int(time.time() + settings.limits.session_s),
            session=visit.session,
            meter=visit.caller.meter,
        )
        connection = RealtimeConnection(socket, codec, settings.limits, self.metrics.watcher())
        session = RealtimeSession(self._runtime, codec, settings.defaults, connection.take, connection.now_ms)
        self._connections.add(connection)
        connection.draining = self.is_draining
        self.metrics.opened.inc()
        self.metrics.sessions.inc()
        _log.info("connected: key %s", visit.caller.name)
        try:
            closing = await connection.run(session)
            self.metrics.closed.labels(str(int(closing.code))).inc()
            _log.info("disconnected: key %s, %d %s", visit.caller.name, closing.code, closing.reason)
        finally:
            self.metrics.sessions.dec()
            self._connections.discard(connection)

    def _leave(self, socket: ServerConnection) -> None:
        self._calls.discard(socket)
        visit = self._visits.pop(socket, None)
        if visit is not None:
            self._access.release(visit.caller)


@contextlib.asynccontextmanager
async def open_server(runtime: Runtime, settings: ServerSettings, access: Access | None = None) -> AsyncIterator[RealtimeServer]:
    """A server that listens while the block runs. `runtime` is an entered one. InputError where it may not listen so."""
    server = RealtimeServer(runtime, settings, access or Access())
    await server.start()
    try:
        yield server
    finally:
        await server.close()


def tls_context(certificate: str, key: str | None) -> ssl.SSLContext:
    """TLS with a certificate chain and its key, PEM. InputError where they cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise InputError(
            f"{certificate}: no certificate that can be served ({error}): give PEM files to --tls-cert and --tls-key"
        ) from None
    return context


def _select_subprotocol(socket: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """`realtime` to those who offer it, nothing to others; a key that was sent this way is never sent back."""
    return Subprotocol("realtime") if "realtime" in offered else None


def _quiet_logger() -> logging.Logger:
    """The library's own log, where broken handshakes of strangers are no errors."""
    logger = logging.getLogger(f"{__name__}.websockets")
    logger.setLevel(logging.CRITICAL)
    return logger
