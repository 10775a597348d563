"""Recognition of one turn by a full encoder: every tick decodes all audio of the turn again, and so does the final pass, whose
result is therefore that of one decoding from scratch whatever ticks ran: what they found is a draft that saves passes.

Where words alone are wanted, ticks commit those that the policy allows: found by the tick before too, or far enough from the
edge of the audio, where the checkpoint knows word times. A prosody vector changes with every sample, so where vectors are
wanted nothing is committed before the final pass. Ticks keep to a share of the time: the next one waits until the turn has
grown by `TICK_SAMPLES` and by twice what the last one cost. The counterpart for causal encoders, where tokens become final
while speech goes on, is `recognizer.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..engine import SpeechDone
from ..models.alignment import word_end_frames
from ..models.whisper_decoding import Transcribe
from ..models.whisper_full import Transcribed
from ..models.whisper_times import ENCODER_FRAME_SAMPLES
from .clock import SAMPLE_RATE
from .commit_log import Commit, CommitLog
from .commit_policy import CommitPolicy, DraftToken
from .guards import whole_characters
from .recognizer import Gap, Recognized

Samples = NDArray[np.float32]

TICK_SAMPLES = 320 * SAMPLE_RATE // 1000
"""New audio that a tick waits for at least: 320 ms."""
LOCK_SAMPLES, LOCK_PROBABILITY = 2_700 * SAMPLE_RATE // 1000, 0.8
"""A segment of 2 s of speech beside its pre-roll and silence, recognized so surely, tells the session's language."""
SETTLED_SAMPLES = 500 * SAMPLE_RATE // 1000
"""How far from the edge of the audio a word must end to be settled; what AlignAtt's implementation holds back too."""
COST_FACTOR = 2
"""New audio that a tick waits for, as a multiple of the last one's time on the engine."""


class TranscribeRunner(Protocol):
    """Runs an item on the engine and returns its answer, whose value is a `Transcribed`."""

    async def __call__(self, item: Transcribe) -> SpeechDone: ...


