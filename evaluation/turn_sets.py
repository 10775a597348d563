"""User turns in which every silence is known: the material of `bench turns`. Synthetic, and said to be so.

A turn is one whole sentence of the held-out dialogues; its pauses are cut into the waveform at word boundaries, because a
synthesizer given half a sentence would end it with a final melody. So the melody at a pause is that of a sentence that goes
on. The lengths of the pauses follow what silence alone gets in LiveKit's eot-bench (English): 55.6 % of pauses are longer than
300 ms, 21.7 % than 600, 10 % than 1,000 and 5 % than 1,600. Shorter ones, of 100 to 200 ms, are decisions as well, but no
rule can get them wrong. Half of the dialogues are said by held-out espeak-ng voices, half by flite.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..streaming.clock import SAMPLE_RATE, SAMPLES_PER_MS, ms_to_samples
from ..training.skills import Turn
from .flite import flite_voices
from .sets import HELD_OUT_SETS, draw_dialogues
from .turn_voices import HeldOutVoices, Sentence

Samples = NDArray[np.float32]
SURVIVAL = ((200.0, 1.0), (300.0, 0.556), (600.0, 0.217), (1_000.0, 0.10), (1_600.0, 0.05), (3_500.0, 0.0))
"""(ms, share of the pauses of at least 200 ms that are longer). The first columns of eot-bench's VAD baseline; the longest
is our choice."""
PAUSES, PAUSE_SHARES = (0, 1, 2, 3), (20, 35, 25, 20)
"""How many pauses of at least 200 ms a turn has, as far as it has words: 1.5 on average, as in eot-bench."""
SHORT_SHARE, SHORT_MS = 0.2, (100, 199)
"""Turns that have one pause of less than 200 ms beside."""
LEAD_MS, TAIL_MS = 300, 800
NOISE_DB = -66.0
"""White noise under the whole turn, so that no silence is made of zeros."""
_FRAME_MS, _SEARCH_MS, _FADE_MS = 5, 30, 4
_QUIET = 0.01
"""A frame below this share of the loudest is quiet."""


@dataclass(frozen=True, slots=True)
class Silence:
    """From the last sample of speech to the next one, [start, end) in samples of the turn."""

    start_samples: int
    end_samples: int

    @property
    def ms(self) -> float:
        """Its length."""
        return (self.end_samples - self.start_samples) * 1000 / SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class Word:
    """A word as it was said, over at `end_samples`."""

    text: str
    end_samples: int


@dataclass(frozen=True, slots=True)
class Message:
    """What was said before the turn; `role` is "user" or "assistant" ("system" for instructions)."""

    role: str
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class SpokenTurn:
    """One turn of a user, float32 [n] at 16 kHz. The last of `silences` is its true end, the others are pauses; `words` are
    empty where nobody wrote them down. `source` is "espeak" or "flite" and a voice, or "recorded"."""

    id: str
    samples: Samples
    silences: tuple[Silence, ...]
    words: tuple[Word, ...] = ()
    history: tuple[Message, ...] = ()
    source: str = "recorded"

    @property
    def is_synthetic(self) -> bool:
        """Whether a machine spoke."""
        return self.source != "recorded"

    def said_until(self, at_samples: int) -> str | None:
        """The words that were over by then; None where they are not known."""
        return " ".join(word.text for word in self.words if word.end_samples <= at_samples) if self.words else None


def draw_turns(n: int, seed: int) -> list[SpokenTurn]:
    """`n` turns of generated dialogues; a seed gives the same ones on the same machine. Without flite all are espeak's."""
    rng = random.Random(f"turns {seed}")
    voices = HeldOutVoices(seed)
    drawn = [(number, turn, before, _say(voices, turn, by_flite)) for number, turn, before, by_flite in _first_turns(n, seed)]
    counts = [min(rng.choices(PAUSES, PAUSE_SHARES)[0], len(sentence.words) - 1) for _, _, _, sentence in drawn]
    lengths = pause_lengths(sum(counts), rng)
    turns: list[SpokenTurn] = []
    for (number, _, before, sentence), count in zip(drawn, counts, strict=True):
        wanted = [lengths.pop() for _ in range(count)]
        if rng.random() < SHORT_SHARE and count < len(sentence.words) - 1:
            wanted.append(rng.uniform(*SHORT_MS))
        rng.shuffle(wanted)
        places = sorted(rng.sample(range(len(sentence.words) - 1), len(wanted)))
        turn = with_pauses(sentence, dict(zip(places, wanted, strict=True)), seed=len(turns))
        turns.append(replace(turn, id=f"{seed}-{number}-{len(before) // 2}", history=before))
    return turns


def pause_lengths(n: int, rng: random.Random) -> list[float]:
    """`n` lengths in ms, the evenly spaced quantiles of `SURVIVAL` in random order, so that the shares hold in every set."""
    shares = np.array([share for _, share in SURVIVAL[::-1]])
    logs = np.log([ms for ms, _ in SURVIVAL[::-1]])
    lengths = [max(float(np.exp(np.interp((index + 1) / n, shares, logs))), SURVIVAL[0][0]) for index in range(n)]
    rng.shuffle(lengths)
    return lengths


