"""From a voice that someone chose to what speaks with it: the worker process or the connections behind it, shared by
all sessions, and one synthesizer for each session, in front of which numbers and units are put into words."""

from __future__ import annotations

from ..models.errors import InputError
from .espeak import EspeakProcess, EspeakSynthesizer
from .espeak_frames import EspeakVoice
from .http_voice import HttpEndpoint, HttpSynthesizer, HttpVoice
from .piper import PiperProcess, PiperSynthesizer, PiperVoice
from .spoken_text import SpokenTextVoice
from .synthesis import Synthesizer

Voice = EspeakVoice | PiperVoice | HttpVoice


class VoiceSource:
    """What speaks for a runtime. Belongs to one event loop; `close` it there. Raises InputError for a voice file or an
    endpoint that cannot be used."""

    def __init__(self, voice: Voice) -> None:
        self.voice = voice
        self._behind: EspeakProcess | PiperProcess | HttpEndpoint
        match voice:
            case EspeakVoice():
                self._behind = EspeakProcess()
            case PiperVoice():
                self._behind = PiperProcess(voice.model)
            case HttpVoice():
                self._behind = HttpEndpoint(voice)

    async def start(self) -> None:
        """Wait until it can speak. Raises DeviceError where it cannot, InputError for a voice that espeak-ng does not have."""
        await self._behind.start()
        if isinstance(self._behind, EspeakProcess):
            async for _ in self.synthesizer().synthesize("a"):
                pass

    async def close(self) -> None:
        """End the process or the connections."""
        await self._behind.close()

    def synthesizer(self, voice: Voice | None = None) -> Synthesizer:
        """One session's voice; `voice` is another one of the same process. Raises InputError for any other."""
        wanted = voice or self.voice
        match self._behind, wanted:
            case EspeakProcess() as process, EspeakVoice():
                return _with_words(EspeakSynthesizer(process, wanted), wanted.name)
            case PiperProcess() as process, PiperVoice() if wanted.model == process.model:
                return _with_words(PiperSynthesizer(process, wanted), process.language)
            case HttpEndpoint() as endpoint, HttpVoice() if wanted == endpoint.voice:
                return _with_words(HttpSynthesizer(endpoint), wanted.language)
        raise InputError(
            f"a session cannot speak with {type(wanted).__name__} here: expected a voice of the {type(self.voice).__name__} "
            "that the runtime was opened with; open another runtime for it"
        )


def _with_words(synthesizer: Synthesizer, language: str | None) -> Synthesizer:
    return synthesizer if language is None else SpokenTextVoice(synthesizer, language)
