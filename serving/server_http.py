"""Plain HTTP beside the websockets on the same port: pages that are read with GET, and requests with a body, which the
websocket library does not read, so such connections are taken over before it sees them (parsed by h11).

The files of the browser page are read once, from the package, and found by their whole name, so no path leads elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from typing import Any

import h11
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Response

from .server_access import Refused

MAX_BODY = 256 * 1024
_WITH_BODY = (b"POST ", b"OPTIONS ", b"PUT ", b"DELETE ", b"PATCH ", b"HEAD ")
_LONGEST = max(len(method) for method in _WITH_BODY)
_WEB_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_WEB_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "Vary": "Origin",
}
"""The page runs its own files only and talks to its own server only; browsers ask each time whether a file has changed."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request with its body read."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back."""

    status: HTTPStatus
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, value: object, status: HTTPStatus = HTTPStatus.OK) -> Answer:
        """JSON."""
        return cls(status, json.dumps(value).encode())

    @classmethod
    def refusal(cls, refused: Refused) -> Answer:
        """Why it is not done, in the form in which OpenAI's clients read it."""
        kind = "server_error" if refused.status >= 500 else "invalid_request_error"
        answer = cls.of({"error": {"type": kind, "code": refused.code, "message": str(refused), "param": None}}, refused.status)
        match refused.status:
            case HTTPStatus.UNAUTHORIZED:
                answer.headers["WWW-Authenticate"] = "Bearer"
            case HTTPStatus.SERVICE_UNAVAILABLE | HTTPStatus.TOO_MANY_REQUESTS:
                answer.headers["Retry-After"] = "5"
        return answer

    def listed(self) -> list[tuple[str, str]]:
        """All headers."""
        own = {"Connection": "close", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **self.headers}
        if self.status is not HTTPStatus.NOT_MODIFIED:
            own |= {"Content-Type": self.content_type, "Content-Length": str(len(self.body))}
        return list(own.items())

    def response(self) -> Response:
        """For the websocket library."""
        return Response(int(self.status), self.status.phrase, Headers(self.listed()), self.body)


def web_file(path: str, headers: Mapping[str, str]) -> Answer | None:
    """A file of the browser page (`/` or `/NAME`), for a request whose origin has been checked; None if there is none of this
    name. Header names In-Title-Case."""
    found = _web_files().get("index.html" if path == "/" else path.removeprefix("/"))
    if found is None:
        return None
    content, kind, tag = found
    own = {**_WEB_HEADERS, "ETag": tag}
    if "Origin" in headers:
        own["Access-Control-Allow-Origin"] = headers["Origin"]
    if tag in (known.strip().removeprefix("W/") for known in headers.get("If-None-Match", "").split(",")):
        return Answer(HTTPStatus.NOT_MODIFIED, b"", kind, own)
    return Answer(HTTPStatus.OK, content, kind, own)


@cache
def _web_files() -> dict[str, tuple[bytes, str, str]]:
    """Content, type and ETag of each file by its name."""
    found = {}
    for file in files(__package__).joinpath("web").iterdir():
        kind = _WEB_TYPES.get(file.name.rpartition(".")[2])
        if kind is not None and file.is_file():
            content = file.read_bytes()
            found[file.name] = (content, kind, f'"{hashlib.sha256(content).hexdigest()[:16]}"')
    return found


def connection_class(answer: Callable[[Request], Answer], lost: Callable[[ServerConnection], None]) -> type[ServerConnection]:
    """Connections whose requests with a body are answered by `answer`, which must not wait; `lost` hears of each end."""

    class Connection(ServerConnection):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._first: bytes | None = b""
            self._plain: h11.Connection | None = None
            self._request: h11.Request | None = None
            self._body = b""

        def data_received(self, data: bytes) -> None:
            if self._first is not None:
                data, self._first = self._first + data, None
                if any(method.startswith(data[:_LONGEST]) for method in _WITH_BODY) and len(data) < _LONGEST:
                    self._first = data
                    return
                if data.startswith(_WITH_BODY):
                    self._plain = h11.Connection(h11.SERVER, max_incomplete_event_size=16 * 1024)
            if self._plain is None:
                super().data_received(data)
            else:
                self._read(self._plain, data)

        def connection_lost(self, exc: Exception | None) -> None:
            lost(self)
            super().connection_lost(exc)

        def _read(self, plain: h11.Connection, data: bytes) -> None:
            try:
                plain.receive_data(data)
                while True:
                    event = plain.next_event()
                    if event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                        return
                    if isinstance(event, h11.Request):
                        self._request = event
                    elif isinstance(event, h11.Data):
                        self._body += event.data
                        if len(self._body) > MAX_BODY:
                            reason = f"the body is longer than {MAX_BODY} bytes"
                            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body_too_large", reason)
                    elif isinstance(event, h11.EndOfMessage) and self._request is not None:
                        headers = {
                            name.decode("latin-1").title(): value.decode("latin-1") for name, value in self._request.headers
                        }
                        method, path = self._request.method.decode(), self._request.target.decode("latin-1")
                        self._finish(plain, answer(Request(method, path, headers, self._body)))
                        return
            except h11.RemoteProtocolError as error:
                refused = Refused(HTTPStatus(error.error_status_hint), "invalid_request", f"this is no HTTP request: {error}")
                self._finish(plain, Answer.refusal(refused))
            except Refused as refused:
                self._finish(plain, Answer.refusal(refused))

        def _finish(self, plain: h11.Connection, given: Answer) -> None:
            try:
                sent = plain.send(h11.Response(status_code=int(given.status), headers=given.listed())) or b""
                body = b"" if self._request is not None and self._request.method == b"HEAD" else given.body
                sent += (plain.send(h11.Data(data=body)) or b"") + (plain.send(h11.EndOfMessage()) or b"")
            except h11.LocalProtocolError:
                sent = b""
            self.transport.write(sent)
            self.transport.close()

    return Connection
