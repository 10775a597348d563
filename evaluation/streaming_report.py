"""The result of the streaming bench: tables for people with what the project promises beside them, JSON values, and one
line of CSV for each word."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from ..streaming.clock import SAMPLES_PER_MS
from .report import Aim, aim_values, aims_table
from .statistics import Ratio
from .streaming_measures import Cosines, Lags, Measures, Spread, committed_at, heard_ends
from .streaming_noise import NoiseResult, noise_table, noise_values
from .streaming_trace import Pace, Spoken, Trace

WORD_ENDS = (
    "Lags run from the end of a word's sound by espeak-ng's own word times. In each pair the first figure leaves compute out, "
    "the second counts it: the device does one thing at a time, and a tick that would wait for more than a block is left out."
)


@dataclass(frozen=True, slots=True)
class DesignResult:
    """A column of the table; `long` are the long turns by themselves."""

    name: str
    measures: Measures
    long: Measures | None


@dataclass(frozen=True, slots=True)
class WordRow:
    """A word that was recognized rightly, and its lags."""

    design: str
    utterance: int
    kind: str
    word: str
    end_ms: int
    lag_unaware_ms: int
    lag_aware_ms: int | None

    @classmethod
    def of(cls, design: str, spoken: Sequence[Spoken], unaware: Sequence[Trace], aware: Sequence[Trace]) -> Iterator[WordRow]:
        """The rows of a design; a word that only one of the runs has got right lacks a lag, or is missing."""
        for number, (one, first, second) in enumerate(zip(spoken, unaware, aware, strict=True)):
            slow = _commits(one, second, Pace.AWARE)
            for end, (word, said) in _commits(one, first, Pace.UNAWARE).items():
                late = slow.get(end)
                yield cls(
                    design,
                    number,
                    one.kind,
                    word,
                    end // SAMPLES_PER_MS,
                    (said - end) // SAMPLES_PER_MS,
                    None if late is None else (late[1] - end) // SAMPLES_PER_MS,
                )


@dataclass(frozen=True, slots=True)
class Report:
    """What `bench_streaming` measured. The first result is the project's own way, the last one the baseline; `timeline` is
    an SVG document."""

    model: str
    size: str
    seed: int
    seconds: float
    results: tuple[DesignResult, ...]
    noises: tuple[NoiseResult, ...]
    words: tuple[WordRow, ...]
    timeline: str

    @property
    def aims(self) -> tuple[Aim, ...]:
        """The promised figures, of the first design."""
        own, other = self.results[0].measures, self.results[-1].measures
        aware, theirs = own.lags[Pace.AWARE].commit, other.lags[Pace.AWARE].commit
        retracted = _less(own.retracted_tokens.value, own.of_them_by_resume.value)
        final = None if own.vectors_final is None else own.vectors_final.value
        return (
            Aim("turns whose end text is the offline one", own.end_equals_offline.value, at_least=1.0),
            Aim("end-text WER minus offline WER", _apart(own.end_text.value, own.offline.value), at_most=0.0),
            Aim("WER of commits alone minus offline WER", _less(own.commits_alone.value, own.offline.value), at_most=0.01),
            Aim("retracted tokens, but for those of resumed soft ends", retracted, at_most=0.01),
            Aim("commit lag p50", aware.p50, at_most=700, unit="ms"),
            Aim("commit lag p95", aware.p95, at_most=1300, unit="ms"),
            Aim("vectors final at commit", final, at_least=0.99),
            Aim("tokens on noise", float(sum(noise.tokens for noise in self.noises)), at_most=0, unit=""),
            Aim("commit lag p50 before LocalAgreement-2's", _less(theirs.p50, aware.p50), at_least=0, unit="ms"),
            Aim("recognition compute saved, of the audio's length", _less(other.recognition.value, own.recognition.value), 0),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON values; ratios with their 95 % intervals and counts, lags in milliseconds."""
        return {
            "model": self.model,
            "size": self.size,
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "aims": [aim_values(aim) for aim in self.aims],
            "designs": {
                one.name: {
                    "all": measures_to_dict(one.measures),
                    "long": None if one.long is None else measures_to_dict(one.long),
                }
                for one in self.results
            },
            "noise": [noise_values(one) for one in self.noises],
        }

    def tables(self) -> RenderableType:
        """For a terminal."""
        return Group(*self._tables())

    def write_csv(self, file: Path) -> None:
        """One line for each rightly recognized word of each design."""
        with file.open("w", newline="", encoding="utf-8") as out:
            writer = csv.writer(out)
            writer.writerow([field.name for field in fields(WordRow)])
            writer.writerows(astuple(row) for row in self.words)

    def _tables(self) -> Iterator[RenderableType]:
        table = _table("Streaming", "", *(one.name for one in self.results))
        for name, show in ROWS:
            table.add_row(name, *(show(one.measures) for one in self.results))
        if any(one.long is not None for one in self.results):
            for name, show in LONG_ROWS:
                table.add_row(f"long turns: {name}", *(show(one.long) if one.long else "" for one in self.results))
        yield table
        yield WORD_ENDS
        yield noise_table(self.noises)
        yield aims_table(self.aims)
        yield f"{self.model}, size {self.size}, seed {self.seed}, {self.seconds:.0f} s."


