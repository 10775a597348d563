"""What passes between a synthesizer and its worker process: frames of a kind, the generation of the text they
belong to, and a payload of bounded size. Both sides check every frame and give up on the other at the first bad
one. Numbers are little-endian; a request's payload is the engine's own, audio is a list of word events and then
int16 samples."""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..models.errors import DeviceError, InputError
from .word_times import WordEvent

HEADER = struct.Struct("<BII")
MAX_PAYLOAD_BYTES = 64 * 1024
MAX_TEXT_CHARACTERS = 2_000
_EVENT_COUNT = struct.Struct("<I")


class Kind(enum.IntEnum):
    """What a frame says; the first two go to the worker, the others come from it."""

    SPEAK = 1
    CANCEL = 2
    READY = 3
    AUDIO = 4
    END = 5
    FAILED = 6
    REFUSED = 7


@dataclass(frozen=True, slots=True)
class Frame:
    """One message. `generation` numbers the texts of a worker's life from 1; in READY it is the sample
    rate."""

    kind: Kind
    generation: int
    payload: bytes = b""

    def packed(self) -> bytes:
        """The frame's bytes; InputError when its payload is too large."""
        if len(self.payload) > MAX_PAYLOAD_BYTES:
            raise InputError(f"a message of {len(self.payload)} bytes for a voice's worker; expected at most {MAX_PAYLOAD_BYTES}")
        return HEADER.pack(self.kind, self.generation, len(self.payload)) + self.payload


def unpack_header(header: bytes) -> tuple[Kind, int, int]:
    """Kind, generation and payload length in bytes. Raises DeviceError for what is not a header."""
    kind, generation, length = HEADER.unpack(header)
    if kind not in list(Kind) or length > MAX_PAYLOAD_BYTES:
        raise DeviceError(
            f"a broken message between the synthesizer and its worker (kind {kind}, {length} bytes); "
            f"expected kinds 1 to 7 and at most {MAX_PAYLOAD_BYTES} bytes; the worker is started again"
        )
    return Kind(kind), generation, length


def read_frame(stream: BinaryIO) -> Frame | None:
    """The next frame of a blocking stream; None at its end. Raises DeviceError for a broken or cut frame."""
    header = stream.read(HEADER.size)
    if not header:
        return None
    if len(header) < HEADER.size:
        raise DeviceError("the other side of the voice's worker closed within a message; it is started again")
    kind, generation, length = unpack_header(header)
    payload = stream.read(length)
    if len(payload) < length:
        raise DeviceError("the other side of the voice's worker closed within a message; it is started again")
    return Frame(kind, generation, payload)


def check_length(text: str) -> None:
    """Raises InputError for a text that is too long to speak at once."""
    if len(text) > MAX_TEXT_CHARACTERS:
        raise InputError(
            f"a text of {len(text)} characters is too long to speak at once; "
            f"expected at most {MAX_TEXT_CHARACTERS}; split it into clauses"
        )


def pack_audio(pcm: NDArray[np.int16], events: Sequence[WordEvent]) -> bytes:
    """The payload of AUDIO: `pcm` int16 [n] and the word events known with it."""
    flat = [value for event in events for value in event]
    return struct.pack(f"<I{len(flat)}I", len(events), *flat) + pcm.astype("<i2").tobytes()


def unpack_audio(payload: bytes) -> tuple[NDArray[np.int16], tuple[WordEvent, ...]]:
    """Audio int16 [n] and word events. Raises DeviceError for a broken payload."""
    count = _EVENT_COUNT.unpack_from(payload)[0] if len(payload) >= _EVENT_COUNT.size else -1
    audio_start = _EVENT_COUNT.size + 8 * count
    if count < 0 or audio_start > len(payload) or (len(payload) - audio_start) % 2:
        raise DeviceError(f"broken audio from the voice's worker ({len(payload)} bytes); say the text again")
    flat = struct.unpack_from(f"<{2 * count}I", payload, _EVENT_COUNT.size)
    events = tuple(WordEvent(*pair) for pair in zip(flat[::2], flat[1::2], strict=True))
    return np.frombuffer(payload, "<i2", offset=audio_start).astype(np.int16), events
