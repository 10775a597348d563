"""The engine as its users see it: answers equal plain transformers whatever else runs, failures stay with the item that
caused them, and the event loop never waits for a model."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_backbone import FEATURES, VOCAB, make_backbone, make_entries

from textpro.engine import (
    Append,
    Context,
    Decode,
    Engine,
    Entry,
    Evict,
    Fork,
    Replay,
    Sampling,
    SpeechItem,
    Token,
    Truncate,
)
from textpro.models.errors import CapacityError, EngineError, InputError

BACKBONE, ORACLE = make_backbone()
EVERY_ID = tuple(range(VOCAB))


@dataclass(frozen=True, slots=True)
class Encode:
    """A speech item of the tests."""

    stream: object
    value: object


class ScriptedSpeech:
    """Doubles numbers, returns exceptions as they are, and waits while its gate is shut."""

    def __init__(self) -> None:
        self.batches: list[list[object]] = []
        self.threads: set[int] = set()
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def run(self, items: Sequence[SpeechItem]) -> Sequence[object]:
        self.entered.set()
        assert self.gate.wait(20)
        self.threads.add(threading.get_ident())
        values = [item.value for item in items]
        self.batches.append(values)
        if "crash" in values:
            raise RuntimeError("the model fell over")
        return [value if isinstance(value, Exception) else value * 2 for value in values]


def with_engine(body: Callable[[Engine], Awaitable[None]], **options: object) -> None:
    """Run `body` with an engine over the shared backbone, and close it."""

    async def main() -> None:
        async with Engine(BACKBONE, **{"slot_len": 128, **options}) as engine:
            await asyncio.wait_for(body(engine), 20)

    asyncio.run(main())


async def read(engine: Engine, decode: Decode) -> list[Token]:
    return [token async for token in engine.stream(decode)]


async def entered(speech: ScriptedSpeech) -> None:
    await asyncio.to_thread(speech.entered.wait, 20)


def probabilities(entries: Sequence[Entry]) -> dict[int, float]:
    return dict(enumerate(ORACLE.logits(entries)[-1].softmax(-1).tolist()))


def assert_probabilities(got: dict[int, float], entries: Sequence[Entry]) -> None:
    assert got == pytest.approx(probabilities(entries), abs=1e-5)


def test_probabilities_after_an_append_are_those_of_a_full_forward() -> None:
    async def body(engine: Engine) -> None:
        context = engine.open_context()
        for count in (7, 1, 12):
            answer = await engine.run(Append(context, make_entries(count, seed=count), EVERY_ID))
            assert answer.length == context.length and answer.seconds > 0
            assert_probabilities(answer.probabilities, context.entries)

    with_engine(body)


def test_greedy_replies_equal_generate() -> None:
    async def body(engine: Engine) -> None:
        for seed in range(3):
            context = engine.open_context()
            prompt = make_entries(9 + seed, seed=seed)
            await engine.run(Append(context, prompt))
            reply = await read(engine, Decode(context, 20))
            assert [token.id for token in reply] == ORACLE.greedy(prompt, 20)
            assert [token.index for token in reply] == list(range(20))
            assert [token.position for token in reply] == list(range(9 + seed, 29 + seed))
            assert [token.finish for token in reply] == [None] * 19 + ["length"]
            logprobs = ORACLE.logits(context.entries).log_softmax(-1)
            expected = [logprobs[token.position - 1, token.id].item() for token in reply]
            assert [token.logprob for token in reply] == pytest.approx(expected, abs=1e-4)

    with_engine(body)


def test_many_sessions_at_once_get_what_each_would_get_alone() -> None:
    async def body(engine: Engine) -> None:
        async def session(seed: int) -> None:
            context = engine.open_context()
            prompt = make_entries(5 + 7 * seed, seed=seed)
            half = len(prompt) // 2
            await engine.run(Append(context, prompt[:half]))
            await engine.run(Append(context, prompt[half:]))
            reply = await read(engine, Decode(context, 15))
            assert [token.id for token in reply] == ORACLE.greedy(prompt, 15)

        await asyncio.gather(*map(session, range(8)))
        stats = engine.stats()
        assert stats.rows > 2 * stats.steps, "steps were not shared"

    with_engine(body, slots=8)


@pytest.mark.parametrize("row_budget", [1, 3, 7])
def test_long_appends_are_cut_and_decodes_go_on_meanwhile(row_budget: int) -> None:
    async def body(engine: Engine) -> None:
        talking, loading = engine.open_context(), engine.open_context()
        prompt, history = make_entries(4), make_entries(90, seed=5)
        await engine.run(Append(talking, prompt))
        stream = engine.stream(Decode(talking, 20))
        append = asyncio.create_task(engine.run(Append(loading, history, EVERY_ID)))
        reply = [token.id async for token in stream]
        assert not append.done() or row_budget > 3
        assert reply == ORACLE.greedy(prompt, 20)
        assert_probabilities((await append).probabilities, history)
        assert engine.stats().rows <= row_budget * engine.stats().steps

    with_engine(body, row_budget=row_budget)


def test_a_stop_token_ends_the_stream_and_is_in_the_log() -> None:
    async def body(engine: Engine) -> None:
        context = engine.open_context()
        prompt = make_entries(10, seed=2)
        expected = ORACLE.greedy(prompt, 30)
        stop = expected[6]
        await engine.run(Append(context, prompt))
        reply = await read(engine, Decode(context, 30, stop_ids=(stop,)))
        assert [token.id for token in reply] == expected[: expected.index(stop) + 1]
        assert reply[-1].finish == "stop" and context.entries[-1].token_id == stop

    with_engine(body)


def test_a_sampled_reply_is_repeated_after_a_rollback() -> None:
    async def body(engine: Engine) -> None:
        context = engine.open_context()
        await engine.run(Append(context, make_entries(10)))
        decode = Decode(context, 12, Sampling(temperature=1.5, top_p=0.95, seed=11))
        first = [token.id for token in await read(engine, decode)]
        await engine.run(Truncate(context, 10))
        assert [token.id for token in await read(engine, decode)] == first
        await engine.run(Truncate(context, 10))
        other = Decode(context, 12, Sampling(temperature=1.5, top_p=0.95, seed=12))
        assert [token.id for token in await read(engine, other)] != first

    with_engine(body)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["append", "append", "decode", "truncate", "replay", "fork", "evict", "probe"]),
            st.integers(0, 3),
            st.integers(1, 20),
        ),
        min_size=1,
        max_size=10,
    ),
    row_budget=st.integers(1, 16),
)
def test_any_sequence_of_work_equals_full_forwards(steps: list[tuple[str, int, int]], row_budget: int) -> None:
    async def body(engine: Engine) -> None:
        contexts = [engine.open_context(), engine.open_context()]
        await asyncio.gather(*(engine.run(Append(context, make_entries(3))) for context in contexts))
        for number, (operation, which, size) in enumerate(steps):
            context = contexts[which % len(contexts)]
            position = min(size, context.length)
            match operation:
                case "append":
                    await engine.run(Append(context, make_entries(size, seed=number)[: context.room]))
                case "decode" if context.room >= size:
                    before = context.entries
                    reply = [token.id for token in await read(engine, Decode(context, size))]
                    assert reply == ORACLE.greedy(before, size)
                case "truncate":
                    assert (await engine.run(Truncate(context, position))).length == position
                case "replay":
                    await engine.run(Replay(context, position))
                case "fork" if len(contexts) < 4:
                    contexts.append((await engine.run(Fork(context))).context)
                case "evict":
                    await engine.run(Evict(context))
                    assert context.slot is None
        answers = await asyncio.gather(*(engine.run(Append(context, (), EVERY_ID)) for context in contexts))
        for context, answer in zip(contexts, answers, strict=True):
            assert_probabilities(answer.probabilities, context.entries)

    with_engine(body, row_budget=row_budget)


@pytest.mark.parametrize("way", ["aclose", "break", "aclosing", "task"])
def test_a_decode_that_nobody_reads_any_more_stops(way: str) -> None:
    async def body(engine: Engine) -> None:
        context = engine.open_context()
        prompt = make_entries(6)
        await engine.run(Append(context, prompt))
        decode = Decode(context, 100)
        seen: list[Token] = []

        async def some() -> None:
            async for token in engine.stream(decode):
                seen.append(token)
                if len(seen) == 3 and way == "break":
                    break
                if len(seen) == 3 and way == "task":
                    await asyncio.Event().wait()

        match way:
            case "break":
                await some()
            case "task":
                task = asyncio.create_task(some())
                while len(seen) < 3:
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                del task
            case "aclose":
                stream = engine.stream(decode)
                seen += [await anext(stream) for _ in range(3)]
                await stream.aclose()
                assert [token async for token in stream] == []
            case "aclosing":
                async with aclosing(engine.stream(decode)) as stream:
                    seen += [await anext(stream) for _ in range(3)]
        gc.collect()
        await engine.run(Truncate(context, len(prompt) + 3))
        assert [entry.token_id for entry in context.entries[len(prompt) :]] == [token.id for token in seen]
        assert [token.id for token in await read(engine, Decode(context, 5))] == ORACLE.greedy(prompt, 8)[3:]
        assert engine.stats().queued == 0

    with_engine(body)


def test_a_truncate_ends_the_decode_before_it() -> None:
    speech = ScriptedSpeech()

    async def body(engine: Engine) -> None:
        context = engine.open_context()
        await engine.run(Append(context, make_entries(6)))
        stream = engine.stream(Decode(context, 100))
        seen = [await anext(stream), await anext(stream)]
        assert (await engine.run(Truncate(context, 7))).length == 7
        seen += [token async for token in stream]
        assert context.length == 7 and seen[0].id == context.entries[6].token_id and len(seen) < 100

    with_engine(body, speech=speech)


def test_work_on_one_context_is_done_in_order() -> None:
    async def body(engine: Engine) -> None:
        context = engine.open_context()
        parts = [make_entries(4, seed=seed) for seed in range(5)]
        await asyncio.gather(*(engine.run(Append(context, part)) for part in parts))
        expected = [entry for part in parts for entry in part]
        assert all(ours.same_input(entry) for ours, entry in zip(context.entries, expected, strict=True))

    with_engine(body, row_budget=3)


def test_a_fork_replies_on_its_own() -> None:
    async def body(engine: Engine) -> None:
        parent = engine.open_context()
        prompt, more = make_entries(12), make_entries(5, seed=8)
        await engine.run(Append(parent, prompt))
        branch = (await engine.run(Fork(parent))).context
        await engine.run(Append(branch, more))
        ours, theirs = await asyncio.gather(read(engine, Decode(parent, 10)), read(engine, Decode(branch, 10)))
        assert [token.id for token in ours] == ORACLE.greedy(prompt, 10)
        assert [token.id for token in theirs] == ORACLE.greedy(prompt + more, 10)
        with pytest.raises(CapacityError, match="branch"):
            await engine.run(Fork(parent))
        engine.close_context(branch)
        await engine.run(Fork(parent))

    with_engine(body, slots=2)


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
        bad, reply = await asyncio.gather(
            read(engine, Decode(sick, 5)), read(engine, Decode(well, 5)), return_exceptions=True
        )
        assert isinstance(bad, EngineError) and "not finite" in str(bad)
        assert [token.id for token in reply] == ORACLE.greedy(prompt, 5)
        with pytest.raises(EngineError, match="not finite"):
            await engine.run(Append(sick, (), probe=(1,)))

    with_engine(body)


def test_speech_items_are_batched_one_for_each_stream_and_kept_in_order() -> None:
    speech = ScriptedSpeech()
    speech.gate.clear()

    async def body(engine: Engine) -> None:
        first = asyncio.create_task(engine.run(Encode("a", 0)))
        await entered(speech)
        rest = [asyncio.create_task(engine.run(Encode(*pair))) for pair in (("a", 1), ("b", 2), ("a", 3), ("c", 4))]
        await asyncio.sleep(0)
        speech.gate.set()
        answers = [(await task).value for task in (first, *rest)]
        assert answers == [0, 2, 4, 6, 8]
        assert speech.batches == [[0], [1, 2], [3, 4]]
        assert len(speech.threads) == 1 and threading.get_ident() not in speech.threads
        stats = engine.stats()
        assert (stats.speech_batches, stats.speech_items, stats.items["encode"]) == (3, 5, 5)

    with_engine(body, speech=speech, speech_batch=2)


def test_a_failing_speech_item_fails_alone_and_a_failing_batch_names_the_cause() -> None:
    speech = ScriptedSpeech()
    speech.gate.clear()

    async def body(engine: Engine) -> None:
        first = asyncio.create_task(engine.run(Encode("x", 0)))
        await entered(speech)
        tasks = [asyncio.create_task(engine.run(Encode("a", ValueError("bad mel")))), engine.run(Encode("b", 2))]
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


def test_the_event_loop_ticks_while_a_slow_step_runs() -> None:
    speech = ScriptedSpeech()
    speech.gate.clear()

    async def body(engine: Engine) -> None:
        slow = asyncio.create_task(engine.run(Encode("a", 1)))
        await entered(speech)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert not slow.done()
        speech.gate.set()
        assert (await slow).value == 2

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


def test_seconds_of_all_answers_add_up_to_the_engines_time() -> None:
    async def body(engine: Engine) -> None:
        contexts = [engine.open_context() for _ in range(3)]
        answers = await asyncio.gather(*(engine.run(Append(c, make_entries(9))) for c in contexts))
        replies = await asyncio.gather(*(read(engine, Decode(c, 6)) for c in contexts))
        stats = engine.stats()
        assert stats.seconds["append"] == pytest.approx(sum(answer.seconds for answer in answers))
        assert stats.seconds["decode"] == pytest.approx(sum(token.seconds for reply in replies for token in reply))
        assert stats.items == {"append": 3, "decode": 3} and stats.slots_taken == 3

    with_engine(body)


@pytest.mark.parametrize("wrong", [{"slots": 0}, {"slot_len": 10_000}, {"row_budget": 0}, {"branch_reserve": 4}])
def test_sizes_that_do_not_fit_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match="slot|row_budget|positions"):
        Engine(BACKBONE, **wrong)
