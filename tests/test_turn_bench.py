"""`bench turns` and `calibrate turns`: latency read off events, the report, and a whole run on two turns."""

from __future__ import annotations

import csv
import io
import json
import tomllib
from collections.abc import Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile
import typer
from rich.console import Console
from typer.testing import CliRunner

from conversation import spoken
from scripted_engine import CHAT, run
from scripted_session import ScriptedSession
from textpro.agent.events import Audio, EagerTurnEnd, Event, ReplyDelta, TurnEnd, TurnResumed
from textpro.agent.turns import TurnSettings
from textpro.evaluation import turn_bench
from textpro.evaluation.turn_bench import Measured, TurnSize
from textpro.evaluation.turn_decisions import PROSODY, SAID, TEXT, Decision, history_ids, scored
from textpro.evaluation.turn_fit import Fit
from textpro.evaluation.turn_latency import Latencies, VoiceToVoice, ask, measure_latency, voice_to_voice
from textpro.evaluation.turn_report import NAMES, VAD_ONLY, TurnReport, make_rows
from textpro.evaluation.turn_sets import Message, Silence, SpokenTurn
from textpro.evaluation.turn_settings import settings_toml
from textpro.evaluation.turn_sweep import Policy
from textpro.models.errors import InputError
from textpro.turns_commands import bench_turns, calibrate

RATE = 16_000
PCM = np.zeros(100, np.int16)


def seen(*events: tuple[float, Event]) -> Sequence[tuple[float, Event]]:
    return events


def end(t_ms: int, turn_id: int = 1) -> TurnEnd:
    return TurnEnd(t_ms=t_ms, turn_id=turn_id, text="hello", p_end=0.9)


def sound(t_ms: int, turn_id: int = 1) -> Audio:
    return Audio(t_ms=t_ms, turn_id=turn_id, pcm=PCM, sample_rate=RATE, text="Hi.")


def text(t_ms: int, turn_id: int = 1) -> ReplyDelta:
    return ReplyDelta(t_ms=t_ms, turn_id=turn_id, text="Hi.")


def eager(t_ms: int, turn_id: int = 1) -> EagerTurnEnd:
    return EagerTurnEnd(t_ms=t_ms, turn_id=turn_id, text="hello", p_end=0.9)


def test_the_stages_follow_one_another_and_add_up() -> None:
    found = voice_to_voice(
        seen((101.25, eager(1_200)), (101.70, end(1_640)), (101.75, text(1_640)), (101.90, sound(1_640))), 100.0, 1_000.0
    )
    assert found is not None
    stages = (found.silence_ms, found.decision_ms, found.text_ms, found.voice_ms, found.eager_ms)
    assert stages == pytest.approx((640, 60, 50, 150, 250))
    assert found.total_ms == pytest.approx(900)


def test_what_was_drafted_before_the_turn_was_over_costs_nothing_afterwards() -> None:
    found = voice_to_voice(
        seen((101.25, eager(1_200)), (101.30, text(1_200)), (101.65, end(1_640)), (101.66, sound(1_640))), 100.0, 1_000.0
    )
    assert found is not None
    assert found.text_ms == 0
    assert found.voice_ms == pytest.approx(10)
    assert found.total_ms == pytest.approx(660)


def test_the_last_end_of_a_turn_that_was_reopened_counts_and_other_turns_do_not() -> None:
    found = voice_to_voice(
        seen(
            (100.9, sound(900, 1)),
            (101.6, end(1_500, 2)),
            (101.7, TurnResumed(t_ms=1_600, turn_id=2, revision=1)),
            (102.9, eager(2_700, 2)),
            (103.0, replace(end(3_000, 2), revision=1)),
            (103.1, sound(3_000, 2)),
            (103.2, replace(sound(3_000, 2), revision=1)),
        ),
        100.0,
        2_400.0,
    )
    assert found is not None
    assert found.total_ms == pytest.approx(800)
    assert found.eager_ms == pytest.approx(500)


def test_a_turn_without_a_spoken_reply_has_no_latency() -> None:
    assert voice_to_voice(seen((101.0, end(900))), 100.0, 800.0) is None
    assert voice_to_voice(seen((101.0, sound(900))), 100.0, 800.0) is None


def loud_then_quiet(ms: int = 400) -> SpokenTurn:
    samples = np.concatenate([np.full(ms * 16, 0.5, np.float32), np.zeros(800 * 16, np.float32)])
    return SpokenTurn("a", samples, (Silence(ms * 16, len(samples)),))


