"""The conversation for people at a terminal. `pane_lines` turns a `ViewState` into lines that fit a width and a
height, and does nothing else; `LiveTerminal` keeps them moving at the bottom of the screen and leaves finished
exchanges above. Nothing is said by colour alone, and the colours are those of the reader's own palette that stand out
from light and dark backgrounds alike; NO_COLOR is rich's own rule. What the lines hold is in `view_rows`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from ...agent.events import Event
from .view_rows import Look, Row, current_rows, finished_rows, look_for, measure_rows, title
from .view_state import Exchange, ViewState, one_line

REFRESHES_PER_SECOND = 8
WIDE_CELLS = 100
"""From here on the measures stand beside the conversation instead of above it."""
MEASURES_CELLS = 46
MAX_WORDS_CELLS = 100
LABEL_CELLS = 6


def pane_lines(console: Console, state: ViewState, width: int, height: int) -> tuple[Text, ...]:
    """The current exchange with voice activity, prosody, P(end of turn), reply and times: at most `height` lines of
    at most `width` cells. The same state gives the same lines."""
    look = look_for(console)
    room = max(1, height - 1)
    if width < WIDE_CELLS:
        rows = _stacked(measure_rows(state, look, width - LABEL_CELLS - 1), current_rows(state, look))
        lines = _fitted(console, rows, width, room)
    else:
        left_width = min(MAX_WORDS_CELLS, width - MEASURES_CELLS - 3)
        right_width = width - left_width - 3
        left = _fitted(console, current_rows(state, look), left_width, room)
        right = _fitted(console, measure_rows(state, look, right_width - LABEL_CELLS - 1), right_width, room)
        lines = _beside(left, right, left_width, look)
    heading = title(state, look)
    heading.truncate(width)
    return (heading, *lines)


def finished_lines(console: Console, exchange: Exchange, width: int) -> list[Text]:
    """An exchange as history, in full."""
    return _fitted(console, finished_rows(exchange, look_for(console)), width, None)


def render(console: Console, state: ViewState, width: int, height: int) -> RenderableType:
    """The whole conversation: finished exchanges above, the current one with its meters below."""
    parts: list[RenderableType] = []
    for exchange in state.exchanges:
        if exchange is not state.current:
            parts += [*finished_lines(console, exchange, width), Text()]
    return Group(*parts, *pane_lines(console, state, width, height))


def render_svg(state: ViewState, path: Path, width: int = 100, height: int = 30) -> None:
    """Write the view as a picture, `width` cells wide and the pane at most `height` lines high."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(render(console, state, width, height), no_wrap=True, crop=False)
    console.save_svg(str(path), title="textpro-agent", unique_id="terminal")


class LiveTerminal:
    """A view on a terminal; a context manager that gives the terminal back as it was, with every exchange on it."""

    def __init__(self, console: Console) -> None:
        self.state = ViewState()
        self._console = console
        self._printed_turn = 0
        self._live = _SteadyLive(console, self._pane)

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()
        for exchange in self.state.exchanges:
            self._print(exchange)

    def show(self, event: Event) -> None:
        """Take the event; the picture follows at the next refresh."""
        self.state = self.state.apply(event)
        for exchange in self.state.exchanges[:-1]:
            if exchange.is_pending or (exchange.metrics is None and exchange.turn_id == event.turn_id):
                break
            self._print(exchange)

    def played(self, turn_id: int, total_ms: float) -> None:
        """The first `total_ms` of the sound of the turn's reply have been played."""
        self.state = self.state.with_played(turn_id, total_ms)

    def status(self, text: str) -> None:
        """How the microphone stands, as "muted"; it stays until the next one, and an empty one takes it away."""
        self.state = self.state.with_status(one_line(text))

    def notice(self, text: str) -> None:
        """A line above the moving part."""
        self._console.print(Text(one_line(text), style="dim"))

    def refresh(self) -> None:
        """Draw now, if there is something else to see than what stands there."""
        self._live.refresh()

    def _pane(self) -> tuple[Text, ...]:
        return pane_lines(self._console, self.state, self._console.width, self._console.height - 1)

    def _print(self, exchange: Exchange) -> None:
        if exchange.turn_id > self._printed_turn:
            self._printed_turn = exchange.turn_id
            self._console.print(*finished_lines(self._console, exchange, self._console.width), Text(), sep="\n", no_wrap=True)


