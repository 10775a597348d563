"""Virtual time: timers jump, work stands still and then costs what it costs, and what nobody does ends in an error."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

import pytest

from textpro.evaluation import simulated_time
from textpro.evaluation.simulate_costs import COSTS, SLOWER, ChargedTime, CostTable, fitted
from textpro.evaluation.simulated_time import SimulatedTime
from textpro.models.errors import EngineError


def run(talk: Callable[[SimulatedTime], Awaitable[None]]) -> SimulatedTime:
    clock = SimulatedTime()
    with asyncio.Runner(loop_factory=clock.new_event_loop) as runner:
        runner.run(talk(clock))
    return clock


def test_an_hour_passes_at_once_and_timers_fire_in_order() -> None:
    fired: list[tuple[str, int]] = []

    async def talk(clock: SimulatedTime) -> None:
        async def after(name: str, s: float) -> None:
            await asyncio.sleep(s)
            fired.append((name, clock.now_samples()))

        await asyncio.gather(after("hour", 3600), after("soon", 0.02), after("second", 1))

    began = time.monotonic()
    run(talk)
    assert time.monotonic() - began < 20
    assert fired == [("soon", 320), ("second", 16_000), ("hour", 3600 * 16_000)]


def test_sleep_until_never_goes_back_and_lets_what_is_ready_go_first() -> None:
    async def talk(clock: SimulatedTime) -> None:
        await clock.sleep_until(1_000)
        order: list[str] = []
        asyncio.get_running_loop().call_soon(order.append, "ready")
        await clock.sleep_until(10)
        assert order == ["ready"] and clock.now_samples() == 1_000

    run(talk)


def test_time_limits_are_virtual() -> None:
    async def talk(clock: SimulatedTime) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await asyncio.get_running_loop().create_future()
        assert clock.now_samples() == 30 * 16_000

    run(talk)


def work(clock: SimulatedTime, cost_samples: int, real_s: float = 0.0) -> asyncio.Future[None]:
    """Declared work of another thread; its cost is charged when its answer is taken."""
    loop, done = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()
    clock.work_started()

    def finish() -> None:
        clock.work_done(cost_samples)
        done.set_result(None)

    threading.Timer(real_s, lambda: loop.call_soon_threadsafe(finish)).start()
    return done


def test_time_stands_still_while_work_is_outstanding_and_moves_by_its_cost_however_long_it_really_took() -> None:
    seen: list[int] = []

    async def talk(clock: SimulatedTime) -> None:
        async def frames() -> None:
            for _ in range(5):
                await asyncio.sleep(0.02)
                seen.append(clock.now_samples())

        ticking = asyncio.ensure_future(frames())
        await work(clock, cost_samples=800, real_s=0.05)
        assert clock.now_samples() == 800 and not seen, "no timer fired meanwhile"
        await ticking

    run(talk)
    assert seen == [800, 1120, 1440, 1760, 2080], "the timer that fell due during the work fires as soon as it is over"


def test_work_aside_takes_no_time_even_if_it_fails() -> None:
    async def talk(clock: SimulatedTime) -> None:
        with pytest.raises(ValueError), clock.aside():
            raise ValueError
        await asyncio.sleep(0.5)
        assert clock.now_samples() == 8_000

    run(talk)


def test_waiting_for_nothing_is_an_error_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated_time, "STUCK_S", 0.05)

    async def talk(clock: SimulatedTime) -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(EngineError, match="waited 0 s for an engine or a voice"):
        run(talk)


def test_two_pieces_at_a_time_cost_their_sum_and_a_dropped_one_nothing() -> None:
    async def talk(clock: SimulatedTime) -> None:
        keeper = ChargedTime(clock, CostTable({"token": 8.0, "append": 9.0}, {"append": 0.5}))
        tickets = [keeper.asked("token", 1), keeper.asked("append", 10), keeper.asked("token", 1), keeper.asked("tool x", 1)]
        await keeper.answered(tickets[0], None)
        await keeper.answered(tickets[1], None)
        keeper.dropped(tickets[2])
        await keeper.answered(tickets[3], None)
        assert clock.now_samples() == (8 + 9 + 5) * 16
        assert set(keeper.took_ms) == {"append", "token", "tool x"} and keeper.took["append"][0][0] == 10
        await asyncio.sleep(0.001)  # moves again: nothing is outstanding
        assert clock.now_samples() == 23 * 16

    run(talk)


def test_a_table_of_costs_is_fitted_to_what_was_measured() -> None:
    took = {"append": [(size, 5 + 0.25 * size) for size in range(1, 41)], "token": [(1, ms) for ms in (7.0, 8.0, 30.0)]}
    table = fitted(took, 0.5)
    assert table.fixed_ms["token"] == 8.0 and "token" not in table.unit_ms
    assert table.fixed_ms["append"] == pytest.approx(5, abs=0.3) and table.unit_ms["append"] == pytest.approx(0.25, abs=0.02)


def test_the_table_of_two_cores_names_every_kind_of_work_and_the_slow_one_takes_as_many_times_as_long_as_it_says() -> None:
    fast, slow = COSTS["two_cores"], COSTS["slow"]
    assert {"encode", "verify", "extend", "append", "token", "first chunk"} <= fast.fixed_ms.keys()
    assert all(slow.samples(kind, 5) == pytest.approx(SLOWER * fast.samples(kind, 5), abs=SLOWER) for kind in fast.fixed_ms)
