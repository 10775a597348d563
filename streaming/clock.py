"""Time as one integer: samples at 16 kHz since the session began. Logic never reads a wall clock; what
needs "now" is handed a `Clock`. `AudioClock` counts the samples that arrived (replaying a file, `--fast`),
`MonotonicClock` follows real time, and `VirtualClock` runs tests and simulations: it jumps to the next
sleeper when every task of its event loop waits, stands still while declared work is outstanding, and then
moves on by that work's cost. Invariant: now never goes back. The idle test is the event loop's own: a loop
asks its selector to wait exactly when nothing is ready to run."""

import asyncio
import heapq
import selectors
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from ..models.errors import InputError

SAMPLE_RATE = 16_000
SAMPLES_PER_MS = SAMPLE_RATE // 1000

Result = TypeVar("Result")


def ms_to_samples(ms: int) -> int:
    """Milliseconds -> samples at 16 kHz."""
    return ms * SAMPLES_PER_MS


class Clock(Protocol):
    """What logic may know of time."""

    def now_samples(self) -> int:
        """Samples at 16 kHz since the session began; never decreases."""
        ...


class AudioClock:
    """Now is the number of samples received."""

    def __init__(self) -> None:
        self._received_samples = 0

    def now_samples(self) -> int:
        return self._received_samples

    def receive(self, count_samples: int) -> None:
        """Count `count_samples` more samples at 16 kHz as arrived. InputError if negative."""
        if count_samples < 0:
            raise InputError(
                f"An audio clock cannot run back by {-count_samples} samples; give a count >= 0."
            )
        self._received_samples += count_samples


class MonotonicClock:
    """Real time since construction, from a source of nanoseconds that never goes back."""

    def __init__(self, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._now_ns = now_ns
        self._start_ns = now_ns()

    def now_samples(self) -> int:
        return (self._now_ns() - self._start_ns) * SAMPLE_RATE // 1_000_000_000


class VirtualClock:
    """Virtual time for one asyncio program: `VirtualClock().run(main())`.

    Work outside the loop (an engine thread, a worker process) is invisible to the idle test, so it is
    declared: `work_started()` on submission, `work_done(cost_samples)` after its result was handed to the
    loop, best in the same loop callback. Costs add up as on one device; items that shared a packed step give
    its cost once and zero for the rest. Sleepers whose time passed during the work wake by their deadlines.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now_samples = 0
        self._outstanding = 0
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._sleeper_count = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def work_outstanding(self) -> int:
        """Pieces of work started and not yet done."""
        return self._outstanding

    def now_samples(self) -> int:
        return self._now_samples

    def run(self, main: Coroutine[Any, Any, Result]) -> Result:
        """Run `main` to its end in an event loop that lives in this clock's time."""
        with asyncio.Runner(loop_factory=self.new_event_loop) as runner:
            return runner.run(main)

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """An event loop in this clock's time, for `asyncio.Runner(loop_factory=...)` and test plugins."""
        self._loop = asyncio.SelectorEventLoop(_IdleSelector(self._advance_when_idle))
        return self._loop

    async def sleep_until(self, samples: int) -> None:
        """Return once now >= `samples`; at once (but after the tasks that are ready) if that is past.

        InputError outside this clock's own event loop, where nothing would ever wake the sleeper.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            raise InputError(
                "VirtualClock.sleep_until needs the clock's own event loop; start with clock.run(...)."
            )
        if samples <= self._now_samples:
            await asyncio.sleep(0)
            return
        wake = loop.create_future()
        self._sleeper_count += 1
        heapq.heappush(self._sleepers, (samples, self._sleeper_count, wake))
        await wake

    def work_started(self) -> None:
        """Declare work outside the loop: the clock stands still until it is done.

        Callable from any thread.
        """
        with self._lock:
            self._outstanding += 1

    def work_done(self, cost_samples: int = 0) -> None:
        """One piece of work is done and took `cost_samples` (>= 0) of virtual time.

        Callable from any thread.
        """
        if cost_samples < 0:
            raise InputError(f"Work cannot cost {cost_samples} samples; give a cost >= 0.")
        with self._lock:
            if self._outstanding == 0:
                raise InputError("work_done without work_started; declare each piece of work once.")
            self._outstanding -= 1
            self._now_samples += cost_samples
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake_due)

    def _advance_when_idle(self) -> bool:
        """Move to the next sleeper and wake it; False if there is none or work is outstanding."""
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        with self._lock:
            if self._outstanding or not self._sleepers:
                return False
            self._now_samples = max(self._now_samples, self._sleepers[0][0])
        self._wake_due()
        return True

    def _wake_due(self) -> None:
        while self._sleepers and self._sleepers[0][0] <= self._now_samples:
            _, _, wake = heapq.heappop(self._sleepers)
            if not wake.done():
                wake.set_result(None)


class _IdleSelector(selectors.DefaultSelector):
    """The platform's selector that, when the loop would wait, first lets virtual time move."""

    def __init__(self, advance_when_idle: Callable[[], bool]) -> None:
        super().__init__()
        self._advance_when_idle = advance_when_idle

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            return super().select(timeout)
        ready = super().select(0)
        if ready or self._advance_when_idle():
            return ready
        return super().select(timeout)
