"""The binding to the espeak-ng library, for processes of their own: the synthesizer's worker (`python -m
textpro.streaming.espeak_worker`) and the workers that synthesize training speech. espeak-ng is GPL-3 and
keeps global state, so no process that serves people loads it, and no process may call it from two threads.
Every call sets the whole voice again, so an utterance's words, voice and length (within some 10 ms) depend on
its own input only; its waveform does not: the library's slow pitch flutter and its noise go on from the
utterance before. Without breath in the voice, the same utterances in the same order in a new process give the
same samples. Word times come from the library's word events."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..models.errors import DeviceError, InputError
from .espeak_frames import EspeakVoice, unpack_speak
from .espeak_library import (
    AMPLITUDE,
    END_PAUSE,
    EVENT_END_OF_LIST,
    EVENT_WORD,
    PITCH,
    POSITION_IS_CHARACTER,
    RANGE,
    RATE,
    UNUSABLE_VARIANTS,
    UTF8_TEXT,
    Callback,
    Event,
    english_accents,
    english_voices,
    load_library,
    variants,
)
from .synthesis import WordTime
from .voice_worker import OnAudio, Speak, run
from .word_times import WordEvent, WordTimer

__all__ = ["UNUSABLE_VARIANTS", "Espeak", "EspeakVoice", "Utterance", "english_accents", "variants"]


@dataclass(frozen=True, slots=True, eq=False)
class Utterance:
    """Speech as one piece: `pcm` int16 [n] at 22,050 Hz and one time for each whitespace word."""

    pcm: NDArray[np.int16]
    words: tuple[WordTime, ...]


class Espeak:
    """Synchronous synthesis in this process; from one thread only."""

    def __init__(self) -> None:
        self._library, self.sample_rate = load_library()

    def synthesize(self, text: str, voice: EspeakVoice) -> Utterance:
        """All the speech of `text`: pcm int16 [n] and a time for each whitespace word. Raises InputError for
        a voice that does not exist, DeviceError when espeak-ng fails."""
        pieces: list[NDArray[np.int16]] = []
        words: list[WordTime] = []
        timer = WordTimer(text, self.sample_rate)

        def collect(pcm: NDArray[np.int16], events: tuple[WordEvent, ...]) -> bool:
            pieces.append(pcm)
            words.extend(timer.push(pcm, events))
            return True

        self.stream(text, voice, collect)
        words.extend(timer.finish())
        return Utterance(np.concatenate(pieces) if pieces else np.zeros(0, np.int16), tuple(words))

    def stream(self, text: str, voice: EspeakVoice, on_audio: OnAudio) -> None:
        """Speak `text` into `on_audio`, piece by piece of at most 60 ms, until its end or until it returns
        False. Raises what `on_audio` raises, InputError for a voice that does not exist, DeviceError when
        espeak-ng fails."""
        self._set_voice(voice)
        failure: list[BaseException] = []

        def callback(samples: ctypes._Pointer[ctypes.c_short], count: int, events: ctypes._Pointer[Event]) -> int:
            try:
                pcm = np.zeros(0, np.int16)
                if samples and count > 0:
                    pcm = np.ctypeslib.as_array(samples, (count,)).astype(np.int16)
                return 0 if on_audio(pcm, _word_events(events)) else 1
            except BaseException as error:  # ctypes would print and drop it; it is raised below
                failure.append(error)
                return 1

        guarded = Callback(callback)
        self._library.espeak_SetSynthCallback(guarded)
        data = _speakable(text).encode("utf-8", "replace")
        code = self._library.espeak_Synth(data, len(data) + 1, 0, POSITION_IS_CHARACTER, 0, UTF8_TEXT | END_PAUSE, None, None)
        if failure:
            raise failure[0]
        if code != 0:
            raise DeviceError(f"espeak-ng stopped with code {code} in a text of {len(text)} characters")

    def _set_voice(self, voice: EspeakVoice) -> None:
        if voice.name not in english_voices():
            raise InputError(f"no voice '{voice.name}'; expected one of {', '.join(english_accents())}")
        if voice.variant is not None and voice.variant not in variants():
            raise InputError(f"no voice variant '{voice.variant}'; expected one of {', '.join(variants())}")
        identifier = english_voices()[voice.name]
        full_name = identifier if voice.variant is None else f"{identifier}+{voice.variant}"
        code = self._library.espeak_SetVoiceByName(full_name.encode())
        if code != 0:
            raise DeviceError(f"espeak-ng cannot load the voice '{full_name}' (code {code}); choose another")
        for parameter, value in (
            (RATE, voice.rate), (AMPLITUDE, voice.amplitude), (PITCH, voice.pitch), (RANGE, voice.range)
        ):  # fmt: skip
            self._library.espeak_SetParameter(parameter, int(value), 0)


def _word_events(events: ctypes._Pointer[Event]) -> tuple[WordEvent, ...]:
    found = []
    index = 0
    while events and events[index].type != EVENT_END_OF_LIST:
        event = events[index]
        if event.type == EVENT_WORD:
            found.append(WordEvent(max(0, event.text_position - 1), max(0, event.sample)))
        index += 1
    return tuple(found)


def _speakable(text: str) -> str:
    """The same text, character for character, without the control characters that espeak-ng would obey."""
    return "".join(" " if ord(character) < 32 or ord(character) == 127 else character for character in text)


def load() -> tuple[int, Speak]:
    """The library's sample rate and what speaks with it. Raises DeviceError without espeak-ng."""
    espeak = Espeak()
    return espeak.sample_rate, lambda payload, on_audio: espeak.stream(*unpack_speak(payload), on_audio)


if __name__ == "__main__":
    run(load)
