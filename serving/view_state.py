"""What a view knows of a conversation: a value that each event turns into the next one. Invariants: an
exchange is found by its turn id, and what comes for an older revision of it changes nothing; the number of
exchanges is bounded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ..agent.events import (
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
MAX_LEVELS = 60


@dataclass(frozen=True, slots=True)
class ToolUse:
    """One call of a tool; `result` None until it has returned."""

    call_id: str
    name: str
    arguments: dict[str, object]
    result: dict[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """One turn of the user and the reply to it."""

    turn_id: int
    revision: int = 0
    committed: str = ""
    tentative: str = ""
    is_over: bool = False  # the user's turn
    prosody: Prosody | None = None
    p_end: float | None = None
    tools: tuple[ToolUse, ...] = ()
    reply: str = ""
    heard: str | None = None  # of a reply that was cut off
    is_answered: bool = False
    metrics: Metrics | None = None


@dataclass(frozen=True, slots=True)
class ViewState:
    """Everything that is shown; `exchanges` in order, the current one last."""

    t_ms: int = 0
    probability: float = 0.0
    speaking: bool = False
    levels: tuple[float, ...] = ()  # the last voice probabilities, the newest last
    exchanges: tuple[Exchange, ...] = field(default=())
    failed: str | None = None

    @property
    def current(self) -> Exchange | None:
        """The latest exchange."""
        return self.exchanges[-1] if self.exchanges else None

    def apply(self, event: Event) -> ViewState:
        """The state after `event`."""
        state = replace(self, t_ms=max(self.t_ms, event.t_ms))
        match event:
            case VoiceActivity():
                levels = (*self.levels, event.probability)[-MAX_LEVELS:]
                return replace(state, probability=event.probability, speaking=event.speaking, levels=levels)
            case Failed():
                return replace(state, failed=event.reason)
            case TurnDropped():
                kept = tuple(exchange for exchange in self.exchanges if exchange.turn_id != event.turn_id)
                return replace(state, exchanges=kept)
            case TurnStart():
                return state._changed(event, lambda exchange: exchange)
            case TurnResumed():
                return state._changed(event, _resumed)
        return state._changed(event, lambda exchange: _exchange_after(exchange, event))

    def _changed(self, event: Event, change: Callable[[Exchange], Exchange]) -> ViewState:
        exchanges = list(self.exchanges)
        places = [place for place, exchange in enumerate(exchanges) if exchange.turn_id == event.turn_id]
        if not places:
            exchanges.append(Exchange(event.turn_id))
            places = [len(exchanges) - 1]
        old = exchanges[places[0]]
        if event.revision < old.revision:
            return self
        exchanges[places[0]] = change(replace(old, revision=event.revision))
        return replace(self, exchanges=tuple(exchanges[-MAX_EXCHANGES:]))


def _resumed(exchange: Exchange) -> Exchange:
    return replace(exchange, is_over=False, reply="", tools=(), is_answered=False, metrics=None, p_end=None)


def _exchange_after(exchange: Exchange, event: Event) -> Exchange:
    match event:
        case Update():
            return replace(exchange, committed=event.committed, tentative=event.tentative)
        case TokensCommitted():
            words = event.text.strip()
            if not words or exchange.committed.endswith(words):
                return exchange
            return replace(exchange, committed=f"{exchange.committed} {words}".strip(), tentative="")
        case Prosody():
            return replace(exchange, prosody=event)
        case EagerTurnEnd():
            return replace(exchange, committed=event.text, tentative="", p_end=event.p_end)
        case TurnEnd():
            return replace(exchange, committed=event.text, tentative="", p_end=event.p_end, is_over=True)
        case ToolCall():
            return replace(exchange, tools=(*exchange.tools, ToolUse(event.call_id, event.name, event.arguments)))
        case ToolResult():
            tools = tuple(
                replace(tool, result=event.result) if tool.call_id == event.call_id else tool for tool in exchange.tools
            )
            return replace(exchange, tools=tools)
        case ReplyDelta():
            return replace(exchange, reply=exchange.reply + event.text)
        case Interrupt():
            return replace(exchange, heard=event.heard_text)
        case ReplyDone():
            heard = event.heard_text if event.interrupted else None
            return replace(exchange, reply=event.text, heard=heard, is_answered=True)
        case Metrics():
            return replace(exchange, metrics=event)
    return exchange
