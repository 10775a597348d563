"""What can be asked of the engine, and what it answers. Work on one context is done in the order in which
it was asked for; work on different contexts is mixed into common steps. Every answer carries `seconds`,
the engine's time for it: a step's time is shared out among its items by their rows, so the sum over all
answers is the time the engine was busy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from .context import Context, Entry
from .sampler import GREEDY, Sampling


@dataclass(frozen=True, slots=True)
class Append:
    """Add entries to the context and run them. `probe`: token ids whose probability as the next token is
    wanted, for example the end-of-turn token; with no entries, the probe is of the context as it stands.
    All entries or none: after an error the log is as it was."""

    context: Context
    entries: tuple[Entry, ...]
    probe: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Decode:
    """Sample up to `max_tokens` tokens, each appended to the log as it is sampled and delivered; one of
    `stop_ids` ends the stream and is itself delivered and in the log. A speculative reply is a Decode past
    the committed mark."""

    context: Context
    max_tokens: int
    sampling: Sampling = GREEDY
    stop_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Truncate:
    """Forget the log from `position` on. A decode that was asked for earlier on this context is ended by
    it."""

    context: Context
    position: int


@dataclass(frozen=True, slots=True)
class Replay:
    """Compute keys and values again from the log, from `from_position` on; resumes an evicted context."""

    context: Context
    from_position: int = 0


@dataclass(frozen=True, slots=True)
class Fork:
    """A second context with the same log and cache, in a slot of its own."""

    context: Context


@dataclass(frozen=True, slots=True)
class Evict:
    """Give the slot to others and keep the log; the next work on the context takes a slot again and
    replays."""

    context: Context


ContextWork = Append | Decode | Truncate | Replay | Fork | Evict


@dataclass(frozen=True, slots=True)
class Appended:
    """`length` of the log and the wanted probabilities of the next token."""

    length: int
    probabilities: Mapping[int, float]
    seconds: float


@dataclass(frozen=True, slots=True)
class Changed:
    """Answer to Truncate, Replay and Evict: `length` of the log."""

    length: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Forked:
    """Answer to Fork: the new context, which its owner must close."""

    context: Context
    seconds: float


@dataclass(frozen=True, slots=True)
class Token:
    """One sampled token, already in the log at `position`; `index` counts from the start of the decode.
    `logprob` is in the model's own distribution. `finish` is set on the last token: a stop id came, or
    `max_tokens` was reached."""

    id: int
    logprob: float
    index: int
    position: int
    seconds: float
    finish: Literal["stop", "length"] | None


@dataclass(frozen=True, slots=True)
class Urgency:
    """How soon speech work is wanted. `final`: a turn waits for it, so it goes before what is partial. Among equals that goes
    first whose audio is the oldest: it came `late_samples` before the newest. `audio_samples` of new audio it is work on, for
    the engine's measurement of what a second of speech costs."""

    final: bool = False
    late_samples: int = 0
    audio_samples: int = 0


PARTIAL = Urgency()


@dataclass(frozen=True, slots=True)
class SpeechDone:
    """What the speech model returned for an item."""

    value: object
    seconds: float


class SpeechItem(Protocol):
    """Work for the speech model (Encode, Verify, Extend, Prosody). `stream` is the state of one turn's
    recognition: at most one item of a stream is in a batch, so the items of a turn are done in order."""

    @property
    def stream(self) -> object: ...


class SpeechModel(Protocol):
    """Runs a batch of items of different streams on the engine's thread.

    Returns one result for each, in order; an Exception in place of a result fails that item alone.
    """

    def run(self, items: Sequence[SpeechItem]) -> Sequence[object]: ...


@runtime_checkable
class Recorded(Protocol):
    """Runs faster once its common shapes are recorded. `record` does that and gives how many are done, and of how many, after
    each; of none where there is nothing to gain."""

    def record(self) -> Iterator[tuple[int, int]]: ...


Work = ContextWork | SpeechItem
Answer = Appended | Changed | Forked | SpeechDone
