"""The work on contexts. Each context has a lane, in which one item at a time is active; a round of the
engine begins what can begin, runs one packed step with a piece of every active item, and gives each item
whose rows are done its answer or its next token. Rows are shared fairly: small items are served whole and
long ones get what is left, in pieces. An item that finds no slot, because all contexts with slots are at
work, waits for one, and fails when none comes. A failing item fails alone: when a common step fails, its pieces are
run again one by one. All of it runs on the engine's thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from math import isfinite, isnan
from typing import Literal

import torch

from ..models.backbone import Backbone, upload
from ..models.errors import CapacityError, EngineError, InputError
from .context import Context, Entry
from .delivery import Outbox
from .jobs import Job, as_engine_error, share_rows
from .pace import Pace
from .residency import Residency
from .sampler import Draw, sample
from .slab import Slab
from .stats import Counters, now
from .step import Piece, Recorded, run_step
from .work import Answer, Append, Appended, Changed, Decode, Evict, Fork, Forked, Replay, Token, Truncate

SLOT_WAIT_S = 10.0
"""How long an item waits for a slot."""


class Lanes:
    """Everything between a submitted item and its answer."""

    def __init__(
        self,
        backbone: Backbone,
        slab: Slab,
        residency: Residency,
        outbox: Outbox,
        counters: Counters,
        row_budget: int,
        pace: Pace,
        replay: Recorded | None = None,
    ) -> None:
        self._backbone = backbone
        self._replay = replay
        self._slab = slab
        self._residency = residency
        residency.is_busy = self._is_busy
        self._outbox = outbox
        self._counters = counters
        self._row_budget = row_budget
        self._pace = pace
        self._lanes: dict[Context, deque[Job]] = {}
        self._decoded_s = 0.0  # when replies last went on

    @property
    def waiting(self) -> int:
        """Items submitted and not answered."""
        return sum(map(len, tuple(self._lanes.values())))

    def submit(self, job: Job) -> None:
        """Queue an item behind the others of its context. A Truncate ends the decodes before it."""
        lane = self._lanes.setdefault(job.item.context, deque())
        if isinstance(job.item, Truncate):
            for earlier in lane:
                earlier.stopped |= isinstance(earlier.item, Decode)
        lane.append(job)

    def round(self, pause_s: float = 0.0) -> None:
        """Begin, answer what needs no step, run one step, answer what it completed. Decodes that have given their first
        token are left out of the step for up to `pause_s`."""
        self._residency.release_closed()
        active = [job for context in tuple(self._lanes) if (job := self._begin_lane(context)) is not None]
        done = [job for job in active if job.item.context.pending == 0]
        self._answer(done, dict.fromkeys(done, 1), now())
        waiting = [job for job in active if self._needs_rows(job)]
        if now() - self._decoded_s < pause_s:
            waiting = [job for job in waiting if not job.produced]
        elif any(job.produced for job in waiting):
            self._decoded_s = now()
        if waiting:
            self._step(share_rows(waiting, self._row_budget), now())

    def fail_all(self, error: Exception) -> None:
        """Fail whatever is queued or running."""
        for lane in self._lanes.values():
            for job in lane:
                self._outbox.post(job.receiver.loop, partial(job.receiver.fail, error))
        self._lanes.clear()

    def _begin_lane(self, context: Context) -> Job | None:
        """The lane's active job after everything instantaneous before it is done; None when the lane has
        run empty."""
        lane = self._lanes[context]
        while lane:
            job = lane[0]
            if job.is_unwanted:
                self._finish(job, job.receiver.end)
            elif context.closed:
                self._fail(
                    job,
                    EngineError(f"the context was closed before this {job.kind} was done: open another one"),
                )
            elif job.begun:
                return job
            elif not self._has_slot(job):
                return None
            else:
                job.begun = True
                try:
                    self._begin(job, now())
                except Exception as error:  # a malformed item fails alone
                    self._fail(job, as_engine_error(f"this {job.kind} cannot be begun", error))
        del self._lanes[context]
        return None

    def _is_busy(self, context: Context) -> bool:
        return bool(self._lanes.get(context))

    def _has_slot(self, job: Job) -> bool:
        """Whether the item can begin as far as slots go; one that has waited too long can, and is refused then."""
        if isinstance(job.item, Truncate | Evict) or self._residency.has_slot(job.item.context):
            return True
        if job.slotless_since is None:
            job.slotless_since = now()
        return now() - job.slotless_since > SLOT_WAIT_S

    def _begin(self, job: Job, started: float) -> None:
        """Apply the item to its log. What needs no rows is answered at once; the rest is active from here
        on."""
        context = job.item.context
        match job.item:
            case Truncate(position=position):
                context.truncate(position)
                self._answer_at_once(job, started)
            case Evict():
                self._residency.vacate(context)
                self._answer_at_once(job, started)
            case Fork():
                branch = self._residency.fork(context)
                self._book({job: 1}, now() - started)
                self._give(job, Forked(branch, job.seconds))
            case Replay(from_position=position):
                self._residency.settle(context)
                context.replay(position)
                if context.pending == 0:
                    self._answer_at_once(job, started)
            case Append(entries=entries, probe=probe):
                self._backbone.check([*entries, *map(Entry, probe)])
                if not entries and context.length == 0:
                    raise InputError("an append without entries needs a context that holds some: there is no last row")
                self._residency.settle(context)
                job.start_length = context.length
                context.append(entries)
                context.want_logits()
            case Decode(max_tokens=max_tokens):
                if context.length == 0:
                    raise InputError("nothing to decode from: append at least one entry first")
                if max_tokens < 1:
                    raise InputError(f"max_tokens must be at least 1, got {max_tokens}")
                if context.room == 0:
                    raise CapacityError(f"the context is full ({context.length} entries): truncate it or begin a new one")
                self._residency.settle(context)
                context.want_logits()

    def _needs_rows(self, job: Job) -> bool:
        context = job.item.context
        return context.pending > 0 and not context.closed and not job.ended

    def _step(self, shares: Sequence[tuple[Job, int]], started: float) -> None:
        """Run one packed step; after a failure run its pieces alone, so that only the guilty one fails."""
        pieces = [Piece(job.item.context, rows) for job, rows in shares]
        self._counters.steps += 1
        try:
            run_step(self._backbone, self._slab, pieces, self._replay)
        except Exception as error:  # whatever a model raises ends this piece's session, not the engine
            if len(shares) == 1:
                self._fail(shares[0][0], as_engine_error("a step of the backbone failed", error))
                return
            for share in shares:
                self._step([share], now())
            return
        for job, rows in shares:
            job.last_served = self._counters.steps
            self._counters.rows += rows
        self._answer([job for job, _ in shares if job.item.context.pending == 0], dict(shares), started)

    def _answer(self, jobs: Sequence[Job], rows: dict[Job, int], started: float) -> None:
        """Give each of `jobs`, whose contexts have nothing pending, its answer or its next token; the time
        since `started` is shared out by `rows`, in which also jobs may stand that are not done yet."""
        draws = self._sample([job for job in jobs if isinstance(job.item, Decode)])
        probabilities = self._probe([job for job in jobs if isinstance(job.item, Append)])
        self._book(rows, now() - started)
        for job in jobs:
            match job.item:
                case Append(context=context):
                    if all(map(isfinite, probabilities[job].values())):
                        self._give(job, Appended(context.length, probabilities[job], job.seconds))
                    else:
                        self._fail(job, EngineError("the backbone's output is not finite after these entries"))
                case Replay(context=context):
                    self._give(job, Changed(context.length, job.seconds))
                case Decode() as decode:
                    self._give_token(job, decode, draws[job])

    def _sample(self, jobs: Sequence[Job]) -> dict[Job, Draw]:
        logits = [job.item.context.next_logits for job in jobs]
        if not jobs:
            return {}
        draws = sample(
            torch.stack([row for row in logits if row is not None]),
            [job.item.sampling for job in jobs if isinstance(job.item, Decode)],
            [job.item.context.length for job in jobs],
        )
        return dict(zip(jobs, draws, strict=True))

    def _probe(self, jobs: Sequence[Job]) -> dict[Job, dict[int, float]]:
        """The probabilities that each append asks for; a GPU is waited for once for all of them."""
        probed: dict[Job, dict[int, float]] = {job: {} for job in jobs}
        asked = [
            (job, job.item.probe, logits)
            for job in jobs
            if isinstance(job.item, Append) and job.item.probe and (logits := job.item.context.next_logits) is not None
        ]
        if not asked:
            return probed
        table = torch.stack([logits for _, _, logits in asked]).float().softmax(-1)  # [asked, vocab]
        places = [number * table.shape[1] + token for number, (_, probe, _) in enumerate(asked) for token in probe]
        found = iter(table.view(-1)[upload(places, table.device)].tolist())
        for job, probe, _ in asked:
            probed[job] = {token: next(found) for token in probe}
        return probed

    def _give_token(self, job: Job, decode: Decode, draw: Draw) -> None:
        """Append the token and deliver it; end the job after the last one."""
        context = decode.context
        if isnan(draw.logprob):
            self._fail(job, EngineError("the backbone's output is not finite: the reply cannot go on"))
            return
        try:
            context.append([Entry(draw.token_id, position=context.length)])
        except CapacityError as error:
            self._fail(job, error)
            return
        finish: Literal["stop", "length"] | None = None
        if draw.token_id in decode.stop_ids:
            finish = "stop"
        elif job.produced + 1 == decode.max_tokens:
            finish = "length"
        token = Token(draw.token_id, draw.logprob, job.produced, context.length - 1, job.seconds, finish)
        job.produced += 1
        job.seconds = 0.0
        self._outbox.post(job.receiver.loop, partial(job.receiver.give, token))
        if finish:
            self._finish(job, job.receiver.end)

    def _answer_at_once(self, job: Job, started: float) -> None:
        self._book({job: 1}, now() - started)
        self._give(job, Changed(job.item.context.length, job.seconds))

    def _book(self, rows: dict[Job, int], seconds: float) -> None:
        """Share out time by rows."""
        total = sum(rows.values())
        for job, count in rows.items():
            share = seconds * count / total
            job.seconds += share
            self._counters.seconds[job.kind] += share
            if isinstance(job.item, Decode):
                self._pace.wrote(share, job.item.context.pending == 0)

    def _give(self, job: Job, answer: Answer) -> None:
        self._finish(job, partial(job.receiver.give, answer))

    def _fail(self, job: Job, error: Exception) -> None:
        """End the job with an error; an append that had begun leaves the log as it was."""
        if job.start_length is not None:
            job.item.context.truncate(job.start_length)
        self._counters.failed += 1
        self._finish(job, partial(job.receiver.fail, error))

    def _finish(self, job: Job, deliver: Callable[[], None]) -> None:
        """Take the job off the head of its lane and deliver its end."""
        job.ended = True
        self._lanes[job.item.context].popleft()
        self._counters.items[job.kind] += 1
        self._outbox.post(job.receiver.loop, deliver)
