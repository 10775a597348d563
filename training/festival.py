"""A second synthesizer for the recognizer's training: festival with the voice `ked` (Debian: festival, festvox-kdlpc16k),
whose durations, melodies and pronunciations are not espeak's. Sentences are spoken beforehand into a folder of shards, each
with a speed, pitch and liveliness of its own; training draws from them (stored_speech.py) and varies them further."""

from __future__ import annotations

import random
import shutil
import subprocess
import tempfile
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..models.errors import InputError
from .skills import sentences
from .stored_speech import SAMPLE_RATE, write_shard
from .voices import TRAIN

SHARD = 200
"""Sentences of one run of festival, which takes some seconds to load its dictionary."""
PROGRAM = """
(voice_ked_diphone)
(define (say text file mean spread stretch)
  (set! int_lr_params (list (list 'target_f0_mean mean) (list 'target_f0_std spread)
                            (list 'model_f0_mean 170) (list 'model_f0_std 34)))
  (Parameter.set 'Duration_Stretch stretch)
  (let ((utt (SynthText text)))
    (utt.save.wave utt file 'riff)
    (mapcar (lambda (token) (format t "%s %f %f\\n" (item.name token)
        (item.feat token "daughter1.word_start") (item.feat token "daughtern.word_end")))
      (utt.relation.items utt 'Token))
    (format t "end\\n")))
"""


def speak_corpus(folder: Path, sentences_wanted: int, seed: int, done: Callable[[int], None]) -> None:
    """Speak that many sentences into shards in `folder`, going on where an earlier run stopped; `done` is told how many there
    are. Raises InputError without festival."""
    program = shutil.which("festival")
    if program is None:
        raise InputError("festival is not installed: on Debian, install the packages festival and festvox-kdlpc16k")
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(-(-sentences_wanted // SHARD)):
        path = folder / f"{shard:04d}.npz"
        if not path.exists():
            _speak_shard(program, path, random.Random(f"festival {seed} {shard}"))
        done(min(sentences_wanted, (shard + 1) * SHARD))


def _speak_shard(program: str, path: Path, rng: random.Random) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        texts = [sentences(rng, TRAIN) for _ in range(SHARD)]
        lines = [PROGRAM]
        for number, text in enumerate(texts):
            mean, spread = rng.uniform(80, 220), rng.uniform(5, 45)
            lines.append(f'(say "{text}" "{scratch}/{number}.wav" {mean:.0f} {spread:.0f} {rng.uniform(0.75, 1.35):.2f})')
        script = Path(scratch, "say.scm")
        script.write_text("\n".join(lines))
        told = subprocess.run([program, "-b", str(script)], check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        said = told.stdout.split("end\n")
        utterances = []
        for number, text in enumerate(texts):
            timed = [line.rsplit(" ", 2) for line in said[number].splitlines() if not line.endswith(" 0.000000")]
            if [word for word, _, _ in timed] != text.split():
                continue  # festival reads a few words its own way; what it said is then unknown
            with wave.open(f"{scratch}/{number}.wav") as sound:
                samples = np.frombuffer(sound.readframes(sound.getnframes()), np.int16)
            words = [(word, int(float(start) * SAMPLE_RATE), int(float(end) * SAMPLE_RATE)) for word, start, end in timed]
            utterances.append((samples, words))
        write_shard(path, utterances)
