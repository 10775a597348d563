"""The conversation for people. `render` turns a `ViewState` into a rich renderable and does nothing else;
`LiveTerminal` keeps the current exchange moving at the bottom of a terminal and leaves finished ones above
it; `PlainLines` writes each finished piece as a line, for pipes, logs and terminals that cannot redraw.
Colours obey NO_COLOR (rich's own rule), and nothing is said by colour alone.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from ..agent.events import Event, Metrics, Prosody
from .view_state import Exchange, ToolUse, ViewState

UNKNOWN_BELOW = 0.6
REFRESHES_PER_SECOND = 8
BAR_CELLS = 20
NARROW_CELLS = 60
_BLOCKS = " ▁▂▃▄▅▆▇█"
_STAGES = {
    "vad": "VAD",
    "encode": "encode",
    "verify": "verify",
    "extend": "extend",
    "prosody": "prosody",
    "interleave": "interleave",
    "prefill": "prefill",
    "decode": "reply",
}
"""The order in which stages are shown, and their names; others follow under their own."""


def render(state: ViewState, width: int) -> RenderableType:
    """The whole conversation: finished exchanges above, the current one with its meters below."""
    parts: list[RenderableType] = []
    for exchange in state.exchanges[:-1]:
        parts += [render_finished(exchange), Text()]
    parts.append(render_current(state, width))
    return Group(*parts)


def render_current(state: ViewState, width: int) -> RenderableType:
    """The current exchange with voice activity, prosody, P(end of turn) and times, for `width` cells."""
    bar = min(BAR_CELLS, max(6, width // 4))
    rows: list[tuple[str, Text]] = [("voice", _voice(state, bar, width))]
    exchange = state.current
    if exchange is not None:
        rows += [
            ("you", _words(exchange)),
            ("tone", _tone(exchange.prosody)),
            ("end", _end(exchange, bar)),
            *_tool_rows(exchange.tools),
            ("agent", _reply(exchange)),
            ("times", _times(exchange.metrics)),
        ]
    if state.failed is not None:
        rows.append(("failed", Text(state.failed, style="bold red")))
    title = f"textpro-agent  {state.t_ms / 1000:5.1f} s  {_phase(state)}"
    return Group(Rule(Text(title, style="bold"), align="left", style="cyan"), _grid(rows))


def render_finished(exchange: Exchange) -> RenderableType:
    """An exchange as history."""
    rows = [("you", _words(exchange))]
    if exchange.prosody is not None:
        rows.append(("tone", _tone(exchange.prosody)))
    rows += [*_tool_rows(exchange.tools), ("agent", _reply(exchange))]
    if exchange.metrics is not None:
        rows.append(("times", _times(exchange.metrics)))
    return _grid(rows)


def render_svg(state: ViewState, path: Path, width: int = 100) -> None:
    """Write the view as a picture, `width` cells wide."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(render(state, width))
    console.save_svg(str(path), title="textpro-agent", unique_id="terminal")


def tone_text(prosody: Prosody) -> str:
    """What a prosody read-out says, in words; a label of less than 0.6 confidence is unknown."""
    known = prosody.confidence >= UNKNOWN_BELOW and prosody.label != "unknown"
    parts = [f"sounds like {prosody.label} {prosody.confidence:.2f}" if known else "tone unknown"]
    if prosody.pitch_hz is not None:
        parts.append(f"pitch {prosody.pitch_hz:.0f} Hz")
    if prosody.energy_db is not None:
        parts.append(f"energy {prosody.energy_db:.0f} dB")
    if prosody.words_per_minute is not None:
        parts.append(f"{prosody.words_per_minute:.0f} words/min")
    return " · ".join(parts)


def times_text(metrics: Metrics) -> str:
    """What a turn cost, by stage that took part, and how soon the reply came."""
    stages = {name: ms for name, ms in metrics.stages_ms.items() if ms > 0}
    ordered = [*(name for name in _STAGES if name in stages), *(name for name in stages if name not in _STAGES)]
    parts = [f"{_STAGES.get(name, name.replace('_', ' '))} {stages[name]:.0f} ms" for name in ordered]
    if metrics.first_text_ms is not None:
        parts.append(f"first token {metrics.first_text_ms:.0f} ms")
    if metrics.first_audio_ms is not None:
        parts.append(f"first audio {metrics.first_audio_ms:.0f} ms")
    if metrics.realtime_factor is not None:
        parts.append(f"RTF {metrics.realtime_factor:.2f}")
    return " · ".join(parts)


def tool_text(tool: ToolUse) -> str:
    """A call as it would be written in code, and what came of it."""
    call = f"{tool.name}({', '.join(f'{name}={value}' for name, value in tool.arguments.items())})"
    if tool.result is None:
        return call
    return f"{call} -> {', '.join(f'{name}={value}' for name, value in tool.result.items())}"