class FullRecognizer:
    """One segment of a turn at a time, with the face of `Recognizer`. `prosody`: vectors are wanted from the final pass.

    `language`: its token, None: found in each segment until one of enough speech was surely of one language, which then
    stays. `text` spells tokens, so that none is given that writes a part of a character. `policy`: what ticks commit where no
    vectors are wanted, None: nothing; `starts_word` says of each token whether a word begins with it.
    """

    drift: tuple[float, ...] = ()

    def __init__(
        self,
        run: TranscribeRunner,
        window_samples: int,
        prosody: bool,
        language: int | None = None,
        text: Callable[[Sequence[int]], str] | None = None,
        policy: CommitPolicy | None = None,
        starts_word: Sequence[bool] = (),
    ) -> None:
        self._run, self._prosody, self._text = run, prosody, text
        self._language, self._surely = language, language
        self._policy, self._starts_word = None if prosody else policy, starts_word
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
        self._n_ticked = 0

    @property
    def block_ready(self) -> bool:
        """Whether a tick is due."""
        return self._heard_samples - self._tried_samples >= self._wait_samples

    @property
    def nearly_full(self) -> bool:
        """Whether the segment should be cut before more comes: four fifths of the window are used."""
        return 5 * self._heard_samples >= 4 * self.capacity_samples

    @property
    def closes_from_samples(self) -> int:
        """Half the window: shorter segments are decoded on after a pause, with all that was heard."""
        return self.capacity_samples // 2

    @property
    def likely(self) -> tuple[int, ...]:
        """The segment's tokens; before the final pass those on which the last two ticks agree, or more that are committed."""
        return max(self.log.tokens, self._agreed, key=len)

    def feed(self, samples: Samples) -> None:
        """The next samples of the segment, float32 [n] at 16 kHz."""
        self._pieces.append(samples)
        self._heard_samples += len(samples)

    async def tick(self) -> Recognized:
        """Guess the words of the audio so far, and commit those that the policy allows."""
        found = await self._transcribe(self._heard_samples, prosody=False, times=self._policy is not None)
        guess = found.tokens
        self._agreed = guess[: _same(guess, self._guess)]
        self._guess = guess
        new = self._committable(found)
        self.log.append(new)
        self._n_ticked = len(self.log)
        return Recognized(new, None, guess[len(self.log) :])

    async def finish(self) -> Recognized:
        """The final pass: all tokens and vectors of the turn."""
        return await self._commit_all(self._heard_samples)

    def resume(self) -> Recognized:
        """Speech goes on after a final pass: what it committed itself is a guess again."""
        self._guess = self._agreed = self.log.tokens
        kept = min(self._n_ticked, len(self.log))
        retracted_to = kept if self.log.truncate(kept) else None
        return Recognized((), retracted_to, self._guess[kept:])

    async def gaps(self, from_samples: int) -> tuple[Gap, ...]:
        """Anywhere behind `from_samples`: word times say where a word ends, not how long the gap behind it is."""
        return (Gap(from_samples, self._heard_samples, None),)

    async def close(self, gap: Gap, at_samples: int) -> tuple[int, ...]:
        """Commit what the samples before `at_samples` say; nothing is known of those behind."""
        await self._commit_all(at_samples)
        return ()

    async def _commit_all(self, n_samples: int) -> Recognized:
        done = await self._transcribe(n_samples, prosody=self._prosody, times=True)
        if self._language is None:
            sure = n_samples >= LOCK_SAMPLES and done.language_probability >= LOCK_PROBABILITY
            self._surely = done.language if sure else None
        kept = 0 if self._prosody else _same(done.tokens, self.log.tokens)
        retracted_to = kept if self.log.truncate(kept) else None
        commits = self._commits(done, n_samples)[kept:]
        self.log.append(commits)
        self._n_ticked, self._agreed = min(self._n_ticked, kept), ()
        return Recognized(commits, retracted_to, ())

    def _committable(self, found: Transcribed) -> tuple[Commit, ...]:
        """What may be committed now, behind what is: whole words, and nothing where that is not what was found this time."""
        committed, tokens = self.log.tokens, found.tokens
        if self._policy is None or tokens[: len(committed)] != committed:
            return ()
        commits, count = self._commits(found, self._heard_samples), len(committed)
        for index in range(count, len(tokens)):
            settled = found.ends is not None and commits[index].end_samples + SETTLED_SAMPLES <= self._heard_samples
            if not self._policy.allows(DraftToken(index < len(self._agreed), settled)):
                break
            if index + 1 == len(tokens) or self._starts_word[tokens[index + 1]]:
                count = index + 1
        return commits[len(committed) : count]

    def _commits(self, found: Transcribed, n_samples: int) -> tuple[Commit, ...]:
        """The tokens of a pass over `n_samples`, each with the end of its word; without word times that of the audio."""
        ends = [n_samples] * len(found.tokens)
        if found.ends is not None:
            starts = [index == 0 or self._starts_word[token] for index, token in enumerate(found.tokens)]
            ends = word_end_frames(found.ends.tolist(), starts)
        frames = -(-n_samples // ENCODER_FRAME_SAMPLES)
        return tuple(
            Commit(token, vector, frames, end) for token, vector, end in zip(found.tokens, found.vectors, ends, strict=True)
        )

    async def _transcribe(self, n_samples: int, *, prosody: bool, times: bool) -> Transcribed:
        samples = np.concatenate(self._pieces) if self._pieces else np.zeros(0, np.float32)
        self._pieces = [samples]
        self._tried_samples = len(samples)
        timed = times and bool(self._starts_word)
        item = Transcribe(self._turn, samples[:n_samples], prosody, self._prompt, self._language, timed, self._guess)
        done = await self._run(item)
        assert isinstance(done.value, Transcribed)
        self._wait_samples = max(TICK_SAMPLES, round(COST_FACTOR * done.seconds * SAMPLE_RATE))
        value = done.value
        if self._text is None:
            return value
        tokens = whole_characters(value.tokens, self._text)
        ends = None if value.ends is None else value.ends[: len(tokens)]
        return replace(value, tokens=tokens, vectors=value.vectors[: len(tokens)], ends=ends)


def _same(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens at the beginning are equal."""
    differing = (index for index, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1])
    return next(differing, min(len(one), len(other)))
