"""The work of the speech model. In each round the oldest items, at most one of each stream, go to it as
one batch, so that sessions share its passes and the items of a turn keep their order."""

from __future__ import annotations

from collections import deque
from functools import partial

from ..models.errors import EngineError
from .delivery import Outbox
from .jobs import SpeechJob, as_engine_error
from .stats import Counters, now
from .work import SpeechDone, SpeechModel


class SpeechQueue:
    """Items that wait for the speech model, in order of arrival."""

    def __init__(
        self, model: SpeechModel | None, outbox: Outbox, counters: Counters, batch_size: int
    ) -> None:
        self._model = model
        self._outbox = outbox
        self._counters = counters
        self._batch_size = batch_size
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

    def round(self) -> None:
        """Run one batch and post its results."""
        self._running = self._take_batch()
        if not self._running or self._model is None:
            return
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
        self._running = []

    def fail_all(self, error: Exception) -> None:
        """Fail whatever is queued or running."""
        for job in (*self._running, *self._queue):
            self._outbox.post(job.receiver.loop, partial(job.receiver.fail, error))
        self._running = []
        self._queue.clear()

    def _take_batch(self) -> list[SpeechJob]:
        batch: list[SpeechJob] = []
        later: deque[SpeechJob] = deque()
        streams: set[int] = set()
        for job in self._queue:
            if job.receiver.cancelled:
                self._outbox.post(job.receiver.loop, job.receiver.end)
                continue
            fits = id(job.item.stream) not in streams and len(batch) < self._batch_size
            (batch if fits else later).append(job)
            streams.add(id(job.item.stream))
        self._queue = later
        return batch