class LiveTerminal:
    """A view on a terminal; a context manager that gives the terminal back as it was."""

    def __init__(self, console: Console) -> None:
        self.state = ViewState()
        self._console = console
        self._printed: set[int] = set()
        self._live = Live(
            console=console,
            get_renderable=lambda: render_current(self.state, self._console.width),
            refresh_per_second=REFRESHES_PER_SECOND,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()

    def show(self, event: Event) -> None:
        """Take the event; the picture follows at the next refresh."""
        self.state = self.state.apply(event)
        for exchange in self.state.exchanges[:-1]:
            if exchange.turn_id not in self._printed and exchange.is_answered:
                self._printed.add(exchange.turn_id)
                self._console.print(render_finished(exchange), Text())

    def notice(self, text: str) -> None:
        """A line above the moving part."""
        self._console.print(Text(text, style="dim"))


class PlainLines:
    """A view of whole lines: what was said, how it sounded, what was called and answered, and what it
    cost."""

    def __init__(self, console: Console) -> None:
        self.state = ViewState()
        self._console = console

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None

    def show(self, event: Event) -> None:
        """Take the event and write the lines that it completes."""
        self.state = self.state.apply(event)
        for line in _lines_of(event, self.state):
            self._line(line)

    def notice(self, text: str) -> None:
        """A line."""
        self._line(text)

    def _line(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)


def _lines_of(event: Event, state: ViewState) -> Iterable[str]:
    exchange = next((found for found in state.exchanges if found.turn_id == event.turn_id), None)
    if exchange is None:
        return
    match event.type:
        case "turn_end":
            yield f"you: {exchange.committed}"
            if exchange.prosody is not None:
                yield f"tone: {tone_text(exchange.prosody)}"
        case "tool_result":
            yield from (f"tool: {tool_text(tool)}" for tool in exchange.tools[-1:])
        case "reply_done":
            yield f"agent: {_reply(exchange).plain}"
        case "metrics" if exchange.metrics is not None:
            yield f"times: {times_text(exchange.metrics)}"


def _grid(rows: Iterable[tuple[str, Text]]) -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(style="cyan", no_wrap=True, min_width=6)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(name, value)
    return grid


def _phase(state: ViewState) -> str:
    exchange = state.current
    if state.failed is not None:
        return "failed"
    if exchange is None:
        return "hearing you" if state.speaking else "listening" if state.levels else "starting"
    if not exchange.is_over:
        return "hearing you"
    if exchange.is_answered:
        return "answered"
    return "answering" if exchange.reply else "thinking"


def _bar(share: float, cells: int, style: str) -> Text:
    share = min(1.0, max(0.0, share)) if math.isfinite(share) else 0.0
    full = round(share * cells)
    return Text.assemble(("█" * full, style), ("░" * (cells - full), "dim"))


def _voice(state: ViewState, bar: int, width: int) -> Text:
    text = _bar(state.probability, bar, "green")
    text.append(f" {state.probability:.2f} {'speech' if state.speaking else 'silence'}")
    if width >= NARROW_CELLS and state.levels:
        room = min(len(state.levels), width - len(text) - 12)
        marks = "".join(_BLOCKS[round(level * (len(_BLOCKS) - 1))] for level in state.levels[-room:])
        text.append(f"  {marks}", style="green")
    return text


def _words(exchange: Exchange) -> Text:
    text = Text(exchange.committed, style="bold")
    if exchange.tentative:
        gap = " " if exchange.committed and not exchange.tentative.startswith(" ") else ""
        text.append(f"{gap}{exchange.tentative}", style="not bold dim")
    if not exchange.is_over:
        text.append(" …", style="not bold dim")
    return text


def _tone(prosody: Prosody | None) -> Text:
    return Text(tone_text(prosody), style="magenta") if prosody is not None else Text("-", style="dim")


def _end(exchange: Exchange, bar: int) -> Text:
    if exchange.p_end is None:
        return Text("-", style="dim")
    text = _bar(exchange.p_end, bar, "yellow")
    text.append(f" {exchange.p_end:.2f}{' end of turn' if exchange.is_over else ''}")
    return text


def _tool_rows(tools: tuple[ToolUse, ...]) -> list[tuple[str, Text]]:
    return [("tool", Text(tool_text(tool), style="blue")) for tool in tools]


def _reply(exchange: Exchange) -> Text:
    reply = _flat(exchange.reply)
    if exchange.heard is None:
        return Text(reply)
    heard = _flat(exchange.heard)
    text = Text(heard)
    if reply.startswith(heard):
        text.append(reply[len(heard) :], style="dim strike")
    text.append(" [cut off]" if heard else "[cut off]", style="yellow")
    return text


def _flat(text: str) -> str:
    return " ".join(text.split())


def _times(metrics: Metrics | None) -> Text:
    return Text(times_text(metrics), style="dim") if metrics is not None else Text("-", style="dim")