def with_pauses(sentence: Sentence, pauses_ms: dict[int, float], seed: int = 0) -> SpokenTurn:
    """The sentence with a silence of exactly `pauses_ms[i]` behind word i, a lead of 300 ms and an end of 800 ms.

    Whatever quiet there was at a cut (a closed mouth before a "t") becomes part of the pause.
    """
    quiet = _quiet_frames(sentence.samples)
    frame = ms_to_samples(_FRAME_MS)
    loud = np.flatnonzero(~quiet)
    first, last = (int(loud[0]) * frame, min((int(loud[-1]) + 1) * frame, len(sentence.samples))) if len(loud) else (0, 0)
    pieces = [np.zeros(ms_to_samples(LEAD_MS), np.float32)]
    at, length = first, len(pieces[0])
    silences, words, word = [], [], 0
    stops = [(_gap(sentence, index, quiet), round(ms * SAMPLES_PER_MS)) for index, ms in sorted(pauses_ms.items())]
    for (index, left, right), pause in [*stops, ((len(sentence.words) - 1, last, last), ms_to_samples(TAIL_MS))]:
        left, right = max(left, at), max(right, at)
        while word <= index:
            words.append(Word(sentence.words[word], length + max(min(sentence.ends_samples[word], left) - at, 0)))
            word += 1
        pieces += [_faded(sentence.samples[at:left]), np.zeros(pause, np.float32)]
        length += left - at
        silences.append(Silence(length, length + pause))
        length, at = length + pause, right
    joined = np.concatenate(pieces)
    noise = np.random.default_rng(seed).standard_normal(len(joined)).astype(np.float32) * np.float32(10 ** (NOISE_DB / 20))
    return SpokenTurn("", np.clip(joined + noise, -1, 1), tuple(silences), tuple(words), (), sentence.voice)


def _first_turns(n: int, seed: int) -> Iterator[tuple[int, Turn, tuple[Message, ...], bool]]:
    """(dialogue, turn, what was said before it, whether flite says it) of the held-out sets in turn, as many as are wanted."""
    sets = [iter(draw_dialogues(name, n, seed)) for name in HELD_OUT_SETS]
    flite, number, given = bool(flite_voices()), 0, 0
    while given < n:
        dialogue = next(sets[number % len(sets)])
        before: list[Message] = []
        for turn in dialogue.turns:
            if given < n and len(turn.user.split()) > 1:
                given += 1
                yield number, turn, tuple(before), flite and number // len(sets) % 2 == 1
            before += [Message("user", turn.user), Message("assistant", turn.reply if turn.heard is None else turn.heard)]
        number += 1


def _say(voices: HeldOutVoices, turn: Turn, by_flite: bool) -> Sentence:
    """By flite where it is its turn and it can, else by espeak-ng."""
    sentence = voices.by_flite(turn.user) if by_flite else None
    return sentence or voices.by_espeak(turn.user, turn.tone)


def _quiet_frames(samples: Samples) -> NDArray[np.bool_]:
    """Of each 5 ms, whether nothing is heard; the last frame may be shorter."""
    frame = ms_to_samples(_FRAME_MS)
    padded = np.pad(samples, (0, -len(samples) % frame)).reshape(-1, frame)
    level = np.sqrt((padded.astype(np.float64) ** 2).mean(1))
    return level < max(_QUIET * level.max(initial=0.0), 1e-4)


def _gap(sentence: Sentence, index: int, quiet: NDArray[np.bool_]) -> tuple[int, int, int]:
    """(word, left, right): the quiet around the end of word `index`, empty where there is none; the calmest place near it."""
    frame, end = ms_to_samples(_FRAME_MS), sentence.ends_samples[index]
    reach = _SEARCH_MS // _FRAME_MS
    center = min(end // frame, len(quiet) - 1)
    near = range(max(center - reach, 0), min(center + reach + 1, len(quiet)))
    found = [place for place in near if quiet[place]]
    if not found:
        power = [float(np.square(sentence.samples[place * frame : (place + 1) * frame]).sum()) for place in near]
        cut = near[int(np.argmin(power))] * frame + frame // 2
        return index, cut, cut
    left = right = min(found, key=lambda place: abs(place - center))
    while left > 0 and quiet[left - 1]:
        left -= 1
    while right + 1 < len(quiet) and quiet[right + 1]:
        right += 1
    return index, left * frame, (right + 1) * frame


def _faded(samples: Samples) -> Samples:
    """With short ramps at both ends, so that a cut does not click."""
    n = min(ms_to_samples(_FADE_MS), len(samples) // 2)
    faded = samples.copy()
    if n:
        ramp = np.linspace(0, 1, n, dtype=np.float32)
        faded[:n] *= ramp
        faded[-n:] *= ramp[::-1]
    return faded


def count_by_source(turns: Sequence[SpokenTurn]) -> dict[str, int]:
    """How many turns each synthesizer spoke, or people ("recorded")."""
    counts: dict[str, int] = {}
    for turn in turns:
        source = turn.source.split()[0]
        counts[source] = counts.get(source, 0) + 1
    return counts
