"""What the simulated user hears of the agent: replies played in virtual time, as a client's loudspeaker would.

Invariants: nothing is heard that did not arrive, a ducked reply keeps its place, and what was cut off is not heard.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import soxr
from numpy.typing import NDArray

from ..agent.events import Audio, Duck, Event, Interrupt, ReplyDone, TurnResumed, Unduck
from ..streaming.clock import SAMPLE_RATE

Samples = NDArray[np.float32]


class Ear:
    """One reply at a time. `played(ms)` is told the total of the reply; `note(name, turn_id)` when its sound begins and ends."""

    def __init__(self, played: Callable[[float], None], note: Callable[[str, int], None]) -> None:
        self._played, self._note = played, note
        self._reply: tuple[int, int] | None = None
        self._waiting: list[Samples] = []
        self._rate = SAMPLE_RATE
        self._heard = self._arrived = 0
        self._due = 0.0  # samples of this reply that time allows to have been heard
        self._over = False
        self._ended = True
        self.ducked = False

    @property
    def heard_ms(self) -> float:
        """Of the present reply, or the last one."""
        return self._heard * 1000 / self._rate

    @property
    def is_hearing(self) -> bool:
        """Whether the sound of a reply has begun and is not over."""
        return self._heard > 0 and not self._ended

    def take(self, event: Event) -> None:
        """The next event of the session."""
        match event:
            case Audio() if len(event.pcm):
                if (event.turn_id, event.revision) != self._reply:
                    self._begin(event)
                self._waiting.append(event.pcm.astype(np.float32) / np.float32(32768))
                self._arrived += len(event.pcm)
            case Duck():
                self.ducked = True
            case Unduck():
                self.ducked = False
            case Interrupt() | TurnResumed():
                self._stop(event.turn_id)
            case ReplyDone():
                if event.interrupted:
                    self._stop(event.turn_id)
                elif self._reply == (event.turn_id, event.revision):
                    self._over = True
                self._end()

    def play(self, duration_ms: int) -> Samples:
        """Listen so long; gives what sounded, float32 [n] at 16 kHz."""
        silence = np.zeros(duration_ms * SAMPLE_RATE // 1000, np.float32)
        if self.ducked or self._heard == self._arrived:
            self._due = self._heard
            self._end()
            return silence
        first = self._heard == 0
        self._due = min(self._due + duration_ms * self._rate / 1000, self._arrived)
        count = round(self._due) - self._heard
        sound = np.concatenate(self._waiting)[:count]
        self._waiting = [np.concatenate(self._waiting)[count:]]
        self._heard += count
        if first and self._reply is not None:
            self._note("sound_start", self._reply[0])
        self._played(self.heard_ms)
        at_16k = np.asarray(soxr.resample(sound, self._rate, SAMPLE_RATE, quality="QQ"), np.float32)[: len(silence)]
        silence[: len(at_16k)] = at_16k
        return silence

    def _begin(self, audio: Audio) -> None:
        self._stop(None if self._reply is None else self._reply[0])
        self._reply, self._rate = (audio.turn_id, audio.revision), audio.sample_rate
        self._heard = self._arrived = 0
        self._due, self._waiting, self._over, self._ended = 0.0, [], False, False
        self.ducked = False

    def _stop(self, turn_id: int | None) -> None:
        if self._reply is not None and turn_id == self._reply[0]:
            self._waiting, self._arrived, self._over = [], self._heard, True
            self.ducked = False
            self._end()

    def _end(self) -> None:
        if self._over and not self._ended and self._heard == self._arrived:
            self._ended = True
            if self._heard and self._reply is not None:
                self._note("sound_end", self._reply[0])
