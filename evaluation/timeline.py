"""One utterance as a picture: waveform and words, speech detector, ticks and what they cost, commits, P(end), and below it
what each tick said. Plain SVG without a font or script of its own; shapes, line styles and labels say what colours say.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

import numpy as np

from ..streaming.clock import SAMPLE_RATE
from .streaming_measures import committed_at, heard_ends
from .streaming_trace import EndGuess, Kind, Pace, Spoken, Step, Trace, Turn

WIDTH, LEFT, RIGHT = 1200, 150, 30
SANS, MONO = "'DejaVu Sans', Verdana, sans-serif", "'DejaVu Sans Mono', Menlo, monospace"
INK, SOFT, GRID = "#1f2933", "#5b6770", "#dfe4e8"
SOUND, VOICE, TICK, COMMIT, DRAFT, BACK, END = "#7b8794", "#2a7f62", "#4a5fc1", "#1f6f8b", "#a86400", "#b3261e", "#6a3d9a"
ROW, LAG_ROW = 19, 17
LAG_ROWS = 6
MAX_ROW_CHARACTERS, MAX_LINE_CHARACTERS = 112, 150


class _Page:
    """Shapes in their order, in pixels; `x` turns samples into them."""

    def __init__(self, samples: int) -> None:
        self.shapes: list[str] = []
        self._scale = (WIDTH - LEFT - RIGHT) / max(samples, 1)

    def x(self, samples: float) -> float:
        return round(LEFT + samples * self._scale, 1)

    def text(
        self, x: float, y: float, words: str, fill: str = INK, size: int = 12, anchor: str = "start", extra: str = ""
    ) -> None:
        self.shapes.append(
            f'<text x="{x:.1f}" y="{y:.1f}" fill="{fill}" font-size="{size}" text-anchor="{anchor}" {extra}>'
            f"{escape(words)}</text>"
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, stroke: str, width: float = 1, dash: str = "") -> None:
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self.shapes.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{stroke}" stroke-width="{width}"{dashes}/>'
        )

    def box(self, x: float, y: float, width: float, height: float, fill: str, opacity: float = 1.0) -> None:
        self.shapes.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.8):.1f}" height="{height:.1f}" fill="{fill}" '
            f'fill-opacity="{opacity}"/>'
        )

    def path(self, points: Sequence[tuple[float, float]], stroke: str, width: float = 1.4) -> None:
        where = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.shapes.append(f'<polyline points="{where}" fill="none" stroke="{stroke}" stroke-width="{width}"/>')

    def lane(self, y: float, height: float, name: str, note: str = "") -> None:
        self.text(LEFT - 12, y + height / 2, name, INK, 13, "end", 'font-weight="bold"')
        if note:
            self.text(LEFT - 12, y + height / 2 + 15, note, SOFT, 11, "end")
        self.line(LEFT, y + height, WIDTH - RIGHT, y + height, GRID)


def draw_timeline(spoken: Spoken, trace: Trace, title: str) -> str:
    """The SVG document."""
    page = _Page(trace.audio_samples)
    page.text(20, 32, title, INK, 18, extra='font-weight="bold"')
    page.text(20, 54, _shortened(f"said: {' '.join(spoken.words)}"), SOFT, 13)
    page.text(20, 72, _shortened(f"recognized: {' '.join(trace.words)}"), SOFT, 13)
    lanes_top, y = 98, 114.0
    y = _waveform(page, spoken, y)
    y = _detector(page, trace, y)
    y = _ticks(page, trace, y)
    y = _commits(page, spoken, trace, y)
    y = _end_guesses(page, trace, y)
    lanes_bottom = y
    _soft_ends(page, trace, lanes_top, lanes_bottom)
    y = _seconds(page, trace, lanes_top, lanes_bottom)
    y = _said(page, trace, y + 26)
    y = _legend(page, y + 10)
    height = round(y + 16)
    label = escape(title, {'"': "&quot;"})
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="{SANS}" role="img" aria-label="{label}">\n<title>{escape(title)}</title>\n'
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>\n' + "\n".join(page.shapes) + "\n</svg>\n"
    )


def _waveform(page: _Page, spoken: Spoken, y: float) -> float:
    height, middle = 70.0, y + 52
    page.lane(y, height + 20, "sound", "and its words")
    bins = WIDTH - LEFT - RIGHT
    pieces = np.array_split(spoken.samples, bins)
    loudest = max(float(np.abs(spoken.samples).max(initial=0)), 1e-6)
    up = [(LEFT + index, middle - 30 * float(piece.max(initial=0)) / loudest) for index, piece in enumerate(pieces)]
    down = [(LEFT + index, middle - 30 * float(piece.min(initial=0)) / loudest) for index, piece in enumerate(pieces)]
    where = " ".join(f"{x},{level:.1f}" for x, level in (*up, *reversed(down)))
    page.shapes.append(f'<polygon points="{where}" fill="{SOUND}"/>')
    for index, (word, start, end) in enumerate(zip(spoken.words, spoken.starts, spoken.ends, strict=True)):
        page.line(page.x(end), y + 18, page.x(end), middle + 30, GRID)
        page.text((page.x(start) + page.x(end)) / 2, y + (2 if index % 2 else 14), word, INK, 12, "middle")
    return y + height + 34


def _detector(page: _Page, trace: Trace, y: float) -> float:
    height = 40.0
    page.lane(y, height, "speech?", "detector, 0 to 1")
    began: int | None = None
    for index, one in enumerate(trace.activity):
        if one.speaking and began is None:
            began = one.end_samples
        if began is not None and (not one.speaking or index + 1 == len(trace.activity)):
            page.box(page.x(began), y, page.x(one.end_samples) - page.x(began), height, VOICE, 0.16)
            began = None
    page.path([(page.x(one.end_samples), y + height * (1 - one.probability)) for one in trace.activity], VOICE)
    return y + height + 14


def _ticks(page: _Page, trace: Trace, y: float) -> float:
    height = 30.0
    page.lane(y, height, "work", "bar: compute time")
    for step in _steps(trace):
        x = page.x(step.heard_samples)
        if step.kind is Kind.RESUME:
            page.text(x, y + 20, "↩", BACK, 16, "middle")
            continue
        final = step.kind is Kind.FINAL
        page.box(x, y + (4 if final else 12), page.x(step.done_samples) - x, 22 if final else 14, END if final else TICK)
        page.shapes.append(f'<path d="M {x:.1f} {y + 27:.1f} l -4 7 l 8 0 z" fill="{END if final else TICK}"/>')
    return y + height + 20


def _commits(page: _Page, spoken: Spoken, trace: Trace, y: float) -> float:
    """A bar from the end of each word's sound to its commit."""
    height = LAG_ROWS * LAG_ROW + 4.0
    page.lane(y, height, "commits", "from end of sound")
    ends, at = heard_ends(spoken, trace), 0
    for turn in trace.turns:
        for index, word in enumerate(turn.words):
            said, row = committed_at(turn, index, Pace.AWARE), y + ((at + index) % LAG_ROWS) * LAG_ROW
            end = ends.get(at + index)
            x = page.x(said)
            if end is not None:
                page.line(page.x(end), row + 9, x, row + 9, COMMIT, 2)
                page.line(page.x(end), row + 5, page.x(end), row + 13, COMMIT, 2)
            page.shapes.append(f'<circle cx="{x:.1f}" cy="{row + 9:.1f}" r="4" fill="{COMMIT}"/>')
            lag = "" if end is None else f" {(said - end) * 1000 // SAMPLE_RATE} ms"
            page.text(x + 7, row + 13, f"{word}{lag}", INK, 11)
        at += len(turn.words)
    for step in _steps(trace):
        if step.retracted_tokens:
            x = page.x(step.done_samples)
            page.line(x, y, x, y + height, BACK, 1.4, "2 3")
            page.text(x, y + height + 12, f"✕ −{step.retracted_tokens}", BACK, 11, "middle", 'font-weight="bold"')
    return y + height + 22


