"""The C interface of the espeak-ng library: its structures, how it is found and started, and which voices it
has. Only processes that exist to speak load it (see `espeak_worker`); importing this module does not."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

from ..models.errors import DeviceError

RATE, AMPLITUDE, PITCH, RANGE = 1, 2, 3, 4
EVENT_END_OF_LIST, EVENT_WORD = 0, 1
POSITION_IS_CHARACTER = 1
UTF8_TEXT = 1
END_PAUSE = 0x1000
_SYNCHRONOUS_RETRIEVAL = 2
_DONT_EXIT = 0x8000
_BUFFER_MS = 60

UNUSABLE_VARIANTS = {
    "zac": "all formants raised by 45 %: no human vocal tract; its words sound like other words",
    "kaukovalta": "the first formant at 40 %: vowels cannot be told apart",
    "UniRobot": "an echo at full strength blurs every word into the next one",
} | dict.fromkeys(
    ("Demonic", "RicishayMax2", "RicishayMax3", "anika", "anikaRobot", *(f"robosoft{number}" for number in (2, 3, 4, 5, 7))),
    "an intonation that espeak-ng has no table for (it has 0 to 7): once in many thousand sentences it crashes",
)
"""Variants that load and speak but cannot be understood well, or not for long. None is silent."""


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class Event(ctypes.Structure):
    """espeak_EVENT; `text_position` counts characters from 1, `sample` counts from the start of the text."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position_ms", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


class Voice(ctypes.Structure):
    """espeak_VOICE."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("unused", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    ]


Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event))


def _data_path() -> Path:
    try:
        import espeakng_loader
    except ImportError as error:
        raise DeviceError(
            "speech synthesis needs espeak-ng, which is missing; run: pip install 'textpro-agent[espeak]'"
        ) from error
    return Path(espeakng_loader.get_data_path())


@functools.cache
def load_library() -> tuple[ctypes.CDLL, int]:
    """The started library and its sample rate. Raises DeviceError with what to install."""
    data_path = _data_path()
    import espeakng_loader

    try:
        library = ctypes.CDLL(espeakng_loader.get_library_path())
    except OSError as error:
        raise DeviceError(
            f"the espeak-ng library cannot be loaded ({error}); "
            "run: pip install --force-reinstall espeakng-loader"
        ) from error
    library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(Voice))
    library.espeak_ListVoices.argtypes = [ctypes.c_void_p]
    library.espeak_SetSynthCallback.argtypes = [Callback]
    library.espeak_SetSynthCallback.restype = None
    library.espeak_Synth.argtypes = [
        ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint,
        ctypes.c_void_p, ctypes.c_void_p,
    ]  # fmt: skip
    sample_rate = library.espeak_Initialize(
        _SYNCHRONOUS_RETRIEVAL, _BUFFER_MS, str(data_path).encode(), _DONT_EXIT
    )
    if sample_rate <= 0:
        raise DeviceError(
            f"espeak-ng did not start (code {sample_rate}) with the data in {data_path}; "
            "run: pip install --force-reinstall espeakng-loader"
        )
    return library, sample_rate


@functools.cache
def english_voices() -> dict[str, str]:
    """The identifier by which the library finds each English accent, by the accent's name."""
    library, _ = load_library()
    voices = library.espeak_ListVoices(None)
    identifiers: dict[str, str] = {}
    index = 0
    while voices[index]:
        # The language list is a priority byte and a name, repeated; the first name is the voice's own.
        language = voices[index].contents.languages[1:].decode()
        if language == "en" or language.startswith("en-"):
            identifiers[language] = voices[index].contents.identifier.decode()
        index += 1
    return identifiers


def english_accents() -> tuple[str, ...]:
    """The names of all English accents of the library, sorted, such as 'en-us'. Raises DeviceError without
    espeak-ng."""
    return tuple(sorted(english_voices()))


@functools.cache
def variants() -> tuple[str, ...]:
    """The names of all speakers that can be added to an accent, sorted. Raises DeviceError without
    espeak-ng."""
    folder = _data_path() / "voices" / "!v"
    return tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_file()))
