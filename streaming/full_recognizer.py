"""Recognition of one turn by a full encoder: guesses while speech goes on, everything at the final pass.

Each tick decodes all audio of the turn again and gives tentative tokens only; the final pass decodes it once more and
commits the whole turn, so its result is that of one decoding from scratch whatever ticks ran. Ticks keep to a share of the
time: the next one waits until the turn has grown by `TICK_SAMPLES` and by twice what the last one cost. The counterpart
for causal encoders, where tokens become final while speech goes on, is `recognizer.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..engine import SpeechDone
from ..models.whisper_full import ENCODER_FRAME_SAMPLES, SAMPLE_RATE, Transcribe, Transcribed
from .commit_log import Commit, CommitLog
from .guards import whole_characters
from .recognizer import Gap, Recognized

Samples = NDArray[np.float32]

TICK_SAMPLES = 320 * SAMPLE_RATE // 1000
"""New audio that a tick waits for at least: 320 ms."""
LOCK_SAMPLES, LOCK_PROBABILITY = 2_700 * SAMPLE_RATE // 1000, 0.8
"""A segment of 2 s of speech beside its pre-roll and silence, recognized so surely, tells the session's language."""
COST_FACTOR = 2
"""New audio that a tick waits for, as a multiple of the last one's time on the engine."""


class TranscribeRunner(Protocol):
    """Runs an item on the engine and returns its answer, whose value is a `Transcribed`."""

    async def __call__(self, item: Transcribe) -> SpeechDone: ...


class FullRecognizer:
    """One segment of a turn at a time, with the face of `Recognizer`. `prosody`: vectors are wanted from the final pass.

    `language`: its token, None: found in each segment until one of enough speech was surely of one language, which then
    stays. `text` spells tokens, so that none is given that writes a part of a character.
    """

    drift: tuple[float, ...] = ()

    def __init__(
        self,
        run: TranscribeRunner,
        window_samples: int,
        prosody: bool,
        language: int | None = None,
        text: Callable[[Sequence[int]], str] | None = None,
    ) -> None:
        self._run, self._prosody, self._text = run, prosody, text
        self._language, self._surely = language, language
        self.capacity_samples = window_samples
        self.start()

    def start(self, prompt: tuple[int, ...] = (), draft: tuple[int, ...] = ()) -> None:
        """Begin a segment; `prompt` are tokens of what was said right before, `draft` a guess of what comes."""
        self._turn, self._prompt = object(), prompt
        self._language = self._surely
        self.log = CommitLog()
        self._pieces: list[Samples] = []
        self._heard_samples = self._tried_samples = 0
        self._wait_samples = TICK_SAMPLES
        self._guess = draft
        self._agreed: tuple[int, ...] = ()

    @property
    def block_ready(self) -> bool:
        """Whether a tick is due."""
        return self._heard_samples - self._tried_samples >= self._wait_samples

    @property
    def nearly_full(self) -> bool:
        """Whether the segment should be cut before more comes: four fifths of the window are used."""
        return 5 * self._heard_samples >= 4 * self.capacity_samples

    @property
    def likely(self) -> tuple[int, ...]:
        """The segment's tokens; before the final pass those on which the last two ticks agree."""
        return self.log.tokens or self._agreed

    def feed(self, samples: Samples) -> None:
        """The next samples of the segment, float32 [n] at 16 kHz."""
        self._pieces.append(samples)
        self._heard_samples += len(samples)

    async def tick(self) -> Recognized:
        """Guess the words of the audio so far."""
        guess = (await self._transcribe(False, self._heard_samples)).tokens
        same = 0
        while same < min(len(guess), len(self._guess)) and guess[same] == self._guess[same]:
            same += 1
        self._guess, self._agreed = guess, guess[:same]
        return Recognized((), None, guess)

    async def finish(self) -> Recognized:
        """The final pass: all tokens and vectors of the turn. Word times are not known; all end where the audio ends."""
        return await self._commit_all(self._heard_samples)

    def resume(self) -> Recognized:
        """Speech goes on after a final pass: all of it is a guess again."""
        self._guess = self._agreed = self.log.tokens
        return Recognized((), 0 if self.log.truncate(0) else None, self._guess)

    async def gaps(self, from_samples: int) -> tuple[Gap, ...]:
        """Anywhere behind `from_samples`: word times are not known."""
        return (Gap(from_samples, self._heard_samples, None),)

    async def close(self, gap: Gap, at_samples: int) -> tuple[int, ...]:
        """Commit what the samples before `at_samples` say; nothing is known of those behind."""
        await self._commit_all(at_samples)
        return ()

    async def _commit_all(self, n_samples: int) -> Recognized:
        done = await self._transcribe(self._prosody, n_samples)
        if self._language is None:
            sure = n_samples >= LOCK_SAMPLES and done.language_probability >= LOCK_PROBABILITY
            self._surely = done.language if sure else None
        retracted_to = 0 if self.log.truncate(0) else None
        frames = -(-n_samples // ENCODER_FRAME_SAMPLES)
        commits = [Commit(token, vector, frames, n_samples) for token, vector in zip(done.tokens, done.vectors, strict=True)]
        self.log.append(commits)
        return Recognized(tuple(commits), retracted_to, ())

    async def _transcribe(self, prosody: bool, n_samples: int) -> Transcribed:
        samples = np.concatenate(self._pieces) if self._pieces else np.zeros(0, np.float32)
        self._pieces = [samples]
        self._tried_samples = len(samples)
        done = await self._run(Transcribe(self._turn, samples[:n_samples], prosody, self._prompt, self._language))
        assert isinstance(done.value, Transcribed)
        self._wait_samples = max(TICK_SAMPLES, round(COST_FACTOR * done.seconds * SAMPLE_RATE))
        value = done.value
        if self._text is None:
            return value
        tokens = whole_characters(value.tokens, self._text)
        return replace(value, tokens=tokens, vectors=value.vectors[: len(tokens)])
