"""A load test as a picture: each turn's latency over the time of the run, and the share of turns below each latency. Plain SVG
without a font or script of its own; shapes say what colours say."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape

import numpy as np

from .load_caller import Result, Turn
from .load_report import LoadReport

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 1_000, 460, 70, 24, 70, 84
SPLIT, GAP = 640, 70
"""Where the left picture ends, and the space before the right one."""
INK, SOFT, GRID = "#1f2933", "#5b6770", "#dfe4e8"
GOOD, CUT, BAD, MIDDLE, HIGH = "#2563a8", "#a86400", "#b3261e", "#2a7f62", "#6a3d9a"
STEPS = (50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 60_000)
BASE = HEIGHT - BOTTOM


def draw_load(report: LoadReport) -> str:
    """The SVG document."""
    latencies = report.latencies
    top_ms = max([*latencies, 100.0]) * 1.08
    said = _in_words(report)
    title = f"{report.callers} callers, {len(report.turns)} turns in {report.seconds:.0f} s"
    label = escape(f"{title}: {said}", {'"': "&quot;"})
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="\'DejaVu Sans\', Verdana, sans-serif" font-size="12" fill="{INK}" role="img" aria-label="{label}">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="26" font-size="17" font-weight="bold">{escape(title)}</text>',
        f'<text x="{LEFT}" y="46" fill="{SOFT}">{escape(said)}</text>',
        *_scale(top_ms),
        *_over_time(report, top_ms),
        *_shares(latencies, top_ms),
        *_legend(),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _in_words(report: LoadReport) -> str:
    answered = f"{len(report.answered)} of {len(report.turns)} turns answered"
    if not report.latencies:
        return answered
    p50, p90 = np.percentile(report.latencies, (50, 90))
    gaps = sum(len(turn.gaps) for turn in report.turns)
    return f"{answered}; latency at the ear {p50:.0f} ms in the middle, {p90:.0f} ms for 90 %; {gaps} gaps in replies"


def _scale(top_ms: float) -> Iterator[str]:
    """Latency upwards, for both pictures."""
    step = next(step for step in STEPS if top_ms / step <= 8 or step == STEPS[-1])
    for ms in range(0, int(top_ms) + 1, step):
        y = _y(ms, top_ms)
        yield _line(LEFT, y, SPLIT, y, GRID) + _line(SPLIT + GAP, y, WIDTH - RIGHT, y, GRID)
        yield _text(LEFT - 8, y + 4, f"{ms} ms", "end") + _text(SPLIT + GAP - 8, y + 4, f"{ms}", "end")


def _over_time(report: LoadReport, top_ms: float) -> Iterator[str]:
    seconds = max(report.seconds, 1.0)
    step = next(step for step in (1, 2, 5, 10, 30, 60, 300, 600, 3_600, 36_000) if seconds / step <= 10 or step == 36_000)
    for second in range(0, int(seconds) + 1, step):
        yield _text(LEFT + (SPLIT - LEFT) * second / seconds, BASE + 18, f"{second} s", "middle")
    yield _text((LEFT + SPLIT) / 2, BASE + 38, "time of the test at which the turn began", "middle")
    for turn in report.turns:
        x = LEFT + (SPLIT - LEFT) * min(turn.began_ms / 1000 / seconds, 1.0)
        yield _mark(turn, x, BASE if turn.latency_ms is None else _y(turn.latency_ms, top_ms))


def _mark(turn: Turn, x: float, y: float) -> str:
    if turn.result is not Result.ANSWERED:
        return f'<path d="M {x - 4:.1f} {y - 4:.1f} l 8 8 m 0 -8 l -8 8" stroke="{BAD}" stroke-width="2"/>'
    ring = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="7" fill="none" stroke="{BAD}"/>' if turn.gaps else ""
    if turn.was_cut:
        return ring + f'<path d="M {x:.1f} {y - 5:.1f} l 5 5 l -5 5 l -5 -5 z" fill="{CUT}"/>'
    return ring + f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{GOOD}"/>'


def _shares(latencies: list[float], top_ms: float) -> Iterator[str]:
    """Sideways: which share of the turns was answered at least so soon."""
    left, right = SPLIT + GAP, WIDTH - RIGHT
    for share in (0, 50, 90):
        x = left + (right - left) * share / 100
        yield _line(x, TOP, x, BASE, GRID) + _text(x, BASE + 18, f"{share} %", "middle")
    yield _text((left + right) / 2, BASE + 38, "of the turns were answered as soon", "middle")
    if not latencies:
        return
    ordered = sorted(latencies)
    points = [(left + (right - left) * (at + 1) / len(ordered), _y(ms, top_ms)) for at, ms in enumerate(ordered)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in [(left, points[0][1]), *points])
    yield f'<polyline points="{path}" fill="none" stroke="{GOOD}" stroke-width="2"/>'
    for share, colour, dashes in ((50, MIDDLE, "6 3"), (90, HIGH, "2 3")):
        ms = float(np.percentile(ordered, share))
        yield _line(LEFT, _y(ms, top_ms), SPLIT, _y(ms, top_ms), colour, dashes)
        yield _line(left, _y(ms, top_ms), right, _y(ms, top_ms), colour, dashes)
        yield f'<g fill="{colour}">{_text(SPLIT + 4, _y(ms, top_ms) + 4, f"{share} %")}</g>'


def _legend() -> Iterator[str]:
    y = HEIGHT - 16
    yield f'<circle cx="{LEFT}" cy="{y - 4}" r="3.5" fill="{GOOD}"/>' + _text(LEFT + 10, y, "heard to its end")
    yield f'<path d="M {LEFT + 150} {y - 9} l 5 5 l -5 5 l -5 -5 z" fill="{CUT}"/>' + _text(
        LEFT + 162, y, "cut off by the caller"
    )
    yield f'<circle cx="{LEFT + 330}" cy="{y - 4}" r="7" fill="none" stroke="{BAD}"/>' + _text(LEFT + 344, y, "with a gap")
    yield (
        f'<path d="M {LEFT + 446} {y - 8} l 8 8 m 0 -8 l -8 8" stroke="{BAD}" stroke-width="2"/>'
        + _text(LEFT + 462, y, "not answered")
    )


def _y(ms: float, top_ms: float) -> float:
    return BASE - (BASE - TOP) * ms / top_ms


def _line(x1: float, y1: float, x2: float, y2: float, stroke: str, dashes: str = "") -> str:
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{stroke}"{dashed}/>'


def _text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
