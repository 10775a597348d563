"""What a piece of engine or voice work costs in virtual time: nothing, for the logic of a conversation, or what it took
on a real machine, for its latency."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, median
from time import perf_counter

from ..streaming.clock import SAMPLES_PER_MS
from .measured_costs import FIXED_MS, UNIT_MS
from .simulated_time import SimulatedTime


@dataclass(frozen=True, slots=True)
class CostTable:
    """Milliseconds by kind of work: a fixed part, and one for each unit of its size."""

    fixed_ms: Mapping[str, float] = field(default_factory=dict)
    unit_ms: Mapping[str, float] = field(default_factory=dict)

    def samples(self, kind: str, size: int) -> int:
        """Cost in samples at 16 kHz; what the table does not name costs nothing."""
        return round((self.fixed_ms.get(kind, 0.0) + size * self.unit_ms.get(kind, 0.0)) * SAMPLES_PER_MS)


TWO_CORES = CostTable(FIXED_MS, UNIT_MS)
"""The bundled model on two cores, as `tools/measure_costs.py` has measured it (`measured_costs.py` says where and when)."""

SLOWER = 6
SLOW = CostTable(*({kind: SLOWER * cost for kind, cost in part.items()} for part in (TWO_CORES.fixed_ms, TWO_CORES.unit_ms)))
"""A machine a sixth as fast: whatever can happen between a decision and its effect has time to."""

SIZED = ("append",)
"""Kinds of work of which the size is told and counts."""

COSTS: Mapping[str, CostTable] = {"zero": CostTable(), "two_cores": TWO_CORES, "slow": SLOW}


def fitted(took: Mapping[str, Sequence[tuple[int, float]]], quantile: float) -> CostTable:
    """The table of measured work (size, milliseconds): of each kind the given quantile, and where sizes differ and larger
    ones take longer, a straight line through the quantiles of the smaller and the larger half."""
    fixed: dict[str, float] = {}
    unit: dict[str, float] = {}
    for kind, values in sorted(took.items()):
        sizes = sorted(size for size, _ in values)
        middle = sizes[len(sizes) // 2]
        halves = [[v for v in values if v[0] < middle], [v for v in values if v[0] >= middle]]
        fixed[kind] = _quantile([ms for _, ms in values], quantile)
        if kind in SIZED and all(len(half) >= 3 for half in halves):
            (x, y), (x2, y2) = ((mean(size for size, _ in half), _quantile([ms for _, ms in half], quantile)) for half in halves)
            unit[kind] = max(0.0, (y2 - y) / (x2 - x))
            fixed[kind] = max(0.0, y - x * unit[kind])
    rounded = [{kind: round(ms, 3) for kind, ms in table.items()} for table in (fixed, unit)]
    return CostTable(*rounded)


def _quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


class ChargedTime:
    """The `Timekeeper` of a simulation: an answer may be used at once, and time has moved on by its cost."""

    def __init__(self, time: SimulatedTime, costs: CostTable) -> None:
        self._time, self._costs = time, costs
        self._open: dict[int, tuple[str, int, float]] = {}
        self._tickets = 0
        self._took: dict[str, list[tuple[int, float]]] = {}

    def asked(self, kind: str, size: int) -> int:
        """Time stands still from here on, but for a tool, whose own sleeping is what it costs."""
        self._tickets += 1
        self._open[self._tickets] = (kind, size, perf_counter())
        self._declare(kind, self._time.work_started)
        return self._tickets

    async def answered(self, ticket: int, value: object) -> None:
        """Charge for it."""
        kind, size, began = self._open.pop(ticket)
        self._took.setdefault(kind, []).append((size, (perf_counter() - began) * 1000))
        self._declare(kind, lambda: self._time.work_done(self._costs.samples(kind, size)))

    def dropped(self, ticket: int) -> None:
        """It costs nothing."""
        kind, _, _ = self._open.pop(ticket)
        self._declare(kind, self._time.work_done)

    def queued(self, count: int) -> int:
        """Nothing: a simulated session has the engine to itself, and what is queued in real time says nothing."""
        return 0

    @property
    def took_ms(self) -> dict[str, float]:
        """Real milliseconds, the median of each kind."""
        return {kind: round(median(ms for _, ms in values), 2) for kind, values in sorted(self._took.items())}

    @property
    def took(self) -> dict[str, list[tuple[int, float]]]:
        """Size and real milliseconds of every piece of work, by kind."""
        return self._took

    def _declare(self, kind: str, change: Callable[[], None]) -> None:
        if not kind.startswith("tool "):
            change()