def _end_guesses(page: _Page, trace: Trace, y: float) -> float:
    height = 40.0
    page.lane(y, height, "P(end)", "0 to 1")
    points = [(page.x(one.heard_samples), y + height * (1 - one.probability)) for one in trace.end_guesses]
    for turn in trace.turns:
        page.path([at for at, one in zip(points, trace.end_guesses, strict=True) if _inside(turn, one)], END)
    finals = {step.heard_samples for step in _steps(trace) if step.kind is Kind.FINAL}
    for (x, level), one in zip(points, trace.end_guesses, strict=True):
        page.shapes.append(f'<circle cx="{x:.1f}" cy="{level:.1f}" r="3.2" fill="{END}"/>')
        if one.heard_samples in finals:
            page.text(x + 6, min(max(level - 3, y + 10), y + height - 4), f"{one.probability:.2f}", END, 11)
    return y + height + 8


def _soft_ends(page: _Page, trace: Trace, top: float, bottom: float) -> None:
    for step in _steps(trace):
        if step.kind is Kind.FINAL:
            x = page.x(step.heard_samples)
            page.line(x, top - 8, x, bottom, END, 1.2, "6 4")
            page.text(x - 4, top, "soft end", END, 11, "end")


def _seconds(page: _Page, trace: Trace, top: float, bottom: float) -> float:
    for second in range(trace.audio_samples // SAMPLE_RATE + 1):
        x = page.x(second * SAMPLE_RATE)
        page.line(x, bottom, x, bottom + 5, SOFT)
        page.text(x, bottom + 18, f"{second} s", SOFT, 11, "middle")
    page.line(LEFT, bottom, WIDTH - RIGHT, bottom, SOFT)
    return bottom + 22


def _said(page: _Page, trace: Trace, y: float) -> float:
    """A row for each step: committed words plain, guessed ones in brackets, taken back ones struck through."""
    page.text(20, y, "What stood after each step", INK, 14, extra='font-weight="bold"')
    y += 8
    for turn in trace.turns:
        before: Step | None = None
        for step in turn.steps:
            y += ROW
            page.text(LEFT - 12, y, f"{step.heard_samples / SAMPLE_RATE:.2f} s {step.kind.value}", SOFT, 12, "end")
            page.shapes.append(_row(LEFT, y, step, before))
            before = step
    return y + 8


def _row(x: float, y: float, step: Step, before: Step | None) -> str:
    kept = 0
    old = before.committed if before else ()
    while kept < min(len(old), len(step.committed)) and old[kept] == step.committed[kept]:
        kept += 1
    parts: list[tuple[str, str]] = [("committed", word) for word in step.committed]
    parts[kept:kept] = [("gone", word) for word in old[kept:]]
    spans, used = list[str](), 0
    if sum(len(word) + 1 for _, word in parts) > MAX_ROW_CHARACTERS:
        spans.append(f'<tspan fill="{SOFT}">… </tspan>')
        while parts and sum(len(word) + 1 for _, word in parts) > MAX_ROW_CHARACTERS:
            parts.pop(0)
    for kind, word in parts:
        used += len(word) + 1
        if kind == "gone":
            spans.append(f'<tspan fill="{BACK}" text-decoration="line-through">{escape(word)}</tspan> ')
        else:
            spans.append(f'<tspan fill="{COMMIT}" font-weight="bold">{escape(word)}</tspan> ')
    draft = " ".join(step.tentative)
    if draft:
        shown = draft if used + len(draft) <= MAX_ROW_CHARACTERS else draft[: max(MAX_ROW_CHARACTERS - used, 8)] + "…"
        spans.append(f'<tspan fill="{DRAFT}" font-style="italic">[{escape(shown)}]</tspan>')
    body = "".join(spans) or f'<tspan fill="{SOFT}">nothing yet</tspan>'
    return f'<text x="{x}" y="{y:.1f}" font-family="{MONO}" font-size="13" xml:space="preserve">{body}</text>'


def _legend(page: _Page, y: float) -> float:
    y += 16
    page.text(
        20,
        y,
        "bold: committed · [italic]: draft, may change · struck through and ✕: taken back · ↩: speech went on after a soft end · "
        "dashed: soft end, then the final pass",
        SOFT,
        12,
    )
    return y


def _inside(turn: Turn, guess: EndGuess) -> bool:
    return turn.start_samples <= guess.heard_samples <= turn.end_samples


def _shortened(words: str) -> str:
    return words if len(words) <= MAX_LINE_CHARACTERS else words[: MAX_LINE_CHARACTERS - 1] + "…"


def _steps(trace: Trace) -> list[Step]:
    turns: Sequence[Turn] = trace.turns
    return [step for turn in turns for step in turn.steps]
