"""What a streaming recognizer said, step by step, on two clocks: plain values that every measure is computed from.

`heard_samples` is the audio that had arrived when a step began, as if compute cost nothing (compute-unaware);
`done_samples` is when its result was there, on a virtual clock that the measured compute of each step moves on
(compute-aware). The project's recognizer and the baselines give the same values, so they are measured alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from ..streaming.clock import SAMPLE_RATE


class Pace(Enum):
    """Which of the two times counts."""

    UNAWARE = "compute-unaware"
    AWARE = "compute-aware"


class Kind(Enum):
    """What a step was."""

    TICK = "tick"
    FINAL = "final pass"
    RESUME = "resume"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a turn and what stood after it: words that will stay, words that are guessed behind them; how many
    tokens it added to the first and took back of them."""

    kind: Kind
    heard_samples: int
    done_samples: int
    committed: tuple[str, ...]
    tentative: tuple[str, ...]
    added_tokens: int = 0
    retracted_tokens: int = 0

    def at(self, pace: Pace) -> int:
        """When it was said, in samples since the audio began."""
        return self.done_samples if pace is Pace.AWARE else self.heard_samples


@dataclass(frozen=True, slots=True)
class CacheUse:
    """Rows of the turn in the language model's cache at a soft end: `held` before the final pass, `kept` of them after it,
    `needed` for the whole turn."""

    held: int
    kept: int
    needed: int


@dataclass(frozen=True, slots=True)
class Part:
    """Samples of the audio that are decoded at once behind the tokens of a prompt; the first `n_tokens` count, None: all.
    A turn longer than the recognizer's window has several, by the session's own cuts."""

    start_samples: int
    end_samples: int
    prompt: tuple[int, ...] = ()
    n_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn: the samples that its last final pass heard, its steps in order, and what was counted on the way.
    `vectors` were given out with commits of ticks, and `final_vectors` of them are those of the end. `drift`: of each vector
    that the final pass kept as it was committed, the cosine with the offline one."""

    start_samples: int
    end_samples: int
    steps: tuple[Step, ...]
    cache: tuple[CacheUse, ...] = ()
    vectors: int = 0
    final_vectors: int = 0
    parts: tuple[Part, ...] = ()
    drift: tuple[float, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """The words of the end."""
        return self.steps[-1].committed if self.steps else ()

    @property
    def commits_alone(self) -> tuple[str, ...]:
        """What was committed when the last final pass began."""
        last = max((index for index, step in enumerate(self.steps) if step.kind is Kind.FINAL), default=None)
        if last is None:
            return self.words
        return self.steps[last - 1].committed if last else ()


@dataclass(frozen=True, slots=True)
class Activity:
    """A decision of the speech detector about the 32 ms that end at `end_samples`."""

    end_samples: int
    probability: float
    speaking: bool


@dataclass(frozen=True, slots=True)
class EndGuess:
    """The language model's probability that the turn ends after what was committed."""

    heard_samples: int
    probability: float


@dataclass(frozen=True, slots=True)
class Trace:
    """What became of one utterance. `seconds` of compute by stage; `skipped` ticks were left out since the device was
    behind; without compute on the clock, `late` ones would have been."""

    audio_samples: int
    turns: tuple[Turn, ...]
    seconds: dict[str, float]
    skipped: int = 0
    late: int = 0
    activity: tuple[Activity, ...] = ()
    end_guesses: tuple[EndGuess, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """The words of all turns."""
        return tuple(word for turn in self.turns for word in turn.words)

    @property
    def heard_seconds(self) -> float:
        """Audio inside of turns."""
        return sum(turn.end_samples - turn.start_samples for turn in self.turns) / SAMPLE_RATE


@dataclass(frozen=True, slots=True, eq=False)
class Spoken:
    """An utterance: float32 samples [n] at 16 kHz, and its words with the sample behind each; `kind` names what it is
    for."""

    samples: NDArray[np.float32]
    words: tuple[str, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    kind: str = "sentence"


@dataclass(slots=True)
class DeviceClock:
    """The virtual time of one device that does a piece of work at a time."""

    free_samples: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def work(self, now_samples: int, costs: dict[str, float]) -> int:
        """Do work of `costs` seconds by stage that is asked for at `now_samples`; returns when it is done."""
        for stage, cost in costs.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + cost
        begin = max(now_samples, self.free_samples)
        self.free_samples = begin + round(sum(costs.values()) * SAMPLE_RATE)
        return self.free_samples


def turns_of(traces: Sequence[Trace]) -> list[Turn]:
    """All turns."""
    return [turn for trace in traces for turn in trace.turns]
