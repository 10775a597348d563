"""A real-time voice agent that hears words and tone: public names, loaded when first used.

`import textpro` alone brings neither torch nor transformers; `textpro.Runtime` and `textpro.VoiceAgent` do.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .agent.events import (
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
        TokensRetracted,
        ToolCall,
        ToolResult,
        TurnDropped,
        TurnEnd,
        TurnResumed,
        TurnStart,
        Update,
        VoiceActivity,
    )
    from .agent.runtime import Runtime, VoiceAgent
    from .agent.session import Session
    from .agent.tools import Tool, tool
    from .models.errors import TextProError
    from .streaming.espeak_frames import EspeakVoice

__all__ = [
    "Audio",
    "ConfirmationAnswer",
    "ConfirmationRequest",
    "EagerTurnEnd",
    "EspeakVoice",
    "Event",
    "Failed",
    "Interrupt",
    "Metrics",
    "Prosody",
    "ReplyDelta",
    "ReplyDone",
    "Runtime",
    "Session",
    "TextProError",
    "TokensCommitted",
    "TokensRetracted",
    "Tool",
    "ToolCall",
    "ToolResult",
    "TurnDropped",
    "TurnEnd",
    "TurnResumed",
    "TurnStart",
    "Update",
    "VoiceActivity",
    "VoiceAgent",
    "tool",
]

_HOMES = {
    "Runtime": "agent.runtime",
    "VoiceAgent": "agent.runtime",
    "Session": "agent.session",
    "Tool": "agent.tools",
    "tool": "agent.tools",
    "EspeakVoice": "streaming.espeak_frames",
    "TextProError": "models.errors",
}
"""The module of each public name that is no event."""


def home_of(name: str) -> str:
    """The module inside the package that defines a public name."""
    return _HOMES.get(name, "agent.events")


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{home_of(name)}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
