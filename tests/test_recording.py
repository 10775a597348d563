"""A recorded conversation, led again, gives the same events: times, ids, words."""

from __future__ import annotations

import asyncio
import inspect
import stat
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from conversation import spoken
from textpro.agent.runtime import Runtime
from textpro.agent.session import Session
from textpro.agent.session_settings import SessionSettings
from textpro.agent.tools import Toolbox
from textpro.evaluation.scenario import parse_scenario
from textpro.evaluation.simulate_picture import picture
from textpro.evaluation.simulate_replay import first_difference, read_recording
from textpro.evaluation.simulator import Simulator
from textpro.models.errors import InputError
from textpro.recordings_command import recordings as recordings_command
from textpro.serving.recording import RecordedSession, Recording
from textpro.serving.recordings import delete_older, recordings
from textpro.streaming.echo_guard import EchoSettings
from textpro.streaming.synthesis import AS_SET, Manner, SpeechChunk, WordTime


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


class Hissing:
    """A voice that hisses, 60 ms for each letter."""

    sample_rate = 16_000

    async def synthesize(self, text: str, *, manner: Manner = AS_SET) -> AsyncGenerator[SpeechChunk, None]:
        for index, word in enumerate(text.split()):
            pcm = np.random.default_rng(index).normal(0, 4000, 960 * len(word)).astype(np.int16)
            yield SpeechChunk(pcm, (WordTime(word, text.index(word), len(word), 0, len(pcm)),))

    def cancel(self) -> None:
        """Nothing is left."""


async def with_echo(session: Session) -> None:
    """The microphone hears what is played, 60 ms later; then a user speaks over it."""
    user = np.concatenate([np.zeros(16_000 * 2, np.float32), spoken("turn on the kitchen light", seed=1)])
    sound, at = np.zeros(0, np.float32), 0
    await session.send_text("what is twenty plus thirty")
    await session.settled()
    for start in range(0, len(user) // 320 * 320, 320):
        for event in session.said():
            if event.type == "audio":
                sound = np.concatenate([sound, event.pcm / np.float32(32768)])
            elif event.type == "interrupt":
                sound = sound[:at]
        late = np.pad(sound, (960, 640))[at : at + 320]
        await session.send_audio(user[start : start + 320] + 0.2 * np.pad(late, (0, 320 - len(late))), 16_000)
        if at < len(sound):
            at = min(at + 320, len(sound))
            session.played(at / 16)
        await session.settled()


def test_a_recording_with_the_echo_guard_keeps_what_was_played_and_gives_the_same_events_again(simulator, tmp_path):
    async def main() -> Path:
        async with Runtime(speak=False) as runtime:
            settings = SessionSettings(playback="acknowledged", echo=EchoSettings("guard"))
            session = Session(runtime.engine, runtime.checkpoint, Hissing(), Toolbox(None), settings)
            recording = Recording(tmp_path, "tiny")
            async with RecordedSession(session, recording) as recorded:
                await with_echo(recorded)
            return recording.path

    path = asyncio.run(main())
    recorded = read_recording(path)
    assert [event for event in recorded.events if event["type"] == "turn_end"]
    assert simulator.replay(recorded).difference is None
    as_scenario = f"name: Led again\nabout: that replay is a scenario\nkind: replay\nrecording: {path.name}\n"
    outcome = simulator.run(parse_scenario(as_scenario, tmp_path / "again.yaml"))
    assert outcome.passed and outcome.duration_ms > 3_000
    assert ElementTree.fromstring(picture(outcome)).tag.endswith("svg")
    wrong = parse_scenario(as_scenario + "totals: {interrupt: 7}\n", tmp_path / "again.yaml")
    assert "expected 7 x interrupt" in simulator.run(wrong).failures[0]


def test_recordings_are_listed_and_deleted_by_age_and_by_name_and_nothing_else_is(tmp_path):
    now = datetime(2026, 3, 1, tzinfo=UTC)
    names = ["20260101T000000Z-aaaaaa.jsonl", "20260228T120000Z-bbbbbb.jsonl", "20260227T120000Z-cccccc.jsonl"]
    for name in [*names, "notes.txt", "20250101T000000Z-aaaaaa.json"]:
        (tmp_path / name).write_text("{}")
    assert [kept.path.name for kept in recordings(tmp_path)] == [names[0], names[2], names[1]]
    assert [kept.path.name for kept in delete_older(tmp_path, 30, now)] == [names[0]]
    assert delete_older(tmp_path / "none", 30) == []
    app = typer.Typer()
    app.command()(recordings_command)
    assert names[1] in CliRunner().invoke(app, [str(tmp_path)]).stdout
    assert CliRunner().invoke(app, [str(tmp_path), "--delete", "other"]).exit_code == 2
    deleted = CliRunner().invoke(app, [str(tmp_path), "--delete", names[1]])
    assert deleted.exit_code == 0 and "deleted" in deleted.stdout
    assert CliRunner().invoke(app, [str(tmp_path), "--delete", "all"]).exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["20250101T000000Z-aaaaaa.json", "notes.txt"]
    assert CliRunner().invoke(app, [str(tmp_path / "none")]).exit_code == 2


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
