"""How well are words and tones recognized? Word error rates by condition, and the tones of voices never
heard.

*Offline* is one final pass of the recognizer over the whole utterance; *streaming* is the text of the turn
at its end, as a session gives it for the same audio. Both count as jiwer does, an utterance without a turn
as all its words lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jiwer
import numpy as np
import torch
from numpy.typing import NDArray

from ..agent.listener import UNKNOWN_BELOW
from ..agent.runtime import Runtime
from ..models.checkpoint import Checkpoint
from ..models.speech_stream import Encode, Extend, Prosody, Verify
from ..models.whisperpro import TONES
from ..streaming.guards import word_starts
from ..streaming.recognizer import Recognizer
from ..training.skills import Turn
from .conditions import CONDITIONS, Condition, Speakers
from .partner import Partner
from .statistics import Ratio, bootstrap_ratio

UNKNOWN = "unknown"
Done = Callable[[int], None]
"""Told how many utterances more are done."""


@dataclass(frozen=True, slots=True, eq=False)
class Recognized:
    """The words of an utterance and the probabilities of `TONES`, [4]; None where there are no words."""

    text: str
    tones: NDArray[np.float32] | None


@dataclass(frozen=True, slots=True)
class ConditionResult:
    """Word error rates of a condition and the share of utterances without any error; `missing` says why it
    was not measured, else None."""

    name: str
    offline: Ratio
    exact: Ratio
    streaming: Ratio
    missing: str | None


@dataclass(frozen=True, slots=True)
class ToneResult:
    """Tones of voices never heard. `confusion[said][label]` counts; a label below the confidence is unknown.

    `accuracy` counts unknown as wrong, `best_guess` takes the likeliest tone however unsure, `unknown` is
    its share."""

    confusion: dict[str, Counter[str]]
    accuracy: Ratio
    best_guess: Ratio
    unknown: Ratio


class OfflineRecognizer:
    """The recognizer without a session: a whole utterance, one final pass."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        tokenizer = checkpoint.tokenizer
        pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        starts_word = word_starts(pieces)
        self._recognizer = Recognizer(self._run, checkpoint.chunked.config, starts_word)

    async def recognize(self, samples: NDArray[np.float32]) -> Recognized:
        """Samples float32 [n] at 16 kHz; what is longer than the window is cut."""
        self._recognizer.start()
        self._recognizer.feed(samples[: self._recognizer.capacity_samples])
        await self._recognizer.finish()
        log = self._recognizer.log
        if not log.tokens:
            return Recognized("", None)
        tones = self._checkpoint.chunked.tone_probabilities(np.stack(log.vectors))
        return Recognized(self._checkpoint.chat.text(log.tokens).strip(), tones)

    async def _run(self, item: Encode | Verify | Extend | Prosody) -> object:
        with torch.inference_mode():
            (result,) = self._checkpoint.speech.run([item])
        if isinstance(result, Exception):
            raise result
        return result


async def measure_recognition(
    runtime: Runtime, sentences: Sequence[Turn], streamed: int, speakers: Speakers, seed: int, done: Done
) -> tuple[ConditionResult, ...]:
    """Every condition on the same sentences; the first `streamed` of them also through a session."""
    offline = OfflineRecognizer(runtime.checkpoint)
    return tuple([await _measure(runtime, offline, one, sentences, streamed, speakers, seed, done) for one in CONDITIONS])


async def measure_tones(runtime: Runtime, sentences: Sequence[Turn], speakers: Speakers, seed: int, done: Done) -> ToneResult:
    """Sentences said in all tones by held-out voice variants, recognized offline."""
    offline = OfflineRecognizer(runtime.checkpoint)
    found: list[tuple[str, NDArray[np.float32] | None]] = []
    for utterance in speakers.in_tones(sentences):
        assert utterance.tone is not None
        found.append((utterance.tone, (await offline.recognize(utterance.samples)).tones))
        done(1)
    return summarize_tones(found, seed)


def summarize_tones(found: Sequence[tuple[str, NDArray[np.float32] | None]], seed: int) -> ToneResult:
    """(tone as said, probabilities [4] or None where no words were recognized) of each utterance."""
    confusion: dict[str, Counter[str]] = {tone: Counter() for tone in TONES}
    shown: list[tuple[float, float]] = []
    guessed: list[tuple[float, float]] = []
    unknown: list[tuple[float, float]] = []
    for tone, probabilities in found:
        guess = UNKNOWN if probabilities is None else TONES[int(probabilities.argmax())]
        sure = probabilities is not None and float(probabilities.max()) >= UNKNOWN_BELOW
        label = guess if sure else UNKNOWN
        confusion[tone][label] += 1
        shown.append((label == tone, 1))
        guessed.append((guess == tone, 1))
        unknown.append((label == UNKNOWN, 1))
    return ToneResult(
        confusion,
        bootstrap_ratio(shown, seed),
        bootstrap_ratio(guessed, seed),
        bootstrap_ratio(unknown, seed),
    )


def word_errors(reference: str, text: str) -> tuple[int, int]:
    """Words that are wrong, missing or too many, and words of the reference."""
    counted = jiwer.process_words(reference, text)
    errors = counted.substitutions + counted.deletions + counted.insertions
    return errors, counted.hits + counted.substitutions + counted.deletions


async def _measure(
    runtime: Runtime,
    offline: OfflineRecognizer,
    condition: Condition,
    sentences: Sequence[Turn],
    streamed: int,
    speakers: Speakers,
    seed: int,
    done: Done,
) -> ConditionResult:
    whole: list[tuple[float, float]] = []
    live: list[tuple[float, float]] = []
    if condition.missing is None:
        for index, utterance in enumerate(speakers.under(condition, sentences)):
            whole.append(word_errors(utterance.text, (await offline.recognize(utterance.samples)).text))
            if index < streamed:
                async with Partner(runtime) as partner:
                    answer = await partner.speak(utterance.samples)
                live.append(word_errors(utterance.text, answer.words or ""))
            done(1)
    else:
        done(len(sentences))
    exact = [(errors == 0, 1) for errors, _ in whole]
    return ConditionResult(
        condition.name,
        bootstrap_ratio(whole, seed),
        bootstrap_ratio(exact, seed),
        bootstrap_ratio(live, seed),
        condition.missing,
    )
