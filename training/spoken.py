"""A spoken utterance with the times of its words, and what training does to it: joined, padded, cut, paused, begun in the
middle. Times are samples at 16 kHz."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Spoken:
    """A waveform at 16 kHz and its words with their spans in samples. `tone` None: nobody in particular. `before` are the
    words that were said before it begins, as far as a prompt gives them."""

    samples: FloatArray
    words: tuple[str, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    tone: str | None
    before: tuple[str, ...] = ()


def join(parts: list[Spoken], pauses: list[int]) -> Spoken:
    """Utterances after each other with `pauses` samples of silence between them."""
    pieces, words, starts, ends, at = [parts[0].samples], [*parts[0].words], [*parts[0].starts], [*parts[0].ends], 0
    for part, pause in zip(parts[1:], pauses, strict=True):
        at += len(pieces[-1]) + pause
        pieces += [np.zeros(pause, np.float32), part.samples]
        words += part.words
        starts += [at + start for start in part.starts]
        ends += [at + end for end in part.ends]
    return Spoken(np.concatenate(pieces), tuple(words), tuple(starts), tuple(ends), parts[0].tone)


def pad(spoken: Spoken, before: int, after: int) -> Spoken:
    """With silence around it, in samples."""
    return Spoken(
        np.pad(spoken.samples, (before, after)),
        spoken.words,
        tuple(start + before for start in spoken.starts),
        tuple(end + before for end in spoken.ends),
        spoken.tone,
        spoken.before,
    )


def cut(spoken: Spoken, at: int, grace: int = 480) -> Spoken:
    """Its first `at` samples, with the words that ended by then (`grace` samples early counts)."""
    n = sum(end <= at + grace for end in spoken.ends)
    return Spoken(
        spoken.samples[:at], spoken.words[:n], spoken.starts[:n], spoken.ends[:n], spoken.tone, spoken.before
    )


def continue_after(spoken: Spoken, word: int) -> Spoken:
    """What follows the word of that index, from the middle of the gap behind it; the words up to it go `before`."""
    at = (spoken.ends[word] + max(spoken.ends[word], spoken.starts[word + 1])) // 2
    later = slice(word + 1, None)
    starts = tuple(max(0, start - at) for start in spoken.starts[later])
    ends = tuple(end - at for end in spoken.ends[later])
    return Spoken(spoken.samples[at:], spoken.words[later], starts, ends, spoken.tone, spoken.words[: word + 1])


def hesitate(spoken: Spoken, word: int, pause: int) -> Spoken:
    """With `pause` samples of silence behind the word of that index."""
    at = spoken.ends[word]
    pieces = (spoken.samples[:at], np.zeros(pause, np.float32), spoken.samples[at:])
    moved = [0] * (word + 1) + [pause] * (len(spoken.words) - word - 1)
    starts = tuple(start + more for start, more in zip(spoken.starts, moved, strict=True))
    ends = tuple(end + more for end, more in zip(spoken.ends, moved, strict=True))
    return Spoken(np.concatenate(pieces), spoken.words, starts, ends, spoken.tone, spoken.before)
