"""A turn of any length: where its speech nears the recognizer's window it is cut, and a new segment of the turn goes on.

The cut lies in the largest gap between two words, found where the sound is quietest. The closed segment keeps its words up
to there, decoded with all audio that had been heard by then; the next one begins in the gap and carries the words before it
as a short prompt. A segment that has just been completed at a soft end is closed there unless it is very short, which takes
nothing back.
`segments` says what was cut, so the turn is that of decoding the samples of each segment from scratch behind its prompt and
keeping its first tokens. The idea of a prompt across cuts is Whisper's (Radford et al. 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .clock import ms_to_samples
from .commit_log import Commit, CommitLog
from .recognizer import Gap, Recognized

Samples = NDArray[np.float32]

SEARCHED = 3
"""A cut lies in the last third of the audio of its segment."""
PHRASE_PAUSE_SAMPLES = ms_to_samples(200)
"""A shorter pause may lie inside a word, so no segment is closed in it."""
QUIET_SAMPLES = ms_to_samples(200)
"""Length of sound whose level says how large a gap is."""
_STEP_SAMPLES = ms_to_samples(10)


class SegmentRecognizer(Protocol):
    """Recognizes one segment at a time: `Recognizer` and `FullRecognizer`."""

    log: CommitLog
    drift: tuple[float, ...]

    @property
    def capacity_samples(self) -> int:
        """Samples that a segment can hold."""

    @property
    def closes_from_samples(self) -> int:
        """A segment of this length that a final pass completed is closed when speech goes on; a shorter one is decoded on."""

    @property
    def block_ready(self) -> bool:
        """Whether a tick has something new to do."""

    @property
    def likely(self) -> tuple[int, ...]:
        """The segment's tokens that will most probably stay."""

    @property
    def nearly_full(self) -> bool:
        """Whether the segment should be cut before more comes."""

    def start(self, prompt: tuple[int, ...] = (), draft: tuple[int, ...] = ()) -> None:
        """Begin a segment behind the tokens of `prompt`; `draft` is a guess of its first ones."""

    def feed(self, samples: Samples) -> None:
        """The next samples, float32 [n] at 16 kHz."""

    async def tick(self) -> Recognized:
        """Recognize what is new."""

    async def finish(self) -> Recognized:
        """The final pass over all samples fed."""

    def resume(self) -> Recognized:
        """Speech goes on after a final pass."""

    async def gaps(self, from_samples: int) -> tuple[Gap, ...]:
        """Where the segment may be cut, behind `from_samples` of it; at least one place."""

    async def close(self, gap: Gap, at_samples: int) -> tuple[int, ...]:
        """Cut in `gap` at `at_samples`: the log keeps the words before it, and the guesses behind it are given."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A closed part of a turn: samples `start_samples` to `end_samples` of the turn, decoded behind `prompt`, of which the
    first `n_tokens` count. The next one may begin before this one's end."""

    start_samples: int
    end_samples: int
    prompt: tuple[int, ...]
    n_tokens: int