def measures_to_dict(measures: Measures) -> dict[str, Any]:
    """JSON values."""
    values: dict[str, Any] = {}
    for field in fields(Measures):
        value = getattr(measures, field.name)
        if isinstance(value, Ratio):
            values[field.name] = value.to_dict()
        elif isinstance(value, Cosines):
            values[field.name] = asdict(value)
        elif field.name == "lags":
            values["lags_ms"] = {pace.value: asdict(lags) for pace, lags in measures.lags.items()}
        else:
            values[field.name] = value
    return values


Show = Callable[[Measures], str]


def _lag(of: Callable[[Lags], Spread]) -> Show:
    def show(measures: Measures) -> str:
        pairs = [of(measures.lags[pace]) for pace in (Pace.UNAWARE, Pace.AWARE)]
        return f"{_pair(pairs[0].p50, pairs[1].p50)}, p95 {_pair(pairs[0].p95, pairs[1].p95)}"

    return show


def _share(of: Callable[[Measures], Ratio | None], digits: int = 1) -> Show:
    def show(measures: Measures) -> str:
        ratio = of(measures)
        return "-" if ratio is None or ratio.value is None else f"{100 * ratio.value:.{digits}f} %"

    return show


def _number(of: Callable[[Measures], Ratio]) -> Show:
    def show(measures: Measures) -> str:
        value = of(measures).value
        return "-" if value is None else f"{value:.3f}"

    return show


ROWS: tuple[tuple[str, Show], ...] = (
    ("first partial, ms: p50", _lag(lambda lags: lags.first_partial)),
    ("commit lag, ms: p50", _lag(lambda lags: lags.commit)),
    ("final pass, ms: p50", _lag(lambda lags: lags.final_pass)),
    ("retracted tokens", _share(lambda one: one.retracted_tokens, 2)),
    ("  of all, when speech went on", _share(lambda one: one.of_them_by_resume, 2)),
    ("turns with a retraction", _share(lambda one: one.turns_with_retraction)),
    ("churn, words shown in vain per word", _number(lambda one: one.churn)),
    ("WER, end text", _share(lambda one: one.end_text, 2)),
    ("WER, offline", _share(lambda one: one.offline, 2)),
    ("turns equal to offline", _share(lambda one: one.end_equals_offline)),
    ("WER, commits alone (what is not committed yet is no error)", _share(lambda one: one.commits_alone, 2)),
    ("words committed before the final pass", _share(lambda one: one.committed_before_end)),
    ("vectors final at commit", _share(lambda one: one.vectors_final, 2)),
    ("vectors kept as committed, cosine with offline: p50, p5", lambda one: _cosines(one.drift)),
    ("cache rows kept at the soft end", _share(lambda one: one.cache_kept)),
    ("input rows ready at the soft end", _share(lambda one: one.cache_ready)),
    ("real-time factor, all stages", _number(lambda one: one.compute)),
    ("real-time factor, finding words", _number(lambda one: one.recognition)),
    ("ticks left out, compute counted", lambda one: str(one.skipped_ticks)),
)
LONG_ROWS = tuple(row for row in ROWS if row[0].startswith(("commit lag", "cache rows", "input rows", "real-time factor, all")))


def _commits(spoken: Spoken, trace: Trace, pace: Pace) -> dict[int, tuple[str, int]]:
    """Word and time of its commit by the sample in which its sound ends."""
    found, at, ends = dict[int, tuple[str, int]](), 0, heard_ends(spoken, trace)
    for turn in trace.turns:
        for index, word in enumerate(turn.words):
            if (end := ends.get(at + index)) is not None:
                found[end] = (word, committed_at(turn, index, pace))
        at += len(turn.words)
    return found


def _pair(unaware: float | None, aware: float | None) -> str:
    return "-" if unaware is None or aware is None else f"{unaware:.0f} / {aware:.0f}"


def _cosines(drift: Cosines | None) -> str:
    return "-" if drift is None else f"{drift.p50:.4f}, {drift.p5:.4f}"


def _less(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second


def _apart(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else abs(first - second)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", overflow="fold")
    return table