class _SteadyLive(Live):
    """Draws only when there is something else to see: a picture that does not change is not written again. It is
    drawn over in one write, never by clearing the screen, and is taken away at the end."""

    def __init__(self, console: Console, draw: Callable[[], tuple[Text, ...]]) -> None:
        self._draw = draw
        self._drawn: tuple[Text, ...] = ()
        super().__init__(
            console=console,
            refresh_per_second=REFRESHES_PER_SECOND,
            transient=True,
            vertical_overflow="crop",
            get_renderable=lambda: Group(*self._drawn),
        )

    def refresh(self) -> None:
        """Draw, if the lines differ from those drawn last."""
        lines = self._draw()
        if lines != self._drawn:
            self._drawn = lines
            super().refresh()


def _stacked(measures: Sequence[Row], words: Sequence[Row]) -> list[Row]:
    """In the order in which things happen: how the user's words sound and end comes behind them."""
    behind = [row for row in measures if row.name in ("tone", "end")]
    rows = [row for row in measures if row.name == "voice"]
    for row in words:
        rows += [row, *behind] if row.name == "you" else [row]
    return rows + [row for row in measures if row.name == "times"]


def _fitted(console: Console, rows: Sequence[Row], width: int, room: int | None) -> list[Text]:
    """Rows as labelled lines of `width` cells, `room` lines at most: what gives way first is what `Row.rank` says."""
    cells = max(4, width - LABEL_CELLS - 1)
    blocks = [_wrapped(console, row, cells, room) for row in rows]
    limits = [len(block) for block in blocks]
    if room is not None:
        _shrink(limits, [row.rank for row in rows], room)
    dots = look_for(console).dots
    lines: list[Text] = []
    for row, block, limit in zip(rows, blocks, limits, strict=True):
        if limit == 0:
            continue
        is_cut = limit < len(block) or (room is not None and len(row.text) > cells * room)
        kept = block[-limit:] if row.shows_tail else block[:limit]
        label = f"{row.name}{dots}" if is_cut and row.shows_tail else row.name
        if is_cut and not row.shows_tail:
            kept[-1].truncate(cells - len(dots))
            kept[-1].append(dots)
        for number, line in enumerate(kept):
            name = Text((label if number == 0 else "")[:LABEL_CELLS].ljust(LABEL_CELLS + 1), style="dim")
            lines.append(Text.assemble(name, line))
    return lines


def _wrapped(console: Console, row: Row, cells: int, room: int | None) -> list[Text]:
    text = row.text
    if room is not None and len(text) > cells * room:  # no more of it can be seen
        text = text[-cells * room :] if row.shows_tail else text[: cells * room]
    pieces = _at_separators(text, row.separator, cells) if row.separator else [text]
    lines = [line for piece in pieces for line in piece.wrap(console, cells, overflow="fold")]
    for line in lines:
        line.rstrip()
    return lines or [Text()]


def _at_separators(text: Text, separator: str, cells: int) -> list[Text]:
    """A list as texts of at most `cells`, if its parts allow it."""
    lines: list[Text] = []
    for part in text.split(separator):
        if lines and lines[-1].cell_len + len(separator) + part.cell_len <= cells:
            lines[-1] = Text.assemble(lines[-1], (separator, "dim"), part)
        else:
            lines.append(part)
    return lines


def _shrink(limits: list[int], ranks: Sequence[int], room: int) -> None:
    """Lower the numbers of lines until their sum fits: rows of a rank lose all but one line, the highest first, then
    the longest of the others, then whole rows go."""
    everywhere = range(len(limits))
    yielding = [place for place in everywhere if ranks[place] > 0]
    for least, chosen in ((1, yielding), (1, everywhere), (0, everywhere)):
        while sum(limits) > room:
            places = [place for place in chosen if limits[place] > least]
            if not places:
                break
            limits[max(places, key=lambda place: (ranks[place], limits[place]))] -= 1


def _beside(left: list[Text], right: list[Text], left_width: int, look: Look) -> list[Text]:
    lines = []
    for number in range(max(len(left), len(right))):
        line = left[number] if number < len(left) else Text()
        padding = " " * (left_width - cell_len(line.plain))
        beside = right[number] if number < len(right) else Text()
        lines.append(Text.assemble(line, padding, (f" {look.column} ", "dim"), beside))
    return lines
