"""The one owner of the models. asyncio code hands over work items and awaits answers; a single thread
takes them from a queue, and in each round runs a batch of the speech model, then one packed step of the
backbone, then sends all answers to their event loops. So no event loop ever waits for a model, no model is
ever entered twice, and sessions share steps instead of taking turns. A final pass comes as several items, each
asked for when the one before it is answered; between them, replies that run already wait. Whatever goes wrong with an item
fails that item; only a fault of the thread itself ends the engine, and then everybody who waits is told
why."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from itertools import chain
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Self, overload

import torch

from ..kernels.tiles import takes_triton
from ..models.backbone import Backbone
from ..models.cuda_graphs import CudaCapture
from ..models.errors import EngineError, InputError
from .admission import Admission
from .context import Context
from .delivery import Outbox, Reply, TokenChannel, TokenStream
from .graphs import StepGraphs
from .jobs import Job, SpeechJob, WarmUp
from .lanes import Lanes
from .pace import Pace
from .residency import Residency
from .slab import Slab
from .speech import SpeechQueue
from .stats import Counters, EngineStats, now
from .work import (
    PARTIAL,
    Answer,
    Append,
    Appended,
    Changed,
    ContextWork,
    Decode,
    Evict,
    Fork,
    Forked,
    Recorded,
    Replay,
    SpeechDone,
    SpeechItem,
    SpeechModel,
    Truncate,
    Urgency,
    Work,
)

FOLLOW_UP_S = 0.002
"""The next item of a final pass comes within this time of the last one's answer."""
LONGEST_PAUSE_S = 0.1
"""So long final passes may keep running replies from their next tokens."""


