"""Chunked recognition of one turn: encode what is new, verify the draft, extend it, commit what will stay.

A draft token is committed when its word is complete and the policy allows it: by default when it has survived a
verification, its time is decided and the audio that its prosody may see has been encoded for good, so that its vector is
final and computed once, for as long as the tokens before it hold. Ticks verify committed tokens too, because whatever is
committed behind one that falls, falls with it. The final pass at a soft end verifies every token by strict argmax and
recomputes whatever differs, so its result is that of one decoding from scratch over the samples from the segment's start to
the soft end, for any arrival of the audio and any skipped tick; or, told to keep what was committed, it says how far that
lies from the offline vectors. Where the model knows noise (`no_speech_threshold`), ticks commit none
of it and the final pass leaves it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..models.alignment import PENDING, final_token_frames, token_frames, word_end_frames
from ..models.speech_stream import Encode, Extend, Extended, Prosody, SpeechStream, Verified, Verify
from ..models.whisperpro import WhisperProConfig
from .clock import ms_to_samples
from .commit_log import Commit, CommitLog
from .commit_policy import LIKELY, POLICIES, CommitPolicy, DraftToken, FinalPass
from .guards import is_noise, token_limit, without_loop
from .mel import MelStream

Samples = NDArray[np.float32]
CLOSES_FROM_SAMPLES = ms_to_samples(1_250)
BELIEVED_TOKENS, TICK_DOUBT = 2, 0.1
"""Where a model tells noise from speech, a tick commits nothing before it has found so many tokens again, and nothing that is
noise by this share of the threshold."""
Result = TypeVar("Result")


class SpeechRunner(Protocol):
    """Runs a piece of work of a stream on the engine and returns its value."""

    async def __call__(self, item: Encode | Verify | Extend | Prosody) -> object: ...


@dataclass(frozen=True, slots=True)
class Recognized:
    """What a tick or a final pass changed. Tokens from `retracted_to` on were taken back (None: none), then `committed`
    were added; `tentative` are guessed behind them."""

    committed: tuple[Commit, ...]
    retracted_to: int | None
    tentative: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Gap:
    """Where a segment of speech may be cut: between samples `from_samples` and `to_samples` of it. `n_tokens` lie before;
    None: those that are decoded from the samples before the cut."""

    from_samples: int
    to_samples: int
    n_tokens: int | None


class Recognizer:
    """One segment of a turn at a time. Feed samples in order, `tick` while speech goes on, `finish` at a soft end, `resume`
    after it."""

    def __init__(
        self,
        run: SpeechRunner,
        config: WhisperProConfig,
        starts_word: Sequence[bool],
        policy: CommitPolicy = POLICIES["both"],
        final_pass: FinalPass = "replace",
    ) -> None:
        self._run = run
        self._config = config
        self._policy, self._final_pass = policy, final_pass
        self._starts_word = starts_word
        self.start()

    def start(self, prompt: tuple[int, ...] = (), draft: tuple[int, ...] = ()) -> None:
        """Begin a segment; `prompt` are tokens of what was said right before, at most `max_prompt`, and `draft` a guess of
        what comes. `drift`, after a final pass that keeps what was committed: of each such vector the cosine with the one
        that decoding once would give."""
        config = self._config
        start = (config.start_of_transcript,)
        self._prefix = (config.start_of_previous, *prompt[-config.max_prompt :], *start) if prompt else start
        self.stream = SpeechStream(config)
        self.log = CommitLog()
        self._mel = MelStream(config.n_mels)
        self._pending: list[NDArray[np.float32]] = []
        self._prefix_visible: tuple[int, ...] = ()
        self._heard_samples = 0
        self._draft = draft
        self._draft_ended = False
        self._found: tuple[int, ...] = ()
        self._in_doubt = False
        self._n_kept = 0
        self.drift: tuple[float, ...] = ()

    @property
    def capacity_samples(self) -> int:
        """Samples that a segment can hold."""
        return self._config.max_frames * self._config.frame_samples

    @property
    def closes_from_samples(self) -> int:
        """Completed at a soft end, a segment of this length is not decoded on: the fewer sentences a segment holds, the fewer
        words are left out (docs/training.md)."""
        return CLOSES_FROM_SAMPLES

    @property
    def likely(self) -> tuple[int, ...]:
        """The segment's tokens that will most probably stay: the committed ones."""
        return self.log.tokens

    @property
    def nearly_full(self) -> bool:
        """Whether the segment should be cut before more comes: four fifths of its audio or tokens are used."""
        tokens = len(self.log) + len(self._draft)
        return 5 * self._heard_samples >= 4 * self.capacity_samples or 5 * tokens >= 4 * self._config.max_tokens

    @property
    def block_ready(self) -> bool:
        """Whether a tick would encode anything new for good."""
        waiting = sum(len(piece) for piece in self._pending)
        return waiting >= 2 * self._config.block_frames

    def feed(self, samples: Samples) -> None:
        """The next samples of the segment, float32 [n] at 16 kHz."""
        self._pending.append(self._mel.push(samples))
        self._heard_samples += len(samples)

    async def tick(self) -> Recognized:
        """Encode complete blocks, verify all tokens, extend them, commit what will stay. Where committed ones do not hold,
        nothing is committed behind them; if they do not hold at the next tick either, they are taken back."""
        await self._encode(Encode(self.stream, self._take_pending()))
        if not self.stream.frames:
            return Recognized((), None, self._draft)
        committed, known = len(self.log), (*self.log.tokens, *self._draft)
        trusted = committed if self._final_pass == "keep" else 0
        verified = await self._verify((*self._prefix, *known[:trusted]), known[trusted:])
        agreed = trusted + verified.agreed
        self._in_doubt = agreed < committed and not self._in_doubt
        if self._in_doubt:
            return Recognized((), None, self._draft)
        twice = _n_same(self._found, known[:agreed])
        self._found = known[:agreed]
        survived = verified.probabilities[: verified.agreed]
        sure = [p >= LIKELY or index < twice for index, p in enumerate(survived, trusted)]
        length = committed if agreed >= committed else self._word_start((*known[:agreed], verified.next_token))
        retracted_to = self._retract(length)
        await self._extend(len(self._prefix) + length, known[length:agreed], verified)
        believed = trusted or self._believes(verified.no_speech, survived)
        count = self._committable(known[:length], sure[length - trusted :]) if believed else length
        new = await self._commit(count - length, self._word_ends())
        self._n_kept = len(self.log)
        return Recognized(tuple(new), retracted_to, self._draft)

    async def finish(self) -> Recognized:
        """The final pass: every token of the turn verified by argmax on all samples fed, every vector as offline."""
        await self._encode(Encode(self.stream, self._take_pending(), self._mel.tail()))
        if not self.stream.frames:
            return Recognized((), self._retract(0), ())
        if self._final_pass == "keep" and len(self.log):
            return await self._finish_behind(self.log.commits)
        known = (*self.log.tokens, *self._draft)
        verified = await self._verify(self._prefix, known)
        probabilities = await self._extend(len(self._prefix), known[: verified.agreed], verified)
        if is_noise(verified.no_speech, probabilities, self._config.no_speech_threshold):
            self._draft = ()
        tokens = self._draft
        ends = self._word_ends(tokens)
        wanted = [self._visible(end) for end in ends]
        same = 0
        if self._prefix_visible == self._visible_prefix():
            logged = list(zip(self.log.tokens, self.log.visible, strict=True))
            while same < min(len(tokens), len(logged)) and logged[same] == (tokens[same], wanted[same]):
                same += 1
        retracted_to = self._retract(same)
        self._draft = tokens[same:]
        new = await self._commit(len(self._draft), ends)
        return Recognized(tuple(new), retracted_to, ())

    async def _finish_behind(self, kept: tuple[Commit, ...]) -> Recognized:
        """A final pass that leaves `kept`, the committed tokens, as they are and adds what comes behind them."""
        prefix = (*self._prefix, *self.log.tokens)
        verified = await self._verify(prefix, self._draft)
        await self._extend(len(prefix), self._draft[: verified.agreed], verified)
        tokens = (*self.log.tokens, *self._draft)
        ends = self._word_ends(tokens)
        if kept:
            self._prefix_visible = self._visible_prefix()
            await self._run(Prosody(self.stream, 0, self._prefix, self._prefix_visible))
            visible = tuple(self._visible(end) for end in ends[: len(kept)])
            vectors = await self._run(Prosody(self.stream, len(self._prefix), tokens[: len(kept)], visible))
            assert isinstance(vectors, np.ndarray)
            self.drift = tuple(_cosine(commit.vector, vector) for commit, vector in zip(kept, vectors, strict=True))
        new = await self._commit(len(self._draft), ends)
        return Recognized(tuple(new), None, ())

    def resume(self) -> Recognized:
        """Speech goes on after a final pass: what rested on the incomplete block is taken back and guessed again."""
        self._in_doubt = False
        tokens = self.log.tokens
        path = [spike for spike in self.stream.path() if spike[0] < self.stream.final_frames]
        starts = [self._starts_word[token] for token in tokens]
        ends = word_end_frames(token_frames(path, tokens), starts)
        keep = 0
        for index, visible in enumerate(self.log.visible[:-1]):
            decided = ends[index] != PENDING and self._visible(ends[index]) == visible
            if visible > self.stream.final_frames or not decided:
                break
            if starts[index + 1]:
                keep = index + 1
        if self._prefix_visible and self._prefix_visible[0] > self.stream.final_frames:
            keep = 0
        if self._final_pass == "keep":
            keep = max(keep, self._n_kept)
        self._draft = tokens[keep:]
        retracted_to = self._retract(keep)
        self.stream.drop_provisional()
        return Recognized((), retracted_to, self._draft)

    async def gaps(self, from_samples: int) -> tuple[Gap, ...]:
        """Between the words that end up behind `from_samples`, after a final pass; of words that were committed before it,
        where there are any, else of all. Without such words: behind the last one."""
        committed = self.log.tokens
        await self.finish()
        tokens, frame = self.log.tokens, self._config.frame_samples
        frames = final_token_frames(self.stream.path(), tokens, self.stream.frames)
        ends = word_end_frames(frames, [self._starts_word[token] for token in tokens])
        spans = [
            Gap(max((ends[index - 1] + 1) * frame, from_samples), frames[index] * frame, index)
            for index in range(1, len(tokens))
            if self._starts_word[tokens[index]] and frames[index] * frame > from_samples
        ]
        agreed = [gap for gap in spans if gap.n_tokens is not None and tokens[: gap.n_tokens] == committed[: gap.n_tokens]]
        behind = Gap(max((ends[-1] + 1) * frame if ends else 0, from_samples), self._heard_samples, len(tokens))
        return tuple(agreed or spans or [behind])

    async def close(self, gap: Gap, at_samples: int) -> tuple[int, ...]:
        """Keep the words before `gap`; gives the tokens behind it."""
        length = len(self.log) if gap.n_tokens is None else gap.n_tokens
        rest = self.log.tokens[length:]
        self._retract(length)
        return rest

    def _take_pending(self) -> NDArray[np.float32]:
        """All mel frames behind the final blocks; they stay until their block is final."""
        pieces = self._pending or [np.zeros((0, self._config.n_mels), np.float32)]
        return np.concatenate(pieces)

    async def _encode(self, item: Encode) -> None:
        before = self.stream.final_frames
        await self._run(item)
        self._pending = [item.mel[2 * (self.stream.final_frames - before) :]]

    async def _verify(self, prefix: tuple[int, ...], draft: tuple[int, ...]) -> Verified:
        verified = await self._run(Verify(self.stream, prefix, draft))
        assert isinstance(verified, Verified)
        return verified

    def _believes(self, no_speech: float, survived: Sequence[float]) -> bool:
        """Whether a tick that has found tokens of these probabilities again may take them for words."""
        threshold = self._config.no_speech_threshold
        if threshold is None:
            return True
        return len(survived) >= BELIEVED_TOKENS and not is_noise(no_speech, survived, TICK_DOUBT * threshold)

    async def _extend(self, prefix_length: int, survived: tuple[int, ...], verified: Verified) -> tuple[float, ...]:
        """Sets the draft to the surviving tokens and those decoded behind them; gives the probabilities of all that were
        verified or decoded."""
        so_far = prefix_length - len(self._prefix) + len(survived)
        seconds = self.stream.frames * self._config.frame_samples / 16_000
        limit = token_limit(seconds, self._config.max_tokens) - so_far
        length = prefix_length + len(survived)
        extended = await self._run(Extend(self.stream, length, verified.next_token, max(limit, 0)))
        assert isinstance(extended, Extended)
        committed = self.log.tokens[: prefix_length - len(self._prefix)]
        whole = (*committed, *survived, *extended.tokens)
        sound = without_loop(whole)
        self._draft = sound[len(committed) :]
        self._draft_ended = extended.ended and len(sound) == len(whole)
        return (*verified.probabilities, *extended.probabilities)[: verified.agreed + len(extended.tokens)]

    def _word_ends(self, tokens: tuple[int, ...] | None = None) -> list[int]:
        """Frame in which the word of each of `tokens` ends once the audio has ended, or of each token so far while it goes
        on: then what is not decided yet is taken for ended with the audio."""
        tokens = (*self.log.tokens, *self._draft) if tokens is None else tokens
        frames = final_token_frames(self.stream.path(), tokens, self.stream.frames)
        return word_end_frames(frames, [self._starts_word[token] for token in tokens])

    def _decided_word_ends(self, tokens: tuple[int, ...]) -> list[int]:
        """The same while audio comes; PENDING where it is not decided yet."""
        return word_end_frames(token_frames(self.stream.path(), tokens), [self._starts_word[token] for token in tokens])

    def _visible(self, word_end: int) -> int:
        block = self._config.block_frames
        return max(1, min((word_end // block + 2) * block, self.stream.frames))

    def _visible_prefix(self) -> tuple[int, ...]:
        return (self._visible(0),) * len(self._prefix)

    def _committable(self, committed: tuple[int, ...], sure: Sequence[bool]) -> int:
        """How many tokens of the turn may be committed now, whole words; `sure` is said of the survivors behind `committed`."""
        tokens = (*committed, *self._draft)
        ends = self._decided_word_ends(tokens)
        block, count = self._config.block_frames, len(committed)
        for index in range(len(committed), len(tokens)):
            settled = ends[index] != PENDING and (ends[index] // block + 2) * block <= self.stream.final_frames
            survived = index - len(committed) < len(sure)
            if not self._policy.allows(DraftToken(survived, settled, survived and sure[index - len(committed)])):
                break
            last = index + 1 == len(tokens)
            if (last and self._draft_ended) or (not last and self._starts_word[tokens[index + 1]]):
                count = index + 1
        return count

    async def _commit(self, count: int, ends: list[int]) -> list[Commit]:
        """Move the first `count` draft tokens to the log, with their vectors."""
        if not count:
            return []
        if not self._prefix_visible:
            self._prefix_visible = self._visible_prefix()
            await self._run(Prosody(self.stream, 0, self._prefix, self._prefix_visible))
        tokens, first = self._draft[:count], len(self.log)
        visible = tuple(self._visible(end) for end in ends[first : first + count])
        vectors = await self._run(Prosody(self.stream, len(self._prefix) + first, tokens, visible))
        assert isinstance(vectors, np.ndarray)
        frame = self._config.frame_samples
        commits = [
            Commit(token, vector, seen, (end + 1) * frame)
            for token, vector, seen, end in zip(tokens, vectors, visible, ends[first:], strict=False)
        ]
        self.log.append(commits)
        self._draft = self._draft[count:]
        return commits

    def _word_start(self, tokens: Sequence[int]) -> int:
        """Where the word of the last of `tokens` begins; end-of-text begins one."""
        index = len(tokens) - 1
        if tokens[index] == self._config.end_of_text:
            return index
        while index and not self._starts_word[tokens[index]]:
            index -= 1
        return index

    def _retract(self, length: int) -> int | None:
        """Truncate the log and what was computed for it; None when nothing was in it."""
        self.stream.keep_prosody(len(self._prefix) + length)
        if length == 0:
            self.stream.keep_prosody(0)
            self._prefix_visible = ()
        return length if self.log.truncate(length) else None


def _n_same(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens they have in common at the start."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Of two vectors [dim]; 1 for two of length 0."""
    lengths = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
    return float(one @ other) / lengths if lengths else 1.0
