"""Which attention heads of a Whisper follow the audio? Found on sentences of known word times, for checkpoints that do not say.

The known words are forced on the decoder, and a head counts a hit for every token that it predicts while it looks hardest at
the sound of the token's word. The published heads of Whisper were chosen by such a look at forced alignments too; how well
the chosen ones time words is measured on the same sentences by the rule that sessions use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..models.errors import CheckpointError
from ..models.whisper_full import FullWhisper
from ..models.whisper_times import ENCODER_FRAME_SAMPLES, cross_attention, token_ends
from ..streaming.clock import SAMPLES_PER_MS, ms_to_samples
from .streaming_measures import Spread
from .streaming_trace import Spoken

Head = tuple[int, int]
NEAR_SAMPLES = ms_to_samples(100)
"""How far outside of its word a head may look."""
LEAST_SHARE, OF_THE_BEST, MAX_HEADS = 0.5, 0.8, 10
"""A head is taken that hits so often, and so often beside the best one; of these at most so many."""
ENGLISH = "en"


@dataclass(frozen=True, slots=True)
class FoundHeads:
    """The heads, the best first, with their shares of hits among `n_tokens`; how far the ends of words by them lie from the
    true ones, in milliseconds."""

    heads: tuple[Head, ...]
    shares: tuple[float, ...]
    n_tokens: int
    off_ms: Spread


@dataclass(frozen=True, slots=True)
class _Forced:
    """Tokens of an utterance with the span of the word of each."""

    tokens: tuple[int, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]


def find_heads(speech: FullWhisper, spoken: Sequence[Spoken], done: Callable[[int], None]) -> FoundHeads:
    """`done` is told the utterances that were worked off. CheckpointError where no head follows the audio."""
    config = speech.model.config
    hits, n_tokens = np.zeros((config.decoder_layers, config.decoder_attention_heads)), 0
    prompt = speech.prompt(speech.language_id(ENGLISH))
    for one in spoken:
        forced = _forced(speech, one)
        with torch.inference_mode():
            attention = cross_attention(speech.model, speech.encode(one.samples), prompt, forced.tokens)
        frames = max(1, len(one.samples) // ENCODER_FRAME_SAMPLES)
        for layer, weights in enumerate(attention):
            looked = weights[:, :-1, :frames].argmax(-1).cpu().numpy() * ENCODER_FRAME_SAMPLES
            near = (looked >= np.array(forced.starts) - NEAR_SAMPLES) & (looked < np.array(forced.ends) + NEAR_SAMPLES)
            hits[layer] += near.sum(1)
        n_tokens += len(forced.tokens)
        done(1)
    heads, shares = choose(hits / max(n_tokens, 1))
    return FoundHeads(heads, shares, n_tokens, _off(speech, spoken, heads, prompt))


def choose(shares: NDArray[np.float64]) -> tuple[tuple[Head, ...], tuple[float, ...]]:
    """The heads to take of shares of hits [layers, heads], and their shares, the best first. CheckpointError for none."""
    order = np.argsort(-shares, axis=None, kind="stable")[:MAX_HEADS]
    best = float(shares.max())
    taken = [index for index in order if shares.flat[index] >= max(LEAST_SHARE, OF_THE_BEST * best)]
    if not taken:
        raise CheckpointError(
            f"no attention head of this Whisper follows the audio: the best one looks at the right word for {best:.0%} of the "
            f"tokens, expected at least {LEAST_SHARE:.0%}; without word times the policy agreement can still be used"
        )
    width = shares.shape[1]
    return tuple((int(index) // width, int(index) % width) for index in taken), tuple(float(shares.flat[one]) for one in taken)


def _off(speech: FullWhisper, spoken: Sequence[Spoken], heads: Sequence[Head], prompt: tuple[int, ...]) -> Spread:
    """How far the ends of words lie from the true ones."""
    off: list[float] = []
    for one in spoken:
        forced = _forced(speech, one)
        ends = token_ends(speech.model, heads, speech.encode(one.samples), prompt, forced.tokens, len(one.samples))
        last = [index for index, end in enumerate(forced.ends) if forced.ends[index + 1 : index + 2] != (end,)]
        off += [abs(int(ends[index]) - forced.ends[index]) / SAMPLES_PER_MS for index in last]
    return Spread.of(off)


def _forced(speech: FullWhisper, one: Spoken) -> _Forced:
    tokens, starts, ends = list[int](), list[int](), list[int]()
    for word, start, end in zip(one.words, one.starts, one.ends, strict=True):
        ids = speech.tokenizer.encode(f" {word}", add_special_tokens=False)
        tokens += ids
        starts += [start] * len(ids)
        ends += [end] * len(ids)
    return _Forced(tuple(tokens), tuple(starts), tuple(ends))
