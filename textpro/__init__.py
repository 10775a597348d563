"""A real-time voice agent that hears words and tone: public names, loaded when first used.

`import textpro` alone brings neither torch nor transformers; `textpro.Runtime` and `textpro.VoiceAgent` do.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .agent.events import (
        Audio,
        Backchannel,
        ConfirmationAnswer,
        ConfirmationRequest,
        Duck,
        EagerTurnEnd,
        Event,
        Failed,
        Interrupt,
        Metrics,
        Prosody,
        ReplyDelta,
        ReplyDone,
        ReplySpoken,
        ReplyStart,
        TokensCommitted,
        TokensRetracted,
        ToolCall,
        ToolResult,
        TurnDropped,
        TurnEnd,
        TurnResumed,
        TurnStart,
        Unduck,
        Update,
        VoiceActivity,
    )
    from .agent.gate import DraftSettings
    from .agent.runtime import Runtime, VoiceAgent
    from .agent.session import Session
    from .agent.tools import Tool, tool
    from .agent.turns import TurnSettings
    from .models.errors import TextProError
    from .streaming.espeak_frames import EspeakVoice

__all__ = [
    "Audio",
    "Backchannel",
    "ConfirmationAnswer",
    "ConfirmationRequest",
    "DraftSettings",
    "Duck",
    "EagerTurnEnd",
    "EspeakVoice",
    "Event",
    "Failed",
    "Interrupt",
    "Metrics",
    "Prosody",
    "ReplyDelta",
    "ReplyDone",
    "ReplySpoken",
    "ReplyStart",
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
    "TurnSettings",
    "TurnStart",
    "Unduck",
    "Update",
    "VoiceActivity",
    "VoiceAgent",
    "tool",
]

_HOMES = {
    "DraftSettings": "agent.gate",
    "Runtime": "agent.runtime",
    "VoiceAgent": "agent.runtime",
    "Session": "agent.session",
    "Tool": "agent.tools",
    "tool": "agent.tools",
    "TurnSettings": "agent.turns",
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
