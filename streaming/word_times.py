"""From espeak-ng's word events to one time per whitespace word, while the audio arrives. The events are
approximate: some words share one ("of the"), some have several ("3.14", "AT&T"), a dash has none. So an event
counts for the whitespace word it falls in, and words without one share the time of the word before them by
their letters. A word ends where the next one starts, or where its sound ends before a pause. What is said of
a word never changes, however the audio is cut up."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .synthesis import WordTime

_PAUSE_MS = 80
_FRAME_MS = 5
_AUDIBLE_LEVEL = 100  # of 32,768; the pauses of espeak-ng are zeros, or the echo of a voice that has one


class WordEvent(NamedTuple):
    """Where espeak-ng says that a word starts: a character of the text and a sample of the audio, both from
    0."""

    text_start: int
    start_samples: int


class WordTimer:
    """Takes audio and events of one text in order and gives out each word as soon as its end is known."""

    def __init__(self, text: str, sample_rate: int) -> None:
        self._spans = [(match.start(), match.group()) for match in re.finditer(r"\S+", text)]
        self._text_ends = [start + len(word) for start, word in self._spans]
        self._frame_samples = sample_rate * _FRAME_MS // 1000
        self._pause_samples = sample_rate * _PAUSE_MS // 1000
        self._audible_frames = bytearray()
        self._unframed: NDArray[np.int16] = np.zeros(0, np.int16)
        self._length_samples = 0
        self._word = 0
        self._word_start: int | None = None
        self._coming: list[tuple[int, int]] = []

    def push(self, pcm: NDArray[np.int16], events: Iterable[WordEvent]) -> tuple[WordTime, ...]:
        """Takes audio int16 [n] and the events known with it; returns the words that ended."""
        self._length_samples += len(pcm)
        self._hear(pcm)
        for event in events:
            self._place(event)
        ended: list[WordTime] = []
        heard_samples = len(self._audible_frames) * self._frame_samples
        while self._coming and self._coming[0][1] <= heard_samples:
            ended += self._close(*self._coming.pop(0))
        return tuple(ended)

    def finish(self) -> tuple[WordTime, ...]:
        """The words that are left when the audio is over; the last ends with its sound."""
        ended: list[WordTime] = []
        for word, start in self._coming:
            ended += self._close(word, min(start, self._length_samples))
        self._coming.clear()
        begin = min(self._word_start or 0, self._length_samples)
        end = self._end_of_sound(begin, self._length_samples)
        ended += self._share(len(self._spans), begin, end)
        return tuple(ended)

    def _hear(self, pcm: NDArray[np.int16]) -> None:
        level = np.concatenate([self._unframed, pcm])
        whole = len(level) - len(level) % self._frame_samples
        frames = level[:whole].astype(np.int32).reshape(-1, self._frame_samples)
        self._audible_frames += (np.abs(frames).max(axis=1, initial=0) > _AUDIBLE_LEVEL).tobytes()
        self._unframed = level[whole:]

    def _place(self, event: WordEvent) -> None:
        last_word, last_start = self._coming[-1] if self._coming else (self._word, self._word_start)
        word = last_word
        while word + 1 < len(self._spans) and self._text_ends[word] <= event.text_start:
            word += 1
        if word > last_word:
            self._coming.append((word, max(event.start_samples, last_start or 0)))
        elif last_start is None:
            self._word_start = event.start_samples

    def _close(self, next_word: int, next_start: int) -> list[WordTime]:
        begin = min(self._word_start or 0, next_start)
        sound_end = self._end_of_sound(begin, next_start)
        end = sound_end if next_start - sound_end >= self._pause_samples else next_start
        ended = self._share(next_word, begin, end)
        self._word_start = next_start
        return ended

    def _share(self, next_word: int, begin: int, end: int) -> list[WordTime]:
        spans = self._spans[self._word : next_word]
        letters = [sum(map(str.isalnum, word)) for _, word in spans]
        total = max(1, sum(letters))
        bounds = [begin + (end - begin) * sum(letters[:index]) // total for index in range(len(spans) + 1)]
        self._word = next_word
        return [
            WordTime(word, text_start, len(word), bounds[index], bounds[index + 1])
            for index, (text_start, word) in enumerate(spans)
        ]

    def _end_of_sound(self, begin: int, limit: int) -> int:
        frame = self._frame_samples
        last = self._audible_frames.rfind(1, begin // frame, limit // frame)
        if last < 0:
            return begin
        return max(begin, (last + 1) * frame)
