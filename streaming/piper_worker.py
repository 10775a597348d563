"""Piper in a process of its own (`python -m textpro.streaming.piper_worker VOICE.onnx`): the only module that loads
the piper package, which is GPL-3. A text is phonemized, spoken sentence by sentence, and sent in pieces. Words begin
where the gaps between phonemes are; how long each phoneme sounds comes from the voice's own durations, and is
the same for all where a voice does not tell them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any

from ..models.errors import DeviceError, InputError
from .voice_worker import OnAudio, Speak, run
from .word_times import WordEvent

_PIECE_MS = 60
_RAW_PHONEMES = "[["
_NO_SOUND = frozenset("ˈˌː ,.;:!?'\"-")
_NEAREST_PHONEMES = 2


@dataclass(frozen=True, slots=True)
class PhonemePlace:
    """A phoneme of a text by sentence and number within it."""

    sentence: int
    phoneme: int


def load(path: str) -> tuple[int, Speak]:
    """The voice's sample rate and what speaks with it. Raises DeviceError when Piper cannot load it."""
    try:
        from piper import PiperVoice as Voice
    except ImportError as error:
        raise DeviceError(f"Piper cannot be loaded ({error}); run: pip install 'textpro-agent[piper]'") from error
    try:
        voice = Voice.load(path, include_alignments=True)
    except Exception as error:  # onnxruntime, json and Piper raise their own kinds
        raise DeviceError(f"Piper cannot load {path}: {_one_line(error)}; expected a Piper voice file") from error
    return voice.config.sample_rate, lambda payload, on_audio: _speak(voice, payload, on_audio)


def _speak(voice: Any, payload: bytes, on_audio: OnAudio) -> None:
    from piper import SynthesisConfig

    text, rate, amplitude, speaker = _request(payload)
    n_speakers = voice.config.num_speakers
    if speaker is not None and not 0 <= speaker < max(1, n_speakers):
        raise InputError(f"the Piper voice has no speaker {speaker}; expected 0 to {max(1, n_speakers) - 1}")
    # A pair of brackets would be read as phonemes; the text keeps its length, so that words keep their places.
    text = text.replace(_RAW_PHONEMES, " " * len(_RAW_PHONEMES))
    config = SynthesisConfig(
        speaker_id=speaker,
        length_scale=voice.config.length_scale / rate,
        volume=amplitude,
    )
    piece = voice.config.sample_rate * _PIECE_MS // 1000
    done_samples = 0
    try:
        starts = dict(_starts(voice, text))
        for sentence, chunk in enumerate(voice.synthesize(text, config, include_alignments=True)):
            pcm = chunk.audio_int16_array.reshape(-1)
            events = tuple(
                WordEvent(text_start, done_samples + _phoneme_start(chunk, place.phoneme, len(pcm)))
                for text_start, place in starts.items()
                if place.sentence == sentence
            )
            for start in range(0, max(1, len(pcm)), piece):
                if not on_audio(pcm[start : start + piece], events if start == 0 else ()):
                    return
            done_samples += len(pcm)
    except (InputError, DeviceError, OSError):
        raise
    except Exception as error:  # onnxruntime and Piper raise their own kinds
        raise DeviceError(f"Piper failed in a text of {len(text)} characters: {_one_line(error)}") from error


def _request(payload: bytes) -> tuple[str, float, float, int | None]:
    """Text, rate, amplitude and speaker. Raises InputError for anything else."""
    try:
        request = json.loads(payload)
        text, speaker = request["text"], request["speaker"]
        rate, amplitude = float(request["rate"]), float(request["amplitude"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"Piper's worker was sent no text and voice: {error!r}") from error
    if not isinstance(text, str) or not 0.1 <= rate <= 10 or not 0 <= amplitude <= 10:
        raise InputError(f"Piper speaks a text at a rate of 0.1 to 10 and an amplitude of 0 to 10, not {rate} and {amplitude}")
    return text, rate, amplitude, speaker


def _starts(voice: Any, text: str) -> Iterator[tuple[int, PhonemePlace]]:
    if str(getattr(voice.config.phoneme_type, "value", "")) != "espeak":
        return
    words, position = [], 0
    for word in text.split():
        position = text.index(word, position)
        words.append((position, sum(map(_sounds, chain.from_iterable(voice.phonemize(word))))))
        position += len(word)
    # Piper numbers only the sentences that have phonemes.
    yield from word_starts(words, [sentence for sentence in voice.phonemize(text) if sentence])


def word_starts(words: Sequence[tuple[int, int]], sentences: Sequence[Sequence[str]]) -> Iterator[tuple[int, PhonemePlace]]:
    """Where words begin among phonemes. `words` are (place in the text, phonemes when said alone); `sentences` the
    phonemes of the text, a space between words. A word that runs into the one before it has no start of its own."""
    gaps: list[tuple[int, PhonemePlace]] = []  # sounding phonemes before each phonetic word, and where it begins
    n_before = 0
    for sentence, phonemes in enumerate(sentences):
        is_gap = True
        for index, phoneme in enumerate(phonemes):
            if is_gap and _sounds(phoneme):
                gaps.append((n_before, PhonemePlace(sentence, index)))
                is_gap = False
            is_gap = is_gap or phoneme == " "
            n_before += _sounds(phoneme)
    sounding = [(place, count) for place, count in words if count]
    if len(sounding) == len(gaps):
        yield from ((place, gap) for (place, _), (_, gap) in zip(sounding, gaps, strict=True))
        return
    total = sum(count for _, count in sounding)
    counts_before = accumulate((count for _, count in sounding), initial=0)
    expected = [before * n_before / total for before, _ in zip(counts_before, sounding, strict=False)]
    next_word = 0
    for before, gap in gaps:
        near = [(abs(expected[word] - before), word) for word in range(next_word, len(sounding))]
        distance, word = min(near, default=(_NEAREST_PHONEMES + 1, 0))
        if distance <= _NEAREST_PHONEMES:
            yield sounding[word][0], gap
            next_word = word + 1


def _sounds(phoneme: str) -> bool:
    return phoneme not in _NO_SOUND


def _phoneme_start(chunk: Any, phoneme: int, n_samples: int) -> int:
    """The first sample of a phoneme; before the first one there is a mark for the beginning, behind the last one for
    the end."""
    if chunk.phoneme_alignments:
        return min(n_samples, int(sum(part.num_samples for part in chunk.phoneme_alignments[: phoneme + 1])))
    return n_samples * (phoneme + 1) // (len(chunk.phonemes) + 2)


def _one_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


if __name__ == "__main__":
    run(lambda: load(sys.argv[1]))
