"""How good is streaming? Every figure from traces alone, so that made-up ones test it and all designs are measured alike.

A word counts as said in the end when it stands in the end text; its lag runs from the end of its sound, by the
synthesizer's own word times, to the step since which it has stood among the committed words. Words that were misheard have
no such time and are left out of the lags; the word error rates count them. Churn and retraction rates follow Baumann et
al. (2009) and Shangguan et al. (2020).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np

from ..streaming.clock import SAMPLE_RATE, SAMPLES_PER_MS
from .recognition import word_errors
from .statistics import Ratio, bootstrap_ratio
from .streaming_trace import Kind, Pace, Spoken, Step, Trace, Turn, turns_of

RECOGNITION = ("encode", "verify", "extend", "transcribe", "decode")
"""Stages that find words; prosody, the detector and the language model's cache are others."""


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle and the 95th percentile of some milliseconds; None where there are none."""

    p50: float | None
    p95: float | None
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Percentiles by linear interpolation."""
        if not values:
            return cls(None, None, 0)
        middle, high = np.percentile(values, [50, 95])
        return cls(float(middle), float(high), len(values))


@dataclass(frozen=True, slots=True)
class Lags:
    """Milliseconds under one of the two clocks: from the end of a turn's first word to the first guess that holds it, from
    the end of each word to its commit, and from a soft end to the result of its final pass."""

    first_partial: Spread
    commit: Spread
    final_pass: Spread


@dataclass(frozen=True, slots=True)
class Cosines:
    """The middle and the 5th percentile of the cosines of vectors that were kept as committed with their offline ones."""

    p50: float
    p5: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Cosines | None:
        """Percentiles by linear interpolation; None where nothing was kept."""
        if not values:
            return None
        low, middle = np.percentile(values, [5, 50])
        return cls(float(middle), float(low), len(values))


@dataclass(frozen=True, slots=True)
class Measures:
    """All figures of one design on one set of utterances. Shares are ratios of sums with bootstrap intervals over
    utterances; None where the design has no such thing. `compute` is all of it over the length of the audio,
    `recognition` what finding the words takes of that."""

    lags: dict[Pace, Lags]
    end_text: Ratio
    offline: Ratio
    end_equals_offline: Ratio
    commits_alone: Ratio
    committed_before_end: Ratio
    retracted_tokens: Ratio
    of_them_by_resume: Ratio
    turns_with_retraction: Ratio
    churn: Ratio
    compute: Ratio
    recognition: Ratio
    vectors_final: Ratio | None
    cache_kept: Ratio | None
    cache_ready: Ratio | None
    skipped_ticks: int
    late_ticks: int
    drift: Cosines | None = None


def measure(
    spoken: Sequence[Spoken],
    unaware: Sequence[Trace],
    aware: Sequence[Trace],
    offline: Sequence[tuple[tuple[str, ...], ...]],
    seed: int,
) -> Measures:
    """Traces of the same utterances without and with compute on the clock; `offline` are the words of each of the unaware
    run's turns, decoded at once. Lags and the rates that lateness changes come from the run of their clock, everything else
    from the unaware one."""

    def ratio(counts: Iterable[tuple[float, float]]) -> Ratio:
        return bootstrap_ratio(list(counts), seed)

    def over_turns(count: tuple[str, str]) -> Ratio | None:
        part, whole = count
        pairs = [
            (sum(getattr(use, part) for use in turn.cache), sum(getattr(use, whole) for use in turn.cache))
            for turn in turns_of(unaware)
            if turn.cache
        ]
        return ratio(pairs) if pairs else None

    pairs = list(zip(spoken, unaware, strict=True))
    offline_words = [tuple(word for turn in turns for word in turn) for turns in offline]
    vectors = [(turn.final_vectors, turn.vectors) for turn in turns_of(unaware) if turn.vectors]
    steps = [(trace, [step for turn in trace.turns for step in turn.steps]) for trace in unaware]
    return Measures(
        lags={pace: lags(spoken, traces, pace) for pace, traces in ((Pace.UNAWARE, unaware), (Pace.AWARE, aware))},
        end_text=ratio(word_errors(_joined(one.words), _joined(trace.words)) for one, trace in pairs),
        offline=ratio(word_errors(_joined(one.words), _joined(words)) for one, words in zip(spoken, offline_words, strict=True)),
        end_equals_offline=ratio((turn.words == words, 1) for turn, words in _with_offline(unaware, offline)),
        commits_alone=ratio(prefix_errors(one.words, commits_alone(trace)) for one, trace in pairs),
        committed_before_end=ratio((len(turn.commits_alone), len(turn.words)) for turn in turns_of(unaware)),
        retracted_tokens=ratio(
            (sum(step.retracted_tokens for step in said), sum(step.added_tokens for step in said)) for _, said in steps
        ),
        of_them_by_resume=ratio(
            (
                sum(step.retracted_tokens for step in said if step.kind is Kind.RESUME),
                sum(step.added_tokens for step in said),
            )
            for _, said in steps
        ),
        turns_with_retraction=ratio((any(map(_takes_back, turn.steps)), 1) for turn in turns_of(unaware)),
        churn=ratio(churn(turn) for turn in turns_of(unaware)),
        compute=ratio((sum(trace.seconds.values()), trace.audio_samples / SAMPLE_RATE) for trace in unaware),
        recognition=ratio(
            (sum(trace.seconds.get(stage, 0.0) for stage in RECOGNITION), trace.audio_samples / SAMPLE_RATE) for trace in unaware
        ),
        vectors_final=ratio(vectors) if vectors else None,
        cache_kept=over_turns(("kept", "held")),
        cache_ready=over_turns(("kept", "needed")),
        skipped_ticks=sum(trace.skipped for trace in aware),
        late_ticks=sum(trace.late for trace in unaware),
        drift=Cosines.of([cosine for turn in turns_of(unaware) for cosine in turn.drift]),
    )


