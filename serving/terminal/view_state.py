"""What a view or a transcript knows of a conversation: a value that each event turns into the next one. Invariants:
any event is taken in any order; an exchange is found by its turn id, and what comes for an older revision of it, or
for a turn that is no longer kept, changes nothing; the number of exchanges is bounded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ...agent.events import (
    Audio,
    ConfirmationAnswer,
    ConfirmationRequest,
    EagerTurnEnd,
    Event,
    Failed,
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

MAX_EXCHANGES = 50
MAX_LEVELS = 32
_JOINERS = "\u200c\u200d"


@dataclass(frozen=True, slots=True)
class ToolUse:
    """One call of a tool; `result` None until it has returned. Where the user was asked first: the `question`, and
    whether they `allowed` it, None until that is decided."""

    call_id: str
    name: str
    arguments: dict[str, object]
    result: dict[str, object] | None = None
    question: str | None = None
    allowed: bool | None = None


@dataclass(frozen=True, slots=True)
class Clause:
    """A piece of the reply and the length of its sound so far."""

    text: str
    audio_ms: float


@dataclass(frozen=True, slots=True)
class Exchange:
    """One turn of the user and the reply, or replies, to it. `start_ms` and `end_ms` are of the user's speech, None
    where the turn was typed or has not got there; `dropped` says why the turn came to nothing; `heard` is known when
    the reply is over."""

    turn_id: int
    revision: int = 0
    start_ms: int | None = None
    end_ms: int | None = None
    committed: str = ""
    tentative: str = ""
    is_over: bool = False  # the user's turn
    dropped: str | None = None
    prosody: Prosody | None = None
    p_end: float | None = None
    tools: tuple[ToolUse, ...] = ()
    replies_before: tuple[str, str] = ("", "")  # of this turn and over: as generated, as heard
    reply: str = ""
    clauses: tuple[Clause, ...] = ()
    played_ms: float | None = None  # of the reply's sound, where the transport tells
    heard: str | None = None
    is_cut_off: bool = False
    is_answered: bool = False
    metrics: Metrics | None = None

    @property
    def is_pending(self) -> bool:
        """Whether the turn is over and its reply is not."""
        return self.is_over and not self.is_answered and self.dropped is None

    @property
    def heard_so_far(self) -> str | None:
        """What was heard of the reply: as the session says it, or, while the reply plays, estimated from what the
        transport has played; None where nobody tells."""
        if self.heard is not None or self.played_ms is None:
            return self.heard
        heard, left_ms = self.replies_before[1], self.played_ms
        if heard and self.clauses and left_ms > 0:
            heard += " "
        for clause in self.clauses:
            if left_ms < clause.audio_ms:
                return heard + _whole_words(clause.text, left_ms / clause.audio_ms)
            heard, left_ms = heard + clause.text, left_ms - clause.audio_ms
        return heard


@dataclass(frozen=True, slots=True)
class ViewState:
    """Everything that is shown; `exchanges` in order, the latest last; `status` is the transport's word on the
    microphone."""

    t_ms: int = 0
    probability: float = 0.0
    speaking: bool = False
    levels: tuple[float, ...] = ()  # the last voice probabilities, the newest last
    exchanges: tuple[Exchange, ...] = ()
    latest_turn_id: int = 0
    hears_tone: bool = False
    status: str = ""
    failed: str | None = None

    @property
    def current(self) -> Exchange | None:
        """The latest exchange, unless its turn came to nothing."""
        latest = self.exchanges[-1] if self.exchanges else None
        return latest if latest is not None and latest.dropped is None else None

    @property
    def pending(self) -> Exchange | None:
        """The latest exchange whose reply is not over: the user may already be speaking again."""
        return next((exchange for exchange in reversed(self.exchanges) if exchange.is_pending), None)

    def exchange(self, turn_id: int) -> Exchange | None:
        """That of a turn, if it is still kept."""
        return next((exchange for exchange in self.exchanges if exchange.turn_id == turn_id), None)

    def with_status(self, text: str) -> ViewState:
        """The state after the transport said how the microphone stands; empty for nothing to say."""
        return replace(self, status=text)

    def with_played(self, turn_id: int, total_ms: float) -> ViewState:
        """The state after the first `total_ms` of the sound of a turn's reply were played."""
        found = self.exchange(turn_id)
        if found is None or found.is_answered or total_ms <= (found.played_ms or -1.0):
            return self
        played = replace(found, played_ms=total_ms)
        return replace(self, exchanges=tuple(played if exchange is found else exchange for exchange in self.exchanges))

    def apply(self, event: Event) -> ViewState:
        """The state after `event`."""
        state = replace(self, t_ms=max(self.t_ms, event.t_ms))
        match event:
            case VoiceActivity():
                levels = (*self.levels, event.probability)[-MAX_LEVELS:]
                return replace(state, probability=event.probability, speaking=event.speaking, levels=levels)
            case Failed():
                return replace(state, failed=event.reason)
            case ConfirmationRequest() | ConfirmationAnswer():  # of a call that an earlier turn may have made
                return replace(state, exchanges=tuple(_confirmed(exchange, event) for exchange in self.exchanges))
            case Prosody():
                state = replace(state, hears_tone=True)
        return state._changed(event, lambda exchange: _exchange_after(exchange, event))

    def _changed(self, event: Event, change: Callable[[Exchange], Exchange]) -> ViewState:
        if event.turn_id > self.latest_turn_id:
            exchanges = (*self.exchanges, change(Exchange(event.turn_id, event.revision)))[-MAX_EXCHANGES:]
            return replace(self, exchanges=exchanges, latest_turn_id=event.turn_id)
        exchanges = tuple(
            change(replace(exchange, revision=event.revision))
            if exchange.turn_id == event.turn_id and exchange.revision <= event.revision
            else exchange
            for exchange in self.exchanges
        )
        return replace(self, exchanges=exchanges)


