"""The conversation as whole lines, for screen readers, pipes, logs and terminals that cannot redraw: one finished line
for each thing that happened, in words in full, without colour, boxes, abbreviations or anything that moves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

from rich.console import Console

from ...agent.events import ConfirmationAnswer, Event, Metrics, Prosody
from .view_rows import is_known, stages_of, value_text
from .view_state import Exchange, ViewState, one_line

_STAGE_NAMES = {
    "vad": "voice activity",
    "encode": "encoding",
    "verify": "verifying",
    "extend": "extending",
    "prosody": "tone of voice",
    "transcribe": "transcribing",
    "interleave": "interleaving",
    "prefill": "reading",
    "decode": "writing the reply",
}


class PlainLines:
    """A view of whole lines: what was said, how it sounded, what was called and answered, and what it cost."""

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
        exchange = self.state.exchange(event.turn_id)
        if exchange is not None and exchange.revision == event.revision:
            for line in _lines_of(event, exchange):
                self._line(line)
        if isinstance(event, ConfirmationAnswer):
            tools = (tool for exchange in self.state.exchanges for tool in exchange.tools)
            for tool in (tool for tool in tools if tool.call_id == event.call_id):
                self._line(f"tool {'allowed' if event.accepted else 'refused'}: {tool.name}")

    def played(self, turn_id: int, total_ms: float) -> None:
        """Nothing is finished by playing on."""

    def status(self, text: str) -> None:
        """How the microphone stands now; a notice has said it."""
        self.state = self.state.with_status(text)

    def notice(self, text: str) -> None:
        """A line."""
        self._line(text)

    def _line(self, text: str) -> None:
        encoding = self._console.encoding
        line = one_line(text).encode(encoding, "replace").decode(encoding)
        self._console.out(line, highlight=False)


def _lines_of(event: Event, exchange: Exchange) -> Iterable[str]:
    match event.type:
        case "turn_end":
            yield f"you: {exchange.committed}"
            if exchange.prosody is not None:
                yield f"tone: {_tone(exchange.prosody)}"
        case "turn_dropped":
            yield f"nothing was understood: {exchange.dropped}"
        case "tool_call":
            tool = exchange.tools[-1]
            yield f"tool called: {tool.name}{_values(' with', tool.arguments)}"
        case "tool_result":
            for tool in exchange.tools:
                if tool.call_id == getattr(event, "call_id", None):
                    yield f"tool answered: {tool.name}{_values(',', tool.result or {})}"
                    break
        case "reply_done":
            yield f"agent: {_reply(exchange)}"
        case "metrics" if exchange.metrics is not None:
            yield f"times: {_times(exchange.metrics)}"


def _tone(prosody: Prosody) -> str:
    parts = ["unknown"]
    if is_known(prosody):
        parts = [f"sounds like {prosody.label}", f"confidence {prosody.confidence:.2f}"]
    if prosody.pitch_hz is not None:
        parts.append(f"pitch {prosody.pitch_hz:.0f} hertz")
    if prosody.energy_db is not None:
        minus = "minus " if prosody.energy_db < 0 else ""
        parts.append(f"energy {minus}{abs(prosody.energy_db):.0f} decibels")
    if prosody.words_per_minute is not None:
        parts.append(f"{prosody.words_per_minute:.0f} words per minute")
    return ", ".join(parts)


def _values(lead: str, values: Mapping[str, object]) -> str:
    said = ", ".join(f"{name.replace('_', ' ')} {value_text(value)}" for name, value in values.items())
    return f"{lead} {said}" if said else ""


def _reply(exchange: Exchange) -> str:
    if not exchange.is_cut_off:
        return exchange.reply
    heard, reply = one_line(exchange.heard or ""), one_line(exchange.reply)
    if not heard:
        return f"(cut off before a word was heard; was going to say: {reply})" if reply else "(cut off before a word)"
    rest = reply[len(heard) :].strip() if reply.startswith(heard) else ""
    return f"{heard} (cut off here{f'; was going to say: {rest}' if rest else ''})"


def _times(metrics: Metrics) -> str:
    parts = []
    if metrics.first_text_ms is not None:
        parts.append(f"first word after {metrics.first_text_ms:.0f} milliseconds")
    if metrics.first_audio_ms is not None:
        parts.append(f"first sound after {metrics.first_audio_ms:.0f} milliseconds")
    for name in stages_of(metrics):
        parts.append(f"{_STAGE_NAMES.get(name, name.replace('_', ' '))} {metrics.stages_ms[name]:.0f} milliseconds")
    if metrics.realtime_factor is not None:
        parts.append(f"listening took {metrics.realtime_factor:.2f} of the time of the speech")
    return ", ".join(parts)
