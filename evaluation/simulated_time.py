"""An event loop that lives in virtual time, timers included, for conversations with the real engine and voice.

`asyncio.sleep`, time limits and fillers are all virtual. Time stands still while declared work is outstanding and then moves on
by that work's cost. Work that nobody declared (a thread, a process) is not seen: `aside` declares a stretch of it.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil

from ..models.errors import EngineError
from ..streaming.clock import SAMPLE_RATE

STUCK_S = 300.0
"""Real seconds of waiting for outstanding work, or for nothing at all, after which a simulation is given up."""


class SimulatedTime:
    """Samples at 16 kHz since the loop was made. Used from its own event loop only."""

    def __init__(self) -> None:
        self._now_samples = self._outstanding = 0

    def now_samples(self) -> int:
        """Never goes back."""
        return self._now_samples

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """For `asyncio.Runner(loop_factory=...)`."""
        loop = asyncio.SelectorEventLoop(_VirtualSelector(self._move))
        loop.time = lambda: self._now_samples / SAMPLE_RATE  # type: ignore[method-assign]
        return loop

    async def sleep_until(self, samples: int) -> None:
        """Return once now is at least `samples`, but after everything that is ready."""
        await asyncio.sleep(max(0, samples - self._now_samples) / SAMPLE_RATE)

    def work_started(self) -> None:
        """Time stands still until it is done."""
        self._outstanding += 1

    def work_done(self, cost_samples: int = 0) -> None:
        """A piece of work is done and took this long."""
        self._outstanding -= 1
        self._now_samples += cost_samples

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Whatever happens in here takes no time."""
        self.work_started()
        try:
            yield
        finally:
            self.work_done()

    def _move(self, timeout_s: float | None) -> bool:
        """Move to the next timer, `timeout_s` from now; False if there is none or work is outstanding."""
        if self._outstanding or timeout_s is None:
            return False
        self._now_samples += max(1, ceil(timeout_s * SAMPLE_RATE - 1e-6))
        return True


class _VirtualSelector(selectors.DefaultSelector):
    """The platform's selector that, where the loop would wait for a timer, lets virtual time move."""

    def __init__(self, move: Callable[[float | None], bool]) -> None:
        super().__init__()
        self._move = move

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0) or self._move(timeout):
            return ready
        ready = super().select(STUCK_S)
        if not ready:
            raise EngineError(f"the simulation waited {STUCK_S:.0f} s for an engine or a voice; try on a less busy machine")
        return ready
