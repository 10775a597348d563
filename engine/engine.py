"""The one owner of the models. asyncio code hands over work items and awaits answers; a single thread takes them from a
queue, and in each round runs a batch of the speech model, then one packed step of the backbone, then sends all answers to
their event loops. So no event loop ever waits for a model, no model is ever entered twice, and sessions share steps instead
of taking turns. Whatever goes wrong with an item fails that item; only a fault of the thread itself ends the engine, and
then everybody who waits is told why."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from functools import partial
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Self, overload

import torch

from ..models.backbone import Backbone
from ..models.errors import EngineError, InputError
from .admission import Admission
from .context import Context
from .delivery import Outbox, Receiver, Reply, TokenChannel, TokenStream
from .lanes import Job, Lanes, as_engine_error
from .residency import Residency
from .slab import Slab
from .stats import Counters, EngineStats, now
from .work import (
    Answer,
    Append,
    Appended,
    Changed,
    ContextWork,
    Decode,
    Evict,
    Fork,
    Forked,
    Replay,
    SpeechDone,
    SpeechItem,
    SpeechModel,
    Truncate,
    Work,
)


class SpeechJob:
    """A speech item on its way through the engine."""

    def __init__(self, item: SpeechItem, receiver: Receiver) -> None:
        self.item = item
        self.receiver = receiver
        self.kind = type(item).__name__.lower()


class Engine:
    """Runs a backbone, and a speech model if there is one, for many sessions.

    slots: contexts that can be live at once, of which `branch_reserve` are kept for forks; slot_len: entries a context can
    hold; row_budget: most rows of one step (longer appends are cut); speech_batch: most speech items of one batch.
    Memory: 2 * layers * (slots + 1) * slot_len * kv_heads * head_dim elements. Raises InputError for sizes that do not fit.
    """

    def __init__(
        self,
        backbone: Backbone,
        speech: SpeechModel | None = None,
        *,
        slots: int = 4,
        slot_len: int = 2048,
        branch_reserve: int = 0,
        row_budget: int = 512,
        speech_batch: int = 8,
    ) -> None:
        if slot_len > backbone.max_positions:
            raise InputError(f"slot_len {slot_len} is more than the backbone's {backbone.max_positions} positions")
        if row_budget < 1 or speech_batch < 1:
            raise InputError(f"row_budget and speech_batch must be at least 1, got {row_budget} and {speech_batch}")
        slab = Slab(
            layers=backbone.layers,
            slots=slots,
            slot_len=slot_len,
            kv_heads=backbone.kv_heads,
            head_dim=backbone.head_dim,
            dtype=backbone.dtype,
            device=backbone.device,
        )
        self.backbone = backbone
        self.admission = Admission(slots, branch_reserve)
        self._speech = speech
        self._speech_batch = speech_batch
        self._residency = Residency(slab, self.admission)
        self._outbox = Outbox()
        self._counters = Counters()
        self._lanes = Lanes(backbone, slab, self._residency, self._outbox, self._counters, row_budget)
        self._speech_queue: deque[SpeechJob] = deque()
        self._inbox: SimpleQueue[Job | SpeechJob | None] = SimpleQueue()
        self._door = threading.Lock()
        self._closed_because: str | None = None
        self._thread = threading.Thread(target=self._serve, name="textpro-engine", daemon=True)
        self._thread.start()

    def open_context(self) -> Context:
        """A new, empty context; close it when its session ends. Raises CapacityError when all slots are held."""
        self._check_open()
        return self._residency.open()

    def close_context(self, context: Context) -> None:
        """End a context; what is still queued on it fails. Its slot can be opened again at once. Twice does no harm."""
        self._residency.close_soon(context)
        self._inbox.put(None)

    @overload
    async def run(self, item: Append) -> Appended: ...
    @overload
    async def run(self, item: Truncate | Replay | Evict) -> Changed: ...
    @overload
    async def run(self, item: Fork) -> Forked: ...
    @overload
    async def run(self, item: SpeechItem) -> SpeechDone: ...

    async def run(self, item: Work) -> Answer:
        """Do a piece of work and return its answer.

        Raises InputError (bad item), CapacityError (no room or slot) or EngineError (closed, or the model failed). If the
        waiting task is cancelled, an item that has not begun is dropped and one that has begun is completed.
        """
        if isinstance(item, Decode):
            raise InputError("a Decode is streamed: use `async for token in engine.stream(item)`")
        reply = Reply()
        if isinstance(item, ContextWork):
            self._submit(Job(item, reply))
        elif self._speech is None:
            raise InputError(f"{type(item).__name__} needs a speech model, and this engine was opened without one")
        else:
            self._submit(SpeechJob(item, reply))
        return await reply.wait()

    def stream(self, item: Decode) -> TokenStream:
        """Start decoding, from within a running event loop; the tokens come from the returned iterator."""
        channel = TokenChannel()
        self._submit(Job(item, channel))
        return TokenStream(channel)

    def stats(self) -> EngineStats:
        """What was done so far and what is waiting now."""
        counters = self._counters
        return EngineStats(
            steps=counters.steps,
            rows=counters.rows,
            speech_batches=counters.speech_batches,
            speech_items=counters.speech_items,
            failed=counters.failed,
            seconds=dict(counters.seconds),
            items=dict(counters.items),
            queued=self._inbox.qsize() + self._lanes.waiting + len(self._speech_queue),
            slots=self.admission.slots,
            slots_taken=self.admission.taken,
            refused=self.admission.refused,
        )

    def close(self) -> None:
        """Stop after the running step; waits for the thread. Outstanding work fails with EngineError."""
        with self._door:
            self._closed_because = self._closed_because or "engine closed: this work was not done; open a new engine"
        self._inbox.put(None)
        self._thread.join()

    async def aclose(self) -> None:
        """`close` without holding up the event loop."""
        await asyncio.to_thread(self.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _check_open(self) -> None:
        if self._closed_because is not None:
            raise EngineError(self._closed_because)

    def _submit(self, job: Job | SpeechJob) -> None:
        with self._door:  # so that nothing enters the queue after the thread has emptied it for the last time
            self._check_open()
            self._inbox.put(job)

    def _serve(self) -> None:
        """The engine's thread."""
        try:
            with torch.inference_mode():
                while self._closed_because is None:
                    self._receive()
                    self._run_speech()
                    self._outbox.flush()
                    self._lanes.round()
                    self._outbox.flush()
        except BaseException as fault:
            with self._door:
                self._closed_because = f"engine stopped by {type(fault).__name__}: {fault}; open a new engine"
            raise
        finally:
            self._fail_outstanding(EngineError(self._closed_because or "engine stopped"))

    def _receive(self) -> None:
        """Take in what has arrived; wait for it if there is nothing else to do."""
        must_wait = not self._lanes.waiting and not self._speech_queue
        try:
            while True:
                job = self._inbox.get(block=must_wait)
                must_wait = False
                if isinstance(job, SpeechJob):
                    self._speech_queue.append(job)
                elif job is not None:  # None only wakes the thread
                    self._lanes.submit(job)
        except Empty:
            return

    def _run_speech(self) -> None:
        """Run one batch: the oldest items, one for each stream."""
        batch = self._take_speech_batch()
        if not batch or self._speech is None:
            return
        started = now()
        try:
            results = list(self._speech.run([job.item for job in batch]))
            if len(results) != len(batch):
                raise EngineError(f"the speech model returned {len(results)} results for {len(batch)} items")
        except Exception as error:  # the model broke its contract: no item's state can be relied on
            results = [error] * len(batch)
        seconds = (now() - started) / len(batch)
        self._counters.speech_batches += 1
        self._counters.speech_items += len(batch)
        for job, result in zip(batch, results, strict=True):
            self._counters.seconds[job.kind] += seconds
            self._counters.items[job.kind] += 1
            if isinstance(result, Exception):
                self._counters.failed += 1
                deliver = partial(job.receiver.fail, as_engine_error(f"{job.kind} failed", result))
            else:
                deliver = partial(job.receiver.give, SpeechDone(result, seconds))
            self._outbox.post(job.receiver.loop, deliver)

    def _take_speech_batch(self) -> list[SpeechJob]:
        batch: list[SpeechJob] = []
        later: deque[SpeechJob] = deque()
        streams: set[int] = set()
        for job in self._speech_queue:
            if job.receiver.cancelled:
                self._outbox.post(job.receiver.loop, job.receiver.end)
            elif id(job.item.stream) in streams or len(batch) == self._speech_batch:
                streams.add(id(job.item.stream))
                later.append(job)
            else:
                streams.add(id(job.item.stream))
                batch.append(job)
        self._speech_queue = later
        return batch

    def _fail_outstanding(self, error: EngineError) -> None:
        try:
            self._receive_rest()
        finally:
            self._lanes.fail_all(error)
            for job in self._speech_queue:
                self._outbox.post(job.receiver.loop, partial(job.receiver.fail, error))
            self._speech_queue.clear()
            self._outbox.flush()

    def _receive_rest(self) -> None:
        while not self._inbox.empty():
            match self._inbox.get():
                case SpeechJob() as job:
                    self._speech_queue.append(job)
                case Job() as job:
                    self._lanes.submit(job)
