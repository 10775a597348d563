"""The microphone's way into a session that knows what it plays: canceller where asked for, guard, and the reference of both."""

from __future__ import annotations

import numpy as np

from .audio import Samples
from .echo_canceller import EchoCanceller
from .echo_guard import EchoGuard, EchoSettings
from .echo_reference import PlayedSound


class EchoPath:
    """Of one session whose `mode` is not off. DeviceError if what the mode needs is not installed."""

    def __init__(self, settings: EchoSettings) -> None:
        self._played = PlayedSound()
        self._canceller = EchoCanceller(self._played) if settings.mode == "cancel" else None
        self._guard = EchoGuard(self._played, settings)

    def note(self, kind: str, values: dict[str, object]) -> None:
        """What the session says of its replies: an event's name and fields."""
        match kind, values.get("pcm"), values.get("sample_rate"):
            case "ReplyStart", _, _:
                self._played.begin()
            case "Audio", np.ndarray() as pcm, int(rate):
                self._played.add(pcm, rate)
            case "Duck", _, _:
                self._played.pause()
            case (("Interrupt" | "TurnResumed" | "ReplyDone"), _, _):
                self._played.stop()

    def played(self, total_ms: float, now_samples: int) -> None:
        """So much of the reply has sounded by the time the microphone has given `now_samples`."""
        self._played.played(total_ms, now_samples)

    def push(self, samples: Samples) -> Samples:
        """float32 [n] at 16 kHz -> [m], without what is only echo."""
        if self._canceller is not None:
            samples = self._canceller.push(samples)
        return self._guard.push(samples)

    def flush(self) -> Samples:
        """What is held back [m]."""
        return self._guard.flush()
