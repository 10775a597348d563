"""A recorded conversation, led again, gives the same events: times, ids, words."""

from __future__ import annotations

import asyncio
import inspect
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from conversation import spoken
from textpro.agent.runtime import Runtime
from textpro.agent.session import Session
from textpro.evaluation.simulate_replay import first_difference, read_recording
from textpro.evaluation.simulator import Simulator
from textpro.models.errors import InputError
from textpro.serving.recording import RecordedSession, Recording


@pytest.fixture(scope="module")
def simulator(request):
    from requirements import require_module

    require_module("espeakng_loader")
    with Simulator() as simulator:
        yield simulator


def record(folder: Path, talk: Callable[[Session], Awaitable[None]], **session) -> Path:
    async def main() -> Path:
        async with Runtime() as runtime:
            recording = Recording(folder, "tiny")
            async with RecordedSession(runtime.session(playback="acknowledged", **session), recording) as recorded:
                await talk(recorded)
                await recorded.settled()
            return recording.path

    return asyncio.run(main())


async def barge_in(session: Session) -> None:
    """Frames in short order, so that the engine's answers come anywhere between them; a reply that is played and cut off."""
    audio = np.concatenate([spoken("what is twenty plus thirty", after_ms=900), spoken("turn on the kitchen light", seed=1)])
    played_ms, begun = 0.0, False
    for start in range(0, len(audio), 320):
        await session.send_audio(audio[start : start + 320], 16_000)
        for event in session.said():
            begun = begun or event.type == "audio"
            if event.type in ("interrupt", "reply_done"):
                played_ms, begun = 0.0, False
        if begun:
            played_ms += 20
            session.played(played_ms)
        for _ in range(40):
            await asyncio.sleep(0)
        if start % 3200 == 0:
            await session.settled()
    await session.settled()
    session.played(1e9)


def test_a_recorded_conversation_with_an_interruption_gives_the_same_events_again(simulator, tmp_path):
    path = record(tmp_path, barge_in)
    recorded = read_recording(path)
    kinds = {event["type"] for event in recorded.events}
    assert {"turn_end", "tokens_committed", "audio", "interrupt"} <= kinds
    replayed = simulator.replay(recorded)
    assert replayed.difference is None
    assert [event["type"] for event in replayed.events] == [event["type"] for event in recorded.events]


def test_tools_are_not_run_again_and_their_results_come_when_they_came(simulator, tmp_path):
    runs = []

    async def set_light(room: str, state: str) -> dict[str, bool]:
        runs.append(room)
        await asyncio.sleep(0.05)
        return {"ok": True}

    async def talk(session: Session) -> None:
        await session.send_text("turn on the kitchen light")
        await session.settled()
        session.played(1e9)

    recorded = read_recording(record(tmp_path, talk, tools=[set_light]))
    assert simulator.replay(recorded).difference is None
    assert runs == ["kitchen"]


def test_every_input_of_a_session_is_recorded():
    inputs = {name for name, method in vars(Session).items() if not name.startswith("_") and "_put(" in source_of(method)}
    assert inputs and {*inputs, "played"} <= vars(RecordedSession).keys()


def source_of(method: object) -> str:
    return inspect.getsource(method) if inspect.isfunction(method) else ""


def test_a_recording_is_for_its_owner_alone_and_says_that_it_is_one(tmp_path):
    async def nothing() -> None:
        recording = Recording(tmp_path / "new", "tiny")
        assert "recorded" in recording.notice and str(recording.path) in recording.notice
        assert stat.S_IMODE(recording.path.stat().st_mode) == 0o600
        assert stat.S_IMODE(recording.path.parent.stat().st_mode) == 0o700
        recording.close()

    asyncio.run(nothing())


def test_what_is_no_recording_is_refused_by_name(tmp_path):
    for text in ("", "hello", '{"format": "something else"}\n'):
        (tmp_path / "a.jsonl").write_text(text)
        with pytest.raises(InputError, match=r"a\.jsonl"):
            read_recording(tmp_path / "a.jsonl")


def test_the_first_difference_is_told_and_names_of_calls_do_not_count():
    first = {"type": "tool_call", "t_ms": 5, "call_id": "a", "name": "x"}
    assert first_difference([first], [{**first, "call_id": "b"}]) is None
    assert "name was 'x' and is 'y'" in (first_difference([first], [{**first, "name": "y"}]) or "")
    assert "1 events then, 0 now" in (first_difference([first], []) or "")
