"""Utterances for WhisperPro, synthesized on the fly: waveform, words with times, tone; cut, joined, augmented, batched.

Half of the utterances are cut at a random time and labelled with the words that have ended by then, so the recognizer
learns to stop; one in six is noise, silence or babble of which nothing is meant, three in ten hold several sentences
with pauses. One in eight begins in the middle of a turn, as a segment of a long turn does, mostly with the words before as
prompt.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset
from transformers import PreTrainedTokenizerFast

from ..models.whisperpro import TONES, WhisperProConfig
from ..streaming.espeak_worker import Espeak
from ..streaming.mel import HOP_SAMPLES, SAMPLE_RATE, WINDOW_SAMPLES, log_mel
from .augment import Augmenter, spec_augment, warped_filters
from .skills import sentences
from .spoken import Spoken, continue_after, cut, hesitate, join, pad
from .stored_speech import STORED_STRETCH, StoredSpeech
from .voices import TRAIN, Speaker, sample_speaker

FloatArray = NDArray[np.float32]
IGNORE = -100


@dataclass(frozen=True, slots=True)
class SpeechBatch:
    """Tensors of a training step; shapes [batch, ...], times in encoder frames."""

    mel: Tensor  # [batch, n_mels, 2 * frames]
    target_mel: Tensor  # [batch, frames, 2 * n_mels], the clean features to rebuild
    lengths: Tensor  # [batch]
    tokens: Tensor  # [batch, n]: prompt, start of transcript, text, padding
    labels: Tensor  # [batch, n]: the next token, IGNORE where none counts
    word_ends: Tensor  # [batch, n]: frame in which the token's word ends, 0 outside of the text
    token_of_frame: Tensor  # [batch, frames]: position in `tokens` of the token spoken there, -1 in silence
    tone: Tensor  # [batch], IGNORE where unknown


STORED_SHARE = 0.2
"""Of the sentences, from each synthesizer that spoke some beforehand."""
SHORTEST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
"""Seconds between sentences of one utterance."""


class Speech:
    """Speaks sentences of a split of the grammar with voices of a split; some come from `stored`."""

    def __init__(
        self, seed: int, sentence_split: str = TRAIN, voice_split: str = TRAIN, stored: Sequence[StoredSpeech] = ()
    ) -> None:
        self._rng = random.Random(seed)
        self._stored = stored
        self._espeak = Espeak()
        self._sentence_split, self._voice_split = sentence_split, voice_split

    def say(self, text: str | None = None, speaker: Speaker | None = None) -> Spoken:
        """One utterance without leading or trailing silence of its own."""
        text = sentences(self._rng, self._sentence_split) if text is None else text
        speaker = sample_speaker(self._rng, self._voice_split) if speaker is None else speaker
        utterance = self._espeak.synthesize(text, speaker.voice)
        pcm = utterance.pcm.astype(np.float32) / 32768
        samples = soxr.resample(pcm, self._espeak.sample_rate, SAMPLE_RATE, quality="MQ").astype(np.float32)
        scale = SAMPLE_RATE / self._espeak.sample_rate
        return Spoken(
            samples,
            tuple(word.text for word in utterance.words),
            tuple(int(word.start_samples * scale) for word in utterance.words),
            tuple(int(word.end_samples * scale) for word in utterance.words),
            speaker.tone,
        )

    def one(self) -> Spoken:
        """One sentence by anybody."""
        return self._next_of_somebody()()

    def several(self, limit_samples: int) -> Spoken:
        """Two to six sentences of one voice, within the limit; the pauses between them from hardly any to two seconds, short
        ones as often as long ones."""
        say = self._next_of_somebody()
        parts = [say()]
        total = len(parts[0].samples)
        pauses: list[int] = []
        for _ in range(self._rng.randint(1, 5)):
            part, pause = say(), int(SHORTEST_PAUSE * (LONGEST_PAUSE / SHORTEST_PAUSE) ** self._rng.random() * SAMPLE_RATE)
            if total + pause + len(part.samples) > limit_samples:
                break
            parts.append(part)
            pauses.append(pause)
            total += pause + len(part.samples)
        return join(parts, pauses)

    def _next_of_somebody(self) -> Callable[[], Spoken]:
        """What gives the sentences of one speaker."""
        if self._rng.random() < STORED_SHARE * len(self._stored):
            return partial(self._rng.choice(self._stored).draw, self._rng, self._rng.uniform(*STORED_STRETCH))
        return partial(self.say, speaker=sample_speaker(self._rng, self._voice_split))


EMPTY_SHARE = 0.16
"""Of the utterances, without a word to recognize; half of them as long as the window may hold, since in long babble there is
always a word to be guessed."""
SEVERAL_SHARE = 0.3
CONTINUING_SHARE = 0.12
"""Of the utterances, beginning in the middle of a turn, four fifths of them with the words before as prompt."""
HESITATING_SHARE = 0.2
"""Of the utterances, with a pause inside. A quarter of all stops with silence after a word, so that the recognizer does not
learn to guess the rest of a sentence when its speaker pauses."""

Drawn = tuple[Spoken, FloatArray, FloatArray]
"""An utterance with its features as heard and as spoken, [2 * frames, n_mels]."""


class SpeechBatches(IterableDataset[SpeechBatch]):
    """An endless stream of augmented training batches, sorted by length inside a pool to spare padding."""

    def __init__(
        self,
        config: WhisperProConfig,
        tokenizer: PreTrainedTokenizerFast,
        frames: int,
        seed: int,
        easy_batches: int = 0,
        pool: int = 400,
        stored: Sequence[Path] = (),
    ) -> None:
        self._stored = stored
        self._easy_batches = easy_batches
        self._config, self._tokenizer, self._frames, self._seed, self._pool = config, tokenizer, frames, seed, pool

    def __iter__(self) -> Iterator[SpeechBatch]:
        worker = torch.utils.data.get_worker_info()
        seed = self._seed * 1000 + (worker.id if worker else 0)
        rng = random.Random(seed)
        stored = [StoredSpeech.read(folder) for folder in self._stored]
        speech, augment = Speech(seed, stored=stored), Augmenter(seed)
        limit = self._config.max_frames * self._config.frame_samples
        given = 0
        while True:
            draw = self._draw_easy if given < self._easy_batches else self._draw
            pool = [draw(rng, speech, augment, limit) for _ in range(self._pool)]
            pool.sort(key=lambda item: len(item[0].samples))
            groups = list(self._groups(pool))
            rng.shuffle(groups)
            given += len(groups)
            for group in groups:
                yield self.collate(group, rng)

    def _groups(self, pool: list[Drawn]) -> Iterator[list[Drawn]]:
        """Neighbours in length, as many as `frames` padded encoder frames hold."""
        group: list[Drawn] = []
        for item in pool:
            if group and len(item[1]) // 2 * (len(group) + 1) > self._frames:
                yield group
                group = []
            group.append(item)
        yield group

    def _draw_easy(self, rng: random.Random, speech: Speech, augment: Augmenter, limit: int) -> Drawn:
        spoken = speech.one()
        augment.remember(spoken.samples)
        spoken = pad(spoken, int(rng.uniform(0, 0.4) * SAMPLE_RATE), int(rng.uniform(0, 0.4) * SAMPLE_RATE))
        spoken = cut(spoken, min(limit, len(spoken.samples)))
        return (spoken, *self._features(spoken.samples, spoken.samples * np.float32(rng.uniform(0.5, 2)), rng, False))

    def _draw(self, rng: random.Random, speech: Speech, augment: Augmenter, limit: int) -> Drawn:
        kind = rng.random()
        if kind < EMPTY_SHARE:
            longest = 6 if rng.random() < 0.5 else limit / SAMPLE_RATE
            spoken = Spoken(augment.noise_only(int(rng.uniform(0.3, longest) * SAMPLE_RATE)), (), (), (), None)
            return (spoken, *self._features(spoken.samples, spoken.samples, rng))
        several = kind < EMPTY_SHARE + SEVERAL_SHARE
        continuing = rng.random() < CONTINUING_SHARE
        spoken = speech.several(limit - SAMPLE_RATE) if several or continuing else speech.one()
        augment.remember(spoken.samples)
        if continuing and len(spoken.words) > 1:
            spoken = continue_after(spoken, rng.randrange(len(spoken.words) - 1))
            if rng.random() < 0.2:
                spoken = replace(spoken, before=())
        before = int(rng.uniform(0, 0.75) * SAMPLE_RATE)
        spoken = pad(spoken, 0 if continuing else before, int(rng.uniform(0, 0.9) * SAMPLE_RATE))
        limit_words = self._config.max_tokens // 3
        if len(spoken.words) > limit_words:
            spoken = cut(spoken, spoken.ends[limit_words - 1])
        if len(spoken.words) > 1 and rng.random() < HESITATING_SHARE:
            spoken = hesitate(spoken, rng.randrange(len(spoken.words) - 1), int(rng.uniform(0.1, 1.5) * SAMPLE_RATE))
        at = min(limit, len(spoken.samples))
        if rng.random() < 0.5:
            if len(spoken.words) > 1 and rng.random() < 0.5:
                spoken = cut(spoken, min(limit, rng.choice(spoken.ends[:-1])))
                spoken = pad(spoken, 0, int(rng.uniform(0.1, 1.5) * SAMPLE_RATE))
                at = min(limit, len(spoken.samples))
            else:
                at = min(at, int(rng.uniform(0.3 * SAMPLE_RATE, len(spoken.samples))))
        spoken = cut(spoken, at)
        return (spoken, *self._features(spoken.samples, augment(spoken.samples), rng))

    def _features(
        self, clean: FloatArray, heard: FloatArray, rng: random.Random, varied: bool = True
    ) -> tuple[FloatArray, FloatArray]:
        filters = warped_filters(rng.randint(-7, 8) if varied and rng.random() < 0.6 else 0)
        frame = self._config.frame_samples
        n = max(1, -(-len(heard) // frame)) * frame
        mels = []
        for samples in (heard, clean):
            padded = np.pad(samples, (WINDOW_SAMPLES - HOP_SAMPLES, n - len(samples)))
            mels.append(log_mel(padded, filters))
        if varied and rng.random() < 0.5:
            mels[0] = spec_augment(mels[0], np.random.default_rng(rng.getrandbits(32)))
        return mels[0], mels[1]

    def collate(self, items: list[Drawn], rng: random.Random) -> SpeechBatch:
        """Pad and stack."""
        config, frame = self._config, self._config.frame_samples
        rows = [self._tokens(spoken, rng) for spoken, _, _ in items]
        frames = max(len(mel) // 2 for _, mel, _ in items)
        width = max(len(tokens) for tokens, _, _ in rows)
        size = len(items)
        mel = torch.zeros(size, config.n_mels, 2 * frames)
        target = torch.zeros(size, frames, 2 * config.n_mels)
        lengths = torch.zeros(size, dtype=torch.long)
        tokens = torch.full((size, width), config.end_of_text)
        labels = torch.full((size, width), IGNORE)
        word_ends = torch.zeros(size, width, dtype=torch.long)
        token_of_frame = torch.full((size, frames), -1)
        tone = torch.full((size,), IGNORE)
        for row, ((spoken, heard, clean), (ids, first, word_of_token)) in enumerate(zip(items, rows, strict=True)):
            n = len(heard) // 2
            mel[row, :, : 2 * n] = torch.from_numpy(heard).T
            target[row, :n] = torch.from_numpy(clean[: 2 * n]).reshape(n, -1)
            lengths[row] = n
            tokens[row, : len(ids)] = torch.tensor(ids)
            labels[row, first - 1 : len(ids)] = torch.tensor([*ids[first:], config.end_of_text])
            per_word = np.bincount(np.asarray(word_of_token, np.int64), minlength=len(spoken.words))
            seen: dict[int, int] = {}
            for offset, word in enumerate(word_of_token):
                start, end = spoken.starts[word], spoken.ends[word]
                word_ends[row, first + offset] = min(max(end - 1, 0) // frame, n - 1)
                part = seen.get(word, 0)
                seen[word] = part + 1
                low = start + (end - start) * part // per_word[word]
                high = start + (end - start) * (part + 1) // per_word[word]
                token_of_frame[row, low // frame : min(high // frame + 1, n)] = first + offset
            if spoken.tone is not None and len(spoken.words) >= 2:
                tone[row] = TONES.index(spoken.tone)
        return SpeechBatch(mel, target, lengths, tokens, labels, word_ends, token_of_frame, tone)

    def _tokens(self, spoken: Spoken, rng: random.Random) -> tuple[list[int], int, list[int]]:
        """Prompt, start and text; where the text begins; which word each text token belongs to."""
        config = self._config
        ids = [config.start_of_transcript]
        before = " ".join(spoken.before) or (sentences(rng, TRAIN) if rng.random() < 0.03 else "")
        if before:
            prompt = self._tokenizer.encode(" " + before)[-config.max_prompt :]
            ids = [config.start_of_previous, *prompt, *ids]
        first, word_of_token = len(ids), []
        for index, word in enumerate(spoken.words):
            piece = self._tokenizer.encode(" " + word)
            ids += piece
            word_of_token += [index] * len(piece)
        room = config.max_tokens
        return ids[: first + room], first, word_of_token[:room]
