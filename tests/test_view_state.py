"""What a view knows: the state that events make, in any order and of any turn."""

from __future__ import annotations

import io

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from textpro.agent import events
from textpro.agent.events import (
    Audio,
    Backchannel,
    ConfirmationAnswer,
    ConfirmationRequest,
    Duck,
    EagerTurnEnd,
    Event,
    Failed,
    HistoryDropped,
    Interrupt,
    Metrics,
    Prosody,
    ReplyDelta,
    ReplyDone,
    ReplySpoken,
    ReplyStart,
    TokensCommitted,
    TokensRetracted,
    ToolCall,
    ToolResult,
    TurnDropped,
    TurnEnd,
    TurnResumed,
    TurnStart,
    Unduck,
    Update,
    VoiceActivity,
)
from textpro.serving.terminal.live import finished_lines, pane_lines
from textpro.serving.terminal.plain import PlainLines
from textpro.serving.terminal.view_state import MAX_EXCHANGES, MAX_LEVELS, ViewState, one_line

RATE = 16_000
words = st.text(st.sampled_from("ab é世界🙂👨‍👩‍👧ﷺ\x1b\n\t\u202e\ud800.,"), max_size=30)
numbers = st.floats(width=16)
values = st.dictionaries(words, st.one_of(words, st.integers(), st.lists(words, max_size=2)), max_size=2)
FIELDS = {
    VoiceActivity: {"probability": numbers, "speaking": st.booleans()},
    TurnStart: {"start_ms": st.integers(0, 9999)},
    Update: {"committed": words, "tentative": words},
    TokensCommitted: {"start_index": st.just(0), "tokens": st.just((1,)), "text": words, "end_ms": st.integers(0, 9999)},
    TokensRetracted: {"to_index": st.integers(0, 9)},
    Prosody: {
        "label": words, "confidence": numbers, "pitch_hz": st.none() | numbers, "energy_db": st.none() | numbers,
        "words_per_minute": st.none() | numbers,
    },
    EagerTurnEnd: {"text": words, "p_end": numbers},
    TurnResumed: {},
    TurnEnd: {"text": words, "p_end": numbers},
    TurnDropped: {"reason": words},
    Interrupt: {"heard_text": words},
    Duck: {},
    Unduck: {},
    Backchannel: {"text": words},
    ReplyStart: {"context_tokens": st.integers(0, 9)},
    ReplySpoken: {"tokens": st.integers(0, 9)},
    ToolCall: {"call_id": words, "name": words, "arguments": values},
    ToolResult: {"call_id": words, "name": words, "result": values},
    ConfirmationRequest: {"call_id": words, "name": words, "arguments": values, "question": words},
    ConfirmationAnswer: {"call_id": words, "accepted": st.booleans(), "decided_by": st.just("words")},
    ReplyDelta: {"text": words},
    Audio: {"pcm": st.just(np.zeros(160, np.int16)), "sample_rate": st.sampled_from([0, RATE]), "text": words},
    ReplyDone: {"text": words, "heard_text": words, "interrupted": st.booleans()},
    Metrics: {
        "stages_ms": st.dictionaries(words, numbers, max_size=2), "first_text_ms": st.none() | numbers,
        "first_audio_ms": st.none() | numbers, "realtime_factor": st.none() | numbers,
    },
    Failed: {"reason": words},
    HistoryDropped: {"turns": st.integers(0, 9), "entries": st.integers(0, 999)},
}  # fmt: skip
any_event = st.one_of(
    *(
        st.builds(kind, t_ms=st.integers(-5, 10**7), turn_id=st.integers(0, 4), revision=st.integers(0, 2), **fields)
        for kind, fields in FIELDS.items()
    )
)


def after(*happened: Event) -> ViewState:
    state = ViewState()
    for event in happened:
        state = state.apply(event)
    return state


def start(turn_id: int = 1) -> TurnStart:
    return TurnStart(t_ms=420, turn_id=turn_id, start_ms=100)


def end(text: str = "i lost my keys", turn_id: int = 1, revision: int = 0) -> TurnEnd:
    return TurnEnd(t_ms=1900, turn_id=turn_id, revision=revision, text=text, p_end=0.9)


def delta(text: str, turn_id: int = 1, revision: int = 0) -> ReplyDelta:
    return ReplyDelta(t_ms=1950, turn_id=turn_id, revision=revision, text=text)


def done(text: str, heard: str | None = None, turn_id: int = 1) -> ReplyDone:
    return ReplyDone(t_ms=2400, turn_id=turn_id, text=text, heard_text=text if heard is None else heard,
                     interrupted=heard is not None)  # fmt: skip