class LongTurn:
    """One turn at a time, with the face of a recognizer and no limit to its length.

    `max_prompt` tokens are carried at most; `starts_word` says of a token whether a word begins with it.
    """

    def __init__(self, recognizer: SegmentRecognizer, max_prompt: int, starts_word: Callable[[int], bool]) -> None:
        self.recognizer = recognizer
        self._max_prompt, self._starts_word = max_prompt, starts_word
        self.start()

    def start(self) -> None:
        """Begin a turn. `open_start_samples` says where its open segment begins."""
        self.log = CommitLog()
        self.segments: list[Segment] = []
        self._closed_drift: tuple[float, ...] = ()
        self._audio: list[Samples] = []
        self._followed: tuple[Commit, ...] = ()
        self._prompt: tuple[int, ...] = ()
        self.open_start_samples = self._heard_samples = self._fed_samples = self._finished_samples = 0
        self.recognizer.start()

    @property
    def block_ready(self) -> bool:
        """Whether a tick has something new to do."""
        return self.recognizer.block_ready or self._fed_samples < self._heard_samples

    @property
    def likely(self) -> tuple[int, ...]:
        """The turn's tokens that will most probably stay."""
        closed = sum(segment.n_tokens for segment in self.segments)
        return self.log.tokens[:closed] + self.recognizer.likely

    @property
    def drift(self) -> tuple[float, ...]:
        """Of each vector that final passes have kept as it was committed, its cosine with the offline one."""
        return self._closed_drift + self.recognizer.drift

    @property
    def segment_vectors(self) -> list[list[NDArray[np.float32]]]:
        """Prosody vectors [dim] of the turn's tokens, segment by segment; the last one is open."""
        vectors, at, parts = self.log.vectors, 0, []
        for segment in self.segments:
            parts.append(vectors[at : at + segment.n_tokens])
            at += segment.n_tokens
        return [*parts, vectors[at:]]

    def feed(self, samples: Samples) -> None:
        """The next samples of the turn, float32 [n] at 16 kHz."""
        self._audio.append(samples)
        self._heard_samples += len(samples)
        room = self.recognizer.capacity_samples - self._fed_samples
        fed = samples[: max(room, 0)]
        if len(fed):
            self.recognizer.feed(fed)
            self._fed_samples += len(fed)

    async def tick(self) -> Recognized:
        """Recognize what is new, and cut where the segment is nearly full."""
        before = self.log.commits
        change = await self.recognizer.tick()
        while self.recognizer.nearly_full:
            await self._cut()
            change = await self.recognizer.tick()
        return self._since(before, change.tentative)

    async def finish(self) -> Recognized:
        """The final pass at a soft end: everything behind the last cut."""
        before = self.log.commits
        while self._fed_samples < self._heard_samples:
            await self._cut()
        await self.recognizer.finish()
        self._finished_samples = self._fed_samples
        return self._since(before, ())

    def resume(self, pause_samples: int | None = None) -> Recognized:
        """Speech goes on after a final pass: the provisional part is guessed again, or a long segment closed here, if the pause
        was one between phrases, as one of unknown length is taken to be."""
        before, finished = self.log.commits, self._finished_samples
        is_short = pause_samples is not None and pause_samples < PHRASE_PAUSE_SAMPLES
        if is_short or finished < self.recognizer.closes_from_samples:
            return self._since(before, self.recognizer.resume().tentative)
        self._begin_next(finished - QUIET_SAMPLES // 2, finished, ())
        return self._since(before, ())

    async def _cut(self) -> None:
        """Close the segment in its largest gap and go on behind it."""
        audio = self._joined()[: self._fed_samples]
        gaps = await self.recognizer.gaps(len(audio) - len(audio) // SEARCHED)
        gap, at = quietest(audio, gaps)
        draft = await self.recognizer.close(gap, at)
        self._begin_next(at, at if gap.n_tokens is None else len(audio), draft)

    def _begin_next(self, at_samples: int, end_samples: int, draft: tuple[int, ...]) -> None:
        """Open the segment that begins at `at_samples` of the one that ends at `end_samples`."""
        self._follow()
        base = self.open_start_samples
        n_tokens = len(self.recognizer.log)
        self.segments.append(Segment(base, base + end_samples, self._prompt, n_tokens))
        self._closed_drift += self.recognizer.drift[:n_tokens]
        rest = self._joined()[at_samples:]
        self.open_start_samples = base + at_samples
        self._prompt = self._carried()
        self._audio, self._followed = [], ()
        self._heard_samples = self._fed_samples = self._finished_samples = 0
        self.recognizer.start(self._prompt, draft)
        self.feed(rest)

    def _carried(self) -> tuple[int, ...]:
        """The end of what was said, from the beginning of a word on."""
        tokens = self.log.tokens[-self._max_prompt :] if self._max_prompt else ()
        first = next((index for index, token in enumerate(tokens) if self._starts_word(token)), 0)
        return tokens[first:]

    def _joined(self) -> Samples:
        """All samples heard since the segment's start."""
        self._audio = [np.concatenate(self._audio)] if self._audio else [np.zeros(0, np.float32)]
        return self._audio[0]

    def _follow(self) -> None:
        """Bring the turn's log to what the segment's holds."""
        commits, same = self.recognizer.log.commits, 0
        while same < min(len(commits), len(self._followed)) and commits[same] is self._followed[same]:
            same += 1
        self.log.truncate(len(self.log) - len(self._followed) + same)
        shift = self.open_start_samples
        self.log.append([replace(commit, end_samples=commit.end_samples + shift) for commit in commits[same:]])
        self._followed = commits

    def _since(self, before: Sequence[Commit], tentative: tuple[int, ...]) -> Recognized:
        """What has changed in the turn since its log held `before`."""
        self._follow()
        now, same = self.log.commits, 0
        while same < min(len(before), len(now)) and before[same] is now[same]:
            same += 1
        return Recognized(tuple(now[same:]), same if same < len(before) else None, tentative)


def quietest(samples: Samples, gaps: Sequence[Gap]) -> tuple[Gap, int]:
    """The gap with the quietest `QUIET_SAMPLES` of samples [n] around a place in it, and that place; the later of equals."""
    power = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
    found: tuple[float, Gap, int] | None = None
    for gap in gaps:
        places = np.arange(gap.from_samples, max(gap.to_samples, gap.from_samples + 1), _STEP_SAMPLES).clip(0, len(samples))
        low = np.clip(places - QUIET_SAMPLES // 2, 0, len(samples))
        high = np.clip(places + QUIET_SAMPLES // 2, 0, len(samples))
        levels = ((power[high] - power[low]) / np.maximum(high - low, 1))[::-1]
        best = int(levels.argmin())
        if found is None or levels[best] <= found[0]:
            found = (float(levels[best]), gap, int(places[::-1][best]))
    if found is None:
        raise ValueError("a segment must be cut somewhere: expected at least one gap")
    return found[1], found[2]
