"""Text in, audio out: what every speech synthesizer offers to the session. A synthesizer speaks one text at a
time, in order, and yields its audio in chunks as it is made; each chunk names the words that start in it,
placed on the text's own time line (samples at the synthesizer's rate since the first sample of this text).
Joined in order the chunks are the whole audio, and the words of the chunks are the whitespace words of the
text, one each, in order. A text may be asked for in a `Manner`; a synthesizer does what it can of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class WordTime:
    """One whitespace word of a text: where it stands in the text (characters) and in the audio (samples)."""

    text: str
    text_start: int
    text_length: int
    start_samples: int
    end_samples: int


@dataclass(frozen=True, slots=True, eq=False)
class SpeechChunk:
    """A piece of speech: `pcm` int16 [n] at the synthesizer's rate and the words whose times are known by its
    end."""

    pcm: NDArray[np.int16]
    words: tuple[WordTime, ...] = ()


@dataclass(frozen=True, slots=True)
class Manner:
    """How one text is to be spoken, against how the voice is set: `rate` and `amplitude` are factors, `pitch` and
    `range` are added to settings from 0 to 100."""

    rate: float = 1.0
    pitch: int = 0
    range: int = 0
    amplitude: float = 1.0


AS_SET = Manner()
"""The voice as it is set."""


class Synthesizer(Protocol):
    """Turns text into speech; one text at a time, a second one waits for the first."""

    @property
    def sample_rate(self) -> int:
        """Samples per second of every chunk."""
        ...

    def synthesize(self, text: str, *, manner: Manner = AS_SET) -> AsyncGenerator[SpeechChunk, None]:
        """Speak `text`; `pcm` int16 [n] chunks in order. Raises DeviceError when no audio can be made."""
        ...

    def cancel(self) -> None:
        """Silence at once: no chunk of a text begun before this call is yielded after it; its iterator
        ends."""
        ...
