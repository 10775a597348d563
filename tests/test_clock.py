"""The clocks: audio time, real time, and virtual time that waits for outstanding work."""

import asyncio
import threading

import pytest

from textpro.models.errors import InputError
from textpro.streaming.clock import AudioClock, MonotonicClock, VirtualClock


def test_audio_clock_counts_received_samples_and_never_runs_back():
    clock = AudioClock()
    clock.receive(320)
    clock.receive(0)
    assert clock.now_samples() == 320
    with pytest.raises(InputError):
        clock.receive(-1)


def test_monotonic_clock_counts_samples_from_its_construction():
    readings = iter([5_000_000_000, 5_000_000_000, 6_500_000_000])
    clock = MonotonicClock(lambda: next(readings))
    assert clock.now_samples() == 0
    assert clock.now_samples() == 24_000


def test_virtual_sleepers_wake_in_order_at_exactly_their_time():
    clock = VirtualClock()
    woken = []

    async def sleeper(name, until):
        await clock.sleep_until(until)
        woken.append((name, clock.now_samples()))

    async def main():
        await asyncio.gather(sleeper("late", 16_000_000), sleeper("early", 100), sleeper("also early", 100))

    clock.run(main())
    assert woken == [("early", 100), ("also early", 100), ("late", 16_000_000)]


def test_virtual_clock_does_not_move_while_a_task_is_ready():
    clock = VirtualClock()
    seen = []

    async def busy():
        for _ in range(50):
            await asyncio.sleep(0)
            seen.append(clock.now_samples())

    async def main():
        await asyncio.gather(clock.sleep_until(10), busy())

    clock.run(main())
    assert seen == [0] * 50


def test_virtual_clock_stands_still_during_work_and_then_advances_by_its_cost():
    clock = VirtualClock()
    order = []
    frames_may_pass = threading.Event()

    async def frames():
        for until in (320, 640, 960, 5_000):
            await clock.sleep_until(until)
            order.append(("frame", clock.now_samples()))

    async def work():
        loop = asyncio.get_running_loop()
        result = loop.create_future()
        clock.work_started()

        def engine():
            frames_may_pass.wait(5)

            def deliver():
                result.set_result("tokens")
                clock.work_done(800)

            loop.call_soon_threadsafe(deliver)

        thread = threading.Thread(target=engine)
        thread.start()
        assert clock.work_outstanding == 1
        loop.call_later(0.02, frames_may_pass.set)
        await result
        order.append(("result", clock.now_samples()))
        thread.join()

    async def main():
        await asyncio.gather(frames(), work())

    clock.run(main())
    assert order[-1] == ("frame", 5_000)
    assert ("result", 800) in order
    assert [now for kind, now in order if kind == "frame"] == [800, 800, 960, 5_000]


def test_costs_of_outstanding_work_add_up():
    clock = VirtualClock()
    for cost in (100, 50, 0):
        clock.work_started()
        clock.work_done(cost)
    assert clock.now_samples() == 150


def test_sleeping_past_time_returns_at_once_and_cancelled_sleepers_are_forgotten():
    clock = VirtualClock()

    async def main():
        await clock.sleep_until(0)
        cancelled = asyncio.create_task(clock.sleep_until(1_000_000))
        await asyncio.sleep(0)
        cancelled.cancel()
        await clock.sleep_until(100)

    clock.run(main())
    assert clock.now_samples() == 100


def test_virtual_clock_refuses_a_foreign_loop_and_unbalanced_work():
    clock = VirtualClock()
    with pytest.raises(InputError, match=r"clock\.run"):
        asyncio.run(clock.sleep_until(10))
    with pytest.raises(InputError, match="work_started"):
        clock.work_done(1)
    clock.work_started()
    with pytest.raises(InputError):
        clock.work_done(-1)