def _exchange_after(exchange: Exchange, event: Event) -> Exchange:
    match event:
        case TurnStart():
            return replace(exchange, start_ms=event.start_ms)
        case Update():
            return replace(exchange, committed=event.committed, tentative=event.tentative)
        case TokensCommitted():
            words = event.text.strip()
            if words and not exchange.committed.endswith(words):
                exchange = replace(exchange, committed=f"{exchange.committed} {words}".strip(), tentative="")
            return replace(exchange, end_ms=event.end_ms)
        case Prosody():
            return replace(exchange, prosody=event)
        case EagerTurnEnd():
            return replace(exchange, committed=event.text, tentative="", p_end=event.p_end)
        case TurnResumed():
            return Exchange(
                exchange.turn_id,
                exchange.revision,
                start_ms=exchange.start_ms,
                end_ms=exchange.end_ms,
                committed=exchange.committed,
                prosody=exchange.prosody,
            )
        case TurnEnd():
            end_ms = event.t_ms if exchange.start_ms is not None and exchange.end_ms is None else exchange.end_ms
            return replace(
                exchange, committed=event.text, tentative="", p_end=event.p_end, is_over=True, dropped=None, end_ms=end_ms
            )
        case TurnDropped():
            return replace(exchange, tentative="", is_over=True, dropped=event.reason)
    return _reply_after(exchange, event)


def _reply_after(exchange: Exchange, event: Event) -> Exchange:
    match event:
        case ToolCall():
            return replace(exchange, tools=(*exchange.tools, ToolUse(event.call_id, event.name, event.arguments)))
        case ToolResult():
            tools = tuple(
                replace(tool, result=event.result) if tool.call_id == event.call_id else tool for tool in exchange.tools
            )
            return replace(exchange, tools=tools)
        case ReplyDelta():
            if exchange.is_answered:
                exchange = _with_another_reply(exchange)
            return replace(exchange, reply=exchange.reply + event.text)
        case Audio() if event.sample_rate > 0:
            return replace(exchange, clauses=_with_sound(exchange.clauses, event))
        case Interrupt():
            return replace(exchange, heard=_joined(exchange.replies_before[1], event.heard_text), is_cut_off=True)
        case ReplyDone():
            reply, heard = (_joined(*both) for both in zip(exchange.replies_before, (event.text, event.heard_text), strict=True))
            return replace(exchange, reply=reply, heard=heard, is_cut_off=event.interrupted, is_answered=True)
        case Metrics():
            return replace(exchange, metrics=event)
    return exchange


def _with_another_reply(exchange: Exchange) -> Exchange:
    """The agent speaks once more in this turn, as when a waiting tool call was allowed by a button."""
    before = (exchange.reply, exchange.heard or "")
    reply = f"{exchange.reply} " if exchange.reply else ""
    return replace(
        exchange, replies_before=before, reply=reply, clauses=(), played_ms=None, heard=None, is_cut_off=False, is_answered=False
    )


def _confirmed(exchange: Exchange, event: ConfirmationRequest | ConfirmationAnswer) -> Exchange:
    if all(tool.call_id != event.call_id for tool in exchange.tools):
        return exchange

    def changed(tool: ToolUse) -> ToolUse:
        if tool.call_id != event.call_id:
            return tool
        if isinstance(event, ConfirmationRequest):
            return replace(tool, question=event.question)
        return replace(tool, allowed=event.accepted)

    return replace(exchange, tools=tuple(changed(tool) for tool in exchange.tools))


def _joined(before: str, after: str) -> str:
    return f"{before} {after.lstrip()}" if before and after else before or after


def _with_sound(clauses: tuple[Clause, ...], audio: Audio) -> tuple[Clause, ...]:
    length_ms = len(audio.pcm) * 1000 / audio.sample_rate
    if clauses and clauses[-1].text == audio.text:
        return (*clauses[:-1], Clause(audio.text, clauses[-1].audio_ms + length_ms))
    return (*clauses, Clause(audio.text, length_ms))


def _whole_words(text: str, share: float) -> str:
    """The words that lie in the first `share` of a text; in scripts without spaces, the characters."""
    end = int(share * len(text))
    if " " not in text.strip() or text[end : end + 1].isspace():
        return text[:end]
    return text[: text.rfind(" ", 0, end) + 1].rstrip()


def one_line(text: str) -> str:
    """A text from outside, safe to show: on one line, without the control characters that steer a terminal or turn the
    direction of writing; what joins emoji and letters stays."""
    return " ".join("".join(c for c in text if c.isprintable() or c.isspace() or c in _JOINERS).split())
