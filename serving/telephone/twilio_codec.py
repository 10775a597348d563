"""Twilio's Media Streams as a state machine without I/O: text frames in, what the session is to do and frames to send out.

Marks stand behind every piece of reply audio and are its playback acknowledgements; an interruption is a `clear`, and the
marks that come back for it are not taken for heard. A pause is a `clear` too: what was not played is sent again after it.
Audio time is counted in samples of the call. Only the frames and fields that Twilio documents are sent: it warns about any
other.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...agent.events import Audio, Duck, Event, Interrupt, ReplyDone, TurnResumed, Unduck
from ...models.errors import InputError
from ...streaming.audio import int16_from_mono, mono_from_array
from ...streaming.resample import ResampleStream
from .g711 import Law, Pcm, decode, encode

LAW: Law = "mulaw"
PHONE_RATE = 8_000
MAX_FRAME_CHARACTERS = 1 << 20
PIECE_BYTES = 800
"""Audio of one media frame, 100 ms: so finely is known what was heard, and longer than what sounds choppy."""
DRAIN_MARKS = 2
"""With so few pieces left to play, what is held back follows: the caller is not to hear a gap before the end of a reply."""
SAMPLES_PER_MS = PHONE_RATE // 1000
GAP_MS = 200
"""Audio time missing in the call that is filled with silence; less is jitter."""
MAX_GAP_MS = 2_000
DIGIT_WORDS = dict(zip("0123456789*ABCD", "zero one two three four five six seven eight nine star a b c d".split(), strict=True))
END_DIGIT = "#"


@dataclass(frozen=True, slots=True)
class Began:
    """The call is here. `parameters` are the `<Parameter>`s of the TwiML."""

    stream_sid: str
    call_sid: str
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """The caller's audio, int16 [n] at 8 kHz."""

    pcm: Pcm


@dataclass(frozen=True, slots=True)
class Pressed:
    """The caller pressed these keys and then # or nothing for a while."""

    digits: str

    @property
    def words(self) -> str:
        """The keys as one would say them."""
        return " ".join(DIGIT_WORDS[digit] for digit in self.digits)


@dataclass(frozen=True, slots=True)
class Played:
    """The caller has heard the first `total_ms` of the current reply."""

    total_ms: float


