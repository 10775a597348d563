"""The terminal view: the state that events make, and what of it is shown in wide, narrow, plain and
colourless places."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from textpro import (
    EagerTurnEnd,
    Event,
    Interrupt,
    Metrics,
    Prosody,
    ReplyDelta,
    ReplyDone,
    TokensCommitted,
    ToolCall,
    ToolResult,
    TurnDropped,
    TurnEnd,
    TurnResumed,
    TurnStart,
    Update,
    VoiceActivity,
)
from textpro.serving.terminal import LiveTerminal, PlainLines, render, render_svg, tone_text
from textpro.serving.view_state import MAX_EXCHANGES, MAX_LEVELS, ViewState


def sounds(label: str = "sad", confidence: float = 0.83) -> Prosody:
    return Prosody(
        t_ms=900, turn_id=1, label=label, confidence=confidence,
        pitch_hz=112.4, energy_db=-23.0, words_per_minute=128.0,
    )  # fmt: skip


COSTS = Metrics(
    t_ms=2400, turn_id=1, stages_ms={"decode": 61.0, "verify": 0.0, "vad": 3.2, "encode": 41.0, "new_stage": 2.0},
    first_text_ms=84.0, first_audio_ms=190.0, realtime_factor=0.18,
)  # fmt: skip

TURN: list[Event] = [
    VoiceActivity(t_ms=400, probability=0.97, speaking=True),
    TurnStart(t_ms=420, turn_id=1, start_ms=100),
    Update(t_ms=800, turn_id=1, committed="i lost", tentative="my"),
    sounds(),
    EagerTurnEnd(t_ms=1500, turn_id=1, text="i lost my keys", p_end=0.7),
    TurnEnd(t_ms=1900, turn_id=1, text="i lost my keys", p_end=0.92),
    ToolCall(t_ms=1900, turn_id=1, call_id="c1", name="set_light", arguments={"room": "hall", "state": "on"}),
    ToolResult(t_ms=1900, turn_id=1, call_id="c1", name="set_light", result={"ok": True}),
    ReplyDelta(t_ms=1950, turn_id=1, text="Oh no, "),
    ReplyDelta(t_ms=1980, turn_id=1, text="I am\nsorry."),
    ReplyDone(t_ms=2400, turn_id=1, text="Oh no, I am sorry.", heard_text="Oh no, I am sorry.", interrupted=False),
    COSTS,
]


def after(*events: Event) -> ViewState:
    state = ViewState()
    for event in events:
        state = state.apply(event)
    return state


def shown(state: ViewState, width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO(), record=True, color_system=None)
    console.print(render(state, width))
    return console.export_text()


def test_a_whole_turn_is_shown_with_tone_tool_reply_and_times() -> None:
    text = shown(after(*TURN))
    for part in (
        "i lost my keys",
        "sounds like sad 0.83 · pitch 112 Hz · energy -23 dB · 128 words/min",
        "0.92 end of turn",
        "set_light(room=hall, state=on) -> ok=True",
        "Oh no, I am sorry.",
        "VAD 3 ms · encode 41 ms · reply 61 ms · new stage 2 ms",
        "first token 84 ms",
        "first audio 190 ms",
        "RTF 0.18",
        "answered",
    ):
        assert part in " ".join(text.split()), part


def test_committed_words_are_bright_and_tentative_ones_dim() -> None:
    console = Console(width=80, file=io.StringIO(), force_terminal=True, color_system="standard")
    console.print(render(after(*TURN[:3]), 80))
    written = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[1mi lost\x1b[0m" in written
    assert "\x1b[2m my\x1b[0m" in written


@pytest.mark.parametrize(("label", "confidence"), [("happy", 0.59), ("unknown", 0.9)])
def test_a_doubtful_tone_is_unknown(label: str, confidence: float) -> None:
    assert tone_text(sounds(label, confidence)).startswith("tone unknown")


def test_the_label_says_sounds_like_and_carries_its_confidence() -> None:
    assert tone_text(sounds("happy", 0.6)).startswith("sounds like happy 0.60")


@pytest.mark.parametrize("width", [30, 42, 60, 100, 200])
def test_no_line_is_wider_than_the_terminal_and_no_word_is_lost(width: int) -> None:
    lines = shown(after(*TURN, *after_another_turn()), width).splitlines()
    assert max(map(len, lines)) <= width
    everything = "".join("".join(lines).split())
    for word in ("keys", "sorry.", "RTF", "set_light(room=hall,"):
        assert word in everything


def after_another_turn() -> list[Event]:
    return [
        VoiceActivity(t_ms=4000, probability=0.9, speaking=True),
        TurnStart(t_ms=4000, turn_id=2, start_ms=3900),
        Update(t_ms=4300, turn_id=2, committed="what did", tentative="i say"),
    ]


def test_history_stands_above_the_current_exchange() -> None:
    text = shown(after(*TURN, *after_another_turn()))
    assert text.index("Oh no, I am sorry.") < text.index("textpro-agent") < text.index("what did i say")


def test_a_reply_that_was_cut_off_shows_what_was_heard() -> None:
    cut = [
        Interrupt(t_ms=2200, turn_id=1, heard_text="Oh no,"),
        ReplyDone(t_ms=2200, turn_id=1, text="Oh no, I am sorry.", heard_text="Oh no,", interrupted=True),
    ]
    assert "Oh no, I am sorry. [cut off]" in shown(after(*TURN[:10], *cut))


def test_what_comes_for_the_turn_before_goes_to_that_turn() -> None:
    state = after(*TURN[:10], *after_another_turn(), TURN[10])
    assert [exchange.is_answered for exchange in state.exchanges] == [True, False]


def test_events_of_an_older_revision_change_nothing() -> None:
    resumed = TurnResumed(t_ms=1600, turn_id=1, revision=1)
    state = after(*TURN[:5], resumed)
    assert state.apply(TURN[9]).exchanges == state.exchanges


def test_a_resumed_turn_forgets_the_reply_prepared_for_it() -> None:
    current = after(*TURN[:9], TurnResumed(t_ms=1990, turn_id=1, revision=1)).current
    assert current is not None
    assert (current.reply, current.tools, current.is_over) == ("", (), False)
    assert current.committed == "i lost my keys"


def test_a_dropped_turn_leaves_no_exchange() -> None:
    assert after(*TURN[:2], TurnDropped(t_ms=900, turn_id=1, reason="no words")).exchanges == ()


def test_committed_tokens_extend_the_words_and_repeat_none() -> None:
    state = after(
        TURN[1],
        TokensCommitted(t_ms=500, turn_id=1, start_index=0, tokens=(1, 2), text="i lost", end_ms=480),
        TokensCommitted(t_ms=700, turn_id=1, start_index=2, tokens=(3,), text=" my", end_ms=690),
        Update(t_ms=700, turn_id=1, committed="i lost my", tentative="keys"),
    )
    assert state.current is not None and state.current.committed == "i lost my"


def test_the_state_is_bounded() -> None:
    state = after(
        *(TurnStart(t_ms=turn, turn_id=turn, start_ms=turn) for turn in range(3 * MAX_EXCHANGES)),
        *(VoiceActivity(t_ms=0, probability=0.1, speaking=False) for _ in range(3 * MAX_LEVELS)),
    )
    assert (len(state.exchanges), len(state.levels)) == (MAX_EXCHANGES, MAX_LEVELS)


def test_live_view_leaves_finished_exchanges_once_and_gives_the_cursor_back() -> None:
    console = Console(width=80, height=30, file=io.StringIO(), force_terminal=True, color_system=None)
    with LiveTerminal(console) as view:
        for event in [*TURN, *after_another_turn()]:
            view.show(event)
    written = console.file.getvalue()  # type: ignore[attr-defined]
    assert written.count("Oh no, I am sorry.") == 1
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")


def test_live_view_gives_the_terminal_back_when_it_is_interrupted() -> None:
    console = Console(width=80, height=30, file=io.StringIO(), force_terminal=True, color_system=None)
    with pytest.raises(KeyboardInterrupt), LiveTerminal(console):
        raise KeyboardInterrupt
    assert "\x1b[?25h" in console.file.getvalue()  # type: ignore[attr-defined]


def test_plain_lines_are_whole_lines_without_control_characters() -> None:
    console = Console(width=20, file=io.StringIO(), highlight=False)
    with PlainLines(console) as view:
        for event in TURN:
            view.show(event)
        view.notice("reply written to out/reply.wav")
    assert console.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "you: i lost my keys",
        "tone: sounds like sad 0.83 · pitch 112 Hz · energy -23 dB · 128 words/min",
        "tool: set_light(room=hall, state=on) -> ok=True",
        "agent: Oh no, I am sorry.",
        "times: VAD 3 ms · encode 41 ms · reply 61 ms · new stage 2 ms · first token 84 ms · first audio 190 ms · RTF 0.18",
        "reply written to out/reply.wav",
    ]


def test_no_color_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    console = Console(width=80, file=io.StringIO(), force_terminal=True)
    console.print(render(after(*TURN), 80))
    assert not any(f"\x1b[{code}m" in console.file.getvalue() for code in range(30, 38))  # type: ignore[attr-defined]


def test_the_picture_is_an_svg_and_the_same_each_time(tmp_path: Path) -> None:
    first, second = tmp_path / "a.svg", tmp_path / "b.svg"
    for path in (first, second):
        render_svg(after(*TURN), path)
    assert first.read_text(encoding="utf-8").startswith("<svg")
    assert first.read_bytes() == second.read_bytes()