def test_questions_are_asked_at_real_time_pace_until_the_reply_sounds() -> None:
    async def scenario() -> None:
        session = ScriptedSession(silence_ms=600)
        question = loud_then_quiet()
        began, events = await ask(session, question.samples, 400.0)
        found = voice_to_voice(events, began, 400.0)
        assert found is not None
        assert found.total_ms == pytest.approx(600, abs=1)
        assert len(session.frames) * 20 == pytest.approx(1_000, abs=20)  # nothing more was sent once it sounded

    run(scenario)


def test_turns_cut_off_or_unanswered_are_counted_and_not_averaged() -> None:
    async def scenario() -> None:
        counted = []
        for silence_ms, replies in ((600, ("Yes.",)), (100, ("Yes.", "No.")), (600, (None,))):

            @asynccontextmanager
            async def open_session(silence_ms: int = silence_ms, replies: Any = replies) -> Any:
                async with ScriptedSession(replies=replies, silence_ms=silence_ms) as session:
                    yield session

            turn = loud_then_quiet()
            hole = turn.samples.copy()
            hole[2_400:4_800] = 0  # 150 ms
            questions = [SpokenTurn("a", hole, turn.silences)]
            counted.append(await measure_latency("scripted", open_session, questions, lambda n: None))
        assert [(len(one.answered), one.cut_off, one.unanswered) for one in counted] == [(1, 0, 0), (0, 1, 0), (0, 0, 1)]

    run(scenario)


def decision(turn: str, is_end: bool, ms: float, p: float | None, source: str = "espeak x") -> Decision:
    return Decision(turn, source, 0, is_end, ms, "well", "well", p, p, None)


def small_report() -> TurnReport:
    decisions = []
    for index in range(24):
        source = "flite slt" if index % 2 else "espeak f4"
        decisions.append(decision(str(index), False, 210 + 90 * index, 0.2 + 0.6 * (index == 3), source))
        decisions.append(decision(str(index), True, 800, 0.9, source))
    answered = tuple(VoiceToVoice(300 + index, 20, 0, 100, 250) for index in range(3))
    latencies = (Latencies("default settings", answered, 1, 0), Latencies("without speculation", answered, 0, 0))
    rows = make_rows(decisions, 0)
    return TurnReport("tiny", "synthetic turns", 0, 1.0, tuple(decisions), rows, {"as set": (0.04, 300.0)}, latencies)


def test_a_report_compares_each_way_with_silence_alone_of_the_whole_set_and_by_voice() -> None:
    report = small_report()
    assert {(row.name, row.part) for row in report.rows} == {
        (name, part) for name in (VAD_ONLY, NAMES[TEXT], NAMES[PROSODY]) for part in ("all", "espeak", "flite")
    }
    best, plain = report.row(NAMES[PROSODY]), report.row(VAD_ONLY)
    assert best is not None
    assert plain is not None
    assert best.dead_air[0] is not None
    assert best.dead_air[0].dead_air_ms == 200  # one of 24 pauses looks like an end: 4.2 %
    assert plain.dead_air[0] is not None
    assert report.share_of_vad == pytest.approx(200 / plain.dead_air[0].dead_air_ms)
    assert report.mistaken_pauses()[0].turn == "3"