@dataclass(frozen=True, slots=True)
class Send:
    """A text frame for Twilio."""

    frame: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The call is over."""


Command = Began | Heard | Pressed | Played | Send | Ended


class TwilioCodec:
    """One call. Keys are one entry when # or `digit_pause_ms` of the call follow."""

    def __init__(self, digit_pause_ms: int = 1_500) -> None:
        self._digit_pause = digit_pause_ms * SAMPLES_PER_MS
        self._stream_sid: str | None = None
        self._over = False
        self._heard_samples = 0
        self._clock_offset_ms: int | None = None  # Twilio's time minus ours
        self._digits = ""
        self._digit_at = 0
        self._reply = _ReplyAudio()

    def receive(self, frame: str | bytes) -> list[Command]:
        """What a frame asks for. InputError for one that is not understood; the call may go on after it."""
        message = _parsed(frame)
        event = _text(message, "event")
        if self._over or event == "connected":
            return []
        if event == "start":
            return [self._begin(message)]
        if event not in ("media", "dtmf", "mark", "stop"):
            return []
        if self._stream_sid is None:
            raise InputError(f"Twilio sent {event!r} before 'start': expected connected, start, media ...")
        if _text(message, "streamSid") != self._stream_sid:
            raise InputError(f"Twilio sent {event!r} of another stream: expected {self._stream_sid} on this connection")
        match event:
            case "media":
                return self._hear(_object(message, "media"))
            case "dtmf":
                return self._press(_text(_object(message, "dtmf"), "digit"))
            case "mark":
                played, due = self._reply.reached(_text(_object(message, "mark"), "name"))
                return [*([] if played is None else [Played(played)]), *self._media(due)]
            case _:
                self._over = True
                return [*self._entered(), Ended()]

    def speak(self, event: Event) -> list[Send]:
        """The frames for an event of the session; none before the call has begun or after its end."""
        if self._stream_sid is None or self._over:
            return []
        match event:
            case Audio():
                return self._media(self._reply.add(event))
            case Duck():
                return [self._frame("clear")] if self._reply.pause() else []
            case Unduck():
                return self._media(self._reply.go_on())
            case Interrupt() | TurnResumed() | ReplyDone():
                waiting, self._reply = self._reply.is_playing, _ReplyAudio(self._reply.count)
                return [self._frame("clear")] if waiting else []
        return []

    def _begin(self, message: Mapping[str, Any]) -> Began:
        if self._stream_sid is not None:
            raise InputError("Twilio sent 'start' twice: expected one stream on a connection")
        start = _object(message, "start")
        form = _object(start, "mediaFormat")
        told = (form.get("encoding"), str(form.get("sampleRate")), str(form.get("channels")))
        if told != ("audio/x-mulaw", str(PHONE_RATE), "1"):
            raise InputError(f"the call's audio is {told}: expected audio/x-mulaw, {PHONE_RATE} Hz, one channel")
        sid, parameters = _text(message, "streamSid"), start.get("customParameters") or {}
        if not isinstance(parameters, dict):
            raise InputError("customParameters of 'start' is no object: expected names and values")
        began = Began(sid, _text(start, "callSid"), {str(name): str(value) for name, value in parameters.items()})
        self._stream_sid = sid
        return began

    def _hear(self, media: Mapping[str, Any]) -> list[Command]:
        if media.get("track", "inbound") != "inbound":
            return []
        try:
            pcm = decode(base64.b64decode(_text(media, "payload"), validate=True), LAW)
        except (binascii.Error, ValueError) as error:
            raise InputError(f"the payload of 'media' is no base64 ({error})") from None
        missing = self._missing_samples(_number(media, "timestamp"))
        heard = np.concatenate([np.zeros(missing, np.int16), pcm]) if missing else pcm
        self._heard_samples += len(heard)
        due = self._digits and self._heard_samples - self._digit_at >= self._digit_pause
        return [*([Heard(heard)] if len(heard) else []), *(self._entered() if due else [])]

    def _missing_samples(self, timestamp_ms: int) -> int:
        """Silence in place of audio that got lost on the way, so that pauses keep their length."""
        ours_ms = self._heard_samples // SAMPLES_PER_MS
        gap_ms = 0 if self._clock_offset_ms is None else timestamp_ms - ours_ms - self._clock_offset_ms
        if self._clock_offset_ms is not None and -GAP_MS < gap_ms < GAP_MS:
            return 0
        filled_ms = min(max(gap_ms, 0), MAX_GAP_MS)
        self._clock_offset_ms = timestamp_ms - ours_ms - filled_ms
        return filled_ms * SAMPLES_PER_MS

    def _press(self, digit: str) -> list[Command]:
        if digit == END_DIGIT:
            return self._entered()
        if digit not in DIGIT_WORDS:
            raise InputError(f"there is no key {digit!r}: expected one of {' '.join(DIGIT_WORDS)} {END_DIGIT}")
        self._digits, self._digit_at = self._digits + digit, self._heard_samples
        return []

    def _entered(self) -> list[Command]:
        digits, self._digits = self._digits, ""
        return [Pressed(digits)] if digits else []

    def _media(self, pieces: list[tuple[bytes, str]]) -> list[Send]:
        frames = []
        for data, mark in pieces:
            frames.append(self._frame("media", {"payload": base64.b64encode(data).decode()}))
            frames.append(self._frame("mark", {"name": mark}))
        return frames

    def _frame(self, event: str, body: Mapping[str, str] | None = None) -> Send:
        content = {} if body is None else {event: body}
        return Send(json.dumps({"event": event, "streamSid": self._stream_sid, **content}))


