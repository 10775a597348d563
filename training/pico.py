"""A third synthesizer for the recognizer's training: SVOX Pico with its British and its American voice (PyPI: ttspico, which
compiles the engine of Android's open source project and brings its voices; Apache-2.0). Both were made from recordings, so
sounds run into each other as people's do. Pico does not say when a word was spoken; a trained recognizer does, by the
likeliest path of its CTC head through the known words (Graves et al., ICML 2006)."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from ..models.checkpoint import load_checkpoint
from ..models.errors import InputError
from ..models.whisperpro import WhisperPro
from ..streaming.mel import HOP_SAMPLES, WINDOW_SAMPLES, log_mel
from .skills import sentences
from .spoken import Spoken
from .stored_speech import STORED_STRETCH, TimedWord, stretched, write_shard
from .voices import TRAIN

SHARD = 500
LANGUAGES = ("en-GB", "en-US")
RATES, PITCHES = (70, 140), (60, 125)
"""Percent of the voices' own; pitch moves the melody alone, not the formants."""
SILENCE = 100
"""Of 32768: what is quieter at the ends of a sentence is left out."""
END_AFTER_SPIKE = 0.25
"""A word ends that far on the way from the CTC head's last token of it to the first token of the next."""


class PicoVoices:
    """Both voices, each time with a speed and pitch of its own. The recognizer `model` says when the words were spoken.
    Raises InputError without Pico."""

    def __init__(self, model: WhisperPro, tokenizer: PreTrainedTokenizerFast) -> None:
        try:
            import ttspico
        except ImportError as error:
            raise InputError("SVOX Pico is not installed: pip install ttspico, which needs a C compiler") from error
        self._engines = [ttspico.TtsEngine(language) for language in LANGUAGES]
        self._model, self._tokenizer = model, tokenizer

    def say(self, text: str, rng: random.Random) -> tuple[NDArray[np.int16], list[TimedWord]]:
        """Sound [n] at 16 kHz without silence around it, and its words."""
        engine = rng.choice(self._engines)
        engine.rate, engine.pitch = rng.randint(*RATES), rng.randint(*PITCHES)
        pcm = _trimmed(np.frombuffer(engine.speak(text), np.int16))
        words = text.split()
        return pcm, word_times(self._model, pcm, words, [self._tokenizer.encode(" " + word) for word in words])

    def spoken(self, text: str, rng: random.Random) -> Spoken:
        """The same, played somewhat longer or shorter and so with other formants, in no tone in particular."""
        pcm, timed = self.say(text, rng)
        words, starts, ends = zip(*timed, strict=True)
        return stretched(pcm, words, starts, ends, rng.uniform(*STORED_STRETCH))


def speak_corpus(folder: Path, sentences_wanted: int, seed: int, aligner: Path, done: Callable[[int], None]) -> None:
    """Speak that many sentences into shards in `folder`, going on where an earlier run stopped; `done` is told how many there
    are. `aligner` is a checkpoint whose recognizer gives the words their times. Raises InputError without Pico."""
    checkpoint = load_checkpoint(aligner)
    voices = PicoVoices(checkpoint.chunked.model, checkpoint.tokenizer)
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(-(-sentences_wanted // SHARD)):
        path = folder / f"{shard:04d}.npz"
        if not path.exists():
            rng = random.Random(f"pico {seed} {shard}")
            count = min(SHARD, sentences_wanted - shard * SHARD)
            write_shard(path, [voices.say(sentences(rng, TRAIN), rng) for _ in range(count)])
        done(min(sentences_wanted, (shard + 1) * SHARD))


def _trimmed(pcm: NDArray[np.int16]) -> NDArray[np.int16]:
    loud = np.flatnonzero(np.abs(pcm.astype(np.int32)) > SILENCE)
    return pcm[loud[0] : loud[-1] + 1]


@torch.inference_mode()
def word_times(
    model: WhisperPro, pcm: NDArray[np.int16], words: Sequence[str], tokens: Sequence[Sequence[int]]
) -> list[TimedWord]:
    """When each word was said, in samples of `pcm` [n] at 16 kHz; a word starts where the one before it ended."""
    frame = model.config.frame_samples
    n = -(-len(pcm) // frame)
    samples: NDArray[np.float32] = pcm.astype(np.float32) / np.float32(32768)
    samples = np.pad(samples, (WINDOW_SAMPLES - HOP_SAMPLES, n * frame - len(pcm)))
    mel = torch.from_numpy(log_mel(samples)).T[None, :, : 2 * n]
    scores = model.ctc(model.encode(mel, torch.tensor([n]))).float().log_softmax(-1)[0].numpy()
    spikes = ctc_alignment(scores, [token for word in tokens for token in word], model.config.pad)
    timed, start, at = [], 0, 0
    for word, pieces in zip(words, tokens, strict=True):
        at += len(pieces)
        known = spikes[at - 1] + 1
        beyond = spikes[at] + 1 if at < len(spikes) else n
        end = min(int((known + END_AFTER_SPIKE * (beyond - known)) * frame), len(pcm))
        timed.append((word, start, max(end, start + 1)))
        start = end
    return [*timed[:-1], (timed[-1][0], timed[-1][1], len(pcm))]


def ctc_alignment(scores: NDArray[np.float32], tokens: Sequence[int], blank: int) -> list[int]:
    """The frame in which each token begins on the likeliest path through all of them, [n_tokens]; `scores` are log
    probabilities [frames, vocabulary]. Raises ValueError where there are too few frames."""
    states = np.full(2 * len(tokens) + 1, blank)
    states[1::2] = tokens
    may_skip = np.zeros(len(states), bool)
    may_skip[3::2] = states[3::2] != states[1:-2:2]
    best = np.full(len(states), -np.inf)
    best[:2] = scores[0, states[:2]]
    came_from = np.zeros((len(scores), len(states)), np.int64)
    for frame in range(1, len(scores)):
        before = np.concatenate([[-np.inf, -np.inf], best])
        ways = np.stack([best, before[1:-1], before[:-2]])
        ways[2, ~may_skip] = -np.inf
        came_from[frame] = ways.argmax(0)
        best = ways.max(0) + scores[frame, states]
    state = len(states) - 1 - int(best[-2:].argmax() == 0)
    if best[state] == -np.inf:
        raise ValueError(f"{len(tokens)} tokens do not fit into {len(scores)} frames")
    frames = [0] * len(tokens)
    for frame in range(len(scores) - 1, -1, -1):
        if state % 2:
            frames[state // 2] = frame
        state -= int(came_from[frame, state])
    return frames