def test_a_report_is_json_tables_lines_and_a_picture_without_losing_a_figure(tmp_path: Path) -> None:
    report = small_report()
    values = json.loads(json.dumps(report.to_dict()))
    assert values["voice_to_voice"]["default settings"]["total_ms"] == {"p50": 421.0, "p95": 421.9}
    assert values["rows"][2]["dead_air_at_5_percent"]["dead_air_ms"] == 200
    report.write_csv(tmp_path / "decisions.csv")
    with (tmp_path / "decisions.csv").open() as lines:
        assert [float(line["silence_ms"]) for line in csv.DictReader(lines)][:3] == [210.0, 800.0, 300.0]
    out = io.StringIO()
    Console(file=out, width=160).print(report.tables())
    assert "voice to voice, median, default settings" in out.getvalue()
    picture = ElementTree.fromstring(report.svg())
    names = [element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert {VAD_ONLY, NAMES[TEXT], NAMES[PROSODY]} <= set(names)
    lines = list(picture.iter("{http://www.w3.org/2000/svg}polyline"))
    assert len(lines) == len({element.get("stroke-dasharray") for element in lines}) == 3


def test_history_is_closed_turns_and_what_nobody_answered_is_left_out() -> None:
    history = (
        Message("assistant", "Hello!"),
        Message("user", "hi"),
        Message("assistant", "What is it?"),
        Message("user", "never mind"),
    )
    (ids,) = history_ids(CHAT, history)
    assert ids == (*CHAT.user_open(), *CHAT.words("hi"), *CHAT.reply_open(), *CHAT.reply("What is it?"), *CHAT.reply_close())
    assert history_ids(CHAT, history * 100)[-1] == ids


def test_ways_of_asking_are_kept_apart() -> None:
    one = Decision("a", "recorded", 0, True, 500.0, "yes", None, 0.1, 0.2, None)
    assert [scored([one], way)[0].p_end for way in (TEXT, PROSODY, SAID)] == [0.1, 0.2, None]


@pytest.fixture
def two_turns(tmp_path: Path) -> Path:
    """Two turns with a pause each, as a folder that `--data` takes."""
    folder = tmp_path / "turns"
    folder.mkdir()
    lines = []
    for name, words in (("sum", "what is two plus two"), ("light", "turn on the kitchen light")):
        whole = spoken(words, after_ms=600)
        middle, pause = (len(whole) - 200 * 16) // 2, np.zeros(300 * 16, np.float32)
        samples = np.concatenate([whole[:middle], pause, whole[middle:]])
        start, end_s = middle / RATE, len(samples) / RATE
        spans = [{"start": start, "end": start + 0.3}, {"start": end_s - 0.6, "end": end_s}]
        soundfile.write(folder / f"{name}.wav", samples, RATE)
        row = {"id": name, "language": "en", "silence_spans": spans, "file_name": f"{name}.wav"}
        lines.append(json.dumps({**row, "words": [{"word": words.split()[0], "start": 0.4, "end": 0.6}]}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture
def command() -> typer.Typer:
    """As the program's command line hangs them in."""
    app, bench = typer.Typer(), typer.Typer(no_args_is_help=True)
    bench.command("turns")(bench_turns)
    bench.callback()(lambda: None)
    app.add_typer(bench, name="bench")
    app.add_typer(calibrate, name="calibrate")
    return app


def test_the_bundled_model_is_surer_at_ends_than_within_sentences(two_turns: Path, command: typer.Typer, tmp_path: Path) -> None:
    files = ["--csv", str(tmp_path / "out.csv"), "--plot", str(tmp_path / "out.svg")]
    asked = ["bench", "turns", "--json", "--no-latency", "--data", str(two_turns), *files]
    done = CliRunner().invoke(command, asked, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    values = json.loads(done.stdout)
    assert values["set"] == "turns turns: 2 recorded"
    with (tmp_path / "out.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    p_end = {(row["turn"], row["is_end"]): float(row["p_prosody"] or 0) for row in rows}
    assert len(p_end) == 4
    assert all(p_end[turn, "True"] > 10 * p_end[turn, "False"] for turn in ("sum", "light")), p_end
    ElementTree.fromstring((tmp_path / "out.svg").read_text())


def test_latency_alone_is_measured_under_the_rule_asked_for(command: typer.Typer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_bench, "QUICK", TurnSize("quick", turns=1, questions=1))
    asked = ["bench", "turns", "--json", "--no-decisions", "--endpointing", "vad"]
    done = CliRunner().invoke(command, asked, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    values = json.loads(done.stdout)
    drafted, plain = values["voice_to_voice"]["endpointing vad"], values["voice_to_voice"]["without speculation"]
    assert (drafted["answered"], plain["answered"], values["rows"]) == (1, 1, [])
    assert 640 <= drafted["silence_ms"]["p50"] == plain["silence_ms"]["p50"] <= 900


def test_a_bench_of_nothing_is_refused(command: typer.Typer) -> None:
    done = CliRunner().invoke(command, ["bench", "turns", "--no-decisions", "--no-latency"])
    assert done.exit_code != 0
    with pytest.raises(InputError, match="neither decisions nor latency"):
        Measured(decisions=False, latency=False)


def test_calibrating_on_too_few_turns_leaves_it_to_silence_and_says_so(two_turns: Path, command: typer.Typer) -> None:
    done = CliRunner().invoke(command, ["calibrate", "turns", "--data", str(two_turns)], catch_exceptions=False)
    assert done.exit_code == 1
    assert "too few" in done.output
    assert tomllib.loads(done.stdout) == {"turns": {"endpointing": "vad"}}


def test_a_fitted_rule_is_a_settings_file_that_gives_that_rule() -> None:
    fit = Fit(Policy(0.003, 300, 2_500), (0.04, 500.0), (0.05, 520.0), 1_500.0, "P(end) helps")
    values = tomllib.loads(settings_toml(fit, "a model, some turns"))["turns"]
    settings = TurnSettings(**values)
    assert [settings.silence_needed_ms(p) for p in (0.0029, 0.0031, 0.9)] == [2_500, 300, 300]


def test_half_of_a_pair_is_refused(command: typer.Typer, tmp_path: Path) -> None:
    done = CliRunner().invoke(command, ["calibrate", "turns", "--encoder", str(tmp_path)])
    assert done.exit_code == 2
    assert "go together" in done.output
