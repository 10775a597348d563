"""What the callers of a load test say: sentences by voices of espeak-ng, made before the test begins, or sound files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from ..models.errors import AudioError
from ..streaming.espeak_frames import EspeakVoice
from ..streaming.voices import VoiceSource
from .load_caller import RATE, Utterance

SENTENCES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("what is two plus two", ("four", "4")),
    ("what is twenty three plus forty eight", ("seventy one", "seventy-one", "71")),
    ("what is nine minus five", ("four", "4")),
    ("turn on the light in the kitchen", ()),
    ("what is fifteen plus six", ("twenty one", "twenty-one", "21")),
    ("hello, how are you today", ()),
    ("please turn the light in the bedroom off", ()),
    ("what is eight plus seven", ("fifteen", "15")),
)
"""Each with words of which a right reply holds one; none where many replies are right."""
VOICES: tuple[EspeakVoice, ...] = (
    EspeakVoice("en-us"),
    EspeakVoice("en-gb", "f2", rate=150),
    EspeakVoice("en-us", "m3", rate=175, pitch=40),
    EspeakVoice("en-us", "f4", rate=160, pitch=60),
)
MAX_FILE_S = 60
_QUIET = 0.01
"""Of the loudest sample: what is softer at the ends is silence."""


async def spoken_utterances(
    sentences: Sequence[tuple[str, tuple[str, ...]]] = SENTENCES, voices: Sequence[EspeakVoice] = VOICES
) -> list[Utterance]:
    """Each sentence by each voice. DeviceError or InputError where espeak-ng is missing."""
    source = VoiceSource(voices[0])
    await source.start()
    try:
        said = []
        for voice in voices:
            synthesizer = source.synthesizer(voice)
            for text, expects in sentences:
                pcm = np.concatenate([chunk.pcm async for chunk in synthesizer.synthesize(text)])
                samples = pcm.astype(np.float32) / np.float32(32768)
                said.append(Utterance(text, _as_sent(samples, synthesizer.sample_rate), expects))
        return said
    finally:
        await source.close()


def recorded_utterance(path: Path, expects: tuple[str, ...] = ()) -> Utterance:
    """A sound file. AudioError for one that cannot be read, is longer than a minute, or is silent."""
    try:
        with soundfile.SoundFile(path) as file:
            rate = int(file.samplerate)
            samples = file.read(frames=MAX_FILE_S * rate + 1, dtype="float32", always_2d=True).mean(1)
    except (OSError, RuntimeError) as error:
        raise AudioError(f"{path}: no sound that can be read ({error}): give a WAV or FLAC file") from None
    if len(samples) > MAX_FILE_S * rate:
        raise AudioError(f"{path}: longer than {MAX_FILE_S} s: a caller says one turn at a time, so cut it")
    if not np.abs(samples).max(initial=0.0) > 0:
        raise AudioError(f"{path}: nothing but silence: give a recording of speech")
    return Utterance(path.name, _as_sent(samples, rate), expects)


def _as_sent(samples: NDArray[np.float32], rate: int) -> NDArray[np.int16]:
    """float32 [n] at `rate` Hz -> int16 [m] at 24 kHz, without the silence around it."""
    resampled = np.asarray(soxr.resample(samples, rate, RATE), np.float32)
    loud = np.flatnonzero(np.abs(resampled) > _QUIET * np.abs(resampled).max())
    kept = resampled[loud[0] : loud[-1] + 1]
    return np.clip(np.round(kept * 32767), -32768, 32767).astype("<i2")
