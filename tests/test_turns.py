"""The turn rule: when a turn starts, softly ends, goes on and ends."""

from hypothesis import given
from hypothesis import strategies as st

from textpro.agent.turns import Decision, TurnMachine, TurnSettings, TurnState

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
