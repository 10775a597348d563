"""A scenario's time line as an SVG picture: who sounds when, the user's turns, where the agent steps back, P(end of turn) and
every event that matters, on one axis of milliseconds."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from ..agent import events
from .simulator import Outcome

WIDTH, LEFT, RIGHT = 1_100, 96, 24
LANE, GAP, TOP = 64, 14, 52
MARK_ROWS = 6
QUIET = ("voice_activity", "update", "audio", "reply_delta", "metrics", "prosody", "tokens_committed", "tokens_retracted")
USER, AGENT, TURN, SOFT, DUCKED, BAD = "#2563a8", "#b4540a", "#cfe0f3", "#e9f1fa", "#f3d9c4", "#b3261e"


def picture(outcome: Outcome) -> str:
    """The SVG's text."""
    total_ms = max(outcome.duration_ms, 1)
    scale = (WIDTH - LEFT - RIGHT) / total_ms
    rows = [TOP + index * (LANE + GAP) for index in range(4)]
    marks_top = rows[3] + LANE + GAP
    height = marks_top + MARK_ROWS * 15 + 34
    verdict = "passed" if outcome.passed else "failed"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="sans-serif" font-size="11" role="img" aria-label="{escape(outcome.scenario.name)}: {verdict}">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="15" font-weight="bold">{escape(outcome.scenario.name)}</text>',
        f'<text x="{LEFT}" y="38" fill="{BAD if outcome.failures else "#226622"}">{escape(_verdict(outcome))}</text>',
    ]
    for row, name in zip(rows, ("user", "turns", "P(end)", "agent"), strict=True):
        parts.append(f'<text x="{LEFT - 10}" y="{row + LANE / 2 + 4:.0f}" text-anchor="end">{name}</text>')
        parts.append(f'<rect x="{LEFT}" y="{row}" width="{WIDTH - LEFT - RIGHT}" height="{LANE}" fill="#fafafa"/>')
    parts += _axis(total_ms, scale, marks_top - GAP / 2)
    parts += _wave(outcome.user, rows[0], scale, USER)
    parts += _turns(outcome, rows[1], scale)
    parts += _probabilities(outcome, rows[2], scale)
    parts += _ducks(outcome, rows[3], scale)
    parts += _wave(outcome.agent, rows[3], scale, AGENT)
    parts += _marks(outcome, rows[0], marks_top, scale)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _verdict(outcome: Outcome) -> str:
    return f"failed: {outcome.failures[0]}" if outcome.failures else f"passed: {outcome.scenario.about}"


def _axis(total_ms: int, scale: float, y: float) -> Iterator[str]:
    step = next(step for step in (200, 500, 1000, 2000, 5000, 10_000, 60_000) if total_ms / step <= 16 or step == 60_000)
    for at_ms in range(0, total_ms + 1, step):
        x = LEFT + at_ms * scale
        yield f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{y:.0f}" stroke="#e2e2e2"/>'
        yield f'<text x="{x:.1f}" y="{TOP - 3}" text-anchor="middle" fill="#666" font-size="9">{at_ms / 1000:g} s</text>'


def _wave(sound: NDArray[np.float32], row: int, scale: float, colour: str) -> Iterator[str]:
    """The envelope, one step for each 20 ms."""
    size = 320
    peaks = np.abs(sound[: len(sound) // size * size]).reshape(-1, size).max(1) if len(sound) >= size else np.zeros(0)
    if not len(peaks) or peaks.max() < 1e-4:
        return
    heights = peaks / peaks.max() * (LANE / 2 - 3)
    middle = row + LANE / 2
    xs = LEFT + np.arange(len(heights)) * 20 * scale
    upper = " ".join(f"{x:.1f},{middle - h:.1f}" for x, h in zip(xs, heights, strict=True))
    lower = " ".join(f"{x:.1f},{middle + h:.1f}" for x, h in zip(xs[::-1], heights[::-1], strict=True))
    yield f'<polygon points="{upper} {lower}" fill="{colour}"/>'


def _turns(outcome: Outcome, row: int, scale: float) -> Iterator[str]:
    begun: float | None = None
    soft: float | None = None
    for moment in outcome.moments:
        event = moment.event
        match event:
            case events.TurnStart() | events.TurnResumed():
                if soft is not None:
                    yield _bar(soft, moment.at_ms, row, scale, SOFT)
                begun, soft = float(moment.at_ms), None
            case events.EagerTurnEnd() if begun is not None:
                yield _bar(begun, moment.at_ms, row, scale, TURN)
                begun, soft = None, float(moment.at_ms)
            case events.TurnEnd() | events.TurnDropped():
                start = soft if begun is None else begun
                if start is not None:
                    yield _bar(start, moment.at_ms, row, scale, SOFT if begun is None else TURN)
                begun = soft = None
                text = event.text if isinstance(event, events.TurnEnd) else "dropped"
                x = LEFT + moment.at_ms * scale
                yield f'<text x="{x - 4:.1f}" y="{row + LANE / 2 + 4:.0f}" text-anchor="end">{escape(text)}</text>'
                yield f'<line x1="{x:.1f}" y1="{row}" x2="{x:.1f}" y2="{row + LANE}" stroke="{USER}" stroke-width="2"/>'


def _bar(start: float, end: float, row: int, scale: float, colour: str) -> str:
    width = max((end - start) * scale, 1.0)
    return f'<rect x="{LEFT + start * scale:.1f}" y="{row + 10}" width="{width:.1f}" height="{LANE - 20}" fill="{colour}"/>'


def _probabilities(outcome: Outcome, row: int, scale: float) -> Iterator[str]:
    """A dot for each P(end) that was told."""
    for moment in outcome.moments:
        if moment.type in ("eager_turn_end", "turn_end"):
            p = float(str(moment.values["p_end"]))
            x, y = LEFT + moment.at_ms * scale, row + LANE - 6 - p * (LANE - 12)
            yield f'<line x1="{x:.1f}" y1="{row + LANE - 6}" x2="{x:.1f}" y2="{y:.1f}" stroke="{USER}"/>'
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{USER}"><title>{p:.3f}</title></circle>'
            yield f'<text x="{x + 5:.1f}" y="{y + 3:.1f}" font-size="9">{p:.2f}</text>'


def _ducks(outcome: Outcome, row: int, scale: float) -> Iterator[str]:
    since: int | None = None
    for moment in outcome.moments:
        if moment.type == "duck":
            since = moment.at_ms
        elif since is not None and moment.type in ("unduck", "interrupt", "reply_done"):
            yield _bar(since, moment.at_ms, row, scale, DUCKED)
            since = None


def _marks(outcome: Outcome, top: int, row: int, scale: float) -> Iterator[str]:
    shown = [moment for moment in outcome.moments if moment.type not in QUIET]
    for index, moment in enumerate(shown):
        x, y = LEFT + moment.at_ms * scale, row + 12 + index % MARK_ROWS * 15
        said = escape(str(moment.values.get("text") or moment.values.get("heard_text") or moment.values.get("name") or ""))
        yield f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{y - 9:.1f}" stroke="#999" stroke-dasharray="2 3"/>'
        anchor = "end" if x > WIDTH - 180 else "start"
        yield (
            f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" font-size="10">{moment.type}'
            f"<title>{moment.at_ms} ms {said}</title></text>"
        )
