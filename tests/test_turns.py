"""The turn rule: when a turn starts, softly ends, goes on and ends."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textpro.agent.gate import DraftSettings
from textpro.agent.session_settings import settings_of_turns
from textpro.agent.turns import Decision, TurnMachine, TurnSettings, TurnState
from textpro.models.errors import CheckpointError

SETTINGS = TurnSettings(soft_end_silence_ms=200, end_silence_ms=600, max_turn_ms=10_000)


def machine() -> TurnMachine:
    return TurnMachine(SETTINGS)


def drain(turns: TurnMachine, now_ms: int) -> list[Decision]:
    decisions = []
    while decision := turns.advance(now_ms):
        decisions.append(decision)
    return decisions


def test_a_short_silence_is_a_soft_end_and_a_longer_one_ends_the_turn():
    turns = machine()
    assert turns.speech_started(100) is Decision.START
    turns.speech_ended(1_000)
    assert drain(turns, 1_199) == []
    assert drain(turns, 1_200) == [Decision.SOFT_END]
    assert drain(turns, 1_599) == []
    assert drain(turns, 1_600) == [Decision.END]
    assert turns.state is TurnState.IDLE


def test_speech_after_a_soft_end_resumes_and_the_silence_starts_anew():
    turns = machine()
    turns.speech_started(0)
    turns.speech_ended(1_000)
    drain(turns, 1_200)
    assert turns.speech_started(1_400) is Decision.RESUME
    assert drain(turns, 1_700) == []
    turns.speech_ended(2_000)
    assert drain(turns, 2_600) == [Decision.SOFT_END, Decision.END]


def test_a_pause_before_the_soft_end_changes_nothing():
    turns = machine()
    turns.speech_started(0)
    turns.speech_ended(1_000)
    assert turns.speech_started(1_100) is None
    assert drain(turns, 1_900) == []


def test_a_turn_without_a_stop_ends_at_its_greatest_length():
    turns = machine()
    turns.speech_started(0)
    assert drain(turns, 9_999) == []
    assert drain(turns, 10_000) == [Decision.SOFT_END, Decision.END]


def test_ending_by_force_does_what_is_still_to_be_done():
    turns = machine()
    assert turns.force_end() == []
    turns.speech_started(0)
    assert turns.force_end() == [Decision.SOFT_END, Decision.END]
    turns.speech_started(0)
    turns.speech_ended(500)
    drain(turns, 700)
    assert turns.force_end() == [Decision.END]


@given(st.lists(st.tuples(st.sampled_from(["start", "end", "advance"]), st.integers(0, 900)), max_size=60))
def test_any_history_gives_start_soft_ends_and_one_end_in_order(history):
    turns, now, said = machine(), 0, []
    for what, step in history:
        now += step
        if what == "start":
            said += [decision] if (decision := turns.speech_started(now)) else []
        elif what == "end":
            turns.speech_ended(now)
        said += drain(turns, now)
    allowed = {
        None: {Decision.START},
        Decision.START: {Decision.SOFT_END},
        Decision.SOFT_END: {Decision.RESUME, Decision.END},
        Decision.RESUME: {Decision.SOFT_END},
        Decision.END: {Decision.START},
    }
    for before, after in zip([None, *said], said, strict=False):
        assert after in allowed[before]


def test_halfway_between_the_thresholds_the_silence_is_the_geometric_mean_of_the_longest_and_the_shortest():
    turns = TurnSettings(endpointing="model", sure_p_end=0.8, unsure_p_end=0.2, sure_silence_ms=200, unsure_silence_ms=1_800)
    assert [turns.silence_needed_ms(p) for p in (0.1, 0.2, 0.5, 0.8, 0.9)] == [1_800, 1_800, 600, 200, 200]


def test_a_checkpoint_says_what_its_p_end_means_where_the_settings_have_no_thresholds_of_their_own():
    config = {"p_end": {"unsure": 0.01, "sure": 0.9}}
    read = [settings_of_turns(TurnSettings(endpointing=way), config) for way in ("auto", "model", "vad")]
    assert [turns.endpointing for turns in read] == ["model", "model", "vad"]
    assert [(turns.unsure_p_end, turns.sure_p_end) for turns in read[:2]] == [(0.01, 0.9)] * 2
    own = TurnSettings(endpointing="model", unsure_p_end=0.5, sure_p_end=0.5)
    assert settings_of_turns(own, config) == own
    assert settings_of_turns(TurnSettings(), {}).endpointing == "vad"


@pytest.mark.parametrize("meaning", [0.5, {"unsure": 0.1}, {"unsure": "a", "sure": 1}, {"unsure": 0.9, "sure": 0.1}])
def test_a_checkpoint_that_says_it_in_another_form_is_refused(meaning: object):
    with pytest.raises(CheckpointError, match="p_end"):
        settings_of_turns(TurnSettings(), {"p_end": meaning})


@pytest.mark.parametrize(
    ("drafts", "p_end", "queued", "allowed"),
    [
        (DraftSettings(), 0.5, 0, True),
        (DraftSettings(), 0.21, 0, False),  # needs nearly the longest silence
        (DraftSettings(), 0.9, 5, False),
        (DraftSettings(p_end=0.1), 0.21, 0, True),
        (DraftSettings(p_end=2.0), 1.0, 0, False),
    ],
)
def test_a_draft_is_made_where_little_more_silence_ends_the_turn_and_the_engine_has_time(drafts, p_end, queued, allowed):
    turns = TurnSettings(endpointing="model", sure_p_end=0.7, unsure_p_end=0.2)
    assert drafts.allow(p_end, turns, lambda: SimpleNamespace(queued=queued)) is allowed
