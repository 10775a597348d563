"""Plain HTTP beside the websockets on the same port: pages that are read with GET, and requests with a body, which the
websocket library does not read, so such connections are taken over before it sees them (parsed by h11).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import h11
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Response

from .server_access import Refused

MAX_BODY = 256 * 1024
_WITH_BODY = (b"POST ", b"OPTIONS ", b"PUT ", b"DELETE ", b"PATCH ", b"HEAD ")
_LONGEST = max(len(method) for method in _WITH_BODY)


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
        own = {"Content-Type": self.content_type, "Content-Length": str(len(self.body)), "Connection": "close"}
        return [*own.items(), ("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"), *self.headers.items()]

    def response(self) -> Response:
        """For the websocket library."""
        return Response(int(self.status), self.status.phrase, Headers(self.listed()), self.body)


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
