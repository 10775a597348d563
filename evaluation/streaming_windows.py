"""How short may a Whisper's window be? The word error rate of sentences decoded in shorter windows, beside that of the same
sentences in the trained one.

A checkpoint that was never trained with short windows repeats itself in them, so nothing is allowed that was not measured: a
window is allowed when it and every longer one cost at most half a point of word error rate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

from ..models.whisper_decoding import Transcribe
from ..models.whisper_encoder import SAMPLE_RATE, WINDOWS_S
from ..models.whisper_full import FullWhisper
from .recognition import word_errors
from .streaming_trace import Spoken

MOST_WORSE = 0.005
"""Word error rate, absolute, that a shorter window may cost."""


@dataclass(frozen=True, slots=True)
class WindowResult:
    """Utterances that fit into a window: word error rate and seconds of compute in it, and in the trained one."""

    window_s: int
    utterances: int
    wer: float
    trained_wer: float
    seconds: float
    trained_seconds: float

    @property
    def allowed(self) -> bool:
        """Whether this window alone is good enough."""
        return self.wer - self.trained_wer <= MOST_WORSE


def measure_windows(speech: FullWhisper, spoken: Sequence[Spoken], done: Callable[[int], None]) -> tuple[WindowResult, ...]:
    """Every window shorter than the trained one, the longest first, on those of the utterances that fit into it; `done` is told
    the utterances that were worked off, once for each window and once for the trained one."""
    trained = [_decoded(speech, one, None, done) for one in spoken]
    found = []
    shorter = [window_s for window_s in WINDOWS_S if window_s * SAMPLE_RATE < speech.window_samples]
    for window_s in sorted(shorter, reverse=True):
        fitting = [index for index, one in enumerate(spoken) if len(one.samples) <= window_s * SAMPLE_RATE]
        short = [_decoded(speech, spoken[index], window_s, done) for index in fitting]
        done(len(spoken) - len(fitting))
        if fitting:
            at_length = [trained[index] for index in fitting]
            found.append(WindowResult(window_s, len(fitting), *_rates(short, at_length), *_costs(short, at_length)))
    return tuple(found)


def shortest_allowed(results: Sequence[WindowResult]) -> int | None:
    """The shortest window of which it and every longer one is allowed; None: the trained one only."""
    shortest = None
    for result in sorted(results, key=lambda one: -one.window_s):
        if not result.allowed:
            break
        shortest = result.window_s
    return shortest


@dataclass(frozen=True, slots=True)
class _Decoded:
    errors: int
    words: int
    seconds: float


def _decoded(speech: FullWhisper, one: Spoken, window_s: int | None, done: Callable[[int], None]) -> _Decoded:
    ears = FullWhisper(speech.model, speech.tokenizer, speech.extractor, replace(speech.settings, encoder_window_s=window_s))
    began = time.perf_counter()
    tokens = ears.transcribe(Transcribe(object(), one.samples)).tokens
    seconds = time.perf_counter() - began
    plain = EnglishTextNormalizer({})
    errors, words = word_errors(plain(" ".join(one.words)), plain(ears.text(tokens)))
    done(1)
    return _Decoded(int(errors), int(words), seconds)


def _rates(*sets: Sequence[_Decoded]) -> Iterator[float]:
    for one in sets:
        yield sum(part.errors for part in one) / max(sum(part.words for part in one), 1)


def _costs(*sets: Sequence[_Decoded]) -> Iterator[float]:
    for one in sets:
        yield sum(part.seconds for part in one)
