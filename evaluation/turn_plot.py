"""Curves of dead air against cut-offs as an SVG file, written plainly: no library, no script, and told apart by the shape of
the marks and the dashes of the line, not by colour alone. The description says the figures in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 820, 520
LEFT, RIGHT, TOP, BOTTOM = 70, 30, 70, 110
MAX_X_MS, MAX_Y = 2_000, 0.6
STEP_X_MS, STEP_Y = 250, 0.1
BUDGETS = (0.05, 0.10)
STYLES = (
    ("#1b1b1b", "2 5", "square"),
    ("#0b6bb5", "9 5", "circle"),
    ("#b3440c", "none", "triangle"),
    ("#5b7d1c", "12 4 2 4", "diamond"),
)
"""Colour, dashes and mark of each curve in turn; readable on white in print without colours."""
MARK_EVERY = 45
"""Pixels between marks, at least."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A name and points (dead air in ms, share of pauses cut off), from little dead air to much."""

    name: str
    points: tuple[tuple[float, float], ...]


def draw_svg(curves: Sequence[Curve], title: str, note: str) -> str:
    """The picture; what lies beyond 2 s of dead air or 60 % of cut-offs is not shown."""
    described = "; ".join(f"{curve.name}: {_in_words(curve)}" for curve in curves)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-labelledby="title about" font-family="sans-serif" font-size="14">',
        f'<title id="title">{escape(title)}</title><desc id="about">{escape(described)}</desc>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text(LEFT, 28, title, size=18),
        _text(LEFT, 50, "lower and further left is better"),
        *_axes(),
    ]
    for index, curve in enumerate(curves):
        parts += _curve(curve, index)
    parts.append(_text(LEFT, HEIGHT - 14, note, size=12))
    parts.append("</svg>\n")
    return "\n".join(parts)


def _axes() -> list[str]:
    parts = []
    for step in range(int(MAX_X_MS / STEP_X_MS) + 1):
        x = _x(step * STEP_X_MS)
        parts.append(_line(x, TOP, x, HEIGHT - BOTTOM, "#dddddd"))
        parts.append(_text(x, HEIGHT - BOTTOM + 20, str(step * STEP_X_MS), anchor="middle"))
    for step in range(int(MAX_Y / STEP_Y + 0.5) + 1):
        y = _y(step * STEP_Y)
        parts.append(_line(LEFT, y, WIDTH - RIGHT, y, "#dddddd"))
        parts.append(_text(LEFT - 8, y + 5, f"{step * STEP_Y:.0%}", anchor="end"))
    for budget in BUDGETS:
        parts.append(_line(LEFT, _y(budget), WIDTH - RIGHT, _y(budget), "#777777", dashes="3 3"))
        parts.append(_text(WIDTH - RIGHT, _y(budget) - 4, f"{budget:.0%}", anchor="end", size=12))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - BOTTOM + 42, "dead air behind the end of a turn, mean ms", "middle"))
    parts.append(
        f'<text x="18" y="{middle:.0f}" text-anchor="middle" transform="rotate(-90 18 {middle:.0f})">pauses cut off</text>'
    )
    return parts


def _curve(curve: Curve, index: int) -> list[str]:
    colour, dashes, mark = STYLES[index % len(STYLES)]
    shown = [(_x(ms), _y(rate)) for ms, rate in curve.points if ms <= MAX_X_MS and rate <= MAX_Y]
    key_x, key_y = LEFT + 10 + (index % 2) * 360, HEIGHT - BOTTOM + 62 + (index // 2) * 18
    parts = [
        _line(key_x, key_y - 5, key_x + 46, key_y - 5, colour, 2.5, dashes),
        _mark(mark, key_x + 23, key_y - 5, colour),
        _text(key_x + 54, key_y, curve.name),
    ]
    if not shown:
        return parts
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in shown)
    dashed = f' stroke-dasharray="{dashes}"' if dashes != "none" else ""
    parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.5"{dashed}/>')
    last = (float("-inf"), 0.0)
    for x, y in shown:
        if abs(x - last[0]) + abs(y - last[1]) >= MARK_EVERY:
            parts.append(_mark(mark, x, y, colour))
            last = (x, y)
    return parts


def _mark(kind: str, x: float, y: float, colour: str) -> str:
    if kind == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>'
    corners = {
        "square": ((-5, -5), (5, -5), (5, 5), (-5, 5)),
        "triangle": ((0, -6), (6, 5), (-6, 5)),
        "diamond": ((0, -7), (6, 0), (0, 7), (-6, 0)),
    }[kind]
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return f'<polygon points="{points}" fill="{colour}"/>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1, dashes: str = "none") -> str:
    dashed = f' stroke-dasharray="{dashes}"' if dashes != "none" else ""
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}"{dashed}/>'


def _text(x: float, y: float, text: str, anchor: str = "start", size: int = 14) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'


def _x(ms: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * ms / MAX_X_MS


def _y(rate: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * rate / MAX_Y


def _in_words(curve: Curve) -> str:
    """The points nearest under each budget, for people who do not see the picture."""
    said = []
    for budget in BUDGETS:
        allowed = [ms for ms, rate in curve.points if rate <= budget]
        said.append(f"{min(allowed):.0f} ms at {budget:.0%}" if allowed else f"never under {budget:.0%}")
    return ", ".join(said)
