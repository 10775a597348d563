"""The engine as its users see it: answers equal plain transformers whatever else runs, and the event loop
never waits for a model."""

from __future__ import annotations

import asyncio
import gc
import threading
from contextlib import aclosing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine_runs import (
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
    Decode,
    Engine,
    Evict,
    Fork,
    Replay,
    Sampling,
    Token,
    Truncate,
)
from textpro.models.errors import CapacityError
from tiny_backbone import make_entries


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
