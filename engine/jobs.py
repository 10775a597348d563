"""Work items on their way through the engine: who waits for each, how far it is, and which share of the
next step it gets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..models.errors import EngineError, TextProError
from .delivery import Receiver
from .stats import now
from .work import PARTIAL, ContextWork, Decode, SpeechItem, Urgency

SAMPLE_RATE = 16_000


class Job:
    """Work on a context. `start_length`: where the log ended when an append began, to go back to if it
    fails. `slotless_since`: when it first found no slot."""

    def __init__(self, item: ContextWork, receiver: Receiver) -> None:
        self.item = item
        self.receiver = receiver
        self.kind = type(item).__name__.lower()
        self.begun = False
        self.ended = False
        self.stopped = False
        self.start_length: int | None = None
        self.produced = 0
        self.seconds = 0.0
        self.last_served = 0
        self.slotless_since: float | None = None

    @property
    def is_unwanted(self) -> bool:
        """Nobody waits for it any more. What has begun to change the log is completed all the same, but
        for a decode."""
        return self.stopped or (self.receiver.cancelled and (isinstance(self.item, Decode) or not self.begun))


class SpeechJob:
    """Work for the speech model. `due_s` is when its audio had come, on the engine's clock."""

    def __init__(self, item: SpeechItem, receiver: Receiver, urgency: Urgency = PARTIAL) -> None:
        self.item = item
        self.receiver = receiver
        self.urgency = urgency
        self.kind = type(item).__name__.lower()
        self.asked_s = now()
        self.due_s = self.asked_s - urgency.late_samples / SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class WarmUp:
    """Recording of what will be replayed; `progress(done, total)` is called on the loop of the receiver."""

    receiver: Receiver
    progress: Callable[[int, int], None]


def share_rows(jobs: Sequence[Job], budget: int) -> list[tuple[Job, int]]:
    """How many rows of the next step each job gets: no job gets more while another with unmet needs gets
    less, and a job left out for lack of budget is first in line next time."""
    chosen = sorted(jobs, key=lambda job: job.last_served)[:budget]
    shares = []
    for left, job in zip(range(len(chosen), 0, -1), sorted(chosen, key=lambda job: job.item.context.pending), strict=True):
        rows = min(job.item.context.pending, budget // left)
        shares.append((job, rows))
        budget -= rows
    return shares


def as_engine_error(what: str, error: Exception) -> TextProError:
    """The error itself if it is one of ours, else an EngineError that names it and has it as its cause."""
    if isinstance(error, TextProError):
        return error
    wrapped = EngineError(f"{what}: {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped
