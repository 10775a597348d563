"""The terminal view: what is shown in narrow, wide, low, plain and colourless places, and that nothing flickers."""

from __future__ import annotations

import io
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from textpro.agent.events import (
    Audio,
    Event,
    Failed,
    Interrupt,
    Metrics,
    Prosody,
    ReplyDelta,
    ReplyDone,
    ToolCall,
    ToolResult,
    TurnDropped,
    TurnEnd,
    TurnStart,
    Update,
    VoiceActivity,
)
from textpro.serving.terminal.live import LiveTerminal, pane_lines, render, render_svg
from textpro.serving.terminal.plain import PlainLines
from textpro.serving.terminal.view_state import ViewState


def sounds(turn_id: int = 1, label: str = "sad", confidence: float = 0.83) -> Prosody:
    return Prosody(
        t_ms=900, turn_id=turn_id, label=label, confidence=confidence,
        pitch_hz=112.4, energy_db=-23.0, words_per_minute=128.0,
    )  # fmt: skip


COSTS = Metrics(
    t_ms=2400, turn_id=1, stages_ms={"decode": 61.0, "verify": 0.0, "vad": 3.2, "encode": 41.0, "new_stage": 2.0},
    first_text_ms=84.0, first_audio_ms=190.0, realtime_factor=0.18,
)  # fmt: skip
REPLY = "Oh no, I am sorry."
TURN: list[Event] = [
    *(VoiceActivity(t_ms=32 * step, probability=step * 5 % 11 / 10, speaking=True) for step in range(40)),
    TurnStart(t_ms=420, turn_id=1, start_ms=100),
    Update(t_ms=800, turn_id=1, committed="i lost", tentative="my"),
    sounds(),
    TurnEnd(t_ms=1900, turn_id=1, text="i lost my keys", p_end=0.92),
    ToolCall(t_ms=1900, turn_id=1, call_id="c1", name="set_light", arguments={"room": "hall", "level": 2}),
    ToolResult(t_ms=1900, turn_id=1, call_id="c1", name="set_light", result={"ok": True}),
    ReplyDelta(t_ms=1950, turn_id=1, text="Oh no, "),
    ReplyDelta(t_ms=1980, turn_id=1, text="I am\nsorry."),
    ReplyDone(t_ms=2400, turn_id=1, text=REPLY, heard_text=REPLY, interrupted=False),
    COSTS,
]
PLAYING: list[Event] = [
    TurnStart(t_ms=4000, turn_id=2, start_ms=3900),
    sounds(2, "happy", 0.41),
    TurnEnd(t_ms=5000, turn_id=2, text="what is the weather in 東京 today", p_end=0.55),
    ReplyDelta(t_ms=5000, turn_id=2, text="It is sunny in 東京, and it will stay so until the evening."),
    Audio(
        t_ms=5000, turn_id=2, pcm=np.zeros(16_000, np.int16), sample_rate=16_000,
        text="It is sunny in 東京, and it will stay so until the evening.",
    ),
]  # fmt: skip
COUGH: list[Event] = [
    TurnStart(t_ms=7000, turn_id=3, start_ms=7000),
    TurnDropped(t_ms=7100, turn_id=3, reason="a cough"),
]

SNAPSHOTS = {
    40: """\
you    i lost my keys
tone   sounds like sad 0.83
       pitch 112 Hz · energy -23 dB
       128 words/min
tool   set_light(room=hall, level=2) ->
       ok=true
agent  Oh no, I am sorry.
times  first word 84 ms
       first sound 190 ms · VAD 3 ms
       encode 41 ms · reply 61 ms
       new stage 2 ms · RTF 0.18

── answering · 0:05 · muted ──
voice  ▃▇▂▆▂▅▁▅█▄▇▃▇▂▆▂▅▁▅█▄▇▃▇ speech
you    what is the weather in 東京 today
tone   unknown · pitch 112 Hz
       energy -23 dB · 128 words/min
end    ████████░░░░░░░ 0.55 end of turn
agent  It is sunny in ▸ 東京, and it
       will stay so until the evening.
times  -""",
    80: """\
you    i lost my keys
tone   sounds like sad 0.83 · pitch 112 Hz · energy -23 dB · 128 words/min
tool   set_light(room=hall, level=2) -> ok=true
agent  Oh no, I am sorry.
times  first word 84 ms · first sound 190 ms · VAD 3 ms · encode 41 ms
       reply 61 ms · new stage 2 ms · RTF 0.18

── answering · 0:05 · muted ──
voice  ▆▂▅▁▅█▄▇▃▇▂▆▂▅▁▅█▄▇▃▇▂▆▂▅▁▅█▄▇▃▇ speech
you    what is the weather in 東京 today
tone   unknown · pitch 112 Hz · energy -23 dB · 128 words/min
end    ███████████░░░░░░░░░ 0.55 end of turn
agent  It is sunny in ▸ 東京, and it will stay so until the evening.
times  -""",
    160: """\
you    i lost my keys
tone   sounds like sad 0.83 · pitch 112 Hz · energy -23 dB · 128 words/min
tool   set_light(room=hall, level=2) -> ok=true
agent  Oh no, I am sorry.
times  first word 84 ms · first sound 190 ms · VAD 3 ms · encode 41 ms · reply 61 ms · new stage 2 ms · RTF 0.18

── answering · 0:05 · muted ──
you    what is the weather in 東京 today                                                             │ voice  ▆▂▅▁▅█▄▇▃▇▂▆▂▅▁▅█▄▇▃▇▂▆▂▅▁▅█▄▇▃▇ speech
agent  It is sunny in ▸ 東京, and it will stay so until the evening.                                 │ tone   unknown · pitch 112 Hz · energy -23 dB
                                                                                                     │        128 words/min
                                                                                                     │ end    ███████████░░░░░░░░░ 0.55 end of turn
                                                                                                     │ times  -""",  # noqa: E501
}


def after(*events: Event) -> ViewState:
    state = ViewState()
    for event in events:
        state = state.apply(event)
    return state


def shown(state: ViewState, width: int = 100, height: int = 24) -> str:
    console = Console(width=width, file=io.StringIO(), record=True, color_system=None)
    console.print(render(console, state, width, height))
    return "\n".join(line.rstrip() for line in console.export_text().splitlines())


def pane(state: ViewState, width: int, height: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    return [line.plain for line in pane_lines(console, state, width, height)]


def terminal(width: int = 80, height: int = 30) -> Console:
    return Console(width=width, height=height, file=io.StringIO(), force_terminal=True, color_system=None, highlight=False)


def written(console: Console) -> str:
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("width", SNAPSHOTS)
def test_snapshot(width: int) -> None:
    state = after(*TURN, *PLAYING).with_played(2, 300).with_status("muted")
    assert shown(state, width) == SNAPSHOTS[width]


def test_committed_words_are_bright_and_tentative_ones_dim() -> None:
    console = Console(width=80, file=io.StringIO(), force_terminal=True, color_system="standard")
    console.print(*pane_lines(console, after(*TURN[:43]), 80, 24), sep="\n")
    assert "\x1b[1mi lost\x1b[0m" in written(console)
    assert "\x1b[2;3m my\x1b[0m" in written(console)


@pytest.mark.parametrize(("label", "confidence"), [("happy", 0.59), ("unknown", 0.9)])
def test_a_doubtful_tone_is_unknown(label: str, confidence: float) -> None:
    text = shown(after(TURN[40], sounds(1, label, confidence)))
    assert re.search(r"tone +unknown", text) and "happy" not in text


def test_without_prosody_there_is_no_row_for_it() -> None:
    assert "tone" not in shown(after(*(event for event in TURN if event.type != "prosody")))


@pytest.mark.parametrize("height", [12, 13, 16, 40])
@pytest.mark.parametrize("width", [40, 99, 100, 200])
def test_of_a_very_long_reply_the_tail_is_shown_and_everything_fits(width: int, height: int) -> None:
    long = [ReplyDelta(t_ms=6000, turn_id=2, text="many words " * 5000), ReplyDelta(t_ms=6000, turn_id=2, text="last.")]
    lines = pane(after(*TURN, *PLAYING, *long), width, height)
    assert len(lines) <= height
    assert any(line.startswith("agent…") for line in lines) and any("words last." in line for line in lines)
    assert any(line.startswith("you ") for line in lines)


def test_the_reply_that_still_plays_is_shown_while_the_user_speaks_again() -> None:
    over = [TurnStart(t_ms=6000, turn_id=3, start_ms=5800), Update(t_ms=6300, turn_id=3, committed="wait", tentative="")]
    lines = pane(after(*TURN, *PLAYING, *over), 80, 24)
    agent = next(place for place, line in enumerate(lines) if "It is sunny" in line)
    assert "wait …" in lines[agent + 1] and "hearing you" in lines[0]


def test_a_reply_that_was_cut_off_shows_what_was_heard() -> None:
    cut = [
        Interrupt(t_ms=2200, turn_id=1, heard_text="Oh no,"),
        ReplyDone(t_ms=2200, turn_id=1, text=REPLY, heard_text="Oh no,", interrupted=True),
    ]
    assert "Oh no, [cut off] I am sorry." in shown(after(*TURN[:48], *cut))


def test_a_failure_is_named() -> None:
    assert re.search(
        r"failed .*\n(.*\n)*failed +the engine stopped", shown(after(Failed(t_ms=9, reason="the engine stopped")), 80)
    )


def test_a_terminal_without_unicode_gets_ascii() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    console = Console(width=80, file=stream, force_terminal=True, color_system=None)
    console.print(render(console, after(*TURN, *PLAYING).with_played(2, 300), 80, 24))
    stream.flush()
    text = stream.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined]
    assert "weather in ?? today" in text and "in > ??" in text and "#####------" in text


