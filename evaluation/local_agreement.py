"""LocalAgreement-2, the streaming rule to beat: decode the whole buffer again and again, keep what two decodings agree on.

Written from its description (Macháček, Dabre and Bojar, "Turning Whisper into Real-Time Transcription System", 2023,
arXiv 2307.14743): at least a second of new audio for each decoding, more where decoding is slower than that; the longest
common prefix of two decodings in a row is committed; words from before the last committed one are dropped by their time,
and up to five words that repeat the end of the commits by their letters; a buffer that is too long is cut behind a committed
word, whose text goes on as the prompt. At the turn's end the buffer is decoded once more and all of it is committed.
The model, the turn and the clock are those of the recognizer it is measured against; prosody is not computed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray

from ..models.checkpoint import Checkpoint
from ..models.speech_stream import Encode, Extend, Prosody, Verify
from ..streaming.clock import SAMPLE_RATE, ms_to_samples
from ..streaming.guards import word_starts
from ..streaming.recognizer import Recognizer
from .streaming_trace import DeviceClock, Kind, Step, Trace, Turn

EVERY_SAMPLES = SAMPLE_RATE
NEAR_SAMPLES, EARLIER_SAMPLES = SAMPLE_RATE, ms_to_samples(100)
MOST_REPEATED = 5
TRIM_SHARE = 0.75
"""Share of the model's window at which the buffer is cut."""
PROMPT_WORDS = 12


@dataclass(frozen=True, slots=True)
class TimedWord:
    """A word and its span in samples since the audio began."""

    text: str
    start_samples: int
    end_samples: int


@dataclass(frozen=True, slots=True)
class Decoded:
    """A hypothesis for the buffer, in how many tokens, and what it cost."""

    words: tuple[TimedWord, ...]
    seconds: float
    tokens: int = 0


Decoder = Callable[[NDArray[np.float32], int, tuple[str, ...]], Awaitable[Decoded]]
"""Samples [n] of the buffer, where they begin in the audio, and the words before them."""


class Agreement:
    """The rule itself, without a model: hypotheses in, committed words out."""

    def __init__(self) -> None:
        self.committed: list[TimedWord] = []
        self._before: list[TimedWord] = []
        self.tentative: tuple[TimedWord, ...] = ()

    def insert(self, hypothesis: Sequence[TimedWord]) -> tuple[TimedWord, ...]:
        """The next decoding of the buffer; returns the words that it commits."""
        new = self._new(hypothesis)
        same = 0
        while same < min(len(new), len(self._before)) and new[same].text == self._before[same].text:
            same += 1
        self.committed += new[:same]
        self._before = new[same:]
        self.tentative = tuple(self._before)
        return tuple(new[:same])

    def finish(self, hypothesis: Sequence[TimedWord]) -> tuple[TimedWord, ...]:
        """The last decoding: all of its new words are committed."""
        new = self._new(hypothesis)
        self.committed += new
        self._before, self.tentative = [], ()
        return tuple(new)

    def _new(self, hypothesis: Sequence[TimedWord]) -> list[TimedWord]:
        """The words behind the committed ones."""
        if not self.committed:
            return list(hypothesis)
        end = self.committed[-1].end_samples
        new = [word for word in hypothesis if word.start_samples > end - EARLIER_SAMPLES]
        if not new or abs(new[0].start_samples - end) >= NEAR_SAMPLES:
            return new
        for count in range(1, min(len(new), len(self.committed), MOST_REPEATED) + 1):
            if [word.text for word in new[:count]] == [word.text for word in self.committed[-count:]]:
                return new[count:]
        return new


