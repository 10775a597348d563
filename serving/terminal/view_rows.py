"""What the terminal view says, row by row: a `ViewState` in words, bars and styles, before it is laid out. Styles are
names of the terminal's own palette; where its encoding is not Unicode, ASCII stands in for the marks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from ...agent.events import Metrics, Prosody
from .view_state import Exchange, ToolUse, ViewState, one_line

UNKNOWN_BELOW = 0.6
BAR_CELLS = 20
VOICE_CELLS = 32
MAX_VALUE_CHARS = 200
"""Of one value of a tool's arguments or result."""
STAGES = {
    "vad": "VAD",
    "encode": "encode",
    "verify": "verify",
    "extend": "extend",
    "prosody": "prosody",
    "transcribe": "transcribe",
    "interleave": "interleave",
    "prefill": "prefill",
    "decode": "reply",
}
"""The order in which stages are shown, and their names; others follow under their own."""


@dataclass(frozen=True, slots=True)
class Row:
    """A labelled text. `rank` says how early it gives way where room is short, 0 last; `shows_tail` whether its end is
    what matters; `separator` is what its lines are broken at, if they can be."""

    name: str
    text: Text
    rank: int = 0
    shows_tail: bool = False
    separator: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """The marks that a terminal's encoding can show."""

    full: str
    empty: str
    levels: str
    dots: str
    dot: str
    rule: str
    column: str
    heard: str
    encoding: str

    @property
    def between(self) -> str:
        """What stands between the parts of a list."""
        return f" {self.dot} "

    def clean(self, text: str) -> str:
        """A text from outside on one line, in characters that the terminal can show."""
        return one_line(text).encode(self.encoding, "replace").decode(self.encoding)


def look_for(console: Console) -> Look:
    """The marks for a console."""
    if console.options.ascii_only:
        return Look("#", "-", "_.:-=+*#", "..", "-", "--", "|", ">", "ascii")
    return Look("█", "░", "▁▂▃▄▅▆▇█", "…", "·", "──", "│", "▸", "utf-8")


def title(state: ViewState, look: Look) -> Text:
    """What is going on, when, and how the microphone stands."""
    seconds = max(0, state.t_ms) // 1000
    text = Text.assemble((f"{look.rule} ", "dim"), (_phase(state), "bold"), f" {look.dot} {seconds // 60}:{seconds % 60:02d}")
    if state.status:
        text.append(f" {look.dot} {look.clean(state.status)}", style="bold magenta")
    text.append(f" {look.rule}", style="dim")
    return text


def measure_rows(state: ViewState, look: Look, cells: int) -> list[Row]:
    """Voice activity, tone, P(end of turn) and times; bars take at most the room of `cells`."""
    rows = [Row("voice", _voice(state, look, cells), rank=1)]
    exchange = state.current
    if exchange is None:
        return rows
    if state.hears_tone:
        rows.append(Row("tone", _tone(exchange.prosody, look), rank=3, separator=look.between))
    rows.append(Row("end", _end(exchange, look, max(6, min(BAR_CELLS, cells - 18))), rank=2))
    rows.append(Row("times", _times(exchange.metrics, look), rank=5, separator=look.between))
    return rows


def current_rows(state: ViewState, look: Look) -> list[Row]:
    """What is said: by the user, by tools, by the agent, who may still be answering the turn before."""
    rows: list[Row] = []
    exchange, answering = state.current, state.pending
    if answering is not None and answering is not exchange:
        rows.append(Row("agent", _reply(answering, look), shows_tail=True))
    if exchange is not None:
        rows.append(Row("you", _words(exchange, look), shows_tail=True))
        rows += _tool_rows(exchange, look)
        if exchange.is_over:
            rows.append(Row("agent", _reply(exchange, look), shows_tail=True))
    if state.failed is not None:
        rows.append(Row("failed", Text(look.clean(state.failed), style="bold red")))
    return rows


def finished_rows(exchange: Exchange, look: Look) -> list[Row]:
    """An exchange as history."""
    if exchange.dropped is not None:
        return [Row("(you)", Text(look.clean(exchange.dropped), style="dim"))]
    rows = [Row("you", _words(exchange, look))]
    if exchange.prosody is not None:
        rows.append(Row("tone", _tone(exchange.prosody, look), separator=look.between))
    rows += [*_tool_rows(exchange, look), Row("agent", _reply(exchange, look))]
    if exchange.metrics is not None:
        rows.append(Row("times", _times(exchange.metrics, look), separator=look.between))
    return rows


def is_known(prosody: Prosody) -> bool:
    """Whether the label may be said: it is one, with a confidence of at least 0.6."""
    return prosody.confidence >= UNKNOWN_BELOW and prosody.label != "unknown"


def tone_parts(prosody: Prosody) -> list[str]:
    """What a prosody read-out says, in words; a label of less than 0.6 confidence is unknown."""
    parts = [f"sounds like {prosody.label} {prosody.confidence:.2f}" if is_known(prosody) else "unknown"]
    if prosody.pitch_hz is not None:
        parts.append(f"pitch {prosody.pitch_hz:.0f} Hz")
    if prosody.energy_db is not None:
        parts.append(f"energy {prosody.energy_db:.0f} dB")
    if prosody.words_per_minute is not None:
        parts.append(f"{prosody.words_per_minute:.0f} words/min")
    return parts


