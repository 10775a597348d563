"""What one caller of a load test hears: reply audio plays as soon as it is there, or behind what still plays, and where the
next of it comes too late there is a gap. A pure clock of playback: times in ms of any clock come with each call."""

from __future__ import annotations

from dataclasses import dataclass

AUDIBLE_GAP_MS = 20.0
"""A shorter pause between two pieces is no gap: players hold that much in their buffer."""


@dataclass(frozen=True, slots=True)
class Gap:
    """The caller heard nothing for `length_ms` inside a reply."""

    at_ms: float
    length_ms: float


@dataclass(frozen=True, slots=True)
class Playing:
    """Where playback stands: so much of this item was heard."""

    item_id: str
    content_index: int
    heard_ms: float


@dataclass(frozen=True, slots=True)
class _Piece:
    item_id: str
    content_index: int
    start_ms: float
    length_ms: float


class Ear:
    """One caller's loudspeaker. A reply begins with `begin`; between replies there are no gaps."""

    def __init__(self) -> None:
        self._pieces: list[_Piece] = []
        self.ends_ms = float("-inf")
        """When all that came will have been heard."""
        self.gaps: list[Gap] = []
        self.audio_ms = 0.0
        """Audio that came since `begin`."""

    def begin(self) -> None:
        """Another reply: what still plays is heard before it."""
        self._pieces.clear()
        self.gaps = []
        self.audio_ms = 0.0

    def hear(self, item_id: str, content_index: int, length_ms: float, now_ms: float) -> None:
        """More audio of the reply has come."""
        if self._pieces and now_ms - self.ends_ms >= AUDIBLE_GAP_MS:
            self.gaps.append(Gap(self.ends_ms, now_ms - self.ends_ms))
        start_ms = max(now_ms, self.ends_ms)
        self._pieces.append(_Piece(item_id, content_index, start_ms, length_ms))
        self.ends_ms = start_ms + length_ms
        self.audio_ms += length_ms

    def heard_ms(self, now_ms: float) -> float:
        """How much of the reply was heard by now."""
        return sum(min(max(now_ms - piece.start_ms, 0.0), piece.length_ms) for piece in self._pieces)

    def cut(self, now_ms: float) -> Playing | None:
        """Fall silent at once. What was playing, None if nothing was."""
        if now_ms >= self.ends_ms:
            return None
        self.ends_ms = now_ms
        playing = next((piece for piece in self._pieces if piece.start_ms <= now_ms < piece.start_ms + piece.length_ms), None)
        if playing is None:
            return None
        heard_ms = sum(
            min(max(now_ms - piece.start_ms, 0.0), piece.length_ms) for piece in self._pieces if piece.item_id == playing.item_id
        )
        return Playing(playing.item_id, playing.content_index, heard_ms)
