"""A voice that speaks in a worker process: the parent's side, whatever engine is in it. One process serves all
sessions, text after text in the order asked; each session has a `WorkerVoice` on it. Every text has a generation
number: audio that comes for a cancelled one is dropped here, and the worker is told to stop speaking it. A worker
that dies is started again; a text of which nothing was heard yet is then spoken by the new one."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ..models.errors import CapacityError, DeviceError, InputError
from .synthesis import SpeechChunk
from .voice_frames import HEADER, Frame, Kind, unpack_audio, unpack_header
from .word_times import WordTimer

MAX_WAITING_TEXTS = 64
_CLOSE_TIMEOUT_S = 2.0
_ATTEMPTS = 2
_NO_AUDIO: NDArray[np.int16] = np.zeros(0, np.int16)


@dataclass(frozen=True, slots=True)
class Worker:
    """How to start a worker and what it must be: `name` for people, the `module` to run with `arguments`, the
    `package` it needs and the `extra` that brings it, its sample rate in Hz and the time it may take to start."""

    name: str
    module: str
    package: str
    extra: str
    sample_rate: int
    arguments: tuple[str, ...] = ()
    start_timeout_s: float = 20.0


class _WorkerDied(DeviceError):
    pass


class _Request:
    """One text on its way: the frames that came back for it."""

    def __init__(self) -> None:
        self._frames: asyncio.Queue[Frame | _WorkerDied | None] = asyncio.Queue()
        self._cancelled = False

    def put(self, frame: Frame | _WorkerDied) -> None:
        self._frames.put_nowait(frame)

    async def next(self) -> Frame | None:
        """The next frame; None once it is cancelled. Raises DeviceError when the worker died."""
        frame = await self._frames.get()
        if self._cancelled:
            return None
        if isinstance(frame, _WorkerDied):
            raise frame
        return frame

    def cancel(self) -> None:
        self._cancelled = True
        self._frames.put_nowait(None)


class VoiceProcess:
    """The worker process, started at the first text. Belongs to one event loop; `close` it there."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.starts = 0
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._requests: dict[int, _Request] = {}
        self._last_generation = 0
        self._closed = False

    @property
    def restarts(self) -> int:
        """How often a dead worker was replaced."""
        return max(0, self.starts - 1)

    @property
    def pid(self) -> int | None:
        """The worker's process id while it runs."""
        return self._process.pid if self._process is not None and self._alive() else None

    async def start(self) -> None:
        """Start the worker if it does not run, and wait until it can speak. Raises DeviceError where it cannot."""
        async with self._starting:
            if self._closed:
                raise DeviceError(f"speech synthesis is closed; make a new {type(self).__name__}")
            if not self._alive():
                await self._stop()
                await self._launch()

    async def ask(self, payload: bytes, request: _Request) -> int:
        """Send one text to the worker; its frames go to `request`. Returns its generation. Raises CapacityError
        when too many texts wait, InputError for a payload that is too large, DeviceError without a worker."""
        if len(self._requests) >= MAX_WAITING_TEXTS:
            raise CapacityError(f"{len(self._requests)} texts wait to be spoken, the most there can be; try again later")
        await self.start()
        self._last_generation += 1
        generation = self._last_generation
        self._requests[generation] = request
        self._send(Frame(Kind.SPEAK, generation, payload))
        return generation

    def drop(self, generation: int) -> None:
        """Take no more frames of this text; the worker stops speaking it if it has not finished."""
        if self._requests.pop(generation, None) is not None and self._alive():
            self._send(Frame(Kind.CANCEL, generation))

    async def close(self) -> None:
        """End the worker and wait for it. Texts that are being spoken end with DeviceError."""
        async with self._starting:
            self._closed = True
            await self._stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _alive(self) -> bool:
        running = self._process is not None and self._process.returncode is None
        return running and self._reader is not None and not self._reader.done()

    async def _launch(self) -> None:
        worker = self.worker
        if importlib.util.find_spec(worker.package) is None:
            raise DeviceError(
                f"speech synthesis needs {worker.name}, which is missing; run: pip install 'textpro-agent[{worker.extra}]'"
            )
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", worker.module, *worker.arguments,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        self._process = process
        self.starts += 1
        try:
            frame = await asyncio.wait_for(self._next_frame(process), worker.start_timeout_s)
        except TimeoutError as error:
            await self._stop()
            raise DeviceError(
                f"{worker.name}'s worker did not start in {worker.start_timeout_s:.0f} s; try on a less busy machine"
            ) from error
        except DeviceError:
            await self._stop()
            raise
        if frame.kind is not Kind.READY or frame.generation != worker.sample_rate:
            await self._stop()
            raise DeviceError(
                frame.payload.decode(errors="replace")
                or f"{worker.name} speaks at {frame.generation} Hz, not {worker.sample_rate}; update {worker.package}"
            )
        self._reader = asyncio.create_task(self._read(process))

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        reason = DeviceError(f"the reader of {self.worker.name}'s worker was stopped")
        try:
            while True:
                frame = await self._next_frame(process)
                request = self._requests.get(frame.generation)
                if request is not None:
                    request.put(frame)
                    if frame.kind is not Kind.AUDIO:
                        del self._requests[frame.generation]
        except DeviceError as error:
            reason = error
        finally:
            waiting, self._requests = self._requests, {}
            for request in waiting.values():
                request.put(_WorkerDied(f"{self.worker.name}'s worker failed: {reason}; say it again"))

    def _send(self, frame: Frame) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(frame.packed())

    async def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            if process.stdin is not None:
                process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), _CLOSE_TIMEOUT_S)
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader

    async def _next_frame(self, process: asyncio.subprocess.Process) -> Frame:
        if process.stdout is None:
            raise DeviceError(f"{self.worker.name}'s worker has no output; start it again")
        try:
            kind, generation, length = unpack_header(await process.stdout.readexactly(HEADER.size))
            return Frame(kind, generation, await process.stdout.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise DeviceError(f"{self.worker.name}'s worker has ended; it is started again with the next text") from error


class WorkerVoice:
    """One session's end of a `VoiceProcess`: what the synthesizers in worker processes share."""

    def __init__(self, process: VoiceProcess) -> None:
        self._process = process
        self._speaking: set[_Request] = set()

    @property
    def sample_rate(self) -> int:
        """Samples per second of every chunk."""
        return self._process.worker.sample_rate

    async def speak(self, text: str, payload: bytes) -> AsyncGenerator[SpeechChunk, None]:
        """Speak `text`, of which `payload` tells the worker: chunks of pcm int16 [n]. Raises InputError for what the
        worker refuses, CapacityError when too many texts wait, DeviceError when no audio can be made."""
        request = _Request()
        self._speaking.add(request)
        try:
            for attempt in range(_ATTEMPTS):
                timer = WordTimer(text, self.sample_rate)
                heard = False
                generation = await self._process.ask(payload, request)
                try:
                    while (frame := await request.next()) is not None:
                        chunk, last = _chunk(frame, timer)
                        if len(chunk.pcm) or chunk.words:
                            heard = True
                            yield chunk
                        if last:
                            return
                    return
                except _WorkerDied:
                    if heard or attempt + 1 == _ATTEMPTS:
                        raise
                finally:
                    self._process.drop(generation)
        finally:
            self._speaking.discard(request)

    def cancel(self) -> None:
        """Silence at once every text that was begun: no further chunk of it is yielded, and its iterator ends."""
        for request in self._speaking:
            request.cancel()


def _chunk(frame: Frame, timer: WordTimer) -> tuple[SpeechChunk, bool]:
    """What a frame brings to hear, and whether it is the last one. Raises what the worker failed with."""
    match frame.kind:
        case Kind.AUDIO:
            pcm, events = unpack_audio(frame.payload)
            return SpeechChunk(pcm, timer.push(pcm, events)), False
        case Kind.END:
            return SpeechChunk(_NO_AUDIO, timer.finish()), True
        case Kind.REFUSED:
            raise InputError(frame.payload.decode(errors="replace"))
        case _:
            raise DeviceError(frame.payload.decode(errors="replace"))
