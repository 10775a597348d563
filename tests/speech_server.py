"""A local HTTP server in the shape of `/v1/audio/speech`, for tests: each request is answered by the next step of a
script, which writes to the connection as it likes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

PIECE = 2_400
"""Samples of a piece: 100 ms."""


def tone(n_samples: int) -> bytes:
    """Something audible, int16."""
    return (np.sin(np.arange(n_samples) / 20) * 8_000).astype("<i2").tobytes()


class Answer(BaseHTTPRequestHandler):
    """One request; `fields` is its body, `headers` what came with it."""

    protocol_version = "HTTP/1.1"
    server: SpeechServer
    fields: dict[str, object]

    def do_POST(self) -> None:
        self.fields = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, dict(self.headers), self.fields))
        step = self.server.script.pop(0) if len(self.server.script) > 1 else self.server.script[0]
        step(self)

    def begin(self, kind: str = "application/octet-stream") -> None:
        """The head of a streamed answer."""
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def piece(self, data: bytes) -> None:
        """A piece of it."""
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def end(self) -> None:
        """Its proper end."""
        self.wfile.write(b"0\r\n\r\n")

    def cut(self) -> None:
        """The connection is lost."""
        self.close_connection = True
        self.connection.close()

    def wait_closed(self) -> None:
        """Until the client has closed the connection."""
        self.close_connection = True
        while self.connection.recv(1024):
            pass
        self.server.closed.set()

    def refuse(self, status: int, words: str) -> None:
        """A refusal as such services word it."""
        body = json.dumps({"error": {"message": words}}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


Step = Callable[[Answer], None]


class SpeechServer(ThreadingHTTPServer):
    """Answers with the steps of `script` in turn, the last one again and again."""

    daemon_threads = True

    def __init__(self, *script: Step) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.script = list(script)
        self.requests: list[tuple[str, dict[str, str], dict[str, object]]] = []
        self.closed = threading.Event()

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


@contextmanager
def serving(*script: Step) -> Iterator[SpeechServer]:
    """A server that runs in a thread."""
    with SpeechServer(*script) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def speak(answer: Answer) -> None:
    """100 ms for each word, in pieces that do not end with a sample."""
    answer.begin("audio/pcm")
    data = tone(PIECE * len(str(answer.fields["input"]).split()))
    for start in range(0, len(data), 999):
        answer.piece(data[start : start + 999])
    answer.end()
