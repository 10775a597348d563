"""Spoken dialogues as the recognizer heard them, made once and kept in shards for the training of the
backbone.

Each user turn is spoken by espeak in the tone it asks for, put between silences, augmented, and transcribed
by WhisperPro with the rules of the runtime: greedy text, word times from the CTC head, prosody under the mask
that streaming uses. A share of the turns is recognized a second time with the audio cut at random. A shard is
one `.npz` without pickles; shards that exist are not made again, so a run goes on where it stopped.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from ..models.whisperpro import WhisperPro, WhisperProConfig
from ..streaming.mel import HOP_SAMPLES, SAMPLE_RATE, WINDOW_SAMPLES, log_mel
from .augment import Augmenter
from .pico import PicoVoices
from .runs import Log, read_state
from .skills import Call, Dialogue, Turn, sample_dialogue
from .slm_sequences import UserTurn
from .speech_corpus import Speech
from .spoken import Spoken, cut, pad
from .transcribe import transcribe
from .voices import TRAIN, sample_speaker

CUT_SHARE = 0.6
BATCH = 48


@dataclass(frozen=True, slots=True, eq=False)
class HeardDialogue:
    """A dialogue, what was heard of its first turns, and for each turn what was heard of cut audio, if
    anything."""

    dialogue: Dialogue
    said: tuple[UserTurn, ...]
    cuts: tuple[UserTurn | None, ...]


@dataclass(frozen=True, slots=True)
class Recognition:
    """What `recognize_corpus` needs. `run` is the folder of a WhisperPro training; of `workers` processes,
    number `worker` makes every `workers`-th shard."""

    run: Path
    shard_dialogues: int = 200
    split: str = "train"
    voice_split: str = TRAIN
    worker: int = 0
    workers: int = 1
    threads: int = 1
    seed: int = 1
    pico_share: float = 0.0
    """Of the turns in a plain tone, spoken by Pico (training/pico.py) instead of espeak."""


@dataclass(frozen=True, slots=True)
class _Utterance:
    """A waveform of turn `turn` of dialogue `dialogue`, [n] at 16 kHz."""

    dialogue: int
    turn: int
    is_cut: bool
    complete: bool
    samples: NDArray[np.float32]


def recognize_corpus(folder: Path, n_dialogues: int, settings: Recognition) -> None:
    """Write this worker's shards of `n_dialogues` dialogues into `folder`, and a line of the log for each."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(settings.threads)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(settings.run)
    model = trained_whisperpro(settings.run)
    log, began = Log(folder / f"{settings.split}-{settings.worker}.csv"), time.monotonic()
    n_shards = -(-n_dialogues // settings.shard_dialogues)
    for shard in range(settings.worker, n_shards, settings.workers):
        file = shard_file(folder, settings.split, shard)
        if file.exists():
            continue
        size = min(settings.shard_dialogues, n_dialogues - shard * settings.shard_dialogues)
        seed = (settings.seed * 10_007 + shard) * 2 + (settings.split != TRAIN)
        heard = _recognize(model, tokenizer, size, settings, seed)
        write_shard(file, heard)
        log.add(_summary(heard, tokenizer))
        log.write(shard, time.monotonic() - began)


def trained_whisperpro(run: Path) -> WhisperPro:
    """The model of a training's last checkpoint, for inference."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(run)
    model = WhisperPro(WhisperProConfig(vocab_size=len(tokenizer)))
    model.load_state_dict(read_state(run)["model"])
    return model.eval().requires_grad_(False)


def _recognize(
    model: WhisperPro, tokenizer: PreTrainedTokenizerFast, size: int, settings: Recognition, seed: int
) -> list[HeardDialogue]:
    rng = random.Random(seed)
    dialogues = [sample_dialogue(rng, settings.split) for _ in range(size)]
    speech, augment = Speech(seed, voice_split=settings.voice_split), Augmenter(seed)
    pico = PicoVoices(model, tokenizer) if settings.pico_share else None
    utterances = sorted(_speak(dialogues, speech, augment, rng, settings, model, pico), key=lambda item: len(item.samples))
    turns: dict[tuple[int, int, bool], UserTurn] = {}
    frame = model.config.frame_samples
    for start in range(0, len(utterances), BATCH):
        group = utterances[start : start + BATCH]
        features = [_features(item.samples, frame) for item in group]
        for item, (tokens, vectors) in zip(group, transcribe(model, tokenizer, features), strict=True):
            if tokens:
                key = (item.dialogue, item.turn, item.is_cut)
                turns[key] = UserTurn(tokens, vectors.astype(np.float16), item.complete)
    heard = []
    for index, dialogue in enumerate(dialogues):
        said: list[UserTurn] = []
        for turn in range(len(dialogue.turns)):
            if (index, turn, False) not in turns:
                break
            said.append(turns[index, turn, False])
        cuts = tuple(turns.get((index, turn, True)) for turn in range(len(dialogue.turns)))
        heard.append(HeardDialogue(dialogue, tuple(said), cuts))
    return heard


def _speak(
    dialogues: Sequence[Dialogue],
    speech: Speech,
    augment: Augmenter,
    rng: random.Random,
    settings: Recognition,
    model: WhisperPro,
    pico: PicoVoices | None,
) -> Iterator[_Utterance]:
    """Every turn as augmented audio, and some once more with the audio cut in the words."""
    limit = model.config.max_frames * model.config.frame_samples
    for index, dialogue in enumerate(dialogues):
        for number, turn in enumerate(dialogue.turns):
            if pico is not None and turn.tone in (None, "plain") and rng.random() < settings.pico_share:
                spoken = pico.spoken(turn.user, rng)
            else:
                spoken = speech.say(turn.user, sample_speaker(rng, settings.voice_split, turn.tone))
            augment.remember(spoken.samples)
            before, after = rng.uniform(0, 0.75) * SAMPLE_RATE, rng.uniform(0.1, 0.9) * SAMPLE_RATE
            whole = pad(spoken, int(before), int(after))
            yield _Utterance(index, number, False, True, augment(cut(whole, limit).samples))
            if rng.random() < CUT_SHARE and len(spoken.words) > 1:
                yield _Utterance(index, number, True, False, augment(_unfinished(whole, rng)[:limit]))


def _unfinished(spoken: Spoken, rng: random.Random) -> NDArray[np.float32]:
    """The audio without its last words: stopped anywhere, or with a pause after a word, as a speaker
    hesitates."""
    if rng.random() < 0.1:
        return spoken.samples[: int(rng.uniform(spoken.ends[0], spoken.starts[-1]))]
    at = rng.choice(spoken.ends[:-1])
    return np.pad(spoken.samples[:at], (0, int(rng.uniform(0.1, 1.2) * SAMPLE_RATE)))


def _features(samples: NDArray[np.float32], frame: int) -> NDArray[np.float32]:
    """Log-mel of whole encoder frames, [2 * frames, n_mels]."""
    n = max(1, -(-len(samples) // frame)) * frame
    return log_mel(np.pad(samples, (WINDOW_SAMPLES - HOP_SAMPLES, n - len(samples))))


def _summary(heard: Sequence[HeardDialogue], tokenizer: PreTrainedTokenizerFast) -> dict[str, float]:
    """How many turns were heard, and which share of them word by word."""
    pairs = [
        (turn.user, str(tokenizer.decode(list(user.tokens))).strip())
        for item in heard
        for turn, user in zip(item.dialogue.turns, item.said, strict=False)
    ]
    asked = sum(len(item.dialogue.turns) for item in heard)
    exact = sum(user == words for user, words in pairs) / max(len(pairs), 1)
    return {"turns": asked, "heard": len(pairs), "exact": exact}


def shard_file(folder: Path, split: str, shard: int) -> Path:
    """Where a shard of a split is kept."""
    return folder / f"{split}-{shard:04d}.npz"


def write_shard(file: Path, heard: Sequence[HeardDialogue]) -> None:
    """Write a shard atomically: dialogues as JSON, tokens and vectors of all turns end to end, the cut ones
    last."""
    whole = [(index, turn, user) for index, item in enumerate(heard) for turn, user in enumerate(item.said)]
    cuts = [(index, turn, user) for index, item in enumerate(heard) for turn, user in enumerate(item.cuts) if user is not None]
    turns = [user for _, _, user in (*whole, *cuts)]
    vectors = [np.asarray(user.vectors, np.float16) for user in turns]
    temporary = file.with_suffix(".tmp")
    with temporary.open("wb") as stream:
        np.savez(
            stream,
            dialogues=np.frombuffer(json.dumps([asdict(item.dialogue) for item in heard]).encode(), np.uint8),
            places=np.array([(index, turn) for index, turn, _ in (*whole, *cuts)], np.int32).reshape(-1, 2),
            lengths=np.array([len(user.tokens) for user in turns], np.int32),
            tokens=np.array([token for user in turns for token in user.tokens], np.int32),
            vectors=np.concatenate(vectors) if vectors else np.zeros((0, 0), np.float16),
            is_cut=np.array([False] * len(whole) + [True] * len(cuts)),
        )
    os.replace(temporary, file)


def read_shards(folder: Path, split: str) -> list[HeardDialogue]:
    """All dialogues of a split whose first turn was heard, in the order of the shards."""
    files = sorted(folder.glob(f"{split}-*.npz"))
    return [item for file in files for item in _read_shard(file) if item.said]


def _read_shard(file: Path) -> Iterator[HeardDialogue]:
    with np.load(file, allow_pickle=False) as arrays:
        dialogues = [_dialogue(values) for values in json.loads(arrays["dialogues"].tobytes())]
        said: list[list[UserTurn]] = [[] for _ in dialogues]
        cuts: list[list[UserTurn | None]] = [[None] * len(dialogue.turns) for dialogue in dialogues]
        tokens, vectors = arrays["tokens"].tolist(), arrays["vectors"]
        at = 0
        rows = zip(arrays["places"].tolist(), arrays["lengths"].tolist(), arrays["is_cut"].tolist(), strict=True)
        for (index, turn), length, is_cut in rows:
            part = slice(at, at + length)
            at += length
            user = UserTurn(tuple(tokens[part]), vectors[part], not is_cut)
            if is_cut:
                cuts[index][turn] = user
            else:
                said[index].append(user)
    for dialogue, whole, parts in zip(dialogues, said, cuts, strict=True):
        yield HeardDialogue(dialogue, tuple(whole), tuple(parts))


def _dialogue(values: dict[str, Any]) -> Dialogue:
    turns = []
    for turn in values["turns"]:
        call = None if turn["call"] is None else Call(**turn["call"])
        turns.append(Turn(**{**turn, "call": call}))
    return Dialogue(tuple(turns))