async def local_agreement(decode: Decoder, samples: NDArray[np.float32], turn: Turn, window_samples: int) -> Trace:
    """The rule over a turn of float32 samples [n] at 16 kHz, begun and ended where `turn` was. One run has both clocks: a
    decoding begins a second of audio after the last, or when that is done."""
    clock, rule, steps = DeviceClock(), Agreement(), list[Step]()
    buffer_start, dropped, late = turn.start_samples, 0, 0
    now = turn.start_samples + EVERY_SAMPLES
    while now < turn.end_samples:
        prompt = tuple(word.text for word in rule.committed[max(0, dropped - PROMPT_WORDS) : dropped])
        decoded = await decode(samples[buffer_start:now], buffer_start, prompt)
        rule.insert(decoded.words)
        steps.append(_step(Kind.TICK, now, clock.work(now, {"decode": decoded.seconds}), rule, steps))
        if now - buffer_start > TRIM_SHARE * window_samples and rule.committed:
            buffer_start = max(buffer_start, rule.committed[-1].end_samples)
            dropped = len(rule.committed)
        late += clock.free_samples > now + EVERY_SAMPLES
        now = max(now + EVERY_SAMPLES, clock.free_samples)
    end = turn.end_samples
    prompt = tuple(word.text for word in rule.committed[max(0, dropped - PROMPT_WORDS) : dropped])
    decoded = await decode(samples[buffer_start:end], buffer_start, prompt)
    rule.finish(decoded.words)
    steps.append(_step(Kind.FINAL, end, clock.work(end, {"decode": decoded.seconds}), rule, steps))
    heard = Turn(turn.start_samples, end, tuple(steps))
    return Trace(len(samples), (heard,), clock.seconds, late=late)


class OneShot:
    """Decodes samples once, from scratch, by the same rules as the final pass; engine, cache and prosody are left out of
    what it costs."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint, self._speech = checkpoint, checkpoint.chunked
        self._starts_word = word_starts(checkpoint.tokenizer.convert_ids_to_tokens(list(range(len(checkpoint.tokenizer)))))
        self._recognizer = Recognizer(self._run, self._speech.config, self._starts_word)
        self._seconds = 0.0

    @property
    def window_samples(self) -> int:
        """The longest audio of one decoding."""
        return self._recognizer.capacity_samples

    async def __call__(self, samples: NDArray[np.float32], start_samples: int, prompt: tuple[str, ...] = ()) -> Decoded:
        """The words of float32 samples [n] that begin at `start_samples` of the audio; what exceeds the window is cut."""
        await self.decode(samples, tuple(self._checkpoint.tokenizer.encode(" " + " ".join(prompt))) if prompt else ())
        words, previous, group = list[TimedWord](), start_samples, list[int]()
        commits = self._recognizer.log.commits
        for index, commit in enumerate(commits):
            group.append(commit.token)
            if index + 1 < len(commits) and not self._starts_word[commits[index + 1].token]:
                continue
            end = max(start_samples + commit.end_samples, previous)
            words += [TimedWord(text, previous, end) for text in self._checkpoint.speech_text(tuple(group)).split()]
            previous, group = end, []
        return Decoded(tuple(words), self._seconds, len(commits))

    async def decode(self, samples: NDArray[np.float32], prompt: tuple[int, ...] = ()) -> tuple[int, ...]:
        """The tokens of float32 samples [n] behind the tokens of a prompt."""
        self._seconds = 0.0
        self._recognizer.start(prompt)
        self._recognizer.feed(samples[: self.window_samples])
        await self._recognizer.finish()
        return self._recognizer.log.tokens

    async def _run(self, item: Encode | Verify | Extend | Prosody) -> object:
        began = perf_counter()
        with torch.inference_mode():
            (result,) = self._speech.run([item])
        if not isinstance(item, Prosody):
            self._seconds += perf_counter() - began
        if isinstance(result, Exception):
            raise result
        return result


def _step(kind: Kind, now: int, done: int, rule: Agreement, before: Sequence[Step]) -> Step:
    committed = tuple(word.text for word in rule.committed)
    tentative = tuple(word.text for word in rule.tentative)
    return Step(kind, now, done, committed, tentative, len(committed) - (len(before[-1].committed) if before else 0))
