"""What the server counts, for Prometheus: sessions, refusals, responses, how fast they begin, and how connections end. No
words and no sound of anybody are in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from .realtime.wire import Json

SECONDS = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)


class Metrics:
    """One server's, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.sessions = Gauge("textpro_sessions", "Connections that are open.", registry=registry)
        self.opened = Counter("textpro_sessions_opened", "Connections that were accepted.", registry=registry)
        self.refused = Counter("textpro_refused", "Requests that were refused.", ["reason"], registry=registry)
        self.closed = Counter("textpro_sessions_closed", "Connections that ended, by close code.", ["code"], registry=registry)
        self.resumed = Counter(
            "textpro_resumed", "Clients that came back, by whether to their session.", ["done"], registry=registry
        )
        self.responses = Counter("textpro_responses", "Responses that ended, by status.", ["status"], registry=registry)
        self.errors = Counter("textpro_errors", "Error events that were sent, by code.", ["code"], registry=registry)
        self.first_output = Histogram(
            "textpro_first_output_seconds",
            "From response.created to its first text or sound.",
            buckets=SECONDS,
            registry=registry,
        )

    def page(self) -> bytes:
        """In the text format of Prometheus."""
        return generate_latest(self.registry)

    def watcher(self) -> Callable[[Json], None]:
        """Counts the server events of one connection."""
        begun: dict[str, float] = {}
        return lambda event: self._count(event, begun)

    def _count(self, event: Json, begun: dict[str, float]) -> None:
        match event["type"]:
            case "response.created":
                begun[event["response"]["id"]] = time.monotonic()
            case "response.output_audio.delta" | "response.output_text.delta" | "response.function_call_arguments.delta":
                if (since := begun.pop(event["response_id"], None)) is not None:
                    self.first_output.observe(time.monotonic() - since)
            case "response.done":
                begun.pop(event["response"]["id"], None)
                self.responses.labels(event["response"]["status"]).inc()
            case "error":
                self.errors.labels(event["error"]["code"]).inc()
