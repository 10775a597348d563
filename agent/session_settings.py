"""How one conversation is led."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ..engine import Entry, Sampling
from ..models.errors import CheckpointError, InputError
from ..streaming.echo_guard import EchoSettings
from .gate import DraftSettings
from .listener import ListeningSettings
from .turns import TurnSettings

Playback = Literal["acknowledged", "assumed"]


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """See the fields; `playback` "acknowledged": the transport says what it has played (`Session.played`), "assumed": all
    audio that was sent is taken for heard. InputError for what contradicts itself."""

    instructions: str | None = None
    prosody: bool = True
    playback: Playback = "assumed"
    turns: TurnSettings = field(default_factory=TurnSettings)
    sampling: Sampling = field(default_factory=Sampling)
    max_reply_tokens: int = 160
    follow_tone: bool = True
    """Whether the reply's voice follows how the user sounded (docs/voices.md)."""
    listening: ListeningSettings = field(default_factory=ListeningSettings)
    behind_ms: int | None = None
    """Sound that waits to be listened to, from which recognition during speech is left out until it has caught up; the final
    pass never is. For transports in real time; None: never."""
    drafts: DraftSettings = field(default_factory=DraftSettings)
    """When a reply is drafted before the turn is surely over."""
    greeting: str | None = None
    """What the agent says at the start, by itself."""
    idle_prompts: tuple[str, ...] = ()
    """What it says, one after the other, each time nobody has spoken for `idle_after_ms`; from the first again after the
    user's next turn."""
    idle_after_ms: int = 15_000
    auto_reply: bool = True
    """Whether each turn of the user is answered; if not, `Session.respond` asks for a reply."""
    history: tuple[Entry, ...] = ()
    """Turns of a conversation that goes on, as `Session.history` gave them."""
    echo: EchoSettings = field(default_factory=EchoSettings)
    """What becomes of our own voice in the microphone, for open loudspeakers."""

    def __post_init__(self) -> None:
        if self.echo.mode != "off" and self.playback == "assumed":
            raise InputError(
                f"echo mode {self.echo.mode!r} needs to know what was played and when: use playback='acknowledged' and call "
                "Session.played, or leave the mode off"
            )


def settings_of_turns(settings: TurnSettings, config: Mapping[str, Any]) -> TurnSettings:
    """`settings` as the checkpoint's configuration completes them: `"p_end": {"unsure": 0.003, "sure": 0.95}` says what its
    P(end) means, "auto" is then "model", and thresholds left at their defaults are those. A checkpoint that says nothing gets
    "vad" for "auto". CheckpointError for another form."""
    meaning = config.get("p_end")
    if settings.endpointing == "auto":
        settings = replace(settings, endpointing="vad" if meaning is None else "model")
    if meaning is None or settings.endpointing == "vad" or _has_own_thresholds(settings):
        return settings
    try:
        return replace(settings, unsure_p_end=float(meaning["unsure"]), sure_p_end=float(meaning["sure"]))
    except (KeyError, TypeError, ValueError, InputError) as error:
        form = '{"unsure": 0.003, "sure": 0.95}, unsure no higher than sure'
        raise CheckpointError(f"p_end {meaning!r} in textpro_config.json: expected {form}") from error


def _has_own_thresholds(settings: TurnSettings) -> bool:
    plain = TurnSettings()
    return (settings.unsure_p_end, settings.sure_p_end) != (plain.unsure_p_end, plain.sure_p_end)
