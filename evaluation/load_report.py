"""What a load test found: figures at the callers' ears, what failed and why, as JSON values and as tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from .load_caller import Result, Turn

LATE_MS = 40.0
"""If this program was later than that with one piece of sound in a hundred, its figures are not the server's."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A connection that was refused, or lost before its caller had done."""

    connection: int
    status: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """`is_whole`: every caller said all it wanted to. `unfinished` turns were going on at the end; `late_ms` is by how much
    each piece of sound left this program too late."""

    url: str
    callers: int
    idle: int
    seconds: float
    is_whole: bool
    turns: tuple[Turn, ...]
    unfinished: int
    faults: tuple[Fault, ...]
    errors: dict[str, int]
    false_starts: int
    sent_s: float
    late_ms: tuple[float, ...] = field(repr=False)

    @property
    def answered(self) -> tuple[Turn, ...]:
        """Turns to which a reply came."""
        return tuple(turn for turn in self.turns if turn.result is Result.ANSWERED)

    @property
    def passed(self) -> bool:
        """Whether there were turns, all were answered, and no connection failed."""
        return bool(self.turns) and len(self.answered) == len(self.turns) and not self.faults

    @property
    def kept_pace(self) -> bool:
        """Whether this program was on time, so that the figures are the server's."""
        return not self.late_ms or float(np.percentile(self.late_ms, 99)) <= LATE_MS

    @property
    def latencies(self) -> list[float]:
        """Of all replies, ms."""
        return [turn.latency_ms for turn in self.turns if turn.latency_ms is not None]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        right = [turn.right for turn in self.turns if turn.right is not None]
        barged = [turn for turn in self.turns if turn.barged_in]
        stops = [turn.stopped_after_ms for turn in barged if turn.stopped_after_ms is not None]
        gaps = [gap.length_ms for turn in self.turns for gap in turn.gaps]
        return {
            "url": self.url,
            "callers": self.callers,
            "idle": self.idle,
            "seconds": round(self.seconds, 1),
            "whole": self.is_whole,
            "passed": self.passed,
            "turns": {
                "all": len(self.turns),
                **{result.value: sum(turn.result is result for turn in self.turns) for result in Result},
                "unfinished": self.unfinished,
                "right": sum(right),
                "checked": len(right),
            },
            "latency_ms": spread(self.latencies),
            "interruptions": {"all": len(barged), "stopped": len(stops), "stopped_after_ms": spread(stops)},
            "gaps": {
                "turns": sum(bool(turn.gaps) for turn in self.turns),
                "all": len(gaps),
                "ms": round(sum(gaps), 1),
                "longest_ms": round(max(gaps, default=0.0), 1),
            },
            "audio_s": {
                "sent": round(self.sent_s, 1),
                "heard": round(sum(turn.audio_ms for turn in self.turns) / 1000, 1),
            },
            "false_starts": self.false_starts,
            "refused": sum(fault.status == "refused" for fault in self.faults),
            "lost": sum(fault.status == "lost" for fault in self.faults),
            "reasons": self.reasons(),
            "errors": self.errors,
            "sent_late_ms": spread(self.late_ms),
            "kept_pace": self.kept_pace,
            "each": [turn.to_dict() for turn in self.turns],
        }

    def reasons(self) -> dict[str, int]:
        """Why turns and connections failed, most frequent first."""
        failed = [turn.reason for turn in self.turns if turn.reason is not None and turn.result is not Result.LOST]
        return dict(Counter([*failed, *(fault.reason for fault in self.faults)]).most_common())

    def tables(self) -> RenderableType:
        """For a terminal."""
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for name, value in self._rows():
            table.add_row(name, value)
        return Group(table, *self._notes())

    def _rows(self) -> list[tuple[str, str]]:
        values = self.to_dict()
        turns, gaps, cuts = values["turns"], values["gaps"], values["interruptions"]
        idle = f", {self.idle} idle connections" if self.idle else ""
        rows = [
            ("callers", f"{self.callers}{idle}, {self.seconds:.1f} s"),
            ("turns", f"{len(self.answered)} of {len(self.turns)} answered" + _more(turns)),
            ("latency at the ear", shown(values["latency_ms"])),
            (
                "gaps in replies",
                f"{gaps['all']} in {gaps['turns']} turns, {gaps['ms']:.0f} ms in all, longest {gaps['longest_ms']:.0f} ms",
            ),
            ("audio", f"{values['audio_s']['sent']:.0f} s sent, {values['audio_s']['heard']:.0f} s of replies"),
        ]
        if turns["checked"]:
            rows.insert(2, ("replies as expected", f"{turns['right']} of {turns['checked']}"))
        if cuts["all"]:
            after = shown(cuts["stopped_after_ms"])
            rows.append(("interruptions", f"{cuts['stopped']} of {cuts['all']} stopped the reply, after {after}"))
        if self.false_starts:
            rows.append(("cut by the server", f"{self.false_starts} replies, while the caller was silent"))
        if self.faults:
            rows.append(("connections", f"{values['refused']} refused, {values['lost']} lost"))
        if self.errors:
            rows.append(("error events", ", ".join(f"{count} {code}" for code, count in self.errors.items())))
        rows.append(("sent late", shown(values["sent_late_ms"])))
        return rows

    def _notes(self) -> list[str]:
        notes = [f"[red]{count} ×[/red] {escape(reason)}" for reason, count in self.reasons().items()]
        if not self.kept_pace:
            notes.append("[yellow]This program could not keep up: its figures are not the server's. Use fewer callers.[/yellow]")
        if not self.is_whole:
            notes.append("[yellow]Ended before all callers had said everything.[/yellow]")
        return notes


def spread(values: Sequence[float]) -> dict[str, float | int]:
    """Count, median, 90th and 99th percentile and the largest, rounded; the count alone of nothing."""
    if not len(values):
        return {"n": 0}
    p50, p90, p99 = np.percentile(values, (50, 90, 99))
    return {
        "n": len(values),
        "p50": round(float(p50), 1),
        "p90": round(float(p90), 1),
        "p99": round(float(p99), 1),
        "max": round(float(max(values)), 1),
    }


def shown(values: dict[str, float | int]) -> str:
    """A spread in words."""
    if not values["n"]:
        return "none"
    return (
        f"{values['p50']:.0f} ms in the middle, 90 % {values['p90']:.0f}, 99 % {values['p99']:.0f}, longest {values['max']:.0f}"
    )


def _more(turns: dict[str, int]) -> str:
    kinds = {"no_reply": "without a reply", "failed": "failed", "lost": "lost with the connection", "unfinished": "cut short"}
    return "".join(f", {turns[kind]} {words}" for kind, words in kinds.items() if turns[kind])
