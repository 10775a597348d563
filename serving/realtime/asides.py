"""Responses beside the conversation (`response.create` with conversation "none"): each in a session of its own, which reads
what the client gave it and leaves nothing behind.
"""

from __future__ import annotations

from ...agent.events import Audio, Event, Failed, ReplyDelta, ReplySpoken, ReplyStart
from .items import Items
from .limits import Meter
from .response import Response, ResponseSettings
from .wire import Aside, Json, Outbox, Plan, ProtocolError, StopAside, Turn

MAX_ASIDES = 2


class Asides:
    """Those of one connection."""

    def __init__(self, out: Outbox, items: Items, meter: Meter) -> None:
        self._out, self._items, self._meter = out, items, meter
        self._responses: dict[str, Response] = {}

    def __len__(self) -> int:
        return len(self._responses)

    def __contains__(self, response_id: object) -> bool:
        return response_id in self._responses

    def begin(self, settings: ResponseSettings, plan: Plan, turns: tuple[Turn, ...]) -> None:
        """One more. ProtocolError where too many run."""
        if len(self._responses) >= MAX_ASIDES:
            reason = f"{MAX_ASIDES} responses run beside the conversation already (response.create): wait for one of them"
            raise ProtocolError("too_many_responses", reason, "response.conversation")
        response = Response(self._out.new_id("resp"), settings, self._out, self._items, lambda item: None)
        response.begin()
        self._responses[response.id] = response
        self._out.do(Aside(response.id, plan, turns))

    def observe(self, response_id: str, event: Event, now_s: float) -> None:
        """An event of its session."""
        if (response := self._responses.get(response_id)) is None:
            return
        match event:
            case ReplyStart():
                response.usage.input_text = event.context_tokens
            case ReplyDelta():
                response.say(event.text)
            case Audio():
                response.sound(event.pcm, event.sample_rate, event.text)
            case ReplySpoken():
                response.usage.output = event.tokens
                self.end(response_id, "completed", now_s)
            case Failed():
                self.fail(response_id, event.reason, now_s)

    def call(self, response_id: str, name: str, arguments: str, now_s: float) -> None:
        """Its reply calls a function, and is over with that."""
        if (response := self._responses.get(response_id)) is not None:
            response.call(name, arguments, self._out.new_id("call"))
            self.end(response_id, "completed", now_s)

    def fail(self, response_id: str, reason: str, now_s: float) -> None:
        """Its session could not be opened or led."""
        self.end(response_id, "failed", now_s, {"type": "server_error", "code": "session_failed", "message": reason})

    def end(self, response_id: str, status: str, now_s: float, error: Json | None = None) -> None:
        """Close it."""
        if (response := self._responses.pop(response_id, None)) is not None:
            response.close(status, "client_cancelled" if status == "cancelled" else None, error)
            self._out.event("rate_limits.updated", rate_limits=self._meter.state(now_s))
            self._out.do(StopAside(response_id))
