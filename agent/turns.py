"""When does the user's turn begin and end? A pure state machine over voice activity and time; no I/O, no clock.

The rule is the simple one: a short silence is a soft end (the turn is completed and may still go on), a longer one ends
the turn. States and names leave room for the backbone's own opinion, P(end), which the session already computes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class TurnState(Enum):
    """IDLE: nobody speaks. SPEAKING: the user does. SOFT_END: a short silence, the turn may be over."""

    IDLE = auto()
    SPEAKING = auto()
    SOFT_END = auto()


class Decision(Enum):
    """What the session has to do now."""

    START = auto()
    SOFT_END = auto()
    RESUME = auto()
    END = auto()


@dataclass(frozen=True, slots=True)
class TurnSettings:
    """Timing of turns."""

    soft_end_silence_ms: int = 200
    end_silence_ms: int = 640
    max_turn_ms: int = 14_500


class TurnMachine:
    """Feed it, in order, where the detector says speech starts and ends and where the audio stands."""

    def __init__(self, settings: TurnSettings | None = None) -> None:
        self.settings = settings or TurnSettings()
        self.state = TurnState.IDLE
        self._started_ms = 0
        self._silent_since_ms: int | None = None

    def speech_started(self, at_ms: int) -> Decision | None:
        """The detector took `at_ms` for the onset of speech."""
        self._silent_since_ms = None
        match self.state:
            case TurnState.IDLE:
                self.state, self._started_ms = TurnState.SPEAKING, at_ms
                return Decision.START
            case TurnState.SOFT_END:
                self.state = TurnState.SPEAKING
                return Decision.RESUME
            case TurnState.SPEAKING:
                return None

    def speech_ended(self, at_ms: int) -> None:
        """The detector says that speech ended at `at_ms`; it may go on."""
        if self.state is TurnState.SPEAKING:
            self._silent_since_ms = at_ms

    def advance(self, now_ms: int) -> Decision | None:
        """The audio has got to `now_ms`. Call again until it returns None."""
        if self.state is TurnState.IDLE:
            return None
        silence = 0 if self._silent_since_ms is None else now_ms - self._silent_since_ms
        too_long = now_ms - self._started_ms >= self.settings.max_turn_ms
        if self.state is TurnState.SPEAKING and (silence >= self.settings.soft_end_silence_ms or too_long):
            self.state = TurnState.SOFT_END
            return Decision.SOFT_END
        if self.state is TurnState.SOFT_END and (silence >= self.settings.end_silence_ms or too_long):
            self.state = TurnState.IDLE
            return Decision.END
        return None

    def force_end(self) -> list[Decision]:
        """End the turn now: what is still to be done for it, in order."""
        state, self.state = self.state, TurnState.IDLE
        match state:
            case TurnState.IDLE:
                return []
            case TurnState.SPEAKING:
                return [Decision.SOFT_END, Decision.END]
            case TurnState.SOFT_END:
                return [Decision.END]