def lags(spoken: Sequence[Spoken], traces: Sequence[Trace], pace: Pace) -> Lags:
    """See `Lags`."""
    first: list[float] = []
    commit: list[float] = []
    final: list[float] = []
    for one, trace in zip(spoken, traces, strict=True):
        ends = heard_ends(one, trace)
        at = 0
        for turn in trace.turns:
            for index in range(len(turn.words)):
                end = ends.get(at + index)
                if end is None:
                    continue
                commit.append((committed_at(turn, index, pace) - end) / SAMPLES_PER_MS)
                if index == 0 and (guessed := first_guess(turn, pace)) is not None:
                    first.append((guessed - end) / SAMPLES_PER_MS)
            at += len(turn.words)
            for step in turn.steps:
                if step.kind is Kind.FINAL:
                    final.append((step.at(pace) - step.heard_samples) / SAMPLES_PER_MS)
    return Lags(Spread.of(first), Spread.of(commit), Spread.of(final))


def heard_ends(spoken: Spoken, trace: Trace) -> dict[int, int]:
    """Where the sound of each rightly recognized word of the end text ended, by its index."""
    matcher = SequenceMatcher(None, spoken.words, trace.words, autojunk=False)
    return {
        block.b + offset: spoken.ends[block.a + offset] for block in matcher.get_matching_blocks() for offset in range(block.size)
    }


def committed_at(turn: Turn, index: int, pace: Pace) -> int:
    """When the words up to `index` were committed for good, in samples since the audio began."""
    wanted, since = turn.words[: index + 1], None
    for step in turn.steps:
        if step.committed[: index + 1] != wanted:
            since = None
        elif since is None:
            since = step.at(pace)
    if since is None:
        raise ValueError(f"word {index} was never committed: the last step holds {turn.words}")
    return since


def first_guess(turn: Turn, pace: Pace) -> int | None:
    """When the first word of the end was first shown as the first word, guessed or committed."""
    for step in turn.steps:
        shown = (*step.committed, *step.tentative)
        if shown and shown[0] == turn.words[0]:
            return step.at(pace)
    return None


def churn(turn: Turn) -> tuple[int, int]:
    """Words that were shown and did not stay in their place until the next step, and the words of the end."""
    unstable = 0
    before: tuple[str, ...] = ()
    for step in turn.steps:
        shown = (*step.committed, *step.tentative)
        same = 0
        while same < min(len(before), len(shown)) and before[same] == shown[same]:
            same += 1
        unstable += len(before) - same
        before = shown
    return unstable, len(turn.words)


def commits_alone(trace: Trace) -> tuple[str, ...]:
    """What was committed without the final passes: of turns behind one another all words but the last turn's."""
    return tuple(
        word
        for index, turn in enumerate(trace.turns)
        for word in (turn.commits_alone if index + 1 == len(trace.turns) else turn.words)
    )


def prefix_errors(reference: Sequence[str], words: Sequence[str]) -> tuple[int, int]:
    """Word errors of `words` against the beginning of the reference that suits them best, and the words of that: what has
    not been committed yet is no error. Of equal beginnings the longest counts."""
    costs = list(range(len(reference) + 1))
    for row, word in enumerate(words, start=1):
        above, costs[0] = costs[0], row
        for column, wanted in enumerate(reference, start=1):
            best = min(above + (word != wanted), costs[column] + 1, costs[column - 1] + 1)
            above, costs[column] = costs[column], best
    errors = min(costs)
    return errors, max(column for column, cost in enumerate(costs) if cost == errors)


def _with_offline(
    traces: Sequence[Trace], offline: Sequence[tuple[tuple[str, ...], ...]]
) -> Iterable[tuple[Turn, tuple[str, ...]]]:
    for trace, turns in zip(traces, offline, strict=True):
        yield from zip(trace.turns, turns, strict=True)


def _takes_back(step: Step) -> bool:
    return step.retracted_tokens > 0 and step.kind is not Kind.RESUME


def _joined(words: Sequence[str]) -> str:
    return " ".join(words)