class Engine:
    """Runs a backbone, and a speech model if there is one, for many sessions.

    slots: contexts that can be at work at once; contexts: how many can be open, of which `branch_reserve`
    are kept for forks (None: as many as slots; more than that, and those that rest lend their slots and are
    replayed when they go on); slot_len: entries a context can hold (2,048, or as many as the backbone
    allows); row_budget: most rows of one step (longer appends are cut); speech_batch: most speech items of
    one batch; max_load: share of the thread's time that sessions may fill by their measured cost before
    another one is refused (None: places alone count). Memory: 2 * layers * (slots + 1) * slot_len *
    kv_heads * head_dim elements. Raises InputError for sizes that do not fit.
    """

    def __init__(
        self,
        backbone: Backbone,
        speech: SpeechModel | None = None,
        *,
        slots: int = 4,
        contexts: int | None = None,
        slot_len: int | None = None,
        branch_reserve: int = 0,
        row_budget: int = 512,
        speech_batch: int = 32,
        max_load: float | None = None,
    ) -> None:
        slot_len = slot_len or min(2048, backbone.max_positions)
        if slot_len > backbone.max_positions:
            raise InputError(f"slot_len {slot_len} is more than the backbone's {backbone.max_positions} positions")
        if row_budget < 1 or speech_batch < 1:
            raise InputError(f"row_budget and speech_batch must be at least 1, got {row_budget} and {speech_batch}")
        if contexts is not None and contexts < slots:
            raise InputError(f"contexts must be at least the {slots} slots, got {contexts}")
        if max_load is not None and not 0 < max_load <= 1:
            raise InputError(f"max_load must be above 0 and at most 1, got {max_load}")
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
        self.admission = Admission(contexts or slots, branch_reserve)
        self._outbox = Outbox()
        self._counters = Counters()
        self._pace, self._max_load = Pace(), max_load
        self._residency = Residency(slab, self.admission)
        self._graphs = StepGraphs(backbone, slab, CudaCapture(backbone.device)) if takes_triton(slab.keys) else None
        replay = None if self._graphs is None else self._graphs.run
        self._lanes = Lanes(backbone, slab, self._residency, self._outbox, self._counters, row_budget, self._pace, replay)
        self._model = speech
        self._speech = SpeechQueue(speech, self._outbox, self._counters, speech_batch, self._pace)
        self._inbox: SimpleQueue[Job | SpeechJob | WarmUp | None] = SimpleQueue()
        self._door = threading.Lock()
        self._closed_because: str | None = None
        self._thread = threading.Thread(target=self._serve, name="textpro-engine", daemon=True)
        self._thread.start()

    def open_context(self) -> Context:
        """A new, empty context; close it when its session ends. Raises CapacityError, at once whatever the
        engine is at, when all places are held or by the measured load no time is left for another."""
        self.check_load()
        return self._residency.open()

    def check_load(self) -> None:
        """Raise CapacityError, as `open_context` would, when no time is left for another session."""
        self._check_open()
        self.admission.check_load(self._capacity())

    def close_context(self, context: Context) -> None:
        """End a context; what is still queued on it fails. Its slot can be opened again at once. Twice
        does no harm."""
        self._residency.close_soon(context)
        self._inbox.put(None)

    @overload
    async def run(self, item: Append) -> Appended: ...
    @overload
    async def run(self, item: Truncate | Replay | Evict) -> Changed: ...
    @overload
    async def run(self, item: Fork) -> Forked: ...
    @overload
    async def run(self, item: SpeechItem, urgency: Urgency = PARTIAL) -> SpeechDone: ...

    async def run(self, item: Work, urgency: Urgency = PARTIAL) -> Answer:
        """Do a piece of work and return its answer. `urgency` orders speech work among its like.

        Raises InputError (bad item), CapacityError (no room or slot) or EngineError (closed, or the model
        failed). If the waiting task is cancelled, an item that has not begun is dropped and one that has
        begun is completed.
        """
        if isinstance(item, Decode):
            raise InputError("a Decode is streamed: use `async for token in engine.stream(item)`")
        reply = Reply()
        if isinstance(item, ContextWork):
            self._submit(Job(item, reply))
        elif not self._speech.can_run:
            raise InputError(f"{type(item).__name__} needs a speech model, and this engine was opened without one")
        else:
            self._submit(SpeechJob(item, reply, urgency))
        return await reply.wait()

    async def warm_up(self, progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Record the steps and the recognizer's passes of common sizes as CUDA graphs, before the first session comes: it takes
        seconds. `progress` is called on this loop with how many are done, and of how many, of the steps and then of the
        passes. Without a GPU there is nothing to do. Raises EngineError when the engine is closed meanwhile."""
        if self._recorded:
            reply = Reply()
            self._submit(WarmUp(reply, progress))
            await reply.wait()

    def stream(self, item: Decode) -> TokenStream:
        """Start decoding, from within a running event loop; the tokens come from the returned iterator."""
        channel = TokenChannel()
        self._submit(Job(item, channel))
        return TokenStream(channel)

    @property
    def tick_ms(self) -> int:
        """How far apart the ticks of live sessions are to be now: more than a block under load."""
        return self._pace.tick_ms

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
            queued=self._inbox.qsize() + self._lanes.waiting + self._speech.waiting,
            slots=self.admission.slots,
            slots_taken=self.admission.taken,
            refused=self.admission.refused,
            evicted=self._residency.evicted,
            tick_ms=self.tick_ms,
            stretched_s=self._pace.stretched_s,
            capacity=self._capacity(),
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

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()

    @property
    def _recorded(self) -> list[Recorded]:
        """What warming up records."""
        return [one for one in (self._graphs, self._model) if isinstance(one, Recorded)]

    def _capacity(self) -> int | None:
        """Sessions that the measured costs leave room for."""
        return None if self._max_load is None else self._pace.capacity(self._max_load)

    def _check_open(self) -> None:
        if self._closed_because is not None:
            raise EngineError(self._closed_because)

    def _submit(self, job: Job | SpeechJob | WarmUp) -> None:
        with self._door:  # so that nothing enters the queue after the thread has emptied it for the last time
            self._check_open()
            self._inbox.put(job)

    def _serve(self) -> None:
        """The engine's thread."""
        try:
            with torch.inference_mode():
                while self._closed_because is None:
                    self._receive()
                    started = now()
                    final = self._speech.round()
                    self._outbox.flush()
                    if final:
                        self._receive(FOLLOW_UP_S)
                    self._lanes.round(pause_s=LONGEST_PAUSE_S if self._speech.final_waiting else 0.0)
                    self._outbox.flush()
                    self._pace.worked(started, now())
        except BaseException as fault:
            with self._door:
                self._closed_because = f"engine stopped by {type(fault).__name__}: {fault}; open a new engine"
            raise
        finally:
            self._fail_outstanding(EngineError(self._closed_because or "engine stopped"))

    def _receive(self, wait_s: float = 0.0) -> None:
        """Take in what has arrived. Wait for something for `wait_s`; for ever, if there is nothing else to do."""
        must_wait = not self._lanes.waiting and not self._speech.waiting and not wait_s
        try:
            self._accept(self._inbox.get(block=must_wait or wait_s > 0, timeout=None if must_wait else wait_s))
            while True:
                self._accept(self._inbox.get_nowait())
        except Empty:
            return

    def _fail_outstanding(self, error: EngineError) -> None:
        try:
            while not self._inbox.empty():
                self._accept(self._inbox.get())
        finally:
            self._lanes.fail_all(error)
            self._speech.fail_all(error)
            self._outbox.flush()

    def _accept(self, job: Job | SpeechJob | WarmUp | None) -> None:
        """Queue a job where it belongs; None only wakes the thread."""
        match job:
            case SpeechJob():
                self._speech.submit(job)
            case Job():
                self._lanes.submit(job)
            case WarmUp():
                self._warm_up(job)

    def _warm_up(self, job: WarmUp) -> None:
        """Nothing else is done meanwhile; closing the engine ends it."""
        receiver, steps = job.receiver, chain.from_iterable(recorded.record() for recorded in self._recorded)
        while self._closed_because is None and (found := next(steps, None)) is not None:
            self._outbox.post(receiver.loop, partial(job.progress, *found))
            self._outbox.flush()
        closed = self._closed_because
        self._outbox.post(receiver.loop, partial(receiver.fail, EngineError(closed)) if closed else partial(receiver.give, None))
