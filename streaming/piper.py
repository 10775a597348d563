"""Speech synthesis by Piper, a neural voice in one file, in a worker process of its own: Piper is GPL-3, and a sentence
is computed in one piece. A `PiperProcess` holds one voice file for all sessions; each session has a
`PiperSynthesizer` on it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

from ..models.errors import InputError
from .synthesis import AS_SET, Manner, SpeechChunk
from .voice_frames import check_length
from .voice_process import VoiceProcess, Worker, WorkerVoice

_START_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class PiperVoice:
    """A voice file, `model` (.onnx, with its .onnx.json beside it), and how it speaks: `rate` and `amplitude` are
    factors, `speaker` one of the numbers in a file with several; None is the file's own choice."""

    model: Path
    rate: float = 1.0
    amplitude: float = 1.0
    speaker: int | None = None


class PiperProcess(VoiceProcess):
    """The worker for the voice file `model` (.onnx, with its .onnx.json beside it). Raises InputError for files that
    are missing or no voice."""

    def __init__(self, model: Path) -> None:
        self.model = model
        sample_rate, self.language = described(model)
        super().__init__(
            Worker("Piper", "textpro.streaming.piper_worker", "piper", "piper", sample_rate, (str(model),), _START_TIMEOUT_S)
        )


def described(model: Path) -> tuple[int, str]:
    """Samples per second and language (an espeak-ng tag) of a voice file, from the .onnx.json beside it. Raises
    InputError without the two files."""
    config = model.with_name(f"{model.name}.json")
    for path in (model, config):
        if not path.is_file():
            raise InputError(f"no Piper voice at {path}: expected the voice's .onnx file and its .onnx.json in the same folder")
    try:
        description = json.loads(config.read_text(encoding="utf-8"))
        sample_rate, language = description["audio"]["sample_rate"], description["espeak"]["voice"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{config} describes no Piper voice ({error!r}); expected audio.sample_rate and espeak.voice in it"
        ) from error
    if type(sample_rate) is not int or not 8_000 <= sample_rate <= 48_000:
        raise InputError(f"{config}: audio.sample_rate is {sample_rate!r}; expected 8000 to 48000")
    return sample_rate, str(language)


class PiperSynthesizer(WorkerVoice):
    """One session's voice on a shared `PiperProcess`. Of a manner it takes rate and amplitude."""

    def __init__(self, process: PiperProcess, voice: PiperVoice) -> None:
        super().__init__(process)
        self.voice = voice

    def synthesize(self, text: str, *, manner: Manner = AS_SET) -> AsyncGenerator[SpeechChunk, None]:
        """Speak `text`: chunks of pcm int16 [n], at most 60 ms each. Raises InputError for a text of more than 2,000
        characters or a speaker that does not exist, CapacityError and DeviceError as `speak`."""
        check_length(text)
        request = {
            "text": text,
            "rate": self.voice.rate * manner.rate,
            "amplitude": self.voice.amplitude * manner.amplitude,
            "speaker": self.voice.speaker,
        }
        return self.speak(text, json.dumps(request).encode())
