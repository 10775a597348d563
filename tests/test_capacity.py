"""More conversations than there is room or time for: who is refused, who waits, who is computed again, and that whatever
happens to one happens to it alone."""

from __future__ import annotations

import asyncio
import runpy
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from engine_runs import BACKBONE, ORACLE, Encode, ScriptedSpeech, entered, read, with_engine
from scripted_engine import CHAT
from textpro.agent.events import Event
from textpro.agent.history_room import Dropped, make_room, turn_starts
from textpro.agent.runtime import Runtime, engine_threads
from textpro.engine import Append, Context, Decode, Engine, Entry, Fork, Truncate, Urgency
from textpro.models.backbone import Backbone
from textpro.models.errors import CapacityError, EngineError, InputError
from tiny_backbone import make_entries


def test_past_the_measured_capacity_a_session_is_refused_within_a_second_while_the_engine_is_at_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    speech, clock = ScriptedSpeech(), [0.0]
    monkeypatch.setattr("textpro.engine.speech.now", lambda: clock[0])

    class Slow:
        def run(self, items: Sequence) -> Sequence[object]:
            clock[0] += 2.0  # for five seconds of speech
            return speech.run(items)

    async def body(engine: Engine) -> None:
        engine.open_context()
        assert engine.stats().capacity is None
        await engine.run(Encode("a", 1), Urgency(audio_samples=80_000))
        assert engine.stats().capacity == 3  # 0.4 of the time at 0.4 s a second: 0.16 of 0.5
        engine.open_context()
        third = engine.open_context()
        speech.gate.clear()
        speech.entered.clear()
        at_work = asyncio.create_task(engine.run(Encode("a", 2), Urgency(audio_samples=80_000)))
        await entered(speech)
        began = time.perf_counter()
        with pytest.raises(CapacityError, match="no time for another session: 3 are inside"):
            engine.open_context()
        assert time.perf_counter() - began < 1
        speech.gate.set()
        await at_work
        engine.close_context(third)
        engine.open_context()
        assert engine.stats().refused == 1

    with_engine(body, speech=Slow(), slots=8, max_load=0.5)


def test_without_a_limit_of_load_places_alone_count() -> None:
    async def body(engine: Engine) -> None:
        await engine.run(Encode("a", 1), Urgency(audio_samples=80_000))
        for _ in range(3):
            engine.open_context()
        assert engine.stats().capacity is None

    with_engine(body, speech=ScriptedSpeech(), slots=3)


@pytest.mark.parametrize("wrong", [{"contexts": 3}, {"max_load": 0.0}, {"max_load": 1.5}])
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"contexts|max_load"):
        Engine(BACKBONE, slots=4, slot_len=64, **wrong)


def test_sessions_that_rest_lend_their_slots_and_come_back_to_the_same_state() -> None:
    async def body(engine: Engine) -> None:
        contexts = [engine.open_context() for _ in range(6)]
        prompts = [make_entries(10 + seed, seed=seed) for seed in range(6)]
        for context, prompt in zip(contexts, prompts, strict=True):
            await engine.run(Append(context, prompt))
        assert sum(context.slot is not None for context in contexts) == 2
        replies = [[token.id for token in await read(engine, Decode(context, 6))] for context in contexts]
        again = await asyncio.gather(*(read(engine, Decode(context, 6)) for context in contexts))
        for prompt, first, second in zip(prompts, replies, again, strict=True):
            assert first + [token.id for token in second] == ORACLE.greedy(prompt, 12)
        stats = engine.stats()
        assert stats.evicted >= 8 and stats.refused == 0 and stats.slots_taken == 6
        with pytest.raises(CapacityError, match="6 of 6"):
            engine.open_context()
        engine.close_context(contexts[0])
        engine.open_context()

    with_engine(body, slots=2, contexts=6, row_budget=7)  # so that replays come in pieces


def test_the_session_that_has_rested_longest_lends_its_slot_first() -> None:
    async def body(engine: Engine) -> None:
        first, second, third = (engine.open_context() for _ in range(3))
        for context in (first, second):
            await engine.run(Append(context, make_entries(4)))
        await engine.run(Append(first, make_entries(2)))
        await engine.run(Append(third, make_entries(4)))
        assert second.slot is None and first.slot is not None and third.slot is not None
        assert second.length == 4

    with_engine(body, slots=2, contexts=3)


