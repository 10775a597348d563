"""The work of the speech model. In each round the most urgent items, at most one of each stream, go to it as
one batch, so that sessions share its passes and the items of a turn keep their order. A batch is of one kind
of work, since kinds share no pass: so a final pass that comes meanwhile waits for one pass, not for a tick of
everybody. Final passes go first and alone, then whatever has waited for the longest that a tick may take, then
the work on the oldest audio: the deadline of a piece of work is when its audio had come."""

from __future__ import annotations

from collections import deque
from functools import partial

from ..models.errors import EngineError
from .delivery import Outbox
from .jobs import SpeechJob, as_engine_error
from .pace import LONGEST_TICK_MS, Pace
from .stats import Counters, now
from .work import SpeechDone, SpeechModel

LONGEST_WAIT_S = LONGEST_TICK_MS / 1000
"""Partial work that has waited so long waits for final passes no more."""


class SpeechQueue:
    """Items that wait for the speech model, in order of arrival."""

    def __init__(
        self, model: SpeechModel | None, outbox: Outbox, counters: Counters, batch_size: int, pace: Pace
    ) -> None:
        self._model = model
        self._outbox = outbox
        self._counters = counters
        self._batch_size = batch_size
        self._pace = pace
        self._queue: deque[SpeechJob] = deque()
        self._running: list[SpeechJob] = []

    @property
    def can_run(self) -> bool:
        """Whether there is a speech model at all."""
        return self._model is not None

    @property
    def waiting(self) -> int:
        """Items submitted and not answered."""
        return len(self._queue) + len(self._running)

    def submit(self, job: SpeechJob) -> None:
        """Queue an item behind all others."""
        self._queue.append(job)

    @property
    def final_waiting(self) -> bool:
        """Whether a turn waits for its final pass."""
        return any(job.urgency.final for job in self._queue)

    def round(self) -> bool:
        """Run one batch and post its results; whether a final pass was in it."""
        self._running = self._take_batch()
        if not self._running or self._model is None:
            return False
        started = now()
        try:
            results = list(self._model.run([job.item for job in self._running]))
            if len(results) != len(self._running):
                raise EngineError(
                    f"the speech model gave {len(results)} results for {len(self._running)} items"
                )
        except Exception as error:  # the model broke its contract: no item's state can be relied on
            results = [error] * len(self._running)
        seconds = (now() - started) / len(self._running)
        self._pace.spoke(now() - started, sum(job.urgency.audio_samples for job in self._running))
        self._counters.speech_batches += 1
        for job, result in zip(self._running, results, strict=True):
            self._counters.speech_items += 1
            self._counters.items[job.kind] += 1
            self._counters.seconds[job.kind] += seconds
            if isinstance(result, Exception):
                self._counters.failed += 1
                deliver = partial(job.receiver.fail, as_engine_error(f"{job.kind} failed", result))
            else:
                deliver = partial(job.receiver.give, SpeechDone(result, seconds))
            self._outbox.post(job.receiver.loop, deliver)
        final = any(job.urgency.final for job in self._running)
        self._running = []
        return final

    def fail_all(self, error: Exception) -> None:
        """Fail whatever is queued or running."""
        for job in (*self._running, *self._queue):
            self._outbox.post(job.receiver.loop, partial(job.receiver.fail, error))
        self._running = []
        self._queue.clear()

    def _take_batch(self) -> list[SpeechJob]:
        """The first item of each stream, the most urgent ones; partial work stays behind while a final pass waits."""
        firsts: dict[int, SpeechJob] = {}
        urgent: dict[int, tuple[bool, float]] = {}
        kept: deque[SpeechJob] = deque()
        patience = now() - LONGEST_WAIT_S
        for job in self._queue:
            if job.receiver.cancelled:
                self._outbox.post(job.receiver.loop, job.receiver.end)
                continue
            kept.append(job)
            stream = id(job.item.stream)
            firsts.setdefault(stream, job)
            key = (not (job.urgency.final or job.asked_s < patience), job.due_s)
            urgent[stream] = min(urgent.get(stream, key), key)
        order = sorted(firsts, key=urgent.__getitem__)  # stable: equals in order of arrival
        if order and not urgent[order[0]][0]:
            order = [stream for stream in order if not urgent[stream][0]]
        kind = firsts[order[0]].kind if order else None
        batch = [job for stream in order if (job := firsts[stream]).kind == kind][: self._batch_size]
        chosen = set(map(id, batch))
        self._queue = deque(job for job in kept if id(job) not in chosen)
        return batch
