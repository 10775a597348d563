"""Playing a reply where nothing sounds: audio time passes, and the session is told what has been "played",
exactly as a loudspeaker's transport would tell it; what was played can be kept and written. Invariants:
nothing is played that did not arrive; what an interruption cut off is neither played nor written; a ducked reply
stands still and goes on where it stopped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..agent.events import Audio
from ..models.errors import AudioError, InputError
from ..streaming.wav import write_wav

Pcm = NDArray[np.int16]


class ReplyPlayer:
    """One reply at a time; `played(ms)` is called with the total of the reply, whenever it has grown."""

    def __init__(self, played: Callable[[int], None], *, keep: bool) -> None:
        self._played = played
        self._keep = keep
        self._reply: tuple[int, int] | None = None  # turn id and revision
        self._rate = 0
        self._waiting: deque[Pcm] = deque()
        self._waiting_samples = 0
        self._heard: list[Pcm] = []
        self._heard_samples = 0
        self._clock_ms = 0  # audio time of this reply's playback, pauses left out
        self._is_over = False
        self.is_ducked = False

    @property
    def pending_ms(self) -> int:
        """How much audio has arrived and is not played, rounded up."""
        return -(-self._waiting_samples * 1000 // self._rate) if self._waiting_samples else 0

    @property
    def played_ms(self) -> int:
        """How much of the reply has been played, rounded up."""
        return -(-self._heard_samples * 1000 // self._rate) if self._rate else 0

    @property
    def turn_id(self) -> int | None:
        """The turn whose reply is played, or was played last."""
        return self._reply[0] if self._reply is not None else None

    def is_other_reply(self, audio: Audio) -> bool:
        """Whether this audio begins a reply other than the one that is played."""
        return self._is_over or (audio.turn_id, audio.revision) != self._reply

    def add(self, audio: Audio) -> None:
        """More audio, int16 [n]. AudioError if the rate changes within a reply."""
        if self.is_other_reply(audio):
            self._begin(audio)
        if audio.sample_rate != self._rate:
            raise AudioError(f"a reply's audio changed from {self._rate} to {audio.sample_rate} Hz; expected one rate.")
        if len(audio.pcm):
            self._waiting.append(audio.pcm)
            self._waiting_samples += len(audio.pcm)

    def advance(self, duration_ms: int) -> None:
        """Play for so long, or until no more audio is there; nothing while ducked."""
        if not self._waiting_samples or self._stands_still:
            return
        self._clock_ms += duration_ms
        due = self._clock_ms * self._rate // 1000 - self._heard_samples
        self._move(min(due, self._waiting_samples))
        total_ms = -(-self._heard_samples * 1000 // self._rate)
        if not self._waiting_samples:
            self._clock_ms = total_ms
        self._played(total_ms)

    def duck(self) -> None:
        """Stand still for now."""
        self.is_ducked = True

    def unduck(self) -> None:
        """Go on where it stopped."""
        self.is_ducked = False

    def end(self) -> None:
        """The reply that was played is over; what comes is another one, of whatever turn."""
        self._is_over = True
        self.unduck()

    def drop_unplayed(self) -> None:
        """Cut the reply off here."""
        self.is_ducked = False
        self._waiting.clear()
        self._waiting_samples = 0

    def take_heard(self) -> tuple[Pcm, int] | None:
        """What was played since the last call and kept, with its rate; None if that is nothing."""
        if not self._heard:
            return None
        pcm, self._heard = np.concatenate(self._heard), []
        return pcm, self._rate

    @property
    def _stands_still(self) -> bool:
        return self.is_ducked

    def _begin(self, audio: Audio) -> None:
        self.drop_unplayed()
        self._heard.clear()
        self._reply, self._rate = (audio.turn_id, audio.revision), audio.sample_rate
        self._heard_samples = self._clock_ms = 0
        self._is_over = False

    def _move(self, samples: int) -> None:
        self._waiting_samples -= samples
        self._heard_samples += samples
        while samples:
            piece = self._waiting.popleft()
            if len(piece) > samples:
                self._waiting.appendleft(piece[samples:])
                piece = piece[:samples]
            samples -= len(piece)
            if self._keep:
                self._heard.append(piece)


OTHER_SOUNDS = {".mp3", ".flac", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".aiff", ".aif", ".raw", ".pcm", ".webm", ".mp4"}
"""Endings by which nobody names a folder."""


class ReplyFiles:
    """Names and writes replies. `out` ends in .wav: the first reply gets that name, later ones `_2`, `_3`,
    ... before the ending. Otherwise `out` is a folder: `reply_1.wav`, `reply_2.wav`, ... Files of these names
    are replaced."""

    def __init__(self, out: Path) -> None:
        """Creates the folder. InputError if that is not possible, or for a name of another kind of sound file."""
        if out.suffix.lower() in OTHER_SOUNDS and not out.is_dir():
            raise InputError(f"{out}: replies are written as WAV; give a name that ends in .wav, or a folder.")
        self._out = out
        self._count = 0
        folder = out.parent if self._is_file else out
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: no reply can be written there ({error.strerror}); give a folder or a .wav.") from None

    @property
    def _is_file(self) -> bool:
        return self._names_wav(self._out)

    @staticmethod
    def _names_wav(path: Path) -> bool:
        return path.suffix.lower() == ".wav"

    def write(self, pcm: Pcm, rate: int) -> Path:
        """Write the next reply, int16 [n] at `rate` Hz; its path. AudioError if it cannot be written."""
        self._count += 1
        if not self._is_file:
            path = self._out / f"reply_{self._count}.wav"
        elif self._count == 1:
            path = self._out
        else:
            path = self._out.with_stem(f"{self._out.stem}_{self._count}")
        write_wav(path, pcm, rate)
        return path