def test_work_waits_for_a_slot_while_all_are_at_work() -> None:
    async def body(engine: Engine) -> None:
        talking, waiting = engine.open_context(), engine.open_context()
        prompt, other = make_entries(5), make_entries(6, seed=3)
        await engine.run(Append(talking, prompt))
        reply, later = await asyncio.gather(read(engine, Decode(talking, 12)), read_after(engine, waiting, other, 5))
        assert [token.id for token in reply] == ORACLE.greedy(prompt, 12)
        assert later == ORACLE.greedy(other, 5)

    with_engine(body, slots=1, contexts=2)


async def read_after(engine: Engine, context: Context, prompt: Sequence[Entry], tokens: int) -> list[int]:
    await engine.run(Append(context, tuple(prompt)))
    return [token.id for token in await read(engine, Decode(context, tokens))]


def test_work_that_finds_no_slot_in_time_fails_with_a_reason_and_leaves_the_others_running(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("textpro.engine.lanes.SLOT_WAIT_S", -1.0)

    async def body(engine: Engine) -> None:
        talking, unlucky = engine.open_context(), engine.open_context()
        prompt = make_entries(5)
        await engine.run(Append(talking, prompt))
        stream = engine.stream(Decode(talking, 60))
        seen = [(await anext(stream)).id]
        with pytest.raises(CapacityError, match="all 1 slots"):
            await engine.run(Append(unlucky, make_entries(3)))
        seen += [token.id async for token in stream]
        assert seen == ORACLE.greedy(prompt, 60)
        assert unlucky.length == 0 and engine.stats().failed == 1

    with_engine(body, slots=1, contexts=2)


def test_a_fork_that_finds_no_slot_holds_no_place() -> None:
    async def body(engine: Engine) -> None:
        only = engine.open_context()
        await engine.run(Append(only, make_entries(5)))
        with pytest.raises(CapacityError, match="all 1 slots"):
            await engine.run(Fork(only))
        assert engine.stats().slots_taken == 1

    with_engine(body, slots=1, contexts=2)


def starve(monkeypatch: pytest.MonkeyPatch, enough_rows: int) -> None:
    """Steps of more rows than this run out of memory."""
    forward = Backbone.forward

    def scarce(self: Backbone, embeddings: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        if len(embeddings) > enough_rows:
            raise torch.OutOfMemoryError(f"no memory for {len(embeddings)} rows")
        return forward(self, embeddings, *rest)

    monkeypatch.setattr(Backbone, "forward", scarce)


def test_out_of_memory_ends_one_session_with_a_reason_and_leaves_the_others_running(monkeypatch: pytest.MonkeyPatch) -> None:
    starve(monkeypatch, 12)

    async def body(engine: Engine) -> None:
        contexts = [engine.open_context() for _ in range(4)]
        prompts = [make_entries(20), *(make_entries(8 + seed, seed=seed) for seed in range(3))]
        bad, *good = await asyncio.gather(
            *(read_after(engine, *pair, 8) for pair in zip(contexts, prompts, strict=True)), return_exceptions=True
        )
        assert isinstance(bad, EngineError) and "no memory for 20 rows" in str(bad)
        assert good == [ORACLE.greedy(prompt, 8) for prompt in prompts[1:]]
        assert contexts[0].length == 0

    with_engine(body)


def test_a_session_that_runs_out_of_memory_says_why_and_another_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with (
            Runtime("tiny", speak=False, slots=2) as runtime,
            runtime.session(tools=[]) as unlucky,
            runtime.session(tools=[]) as lucky,
        ):
            starve(monkeypatch, 60)
            await asyncio.gather(unlucky.send_text("tell me " * 60), lucky.send_text("hello"))
            ends: list[Event] = []
            for session in (unlucky, lucky):
                async for event in session:
                    if event.type in ("failed", "reply_done"):
                        ends.append(event)
                        break
            assert ends[0].type == "failed" and "no memory for" in ends[0].reason
            assert ends[1].type == "reply_done" and ends[1].text
            assert runtime.engine.stats().failed == 1

    asyncio.run(main())


def test_the_soak_notices_memory_that_grows_and_forgives_its_warm_up() -> None:
    growth_mb = runpy.run_path(str(Path(__file__).resolve().parent.parent / "tools" / "soak.py"))["growth_mb"]
    warm_up, noise = [100.0 + 20 * step for step in range(10)], [0.0, 3.0, -2.0, 5.0, 1.0] * 8
    assert abs(growth_mb([*warm_up, *(300 + wobble for wobble in noise)])) < 5
    assert growth_mb([*warm_up, *(300 + step for step in range(40))]) > 20
    with pytest.raises(ValueError, match="too few"):
        growth_mb([1.0, 2.0])


SYSTEM = tuple(Entry(token) for token in CHAT.system("Be brief."))


def turn(words: str, reply: str, *, called: bool = False) -> tuple[Entry, ...]:
    ids = (*CHAT.user_open(), *CHAT.reply(words), *CHAT.reply_open())
    if called:
        ids += (*CHAT.call("clock", {}), *CHAT.reply_close(), *CHAT.response({"time": 9}))
    return tuple(Entry(token) for token in (*ids, *CHAT.reply(reply), *CHAT.reply_close()))


class LogEngine:
    """Applies what is asked to the log."""

    async def run(self, item: Append | Truncate) -> None:
        if isinstance(item, Truncate):
            item.context.truncate(item.position)
        else:
            item.context.append(item.entries)


def room_of(capacity: int, *turns: tuple[Entry, ...]) -> tuple[Dropped | None, list[int | None], Context]:
    context = Context(capacity)
    context.append([*SYSTEM, *(entry for one in turns for entry in one)])
    dropped = asyncio.run(make_room(LogEngine(), context, CHAT, len(SYSTEM)))
    return dropped, [entry.token_id for entry in context.entries], context


def ids_of(*parts: tuple[Entry, ...]) -> list[int | None]:
    return [entry.token_id for part in parts for entry in part]


def test_a_context_that_grows_full_forgets_its_oldest_whole_turns_and_keeps_the_instructions() -> None:
    turns = [turn(f"question {index}", f"answer {index}") for index in range(8)]
    size = len(turns[0])
    capacity = len(SYSTEM) + 8 * size + size // 2
    dropped, held, context = room_of(capacity, *turns)
    assert dropped is not None and dropped.entries == dropped.turns * size
    assert held == ids_of(SYSTEM, *turns[dropped.turns :])
    assert capacity // 2 <= context.room < capacity // 2 + size + 1
    assert [entry.position for entry in context.entries] == list(range(context.length))


def test_a_turn_with_calls_goes_as_a_whole() -> None:
    turns = [turn(f"question {index}", f"answer {index}", called=index % 2 == 0) for index in range(6)]
    context = Context(10_000)
    context.append([*SYSTEM, *(entry for one in turns for entry in one)])
    starts = turn_starts(context.entries, CHAT, len(SYSTEM))
    assert starts == [len(SYSTEM) + sum(map(len, turns[:index])) for index in range(6)]
    dropped, held, _ = room_of(context.length + 3, *turns)
    assert dropped is not None and held == ids_of(SYSTEM, *turns[dropped.turns :])


def test_a_long_last_turn_stays_as_long_as_it_leaves_room() -> None:
    short, long = turn("one", "two"), turn("a " * 40, "b " * 10)
    capacity = (len(SYSTEM) + len(long)) * 8 // 5
    shorts = [short] * ((capacity - len(SYSTEM) - len(long)) // len(short))
    dropped, held, context = room_of(capacity, *shorts, long)
    assert dropped is not None and held == ids_of(SYSTEM, *shorts[dropped.turns :], long)
    assert capacity // 4 <= context.room < capacity // 2


def test_a_context_with_room_is_left_as_it_is() -> None:
    turns = [turn("one", "two")] * 4
    dropped, held, _ = room_of(1_000, *turns)
    assert dropped is None and held == ids_of(SYSTEM, *turns)


@pytest.mark.parametrize(("cores", "torchs", "expected"), [(1, 1, 1), (2, 2, 1), (2, 1, 1), (8, 8, 7), (8, 4, 4)])
def test_a_runtime_leaves_a_core_to_the_event_loop(
    cores: int, torchs: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setattr("torch.get_num_threads", lambda: torchs)
    assert engine_threads() == expected