class _ReplyAudio:
    """The audio of one reply on its way to the caller: cut into pieces, each with a mark that says how far it leads."""

    def __init__(self, count: int = 0) -> None:
        self.count = count  # marks of the whole call, so that no two have one name
        self._resampler: ResampleStream | None = None
        self._base_ms = 0.0  # where in the reply the resampler began
        self._fed = self._sent = 0  # samples since then, at the reply's rate and at the telephone's
        self._held = b""
        self._marks: dict[str, tuple[float, bytes]] = {}
        self._paused: list[tuple[float, bytes]] | None = None

    @property
    def is_playing(self) -> bool:
        """Whether Twilio holds audio of the reply, or may."""
        return bool(self._marks)

    def pause(self) -> bool:
        """Twilio is to stop: what it has not played is kept. Whether it holds anything."""
        if self._paused is not None:
            return False
        self._paused = list(self._marks.values())
        self._marks.clear()
        return bool(self._paused)

    def go_on(self) -> list[tuple[bytes, str]]:
        """The pieces that were kept, with new marks, from the one that was being played."""
        kept, self._paused = self._paused or [], None
        return [(data, self._mark(at_ms, data)) for at_ms, data in kept]

    def add(self, audio: Audio) -> list[tuple[bytes, str]]:
        """The pieces that more audio completes, with their marks."""
        due: list[tuple[bytes, str]] = []
        if self._resampler is not None and self._resampler.input_rate != audio.sample_rate:
            due = self._drain()
        if self._resampler is None:
            self._resampler = ResampleStream(audio.sample_rate, PHONE_RATE)
        self._fed += len(audio.pcm)
        self._held += encode(int16_from_mono(self._resampler.push(mono_from_array(audio.pcm))), LAW)
        while len(self._held) >= PIECE_BYTES:
            due.append(self._piece(PIECE_BYTES))
        due = due if due or self._marks or self._paused else self._drain()
        if self._paused is None:
            return due
        self._paused += [self._marks.pop(mark) for _, mark in due]
        return []

    def reached(self, mark: str) -> tuple[float | None, list[tuple[bytes, str]]]:
        """How much of the reply has been played by a mark, None for one that was cleared; and pieces that are due."""
        if mark not in self._marks:
            return None, []
        played_ms, _ = self._marks[mark]
        for name in [name for name, (at_ms, _) in self._marks.items() if at_ms <= played_ms]:
            del self._marks[name]
        return played_ms, self._drain() if len(self._marks) <= DRAIN_MARKS else []

    def _drain(self) -> list[tuple[bytes, str]]:
        """All that is held back; more audio begins a new resampler."""
        if self._resampler is None:
            return []
        self._held += encode(int16_from_mono(self._resampler.flush()), LAW)
        self._base_ms += self._fed * 1000 / self._resampler.input_rate
        self._fed = self._sent = 0
        self._resampler = None
        if not self._held and self._marks:
            last = next(reversed(self._marks))
            self._marks[last] = (self._base_ms, self._marks[last][1])
        elif not self._held:  # less than a sample: there has to be a mark for it
            self._held = encode(np.zeros(1, np.int16), LAW)
        return [self._piece(len(self._held))] if self._held else []

    def _piece(self, length: int) -> tuple[bytes, str]:
        piece, self._held = self._held[:length], self._held[length:]
        at_ms = self._base_ms
        if self._resampler is not None:
            self._sent += length
            at_ms += min(self._sent / SAMPLES_PER_MS, self._fed * 1000 / self._resampler.input_rate)
        return piece, self._mark(at_ms, piece)

    def _mark(self, at_ms: float, piece: bytes) -> str:
        self.count += 1
        mark = f"p{self.count}"
        self._marks[mark] = at_ms, piece
        return mark


def _parsed(frame: str | bytes) -> dict[str, Any]:
    if isinstance(frame, bytes):
        raise InputError("Twilio sends text frames only: this one is binary")
    if len(frame) > MAX_FRAME_CHARACTERS:
        raise InputError(f"a frame of {len(frame)} characters: expected at most {MAX_FRAME_CHARACTERS}")
    try:
        message = json.loads(frame)
    except (ValueError, RecursionError):
        raise InputError("a frame is no JSON: expected an object with 'event'") from None
    if not isinstance(message, dict):
        raise InputError("a frame is no JSON object: expected one with 'event'")
    return message


def _object(message: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = message.get(name)
    if not isinstance(value, dict):
        raise InputError(f"{name!r} is missing or no object: expected it as Twilio documents it")
    return value


def _text(message: Mapping[str, Any], name: str) -> str:
    value = message.get(name)
    if not isinstance(value, str):
        raise InputError(f"{name!r} is missing or no string: expected it as Twilio documents it")
    return value


def _number(message: Mapping[str, Any], name: str) -> int:
    """Twilio sends numbers as strings."""
    value = message.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        return int(value)
    raise InputError(f"{name!r} is {str(value)[:40]!r}: expected a number, as a string")
