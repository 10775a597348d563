"""What the engine refuses and what goes wrong: a failure stays with the item that caused it, has a reason,
and leaves the log as it was."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from engine_runs import (
    BACKBONE,
    EVERY_ID,
    ORACLE,
    Encode,
    ScriptedSpeech,
    assert_probabilities,
    entered,
    read,
    with_engine,
)
from textpro.engine import (
    Append,
    Context,
    Decode,
    Engine,
    Entry,
    Evict,
    Truncate,
)
from textpro.models.errors import CapacityError, EngineError, InputError
from tiny_backbone import FEATURES, VOCAB, make_entries


def test_a_session_beyond_the_slots_is_refused_until_one_ends_or_is_evicted() -> None:
    async def body(engine: Engine) -> None:
        first = engine.open_context()
        prompt = make_entries(8)
        await engine.run(Append(first, prompt))
        with pytest.raises(CapacityError, match="1 of 1 slots"):
            engine.open_context()
        await engine.run(Evict(first))
        second = engine.open_context()
        await engine.run(Append(second, make_entries(9, seed=4)))
        with pytest.raises(CapacityError, match="another session"):
            await engine.run(Append(first, make_entries(1)))
        assert first.length == 8
        engine.close_context(second)
        assert [token.id for token in await read(engine, Decode(first, 6))] == ORACLE.greedy(prompt, 6)
        assert engine.stats().refused == 2

    with_engine(body, slots=1)


def test_a_full_context_refuses_an_append_and_ends_a_decode() -> None:
    async def body(engine: Engine) -> None:
        context = engine.open_context()
        prompt = make_entries(10)
        await engine.run(Append(context, prompt))
        with pytest.raises(CapacityError, match="holds 10 of 16"):
            await engine.run(Append(context, make_entries(7)))
        assert context.length == 10
        seen: list[int] = []
        with pytest.raises(CapacityError, match="holds 16 of 16"):
            async for token in engine.stream(Decode(context, 50)):
                seen.append(token.id)
        assert seen == ORACLE.greedy(prompt, 6)
        with pytest.raises(CapacityError, match="full"):
            await read(engine, Decode(context, 1))

    with_engine(body, slot_len=16)


@pytest.mark.parametrize(
    ("item", "error", "message"),
    [
        (lambda c: Append(c, (Entry(1), Entry(VOCAB))), InputError, "vocabulary"),
        (lambda c: Append(c, (Entry(None, np.full(FEATURES, np.inf)),)), InputError, "not finite"),
        (lambda c: Append(c, (), probe=(VOCAB,)), InputError, "vocabulary"),
        (lambda c: Append(c, (Entry(1, position=0),)), InputError, "stale"),
        (lambda c: Append(c, ("word",)), EngineError, "cannot be begun"),
        (lambda c: Truncate(c, 99), InputError, "outside the log"),
        (lambda c: Append(Context(8), ()), InputError, "no last row"),
        (lambda c: Decode(c, 5), InputError, "streamed"),
        (lambda c: Encode("s", 1), InputError, "speech model"),
    ],
)
def test_a_bad_item_fails_alone_and_changes_nothing(
    item: Callable[[Context], object], error: type[Exception], message: str
) -> None:
    async def body(engine: Engine) -> None:
        context, other = engine.open_context(), engine.open_context()
        prompt = make_entries(6)
        await asyncio.gather(engine.run(Append(context, prompt)), engine.run(Append(other, prompt)))
        bad, good = await asyncio.gather(
            engine.run(item(context)), engine.run(Append(other, prompt, EVERY_ID)), return_exceptions=True
        )
        assert isinstance(bad, error) and message in str(bad)
        assert_probabilities(good.probabilities, prompt + prompt)
        assert context.length == 6

    with_engine(body)


def test_decodes_that_make_no_sense_are_refused() -> None:
    async def body(engine: Engine) -> None:
        context = engine.open_context()
        with pytest.raises(InputError, match="nothing to decode from"):
            await read(engine, Decode(context, 3))
        await engine.run(Append(context, make_entries(2)))
        with pytest.raises(InputError, match="max_tokens"):
            await read(engine, Decode(context, 0))

    with_engine(body)


def test_a_failing_step_fails_only_the_item_that_caused_it(monkeypatch: pytest.MonkeyPatch) -> None:
    poison = make_entries(1, seed=77)[0]
    forward = BACKBONE.embed

    def embed(rows: Sequence[Entry]) -> torch.Tensor:
        if any(row.same_input(poison) for row in rows):
            raise RuntimeError("device lost its mind")
        return forward(rows)

    monkeypatch.setattr(BACKBONE, "embed", embed)

    async def body(engine: Engine) -> None:
        victim, other, talking = (engine.open_context() for _ in range(3))
        prompt = make_entries(6)
        await asyncio.gather(*(engine.run(Append(context, prompt)) for context in (victim, other, talking)))
        bad, good, reply = await asyncio.gather(
            engine.run(Append(victim, (*make_entries(5), poison))),
            engine.run(Append(other, prompt, EVERY_ID)),
            read(engine, Decode(talking, 12)),
            return_exceptions=True,
        )
        assert isinstance(bad, EngineError) and "device lost its mind" in str(bad)
        assert_probabilities(good.probabilities, prompt + prompt)
        assert [token.id for token in reply] == ORACLE.greedy(prompt, 12)
        assert victim.length == 6
        assert_probabilities((await engine.run(Append(victim, (), EVERY_ID))).probabilities, prompt)
        assert engine.stats().failed == 1

    with_engine(body)


def test_output_that_is_not_finite_ends_its_session_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    poison = make_entries(1, seed=77)[0]
    plain = BACKBONE.embed

    def embed(rows: Sequence[Entry]) -> torch.Tensor:
        embedded = plain(rows)
        for index, row in enumerate(rows):
            if row.same_input(poison):
                embedded[index] = float("nan")
        return embedded

    monkeypatch.setattr(BACKBONE, "embed", embed)

    async def body(engine: Engine) -> None:
        sick, well = engine.open_context(), engine.open_context()
        prompt = make_entries(6)
        await asyncio.gather(engine.run(Append(sick, (*prompt, poison))), engine.run(Append(well, prompt)))
        bad, reply = await asyncio.gather(read(engine, Decode(sick, 5)), read(engine, Decode(well, 5)), return_exceptions=True)
        assert isinstance(bad, EngineError) and "not finite" in str(bad)
        assert [token.id for token in reply] == ORACLE.greedy(prompt, 5)
        with pytest.raises(EngineError, match="not finite"):
            await engine.run(Append(sick, (), probe=(1,)))

    with_engine(body)


def test_a_failing_speech_item_fails_alone_and_a_failing_batch_names_the_cause() -> None:
    speech = ScriptedSpeech()
    speech.gate.clear()

    async def body(engine: Engine) -> None:
        first = asyncio.create_task(engine.run(Encode("x", 0)))
        await entered(speech)
        tasks = [
            asyncio.create_task(engine.run(Encode("a", ValueError("bad mel")))),
            engine.run(Encode("b", 2)),
        ]
        waiting = asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)
        speech.gate.set()
        bad, good = await waiting
        assert (await first).value == 0
        assert isinstance(bad, EngineError) and "bad mel" in str(bad) and isinstance(bad.__cause__, ValueError)
        assert good.value == 4
        with pytest.raises(EngineError, match="fell over"):
            await engine.run(Encode("c", "crash"))
        assert (await engine.run(Encode("c", 5))).value == 10

    with_engine(body, speech=speech)


def test_cancelled_work_that_has_not_begun_is_dropped() -> None:
    speech = ScriptedSpeech()
    speech.gate.clear()

    async def body(engine: Engine) -> None:
        context = engine.open_context()
        slow = asyncio.create_task(engine.run(Encode("a", 1)))
        await entered(speech)
        doomed = [asyncio.create_task(engine.run(item)) for item in (Append(context, make_entries(3)), Encode("b", 9))]
        await asyncio.sleep(0)
        for task in doomed:
            task.cancel()
        await asyncio.gather(*doomed, return_exceptions=True)
        speech.gate.set()
        await slow
        await engine.run(Append(context, make_entries(2)))
        assert context.length == 2 and speech.batches == [[1]]

    with_engine(body, speech=speech)


def test_closing_a_context_fails_its_work_with_a_reason() -> None:
    async def body(engine: Engine) -> None:
        context, other = engine.open_context(), engine.open_context()
        await engine.run(Append(context, make_entries(4)))
        await engine.run(Append(other, make_entries(4)))
        stream = engine.stream(Decode(context, 120))
        await anext(stream)
        engine.close_context(context)
        with pytest.raises(EngineError, match="context was closed"):
            async for _ in stream:
                pass
        with pytest.raises(EngineError, match="context was closed"):
            await engine.run(Append(context, make_entries(1)))
        assert len(await read(engine, Decode(other, 5))) == 5

    with_engine(body)


def test_closing_the_engine_fails_what_is_outstanding_and_refuses_more() -> None:
    async def main() -> None:
        speech = ScriptedSpeech()
        speech.gate.clear()
        engine = Engine(BACKBONE, speech, slot_len=64)
        context = engine.open_context()
        running = asyncio.create_task(engine.run(Encode("a", 1)))
        await entered(speech)
        queued = asyncio.create_task(engine.run(Append(context, make_entries(3))))
        stream = engine.stream(Decode(context, 5))
        await asyncio.sleep(0)
        closing = asyncio.create_task(engine.aclose())
        while engine._closed_because is None:
            await asyncio.sleep(0)
        speech.gate.set()
        await closing
        assert (await running).value == 2
        for outstanding in (queued, anext(stream)):
            with pytest.raises(EngineError, match="engine closed"):
                await outstanding
        for refused in (engine.open_context, lambda: engine.stream(Decode(context, 5))):
            with pytest.raises(EngineError, match="engine closed"):
                refused()
        engine.close()

    asyncio.run(main())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_of_the_thread_reaches_everybody_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("sampler missing")

    monkeypatch.setattr("textpro.engine.lanes.sample", broken)

    async def main() -> None:
        engine = Engine(BACKBONE, slot_len=64)
        context = engine.open_context()
        await engine.run(Append(context, make_entries(3)))
        with pytest.raises(EngineError, match="stopped by RuntimeError: sampler missing"):
            await read(engine, Decode(context, 5))
        with pytest.raises(EngineError, match="sampler missing"):
            await engine.run(Append(context, make_entries(3)))
        await engine.aclose()

    asyncio.run(main())


def test_a_closed_event_loop_does_not_disturb_the_others() -> None:
    engine = Engine(BACKBONE, slot_len=128)
    gone = engine.open_context()

    async def leave() -> None:
        await engine.run(Append(gone, make_entries(4)))
        leave.stream = engine.stream(Decode(gone, 60))

    asyncio.run(leave())

    async def stay() -> None:
        context = engine.open_context()
        prompt = make_entries(7)
        await engine.run(Append(context, prompt))
        assert [token.id for token in await read(engine, Decode(context, 10))] == ORACLE.greedy(prompt, 10)
        await engine.aclose()

    asyncio.run(stay())


@pytest.mark.parametrize("wrong", [{"slots": 0}, {"slot_len": 10_000}, {"row_budget": 0}, {"branch_reserve": 4}])
def test_sizes_that_do_not_fit_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match=r"slot|row_budget|positions"):
        Engine(BACKBONE, **wrong)
