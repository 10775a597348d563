"""How one conversation is led."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..engine import Sampling
from .turns import TurnSettings

Playback = Literal["acknowledged", "assumed"]


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """See the fields; `playback` "acknowledged": the transport says what it has played (`Session.played`), "assumed": all
    audio that was sent is taken for heard."""

    instructions: str | None = None
    prosody: bool = True
    playback: Playback = "assumed"
    turns: TurnSettings = field(default_factory=TurnSettings)
    sampling: Sampling = field(default_factory=Sampling)
    max_reply_tokens: int = 160
    follow_tone: bool = True
    """Whether the reply's voice follows how the user sounded (docs/voices.md)."""
