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

from ..models.errors import CapacityError, DeviceError, InputError
from .collector import calm_collector
from .realtime.codec import RealtimeCodec
from .realtime.config import check_session
from .realtime.connection import After, Limits, RealtimeConnection
from .realtime.extensions import ResumeOffer
from .realtime.live import Live, now_ms
from .realtime.session import SessionDefaults
from .realtime.wire import Json, Output
from .resume import Held, Keeper, ResumeSettings
from .server_access import DEFAULT_SECRET_S, SECRET_SECONDS, Access, Caller, Refused, check_binding, resume_token_of
from .server_http import Answer, Request, connection_class, web_file
from .server_metrics import Metrics
from .session_log import SessionLog
from .telephone.twilio import TwilioSettings, refusal, serve_twilio

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
    resume: ResumeSettings = field(default_factory=ResumeSettings)


@dataclass(slots=True)
class _Visit:
    """What was decided about a connection before its handshake. Once it is served its place is given back by who serves it."""

    caller: Caller
    session: Json
    token: str | None
    is_served: bool = False


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
        self._keeper: Keeper | None = None
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
        """Sessions that admission counts, those of lost connections too."""
        return len(self._visits) + len(self._calls) + self.keeper.places()

    @property
    def keeper(self) -> Keeper:
        """The sessions whose clients may come back."""
        assert self._keeper is not None
        return self._keeper

    async def start(self) -> None:
        """Listen. DeviceError where the address cannot be had, InputError where logs cannot be kept."""
        settings = self._settings
        self._keeper = Keeper(settings.resume, self._runtime.checkpoint)
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
            await self._keeper.close()
            raise DeviceError(reason) from None

    async def drain(self) -> None:
        """Take nobody new, let running turns finish, and end."""
        self.is_draining = True
        self.keeper.drain()
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
        await self.keeper.close()

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
                self._access.check_origin(headers)
                self._access.caller(headers, time.time())  # tells a browser why its handshake was refused
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
        token, keeper = resume_token_of(headers), self.keeper
        if not self.is_draining and keeper.reserve(token, caller):
            self._access.admit_again(caller)
            return _Visit(caller, session, token)
        try:
            self._access.admit(caller, kept=keeper.places(caller))
        except Refused:
            if not keeper.push_out(caller):
                raise
            self._access.admit(caller, kept=keeper.places(caller))
        try:
            self._check_room()
        except Refused:
            self._access.release(caller)
            raise
        return _Visit(caller, session, token)

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
        if (file := web_file(path, headers)) is not None:
            self._access.check_origin(headers)
            return file
        pages = "/, /v1/realtime (websocket), /v1/realtime/client_secrets (POST), /healthz, /readyz, /metrics"
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
        if self.places_taken >= self._settings.max_sessions and not self.keeper.push_out():
            reason = f"all {self._settings.max_sessions} sessions of this server are taken: try again later"
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "too_many_sessions", reason)
        try:
            self._runtime.engine.check_load()
        except CapacityError as error:
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "too_much_load", str(error)) from None

    async def _serve(self, socket: ServerConnection) -> None:
        if socket in self._calls:
            await serve_twilio(socket, self._runtime, self._settings.twilio)
            return
        visit = self._visits.get(socket)
        if visit is None:  # it was lost in its handshake
            return
        visit.is_served = True
        try:
            await self._lead(socket, visit)
        finally:
            visit.is_served = False
            self._leave(socket)

    async def _lead(self, socket: ServerConnection, visit: _Visit) -> None:
        """A connection from its beginning to its end."""
        await self.keeper.settled()
        held, first = await self._conversation(visit)
        connection = RealtimeConnection(socket, held.live, self._settings.limits)
        self.keeper.connect(held, connection)
        self._connections.add(connection)
        connection.draining = self.is_draining
        self.metrics.opened.inc()
        self.metrics.sessions.inc()
        _log.info("connected: key %s", visit.caller.name)
        after = After.FAILED
        try:
            closing = await connection.run(first)
            after = closing.after
        finally:
            self.metrics.sessions.dec()
            self._connections.discard(connection)
            await self.keeper.release(held, after)
        self.metrics.closed.labels(str(int(closing.code))).inc()
        _log.info("disconnected: key %s, %d %s", visit.caller.name, closing.code, closing.reason)
        await connection.close(closing)

    async def _conversation(self, visit: _Visit) -> tuple[Held, list[Output]]:
        """A new conversation, or the one to which the client comes back, and what it is told first."""
        expires_at = int(time.time() + self._settings.limits.session_s)
        refused: str | None = None

        def restored(log: SessionLog, offer: ResumeOffer) -> Live:
            return self._live(visit, expires_at, log, offer)

        if visit.token is not None:
            try:
                held = await self.keeper.claim(visit.token, visit.caller, restored)
                self.metrics.resumed.labels("yes").inc()
                return held, held.live.codec.come_back(now_ms(), expires_at)
            except InputError as error:
                self.metrics.resumed.labels("no").inc()
                refused = str(error)
        offer = self.keeper.offer()
        live = self._live(visit, expires_at, None, offer)
        first = live.codec.open()
        if refused is not None:
            first += live.codec.resuming.refuse(refused)
        return self.keeper.hold(live, visit.caller, offer), first

    def _live(self, visit: _Visit, expires_at: int, log: SessionLog | None, offer: ResumeOffer | None) -> Live:
        codec = RealtimeCodec(
            self._settings.model,
            speaks=self._settings.speaks,
            expires_at=expires_at,
            session=visit.session,
            meter=visit.caller.meter,
            offer=offer,
            log=log,
        )
        entries = () if log is None else log.entries
        return Live(self._runtime, codec, self._settings.defaults, self.metrics.watcher(), entries)

    def _leave(self, socket: ServerConnection) -> None:
        self._calls.discard(socket)
        visit = self._visits.get(socket)
        if visit is not None and not visit.is_served:
            del self._visits[socket]
            self._access.release(visit.caller)


@contextlib.asynccontextmanager
async def open_server(runtime: Runtime, settings: ServerSettings, access: Access | None = None) -> AsyncIterator[RealtimeServer]:
    """A server that listens while the block runs. `runtime` is an entered one. InputError where it may not listen so."""
    server = RealtimeServer(runtime, settings, access or Access())
    await server.start()
    try:
        with calm_collector():
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
