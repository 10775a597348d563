"""The inside of a voice's worker process, whatever engine speaks in it: requests come as frames on stdin, audio goes
out as frames on stdout, one text after the other. Requests are read on a thread of their own, so that a cancel is
seen while the engine is speaking. Such processes exist because the engines are GPL-3 or block for long."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..models.errors import DeviceError, InputError
from .voice_frames import Frame, Kind, pack_audio, read_frame
from .word_times import WordEvent

OnAudio = Callable[[NDArray[np.int16], tuple[WordEvent, ...]], bool]
"""Takes new audio int16 [n] and the word events known by then; returns False to stop the synthesis."""
Speak = Callable[[bytes, OnAudio], None]
"""Speaks the text of a request's payload. Raises InputError for a bad request, DeviceError when it fails."""


class _Inbox:
    def __init__(self, requests: BinaryIO) -> None:
        self._requests = requests
        self._waiting: queue.Queue[Frame | None] = queue.Queue()
        self._cancelled: set[int] = set()
        self._closed = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def next(self) -> Frame | None:
        """The next text to speak that was not cancelled; None when the other side has closed."""
        while (frame := self._waiting.get()) is not None:
            if self.wanted(frame.generation):
                return frame
        return None

    def wanted(self, generation: int) -> bool:
        return generation not in self._cancelled and not self._closed.is_set()

    def forget(self, generation: int) -> None:
        """Generations come in rising order, so no cancel up to this one matters any more."""
        self._cancelled.difference_update([old for old in tuple(self._cancelled) if old <= generation])

    def _read(self) -> None:
        try:
            while (frame := read_frame(self._requests)) is not None:
                if frame.kind is Kind.CANCEL:
                    self._cancelled.add(frame.generation)
                else:
                    self._waiting.put(frame)
        finally:
            self._closed.set()
            self._waiting.put(None)


def serve(start: Callable[[], tuple[int, Speak]], requests: BinaryIO, replies: BinaryIO) -> None:
    """Start the engine, which says its sample rate, and speak the texts that come, until `requests` ends."""

    def reply(kind: Kind, generation: int, payload: bytes = b"") -> None:
        replies.write(Frame(kind, generation, payload).packed())
        replies.flush()

    try:
        sample_rate, speak = start()
    except DeviceError as error:
        reply(Kind.FAILED, 0, str(error).encode())
        return
    reply(Kind.READY, sample_rate)
    inbox = _Inbox(requests)
    while (frame := inbox.next()) is not None:
        generation = frame.generation

        def on_audio(pcm: NDArray[np.int16], events: tuple[WordEvent, ...], generation: int = generation) -> bool:
            if not inbox.wanted(generation):
                return False
            if len(pcm) or events:
                reply(Kind.AUDIO, generation, pack_audio(pcm, events))
            return True

        try:
            speak(frame.payload, on_audio)
        except InputError as error:
            reply(Kind.REFUSED, generation, str(error).encode())
        except DeviceError as error:
            reply(Kind.FAILED, generation, str(error).encode())
        else:
            if inbox.wanted(generation):
                reply(Kind.END, generation)
        inbox.forget(generation)


def run(start: Callable[[], tuple[int, Speak]]) -> None:
    """Serve on stdin and stdout. What the engine itself may print goes to stderr; the parent decides about Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        serve(start, sys.stdin.buffer, replies)
    except BrokenPipeError:
        os._exit(0)
