"""The result of `bench turns`: rows of figures, what went wrong most surely, voice-to-voice latency; as JSON values, a table
of decisions, tables for people and a picture."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Group, RenderableType
from rich.table import Table

from .turn_decisions import PROSODY, SAID, TEXT, Decision, scored
from .turn_latency import STAGES, Latencies
from .turn_plot import Curve, draw_svg
from .turn_sweep import (
    Point,
    Scored,
    area_under_curve,
    dead_air_interval,
    fewest_cut_offs,
    frontier,
    least_dead_air,
    sweep,
    sweep_silence,
)

NOT_MEASURED = "not measured"
VAD_ONLY = "VAD only"
NAMES = {TEXT: "P(end), text alone", PROSODY: "P(end), text and prosody", SAID: "P(end), words as said"}
CUT_OFF_BUDGETS, DEAD_AIR_BUDGETS_MS = (0.05, 0.10), (300, 600)
MAX_SHOWN = 8
PROMISED_SHARE, PROMISED_MS, PROMISED_SAVING_MS = 0.5, 900.0, 200.0


@dataclass(frozen=True, slots=True)
class Row:
    """One way to decide on some of the decisions; `points` is its frontier. The four figures are None where no setting of
    the knobs gets there. `interval_ms`: 95 % of the dead air at 5 % cut-offs, whole turns drawn again."""

    name: str
    part: str
    pauses: int
    ends: int
    area: float | None
    cut_offs: tuple[Point | None, ...]
    dead_air: tuple[Point | None, ...]
    interval_ms: tuple[float, float] | None
    points: tuple[Point, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        values: dict[str, Any] = {"name": self.name, "part": self.part, "pauses": self.pauses, "ends": self.ends}
        values["area_under_curve"] = None if self.area is None else round(self.area, 4)
        for budget, point in zip(DEAD_AIR_BUDGETS_MS, self.cut_offs, strict=True):
            values[f"cut_offs_at_{budget}_ms"] = None if point is None else _values(point)
        for share, point in zip(CUT_OFF_BUDGETS, self.dead_air, strict=True):
            values[f"dead_air_at_{share:.0%}".replace("%", "_percent")] = None if point is None else _values(point)
        values["dead_air_at_5_percent_interval_ms"] = None if self.interval_ms is None else [round(ms) for ms in self.interval_ms]
        return values


@dataclass(frozen=True, slots=True)
class TurnReport:
    """What was measured. `set_name` says whether the set is synthetic; `as_set` is (share of pauses cut off, dead air in ms)
    of sessions with default settings, by name."""

    model: str
    set_name: str
    seed: int
    seconds: float
    decisions: tuple[Decision, ...]
    rows: tuple[Row, ...]
    as_set: Mapping[str, tuple[float, float]]
    latencies: tuple[Latencies, ...]

    def row(self, name: str) -> Row | None:
        """Of the whole set."""
        return next((row for row in self.rows if row.name == name and row.part == ALL), None)

    @property
    def share_of_vad(self) -> float | None:
        """Dead air at 5 % cut-offs with prosody (text alone where there is none) over that of VAD only."""
        mine, plain = self.row(NAMES[PROSODY]) or self.row(NAMES[TEXT]), self.row(VAD_ONLY)
        if mine is None or plain is None or mine.dead_air[0] is None or plain.dead_air[0] is None:
            return None
        return mine.dead_air[0].dead_air_ms / plain.dead_air[0].dead_air_ms

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        settings = {name: {"cut_off_rate": rate, "dead_air_ms": air} for name, (rate, air) in self.as_set.items()}
        return {
            "model": self.model,
            "set": self.set_name,
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "rows": [row.to_dict() for row in self.rows],
            "default_settings": settings,
            "share_of_vad": self.share_of_vad,
            "cut_off_most_surely": [asdict(one) for one in self.mistaken_pauses()],
            "missed_most_surely": [asdict(one) for one in self.missed_ends()],
            "voice_to_voice": {one.name: one.to_dict() for one in self.latencies},
        }

    def mistaken_pauses(self) -> list[Decision]:
        """Pauses that P(end) takes for ends, the surest first."""
        holds = [one for one in self.decisions if not one.is_end and _best(one) is not None]
        return sorted(holds, key=lambda one: -(_best(one) or 0.0))[:MAX_SHOWN]

    def missed_ends(self) -> list[Decision]:
        """Ends that P(end) takes for pauses, the surest first."""
        return sorted((one for one in self.decisions if one.is_end), key=lambda one: _best(one) or 0.0)[:MAX_SHOWN]

    def svg(self) -> str:
        """Dead air against cut-offs, whole set."""
        curves = [
            Curve(row.name, tuple((point.dead_air_ms, point.cut_off_rate) for point in row.points))
            for row in self.rows
            if row.part == ALL
        ]
        return draw_svg(curves, "Cut-offs and dead air", f"{self.model}; {self.set_name}; seed {self.seed}")

    def write_csv(self, file: Path) -> None:
        """One line for each decision."""
        with file.open("w", newline="", encoding="utf-8") as out:
            writer = csv.DictWriter(out, list(Decision.__dataclass_fields__))
            writer.writeheader()
            writer.writerows(asdict(one) for one in self.decisions)

    def tables(self) -> RenderableType:
        """For a terminal."""
        return Group(*self._tables())

    def _tables(self) -> Iterator[RenderableType]:
        yield f"{self.model}; {self.set_name}; seed {self.seed}; {self.seconds:.0f} s\n"
        if self.decisions:
            yield from self._decisions()
        if self.latencies:
            yield self._latency()
        yield self._promised()

    def _decisions(self) -> Iterator[RenderableType]:
        table = _table("Turn ends", "row", "turns", "cut-offs @300 ms", "@600 ms", "dead air @5 %", "@10 %", "area")
        for row in self.rows:
            cuts = (NOT_MEASURED if point is None else f"{point.cut_off_rate:.1%}" for point in row.cut_offs)
            airs = [NOT_MEASURED if point is None else f"{point.dead_air_ms:.0f} ms" for point in row.dead_air]
            if row.interval_ms is not None:
                airs[0] += f" \\[{row.interval_ms[0]:.0f}, {row.interval_ms[1]:.0f}]"
            table.add_row(row.name, row.part, *cuts, *airs, "-" if row.area is None else f"{row.area:.3f}")
        yield table
        yield from self._surest()
        yield (
            "Cut-offs: share of the pauses of at least 200 ms in which the turn was ended. Dead air: mean silence behind a true "
            "end, without compute. Each figure is the best that the knobs (threshold, delay, timeout) reach. In brackets: "
            "bootstrap 95 % interval. Area: how often an end has a higher P(end) than a pause; 0.5 is chance."
        )

    def _surest(self) -> Iterator[RenderableType]:
        for title, found in (("Pauses most like an end", self.mistaken_pauses()), ("Ends least like one", self.missed_ends())):
            table = _table(title, "P(end)", "heard", "said so far", "voice", justify="left")
            for one in found:
                p = _best(one)
                table.add_row("-" if p is None else f"{p:.3f}", one.heard or "(nothing)", one.said or "", one.source)
            yield table

    def _latency(self) -> Table:
        table = _table("Voice to voice, ms (p50 / p95)", "", *(one.name for one in self.latencies))
        labels = ("silence of the rule", "decision", "first text", "first sound")
        for label, field in (("all", "total_ms"), *zip(labels, STAGES, strict=True), ("first thought over", "eager_ms")):
            cells = [(one.percentile(field, 50), one.percentile(field, 95)) for one in self.latencies]
            table.add_row(label, *(NOT_MEASURED if a is None or b is None else f"{a:.0f} / {b:.0f}" for a, b in cells))
        for label, name in (("answered", "answered"), ("cut off", "cut_off"), ("unanswered", "unanswered")):
            table.add_row(label, *(str(one.to_dict()[name]) for one in self.latencies))
        return table

    def _promised(self) -> Table:
        table = _table("Promised", "figure", "measured", "promised")
        share = self.share_of_vad
        measured = NOT_MEASURED if share is None else f"{share:.0%} of VAD only's"
        table.add_row("dead air at 5 % cut-offs", measured, f"<= {PROMISED_SHARE:.0%}")
        for name, (rate, air) in self.as_set.items():
            table.add_row(name, f"{rate:.1%} cut off, {air:.0f} ms dead air", "")
        if self.latencies:
            middle = self.latencies[0].percentile("total_ms", 50)
            shown = NOT_MEASURED if middle is None else f"{middle:.0f} ms"
            table.add_row(f"voice to voice, median, {self.latencies[0].name}", shown, f"<= {PROMISED_MS:.0f} ms")
            if len(self.latencies) > 1 and middle is not None:
                plain = self.latencies[1].percentile("total_ms", 50)
                saved = NOT_MEASURED if plain is None else f"{plain - middle:.0f} ms"
                table.add_row("speculation hides, median", saved, f">= {PROMISED_SAVING_MS:.0f} ms")
        return table


ALL = "all"


def make_rows(decisions: Sequence[Decision], seed: int) -> tuple[Row, ...]:
    """VAD only and each way to ask that was possible: of the whole set, and of each kind of voice if there are several."""
    kinds = sorted({one.source.split()[0] for one in decisions})
    parts = [(ALL, list(decisions))]
    if len(kinds) > 1:
        parts += [(kind, [one for one in decisions if one.source.split()[0] == kind]) for kind in kinds]
    rows = []
    for part, chosen in parts:
        rows.append(_row(VAD_ONLY, part, chosen, None, seed))
        for way, name in NAMES.items():
            if any(one.p_end(way) is not None for one in chosen):
                rows.append(_row(name, part, chosen, way, seed))
    return tuple(rows)


def _row(name: str, part: str, decisions: Sequence[Decision], way: str | None, seed: int) -> Row:
    chosen = scored(decisions, way or TEXT)
    points = sweep_silence(chosen) if way is None else sweep(chosen)
    by_turn: dict[str, list[Scored]] = {}
    for decision, one in zip(decisions, chosen, strict=True):
        by_turn.setdefault(decision.turn, []).append(one)
    interval = (
        dead_air_interval(list(by_turn.values()), CUT_OFF_BUDGETS[0], seed, way is None) if part == ALL and points else None
    )
    return Row(
        name,
        part,
        sum(not one.is_end and one.counts for one in chosen),
        sum(one.is_end for one in chosen),
        None if way is None else area_under_curve(chosen),
        tuple(fewest_cut_offs(points, budget) for budget in DEAD_AIR_BUDGETS_MS),
        tuple(least_dead_air(points, budget) for budget in CUT_OFF_BUDGETS),
        interval,
        tuple(frontier(points)),
    )


def _best(one: Decision) -> float | None:
    """P(end) as a session would use it."""
    return one.p_prosody if one.p_prosody is not None else one.p_text


def _values(point: Point) -> dict[str, float]:
    figures = {"cut_off_rate": round(point.cut_off_rate, 4), "dead_air_ms": round(point.dead_air_ms, 1)}
    return {**figures, "detected_rate": round(point.detected_rate, 4), **asdict(point.policy)}


def _table(title: str, *columns: str, justify: Literal["left", "right"] = "right") -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, overflow="fold", justify=justify if index else "left")
    return table