def times_parts(metrics: Metrics) -> list[str]:
    """How soon the reply came and what the turn cost, by stage that took part."""
    parts = []
    if metrics.first_text_ms is not None:
        parts.append(f"first word {metrics.first_text_ms:.0f} ms")
    if metrics.first_audio_ms is not None:
        parts.append(f"first sound {metrics.first_audio_ms:.0f} ms")
    parts += [f"{STAGES.get(name, name.replace('_', ' '))} {metrics.stages_ms[name]:.0f} ms" for name in stages_of(metrics)]
    if metrics.realtime_factor is not None:
        parts.append(f"RTF {metrics.realtime_factor:.2f}")
    return parts


def stages_of(metrics: Metrics) -> list[str]:
    """The stages that took time, in the order of the data's way."""
    took = [name for name, ms in metrics.stages_ms.items() if ms > 0]
    return [*(name for name in STAGES if name in took), *(name for name in took if name not in STAGES)]


def value_text(value: object) -> str:
    """A value of a tool's arguments or result: a string as it is, anything else as JSON, cut where it is long."""
    text = one_line(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))
    return text if len(text) <= MAX_VALUE_CHARS else f"{text[:MAX_VALUE_CHARS]}..."


def tool_text(tool: ToolUse) -> str:
    """A call as it would be written in code, and what came of it."""
    call = f"{tool.name}({_assignments(tool.arguments)})"
    if tool.result is not None:
        return f"{call} -> {_assignments(tool.result)}"
    return f"{call} waits for your yes or no" if tool.question is not None and tool.allowed is None else call


def _assignments(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value_text(value)}" for name, value in values.items())


def _phase(state: ViewState) -> str:
    if state.failed is not None:
        return "failed"
    exchange = state.current
    if exchange is None or exchange.is_answered:
        return "hearing you" if state.speaking else "listening" if state.levels or state.exchanges else "starting"
    if not exchange.is_over:
        return "hearing you"
    return "answering" if exchange.reply else "thinking"


def _share(value: float) -> float:
    return min(1.0, max(0.0, value)) if math.isfinite(value) else 0.0


def _bar(share: float, cells: int, style: str, look: Look) -> Text:
    full = round(_share(share) * cells)
    return Text.assemble((look.full * full, style), (look.empty * (cells - full), "dim"))


def _voice(state: ViewState, look: Look, cells: int) -> Text:
    room = max(4, min(VOICE_CELLS, cells - 9))
    shown = [look.levels[round(_share(level) * (len(look.levels) - 1))] for level in state.levels[-room:]]
    marks = "".join(shown).rjust(room, look.levels[0])
    return Text.assemble((marks, "green"), f" {'speech' if state.speaking else 'silence'}")


def _words(exchange: Exchange, look: Look) -> Text:
    committed, tentative = look.clean(exchange.committed), look.clean(exchange.tentative)
    text = Text.assemble((committed, "bold"))
    if tentative:
        text.append(f" {tentative}" if committed else tentative, style="italic dim")
    if not exchange.is_over:
        text.append(f" {look.dots}", style="dim")
    return text


def _tone(prosody: Prosody | None, look: Look) -> Text:
    if prosody is None:
        return Text("-", style="dim")
    first, *others = (look.clean(part) for part in tone_parts(prosody))
    return Text.assemble((first, "magenta"), *(piece for other in others for piece in ((look.between, "dim"), other)))


def _end(exchange: Exchange, look: Look, bar: int) -> Text:
    if exchange.p_end is None:
        return Text("-", style="dim")
    text = _bar(exchange.p_end, bar, "cyan", look)
    text.append(f" {exchange.p_end:.2f}{' end of turn' if exchange.is_over else ''}")
    return text


def _tool_rows(exchange: Exchange, look: Look) -> list[Row]:
    return [Row("tool", Text(look.clean(tool_text(tool)), style="cyan"), rank=4) for tool in exchange.tools]


def _reply(exchange: Exchange, look: Look) -> Text:
    reply, heard = look.clean(exchange.reply), exchange.heard_so_far
    known = look.clean(heard) if heard is not None else reply
    if not reply.startswith(known):
        known = reply if not exchange.is_cut_off else known
    rest = reply[len(known) :] if reply.startswith(known) else ""
    text = Text(known)
    if exchange.is_cut_off:
        text.append(f"{' ' if known else ''}[cut off]", style="bold red")
        text.append(f" {rest.lstrip()}" if rest else "", style="dim strike")
    elif rest:
        text.append(f"{' ' if known else ''}{look.heard} ", style="green")
        text.append(rest.lstrip(), style="dim")
    return text if text.plain else Text("-", style="dim")


def _times(metrics: Metrics | None, look: Look) -> Text:
    return Text.assemble((look.clean(look.between.join(times_parts(metrics))) if metrics is not None else "-", "dim"))
