"""A caller of a load test in virtual time: what it measures, when it speaks, cuts in and gives up; and what a report says."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from load_partner import Partner, calling, converse, delta, said
from textpro.evaluation.load import LoadRun, LoadSettings, realtime_url
from textpro.evaluation.load_caller import Caller, CallerSettings, Result, Turn, shuffled
from textpro.evaluation.load_ear import Ear, Gap, Playing
from textpro.evaluation.load_plot import draw_load
from textpro.evaluation.load_report import Fault, LoadReport
from textpro.models.errors import InputError


def test_latency_runs_from_the_last_sample_said_to_the_first_that_can_be_played() -> None:
    caller = converse(calling(said(600), said(610)), Partner(silence_ms=300, think_ms=200))
    whole, partly = caller.turns
    assert (whole.result, whole.latency_ms) == (Result.ANSWERED, 300 + 200)
    assert partly.latency_ms == 10 + 300 + 200  # its last sample stood in the middle of a piece
    assert [turn.audio_ms for turn in caller.turns] == [1_000, 1_000] and caller.is_done


def test_a_caller_hears_the_reply_out_and_thinks_before_it_speaks_again() -> None:
    caller = converse(calling(said(600), said(600)), Partner())
    first, second = caller.turns
    end_of_reply = first.began_ms + 600 + 500 + 1_000
    assert second.began_ms == pytest.approx(end_of_reply + 1_000, abs=40)


def test_a_caller_says_what_it_is_given_as_its_microphone_takes_it() -> None:
    partner = Partner()
    converse(calling(said(600)), partner)
    assert [message["type"] for message in partner.received[:2]] == ["session.update", "input_audio_buffer.append"]
    assert {len(message["audio"]) for message in partner.received[1:]} == {len(delta(20))}


def test_sound_that_comes_too_late_is_a_gap_of_its_length() -> None:
    partner = Partner()
    partner.pieces = [(0, 200), (210, 200), (530, 100)]
    (turn,) = converse(calling(said()), partner).turns
    (gap,) = turn.gaps  # 10 ms are no gap: the second piece plays until 410
    assert gap.length_ms == 120 and turn.audio_ms == 500


def test_a_caller_cuts_in_and_tells_what_it_had_played() -> None:
    partner = Partner()
    partner.pieces = [(0, 5_000)]
    caller = converse(calling(said(text="a"), said(text="b"), interruptions=1.0), partner)
    first, second = caller.turns
    assert first.was_cut and not first.barged_in and first.result is Result.ANSWERED
    assert second.barged_in and second.stopped_after_ms == 20  # this server hears the first loud piece
    (truncated,) = [message for message in partner.received if message["type"] == "conversation.item.truncate"]
    heard_ms = second.began_ms + 20 - (first.began_ms + 600 + 500)
    assert truncated["audio_end_ms"] == pytest.approx(heard_ms, abs=1) and 300 <= heard_ms <= 1_540
    assert truncated["item_id"].startswith("item_") and truncated["content_index"] == 0


def test_a_server_that_does_not_hear_the_caller_cut_in_is_found_out() -> None:
    partner = Partner("reply", "nothing")
    partner.pieces = [(0, 3_000)]
    caller = calling(said(text="a"), said(text="b"), interruptions=1.0, reply_limit_ms=2_000)
    partner._hear = lambda pcm, now_ms, hear=partner._hear: None if caller.turns else hear(pcm, now_ms)  # type: ignore[method-assign]
    second = converse(caller, partner).turns[1]
    assert second.barged_in and second.stopped_after_ms is None and second.result is Result.NO_REPLY


def test_a_turn_without_a_reply_fails_in_time_and_the_next_one_is_said() -> None:
    caller = converse(calling(said(), said(), reply_limit_ms=3_000), Partner("nothing", "reply"))
    assert [turn.result for turn in caller.turns] == [Result.NO_REPLY, Result.ANSWERED]
    assert caller.turns[0].reason == "no reply within 3 s" and caller.turns[0].latency_ms is None


def test_a_response_that_failed_gives_the_reason() -> None:
    caller = converse(calling(said(), said()), Partner("failed", "reply"))
    assert [turn.result for turn in caller.turns] == [Result.FAILED, Result.ANSWERED]
    assert caller.turns[0].reason == "a reply without sound: failed, broken: no"


def test_a_reply_that_comes_while_the_caller_speaks_is_no_answer() -> None:
    (turn,) = converse(calling(said(2_000), reply_limit_ms=2_000), Partner("early")).turns
    assert turn.result is Result.NO_REPLY and turn.latency_ms is None


def test_a_reply_that_never_ends_does_not_hold_the_caller_up() -> None:
    partner = Partner()
    say = partner.say
    partner.say = lambda at_ms, type, **fields: None if type == "response.done" else say(at_ms, type, **fields)  # type: ignore[method-assign]
    (turn,) = converse(calling(said(), reply_limit_ms=2_000), partner).turns
    assert turn.result is Result.FAILED and "response.done" in str(turn.reason)


def test_a_reply_cut_off_by_the_server_while_the_caller_is_silent_is_counted() -> None:
    partner = Partner()
    partner.pieces = [(0, 4_000)]
    partner.say(3_000, "input_audio_buffer.speech_started", audio_start_ms=0, item_id="u")
    caller = converse(calling(said()), partner)
    assert caller.false_starts == 1 and caller.turns[0].was_cut and caller.turns[0].right is None


def test_a_connection_that_breaks_loses_the_open_turn_only() -> None:
    caller = calling(said(), said())
    converse(caller, Partner("reply", "nothing"), most_ms=8_000)
    caller.lost("gone")
    assert [turn.result for turn in caller.turns] == [Result.ANSWERED, Result.LOST] and caller.is_done


@pytest.mark.parametrize(("words", "right"), [("It is Four.", True), ("It is five.", False)])
def test_a_reply_is_right_that_holds_one_of_the_expected_words(words: str, right: bool) -> None:
    partner = Partner()
    partner.words = words
    (turn,) = converse(calling(said(expects=("four", "4"))), partner).turns
    assert (turn.right, turn.reply) == (right, words)


def test_a_caller_says_the_same_again_with_the_same_seed_and_every_utterance_as_often() -> None:
    texts = [said(text=str(number)) for number in range(5)]
    runs = [[utterance.text for utterance, _ in zip(shuffled(texts, random.Random(3)), range(10), strict=False)] for _ in "ab"]
    assert runs[0] == runs[1] and sorted(runs[0]) == sorted("01234" * 2)


ODD = (
    None, True, -1, 1.5, 10**30, "", "x", "AAAA", "resp_1", "item_1", [], {}, [None], {"id": "resp_1"}, {"id": None},
    {"code": 3}, {"id": "resp_1", "status": "failed", "status_details": "broken"}, {"id": [], "status_details": {"error": "x"}},
)  # fmt: skip
KINDS = (
    "session.updated", "input_audio_buffer.speech_started", "response.created", "response.output_audio.delta", "error",
    "response.output_audio_transcript.delta", "response.done", None, 3,
)  # fmt: skip
FIELDS = ("response", "response_id", "item_id", "content_index", "delta", "error")


@pytest.mark.parametrize("seed", range(4))
def test_whatever_a_server_sends_the_caller_goes_on(seed: int) -> None:
    chance = random.Random(seed)
    caller = calling(*[said(100)] * 500, interruptions=0.5, think_ms=(0, 0), reply_limit_ms=100)
    for now_ms in range(0, 40_000, 20):
        fields = {name: chance.choice(ODD) for name in FIELDS if chance.random() < 0.7}
        json.dumps(caller.receive({"type": chance.choice(KINDS), **fields}, now_ms))
        json.dumps(caller.piece(now_ms))
    caller.lost("over")
    assert len({turn.result for turn in caller.turns}) > 1 and json.dumps([turn.to_dict() for turn in caller.turns])


def test_the_ear_plays_what_comes_at_once_or_behind_what_still_plays() -> None:
    ear = Ear()
    ear.begin()
    ear.hear("a", 0, 100, 1_000)
    ear.hear("b", 1, 200, 1_050)
    assert ear.ends_ms == 1_300 and ear.heard_ms(1_150) == 150 and not ear.gaps
    assert ear.cut(1_150) == Playing("b", 1, 50)
    assert ear.cut(1_150) is None


@given(st.lists(st.tuples(st.floats(0, 500), st.floats(1, 500)), min_size=1, max_size=20))
def test_what_was_heard_and_the_gaps_are_the_time_that_a_reply_took(pieces: list[tuple[float, float]]) -> None:
    ear, now = Ear(), 0.0
    ear.begin()
    slack = 0.0
    for after, length in pieces:
        now += after
        before = ear.ends_ms
        ear.hear("a", 0, length, now)
        slack += min(max(now - before, 0), 20) if before > 0 else 0
    started = ear.ends_ms - ear.audio_ms - sum(gap.length_ms for gap in ear.gaps)
    assert pieces[0][0] - 1e-6 <= started <= pieces[0][0] + slack + 1e-6
    assert ear.heard_ms(ear.ends_ms) == pytest.approx(ear.audio_ms)


@pytest.mark.parametrize(
    ("given_url", "model", "opened"),
    [
        ("ws://h:1/v1/realtime", None, "ws://h:1/v1/realtime"),
        ("http://127.0.0.1:8765/v1", None, "ws://127.0.0.1:8765/v1/realtime"),
        ("https://api.example.com", "gpt", "wss://api.example.com/v1/realtime?model=gpt"),
        ("wss://h/openai/realtime?api-version=3", "m", "wss://h/openai/realtime?api-version=3&model=m"),
    ],
)
def test_the_url_of_a_server_may_be_its_websocket_or_its_base(given_url: str, model: str | None, opened: str) -> None:
    assert realtime_url(given_url, model) == opened


@pytest.mark.parametrize("url", ["", "127.0.0.1:8765", "ftp://h/v1", "http://"])
def test_what_is_no_server_is_said_so(url: str) -> None:
    with pytest.raises(InputError, match="expected the URL of a Realtime server"):
        LoadRun(LoadSettings(url=url), [said()])


@pytest.mark.parametrize("bad", [{"callers": 0}, {"callers": 3_000}, {"minutes": 0}, {"minutes": 1e9}, {"idle": -1}])
def test_a_run_is_bounded(bad: dict[str, float]) -> None:
    with pytest.raises(InputError):
        LoadSettings(**{"url": "ws://h/v1/realtime", **bad})  # type: ignore[arg-type]


ANSWERED = Turn(0, "a", 1_000.0, Result.ANSWERED, None, 500.0, 900.0, (), False, None, False, "four", True)
REPORT = LoadReport(
    url="ws://h/v1/realtime", callers=2, idle=1, seconds=9.5, is_whole=True, unfinished=0, errors={"odd": 2}, false_starts=0,
    faults=(), sent_s=18.0, late_ms=(1.0, 2.0, 3.0),
    turns=(
        ANSWERED,
        replace(ANSWERED, latency_ms=700.0, gaps=(Gap(3_000.0, 50.0),), was_cut=True, right=None),
        replace(ANSWERED, barged_in=True, stopped_after_ms=180.0, latency_ms=600.0, right=False),
    ),
)  # fmt: skip
FAILED = replace(ANSWERED, result=Result.NO_REPLY, reason="no reply within 20 s", latency_ms=None, right=None)


def test_a_report_counts_what_the_callers_heard() -> None:
    values = REPORT.to_dict()
    assert values["latency_ms"] == {"n": 3, "p50": 600.0, "p90": 680.0, "p99": 698.0, "max": 700.0}
    assert (values["turns"]["answered"], values["turns"]["right"], values["turns"]["checked"]) == (3, 1, 2)
    assert values["gaps"] == {"turns": 1, "all": 1, "ms": 50.0, "longest_ms": 50.0}
    assert values["interruptions"]["stopped"] == 1 and values["errors"] == {"odd": 2} and values["kept_pace"]
    assert json.loads(json.dumps(values))["each"][0]["result"] == "answered"


@pytest.mark.parametrize(
    ("change", "passed"),
    [
        ({}, True),
        ({"turns": ()}, False),
        ({"turns": (ANSWERED, FAILED)}, False),
        ({"faults": (Fault(1, "refused", "HTTP 503, too_many_sessions: all [0] taken"),)}, False),
    ],
)
def test_a_run_passes_if_all_turns_were_answered_and_no_connection_failed(change: dict[str, object], passed: bool) -> None:
    report = replace(REPORT, **change)  # type: ignore[arg-type]
    assert report.passed is passed
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(report.tables())
    shown = console.export_text()
    assert all(reason in shown for reason in report.reasons()) and "latency at the ear" in shown


def test_a_generator_that_could_not_keep_up_says_so() -> None:
    assert not replace(REPORT, late_ms=(0.0,) * 90 + (80.0,) * 10).kept_pace


def test_the_picture_has_a_mark_for_each_turn_and_says_the_figures_in_words() -> None:
    report = replace(REPORT, turns=(*REPORT.turns, FAILED))
    root = ElementTree.fromstring(draw_load(report))
    circles = [shape for shape in root.iter() if shape.tag.endswith("circle")]
    paths = [shape for shape in root.iter() if shape.tag.endswith("path")]
    assert len(circles) == 2 + 1 + 2 and len(paths) == 1 + 1 + 2  # two heard, a ring, one cut, one cross; four in the legend
    assert "3 of 4 turns answered; latency at the ear 600 ms" in str(root.get("aria-label"))
    assert ElementTree.fromstring(draw_load(replace(REPORT, turns=()))) is not None


def test_a_caller_that_has_nothing_more_to_say_is_done() -> None:
    caller = Caller(0, iter([said()]), CallerSettings(turns=None, think_ms=(100, 100)), random.Random(0))
    assert len(converse(caller, Partner()).turns) == 1 and caller.is_done
