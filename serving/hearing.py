"""When the microphone is heard: the mute key, push-to-talk, and half duplex for loudspeakers that the
microphone hears too. Decisions without I/O: a key goes in, what to do comes out; time is the microphone's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

HOLD_MS = 200
"""How long half duplex stays deaf after the last sound: what the room and the devices still hold."""
MUTE_KEY, TALK_KEY, QUIT_KEY = "m", " ", "q"


class Command(Enum):
    """What a key asks of the conversation."""

    COMMIT = "end the turn now"
    INTERRUPT = "cut the reply off now"
    QUIT = "end the conversation"


@dataclass(frozen=True, slots=True)
class Pressed:
    """What came of a key: maybe a command, and a line to say."""

    command: Command | None = None
    notice: str | None = None


class Hearing:
    """One conversation's microphone."""

    def __init__(self, *, half_duplex: bool = False, push_to_talk: bool = False) -> None:
        self._half_duplex = half_duplex
        self._push_to_talk = push_to_talk
        self._muted = False
        self._talking = False
        self._deaf_until_ms = 0

    def hears(self, now_ms: int, agent_sounds: bool) -> bool:
        """Whether the sound of now counts; asked for every piece, in order."""
        if agent_sounds:
            self._deaf_until_ms = now_ms + HOLD_MS
        if self._muted or (self._push_to_talk and not self._talking):
            return False
        return not (self._half_duplex and now_ms < self._deaf_until_ms)

    def press(self, key: str) -> Pressed:
        """`m` mutes and unmutes; with push-to-talk, space begins to talk (and cuts a reply off) and the next
        one ends the turn; `q` ends everything. Other keys do nothing."""
        if key == QUIT_KEY:
            return Pressed(Command.QUIT)
        if key == MUTE_KEY:
            self._muted = not self._muted
            return Pressed(notice=f"microphone {'muted' if self._muted else 'heard again'}")
        if key == TALK_KEY and self._push_to_talk:
            self._talking = not self._talking
            if self._talking:
                still = " (but it is muted: m)" if self._muted else ""
                return Pressed(Command.INTERRUPT, f"talking: the microphone is heard{still}, space ends the turn")
            return Pressed(Command.COMMIT, "not talking: the microphone is not heard, space to talk")
        return Pressed()

    @property
    def status(self) -> str:
        """How the microphone stands, for the view."""
        if self._muted:
            return "muted"
        if self._push_to_talk:
            return "talking, space ends the turn" if self._talking else "space to talk"
        return ""

    def keys_help(self) -> str:
        """The keys that there are, in one line."""
        talk = "space talk and end the turn, " if self._push_to_talk else ""
        return f"keys: {talk}m mute, q end"