@pytest.mark.parametrize("variable", ["NO_COLOR", None])
def test_colours_are_those_of_the_palette_that_light_and_dark_backgrounds_share(
    monkeypatch: pytest.MonkeyPatch, variable: str | None
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    if variable:
        monkeypatch.setenv(variable, "1")
    console = Console(width=80, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(render(console, after(*TURN, *PLAYING).with_played(2, 300), 80, 24))
    codes = {int(code) for codes in re.findall(r"\x1b\[([\d;]+)m", written(console)) for code in codes.split(";")}
    colours = {code for code in codes if code >= 30}
    assert colours == (set() if variable else {32, 35, 36})


def test_a_picture_that_does_not_change_is_not_written_again() -> None:
    console = terminal()
    with LiveTerminal(console) as view:
        for event in TURN[:45]:
            view.show(event)
        view.refresh()
        size = len(written(console))
        view.show(VoiceActivity(t_ms=1999, probability=TURN[39].probability, speaking=True))  # type: ignore[attr-defined]
        before = view.state
        view.refresh()
        grown = len(written(console))
        for _ in range(3):
            view.refresh()
        assert view.state is before and len(written(console)) == grown >= size


def test_the_screen_is_never_cleared_and_a_change_of_its_size_is_followed() -> None:
    console = terminal(160)
    with LiveTerminal(console) as view:
        for event in [*TURN, *PLAYING]:
            view.show(event)
        view.refresh()
        console.width, console.height = 40, 12
        at = len(written(console))
        view.refresh()
        drawn = re.sub(r"\x1b\[[\d;?]*\w", "", written(console)[at:]).splitlines()
    assert 0 < max(map(len, drawn)) <= 40 and len(drawn) <= 12
    assert not re.search(r"\x1b\[[0-3]?J|\x1b\[\?1049h", written(console))


def test_live_view_leaves_every_exchange_once_and_gives_the_cursor_back() -> None:
    console = terminal()
    with LiveTerminal(console) as view:
        for event in [*TURN, *PLAYING, *COUGH]:
            view.show(event)
    text = written(console)
    assert text.count(f"agent  {REPLY}\n") == 1
    left = text[text.rindex("\x1b[?25h") :]
    assert left.count("It is sunny in 東京, and it will stay so until the evening.") == 1 and "a cough" in left
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_live_view_gives_the_terminal_back_when_it_is_interrupted() -> None:
    console = terminal()
    with pytest.raises(KeyboardInterrupt), LiveTerminal(console):
        raise KeyboardInterrupt
    assert "\x1b[?25h" in written(console)


def test_the_status_of_the_microphone_stays_until_the_next() -> None:
    with LiveTerminal(terminal()) as view:
        view.status("muted\x1b[2J")
        view.show(TURN[0])
        assert view.state.status == "muted[2J"
        view.status("")
        assert view.state.status == ""


def test_plain_lines_are_whole_lines_of_plain_words() -> None:
    console = Console(width=20, file=io.StringIO(), force_terminal=True)
    cut = ReplyDone(t_ms=6000, turn_id=2, text=REPLY, heard_text="Oh no,", interrupted=True)
    with PlainLines(console) as view:
        for event in [*TURN, *PLAYING, cut, *COUGH]:
            view.show(event)
        view.status("muted")
        view.status("muted")
        view.notice("reply written to out/reply.wav")
    assert written(console).splitlines() == [
        "you: i lost my keys",
        "tone: sounds like sad, confidence 0.83, pitch 112 hertz, energy minus 23 decibels, 128 words per minute",
        "tool called: set_light with room hall, level 2",
        "tool answered: set_light, ok true",
        "agent: Oh no, I am sorry.",
        "times: first word after 84 milliseconds, first sound after 190 milliseconds, voice activity 3 milliseconds, "
        "encoding 41 milliseconds, writing the reply 61 milliseconds, new stage 2 milliseconds, "
        "listening took 0.18 of the time of the speech",
        "you: what is the weather in 東京 today",
        "tone: unknown, pitch 112 hertz, energy minus 23 decibels, 128 words per minute",
        "agent: Oh no, (cut off here; was going to say: I am sorry.)",
        "nothing was understood: a cough",
        "reply written to out/reply.wav",
    ]


def test_the_picture_is_an_svg_and_the_same_each_time(tmp_path: Path) -> None:
    first, second = tmp_path / "a.svg", tmp_path / "b.svg"
    for path in (first, second):
        render_svg(after(*TURN), path)
    assert first.read_text(encoding="utf-8").startswith("<svg")
    assert first.read_bytes() == second.read_bytes()


def test_the_picture_of_the_readme_is_drawn_from_its_recording(tmp_path: Path) -> None:
    root = Path(__file__).parent.parent
    tool = runpy.run_path(str(root / "tools" / "view_picture.py"))
    tool["draw"](root / "docs" / "terminal.jsonl", tmp_path / "terminal.svg")
    drawn = (tmp_path / "terminal.svg").read_text(encoding="utf-8").replace("&#160;", " ")
    for part in ("sounds like", "set_light(", "▸", "first sound"):
        assert part in drawn
