"""A voice of espeak-ng, and the request for a text in it, which goes to the worker as JSON (`voice_frames` has the
frames around it)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from ..models.errors import InputError
from .voice_frames import MAX_TEXT_CHARACTERS, check_length


@dataclass(frozen=True, slots=True)
class EspeakVoice:
    """A voice of espeak-ng: `name` an accent, `variant` a speaker, `rate` in words per minute (80 to 450),
    `pitch` and `range` 0 to 100, `amplitude` 0 to 300 (100 is plain). Values beyond are clipped by the
    library."""

    name: str = "en-us"
    variant: str | None = None
    rate: int = 165
    pitch: int = 50
    range: int = 50
    amplitude: int = 100


def pack_speak(text: str, voice: EspeakVoice) -> bytes:
    """The payload of SPEAK. Raises InputError for a text that is too long."""
    check_length(text)
    return json.dumps({"text": text, "voice": asdict(voice)}).encode()


def unpack_speak(payload: bytes) -> tuple[str, EspeakVoice]:
    """Text and voice of SPEAK. Raises InputError for anything else."""
    try:
        request = json.loads(payload)
        text, voice = request["text"], EspeakVoice(**request["voice"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"espeak-ng's worker was sent no text and voice: {error}") from error
    words: tuple[object, ...] = (text, voice.name, voice.variant or "")
    numbers: tuple[object, ...] = (voice.rate, voice.pitch, voice.range, voice.amplitude)
    well_typed = all(isinstance(word, str) for word in words)
    well_numbered = all(type(number) is int for number in numbers)
    if not well_typed or not well_numbered or len(text) > MAX_TEXT_CHARACTERS:
        raise InputError(f"espeak-ng's worker expects a text of at most {MAX_TEXT_CHARACTERS} characters and a voice")
    return text, voice