def sound(text: str, ms: int) -> Audio:
    return Audio(t_ms=1960, turn_id=1, pcm=np.zeros(RATE * ms // 1000, np.int16), sample_rate=RATE, text=text)


def heard(state: ViewState) -> str | None:
    assert state.current is not None
    return state.current.heard_so_far


def test_every_kind_of_event_is_among_those_that_are_tried() -> None:
    kinds = {kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event)}
    assert kinds - {Event} == FIELDS.keys()


@settings(deadline=None, max_examples=60)
@given(st.lists(any_event, max_size=25), st.integers(40, 200), st.integers(12, 40), st.sampled_from(["utf-8", "ascii"]))
def test_any_events_in_any_order_are_shown_within_width_and_height(
    happened: list[Event], width: int, height: int, encoding: str
) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(width=width, height=height, file=stream, force_terminal=True)
    plain = PlainLines(console)
    for number, event in enumerate(happened):
        plain.show(event)
        plain.state = plain.state.with_played(event.turn_id, 3.0 * number)
        lines = pane_lines(console, plain.state, width, height)
        assert 2 <= len(lines) <= height
        assert lines == pane_lines(console, plain.state, width, height)
        assert max(line.cell_len for line in lines) <= width
        for exchange in plain.state.exchanges:
            console.print(*finished_lines(console, exchange, width))
        console.print(*lines)
    assert len(plain.state.exchanges) <= MAX_EXCHANGES


def test_what_comes_for_the_turn_before_goes_to_that_turn() -> None:
    state = after(start(), end(), delta("Oh"), start(2), done("Oh no."))
    assert [exchange.is_answered for exchange in state.exchanges] == [True, False]


def test_events_of_an_older_revision_change_nothing() -> None:
    state = after(start(), end(), TurnResumed(t_ms=1600, turn_id=1, revision=1))
    assert state.apply(delta("Oh")).exchanges == state.exchanges


def test_events_of_a_turn_that_is_no_longer_kept_change_nothing() -> None:
    state = after(*(start(turn) for turn in range(1, MAX_EXCHANGES + 2)))
    assert state.apply(end(turn_id=1)).exchanges == state.exchanges


def test_a_resumed_turn_forgets_the_reply_prepared_for_it() -> None:
    current = after(start(), end(), delta("Oh"), TurnResumed(t_ms=1990, turn_id=1, revision=1)).current
    assert current is not None
    assert (current.reply, current.is_over, current.committed) == ("", False, "i lost my keys")


def test_a_dropped_turn_is_remembered_but_not_current() -> None:
    state = after(start(), TurnDropped(t_ms=900, turn_id=1, reason="no words"))
    assert state.current is None
    assert [exchange.dropped for exchange in state.exchanges] == ["no words"]


def test_committed_tokens_extend_the_words_and_repeat_none() -> None:
    state = after(
        start(),
        TokensCommitted(t_ms=500, turn_id=1, start_index=0, tokens=(1, 2), text="i lost", end_ms=480),
        TokensCommitted(t_ms=700, turn_id=1, start_index=2, tokens=(3,), text=" my", end_ms=690),
        Update(t_ms=700, turn_id=1, committed="i lost my", tentative="keys"),
    )
    assert state.current is not None
    assert (state.current.committed, state.current.start_ms, state.current.end_ms) == ("i lost my", 100, 690)


def test_the_state_is_bounded() -> None:
    state = after(
        *(start(turn) for turn in range(1, 3 * MAX_EXCHANGES)),
        *(VoiceActivity(t_ms=0, probability=0.1, speaking=False) for _ in range(3 * MAX_LEVELS)),
    )
    assert (len(state.exchanges), len(state.levels)) == (MAX_EXCHANGES, MAX_LEVELS)


def test_the_heard_part_grows_by_whole_words_as_the_reply_plays() -> None:
    sounds = sound("Oh no, ", 500), sound("that is sad.", 900), sound("that is sad.", 300)
    state = after(start(), end(), delta("Oh no, that is sad."), *sounds)
    assert heard(state) is None
    parts = [heard(state.with_played(1, ms)) for ms in (0, 250, 500, 1200, 1700)]
    assert parts == ["", "Oh", "Oh no, ", "Oh no, that is", "Oh no, that is sad."]


def test_without_spaces_the_heard_part_grows_by_characters() -> None:
    state = after(start(), end(), delta("こんにちは"), sound("こんにちは", 1000))
    assert heard(state.with_played(1, 400)) == "こん"


def test_what_the_session_says_was_heard_counts_more_than_the_estimate() -> None:
    state = after(start(), end(), delta("Oh no."), sound("Oh no.", 500)).with_played(1, 499)
    assert heard(state.apply(done("Oh no.", heard=""))) == ""


def test_a_second_reply_to_one_turn_comes_behind_the_first() -> None:
    state = after(start(), end(), delta("Shall I?"), done("Shall I?"), delta("Done"), delta("."))
    assert state.current is not None and state.current.reply == "Shall I? Done."
    state = state.apply(done("Done."))
    assert (state.current.reply, heard(state)) == ("Shall I? Done.", "Shall I? Done.")  # type: ignore[union-attr]


def test_the_answer_of_a_later_turn_decides_the_call_of_an_earlier_one() -> None:
    state = after(
        start(), end(), ToolCall(t_ms=0, turn_id=1, call_id="c", name="unlock", arguments={}),
        ConfirmationRequest(t_ms=0, turn_id=1, call_id="c", name="unlock", arguments={}, question="Shall I?"),
        start(2), end("yes", 2), ConfirmationAnswer(t_ms=0, turn_id=2, call_id="c", accepted=True, decided_by="words"),
    )  # fmt: skip
    tool = state.exchanges[0].tools[0]
    assert (tool.question, tool.allowed) == ("Shall I?", True)


def test_a_text_from_outside_cannot_steer_the_terminal() -> None:
    assert one_line("a\x1b[2J b\r\n\tc\u202e d\x07") == "a[2J b c d"
    family = "👨\u200d👩\u200d👧"
    assert one_line(family) == family
