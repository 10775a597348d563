"""Speech synthesis by espeak-ng in a worker process: the `Synthesizer` of the bundled agent. One `EspeakProcess`
serves all sessions; each session has an `EspeakSynthesizer` on it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace

from .espeak_frames import EspeakVoice, pack_speak
from .synthesis import AS_SET, Manner, SpeechChunk
from .voice_process import VoiceProcess, Worker, WorkerVoice

SAMPLE_RATE = 22_050
_WORKER = Worker("espeak-ng", "textpro.streaming.espeak_worker", "espeakng_loader", "espeak", SAMPLE_RATE)


class EspeakProcess(VoiceProcess):
    """The worker process, started at the first text. Belongs to one event loop; `close` it there."""

    def __init__(self) -> None:
        super().__init__(_WORKER)


class EspeakSynthesizer(WorkerVoice):
    """One session's voice on a shared `EspeakProcess`. `voice` speaks where no other is asked for."""

    def __init__(self, process: EspeakProcess, voice: EspeakVoice | None = None) -> None:
        super().__init__(process)
        self.voice = voice or EspeakVoice()

    def synthesize(
        self, text: str, voice: EspeakVoice | None = None, *, manner: Manner = AS_SET
    ) -> AsyncGenerator[SpeechChunk, None]:
        """Speak `text`: chunks of pcm int16 [n], at most 60 ms each. Raises InputError for an unknown voice
        or a text of more than 2,000 characters, CapacityError when too many texts wait, DeviceError when no
        audio can be made."""
        return self.speak(text, pack_speak(text, in_manner(voice or self.voice, manner)))


def in_manner(voice: EspeakVoice, manner: Manner) -> EspeakVoice:
    """The voice as `manner` changes it, within what espeak-ng takes."""
    return replace(
        voice,
        rate=_within(round(voice.rate * manner.rate), 80, 450),
        pitch=_within(voice.pitch + manner.pitch, 0, 100),
        range=_within(voice.range + manner.range, 0, 100),
        amplitude=_within(round(voice.amplitude * manner.amplitude), 0, 300),
    )


def _within(value: int, least: int, most: int) -> int:
    return max(least, min(value, most))
