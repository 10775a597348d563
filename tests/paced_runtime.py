"""A runtime without a model whose replies come as sound on a schedule, and what measures how late a client gets them: the server
may be as busy as a test makes it, and the schedule of another session is the yardstick."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from websockets.sync.client import connect

from quiet_runtime import RATE, QuietRuntime, QuietSession
from textpro.agent.events import Audio, Interrupt, ReplyDelta, ReplyDone, ReplySpoken, ReplyStart

PIECE_MS = 100
MAX_LATE_MS = 50
"""What the project promises: audio of one session within so much of its schedule, whatever others do."""


class PacedSession(QuietSession):
    """Each turn is answered by `reply_ms` of sound, a piece of 100 ms each 100 ms; when they are due is noted in `replies`."""

    _speaking: asyncio.Task[None] | None = None

    def __init__(self, runtime: QuietRuntime, replies: list[list[float]]) -> None:
        super().__init__(runtime)
        self._replies = replies

    async def __aexit__(self, *error: object) -> None:
        await self._be_silent()
        await super().__aexit__(*error)

    async def respond(self) -> None:
        await self.interrupt()
        self._running = True
        self._events.put_nowait(ReplyStart(t_ms=0, context_tokens=3))
        self._events.put_nowait(ReplyDelta(t_ms=0, text="Yes."))
        self._speaking = asyncio.create_task(self._speak())

    async def interrupt(self, turn_id: int | None = None) -> None:
        await self._be_silent()
        if self._running:
            self._running = False
            self._events.put_nowait(Interrupt(t_ms=0, heard_text=""))
            self._events.put_nowait(ReplyDone(t_ms=0, text="Yes.", heard_text="", interrupted=True))

    async def _speak(self) -> None:
        began = time.monotonic()
        dues: list[float] = []
        self._replies.append(dues)
        pcm = np.full(RATE * PIECE_MS // 1000, 500, np.int16)
        for number in range(self._runtime.reply_ms // PIECE_MS):
            due = began + number * PIECE_MS / 1000
            await asyncio.sleep(max(due - time.monotonic(), 0))
            dues.append(due)
            self._events.put_nowait(Audio(t_ms=0, pcm=pcm, sample_rate=RATE, text=""))
        self._events.put_nowait(ReplySpoken(t_ms=0, tokens=2))

    async def _be_silent(self) -> None:
        if self._speaking is not None:
            self._speaking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._speaking
            self._speaking = None


class PacedRuntime(QuietRuntime):
    """Sessions whose instructions begin with "paced" reply at a pace, the others as in the quiet one. `due_s` has, by
    instructions, when each piece of each paced reply was due."""

    def __init__(self, slots: int = 1_000, reply_ms: int = 2_000) -> None:
        super().__init__(slots, reply_ms)
        self.due_s: defaultdict[str, list[list[float]]] = defaultdict(list)

    def session(self, instructions: str | None = None, tools: Any = None, **settings: Any) -> QuietSession:
        if instructions is None or not instructions.startswith("paced"):
            return QuietSession(self)
        return PacedSession(self, self.due_s[instructions])


class Listener:
    """A client in a thread of its own that lets the agent speak again and again; two of them need two names."""

    def __init__(self, url: str, runtime: PacedRuntime, name: str = "paced") -> None:
        self._url, self._name, self._due_s = url, name, runtime.due_s[name]
        self._stop, self.listening = threading.Event(), threading.Event()
        self._arrived_s: list[list[float]] = []
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._listen, daemon=True)

    @property
    def pieces(self) -> list[tuple[float, float]]:
        """When each piece of sound was due and when it came, in seconds."""
        replies = zip(self._arrived_s, self._due_s, strict=False)
        return [(due, at) for reply, dues in replies for at, due in zip(reply, dues, strict=False)]

    def start(self) -> None:
        self._thread.start()
        assert self.listening.wait(60) and self.failure is None, self.failure

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive() and self.failure is None, self.failure

    def _listen(self) -> None:
        try:
            with connect(self._url, max_size=None, compression=None) as client:
                settings = {"type": "realtime", "instructions": self._name}
                client.send(json.dumps({"type": "session.update", "session": settings}))
                while not self._stop.is_set():
                    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "go on"}]}
                    client.send(json.dumps({"type": "conversation.item.create", "item": item}))
                    client.send(json.dumps({"type": "response.create"}))
                    self._hear_reply(client)
        except BaseException as error:
            self.failure = error
            self.listening.set()

    def _hear_reply(self, client: Any) -> None:
        self._arrived_s.append([])
        while True:
            event = json.loads(client.recv(timeout=60))
            if event["type"] == "response.output_audio.delta" and base64.b64decode(event["delta"]):
                self._arrived_s[-1].append(time.monotonic())
                self.listening.set()
            elif event["type"] == "response.done":
                assert event["response"]["status"] == "completed", event
                return
            assert event["type"] != "error", event


class MachineWaits:
    """How long this process's threads stood ready while the machine did something else, from what Linux counts of each thread;
    nothing on other systems. A context manager that samples while the block runs."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        self._at_s: list[float] = []
        self._total_ms: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> MachineWaits:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def between(self, begin_s: float, end_s: float) -> float:
        """ms of waiting between two times, of all threads together."""
        begin, end = np.interp((begin_s, end_s), self._at_s, self._total_ms)
        return float(end - begin)

    def _sample(self) -> None:
        while True:
            for file in Path("/proc/self/task").glob("*/schedstat"):
                with contextlib.suppress(OSError, ValueError, IndexError):  # a thread may just have ended
                    self._last[file.parent.name] = int(file.read_text().split()[1]) / 1e6
            self._at_s.append(time.monotonic())
            self._total_ms.append(sum(self._last.values()))
            if self._stop.wait(0.01):
                return
