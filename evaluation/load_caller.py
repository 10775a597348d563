"""One caller of a load test as a state machine without I/O: gives the microphone's next piece when it is due, takes the
server's events as they come, and notes what each turn was like at the caller's ear. Speaks only events that the OpenAI Realtime
API documents, so that any server of that kind can be called; `now_ms` comes with each call.
"""

from __future__ import annotations

import base64
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum, StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .load_ear import Ear, Gap

Json = dict[str, Any]
Pcm = NDArray[np.int16]
RATE = 24_000
"""Of `audio/pcm`, Hz."""
ROOM_LEVEL = 10
"""Of the noise between the words, RMS of int16: a microphone is never silent."""
INTERRUPT_AFTER_MS = (300, 1_500)
"""How much of a reply is heard before the caller cuts in."""


@dataclass(frozen=True, slots=True, eq=False)
class Utterance:
    """Something to say: int16 [n] at 24 kHz without silence around it. A reply is right that holds one of `expects`."""

    text: str
    pcm: Pcm
    expects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerSettings:
    """`turns` None: until the end of the test. `interruptions` is the share of replies that the caller cuts into."""

    turns: int | None = 3
    piece_ms: int = 40
    think_ms: tuple[int, int] = (500, 2_000)
    interruptions: float = 0.0
    reply_limit_ms: int = 20_000


class Result(StrEnum):
    """What became of a turn."""

    ANSWERED = "answered"
    NO_REPLY = "no_reply"
    FAILED = "failed"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Turn:
    """`latency_ms`: from the caller's last sample to the first reply audio that could be played. `barged_in`: begun over the
    reply before, which fell silent `stopped_after_ms` later (None: it went on). `right` None where nothing was expected."""

    caller: int
    text: str
    began_ms: float
    result: Result
    reason: str | None
    latency_ms: float | None
    audio_ms: float
    gaps: tuple[Gap, ...]
    barged_in: bool
    stopped_after_ms: float | None
    was_cut: bool
    reply: str
    right: bool | None

    def to_dict(self) -> Json:
        """JSON values."""
        return {name: round(value, 1) if isinstance(value, float) else value for name, value in asdict(self).items()}


class _Phase(Enum):
    THINKING = "thinking"
    SPEAKING = "speaking"
    WAITING = "waiting"
    LISTENING = "listening"
    DONE = "done"


@dataclass(slots=True)
class _Open:
    """The turn that goes on. `early` are responses whose audio came while the caller still spoke."""

    utterance: Utterance
    began_ms: float
    barged_in: bool
    at: int = 0
    speech_end_ms: float = 0.0
    latency_ms: float | None = None
    stopped_after_ms: float | None = None
    reply_id: str | None = None
    reply_done: bool = False
    was_cut: bool = False
    early: set[str] = field(default_factory=set)
    said: dict[str, str] = field(default_factory=dict)
    cut_in_at_ms: float | None = None


class Caller:
    """`script` is what it says, in order; it need not end. `turns` are those that are over."""

    def __init__(self, number: int, script: Iterator[Utterance], settings: CallerSettings, chance: random.Random) -> None:
        self.number, self._script, self._settings, self._chance = number, script, settings, chance
        self._ear = Ear()
        self._phase = _Phase.THINKING
        self._ready_to_speak_ms: float | None = None
        self._turn: _Open | None = None
        self._begun = 0
        self._known: set[str] = set()  # responses that the server has begun
        self._old: set[str] = set()  # of them, those before this turn
        self._muted: set[str] = set()  # of them, those whose audio is not played any more
        self._size = RATE * settings.piece_ms // 1000
        self._room = _room(self._size)
        self.turns: list[Turn] = []
        self.errors: Counter[str] = Counter()
        self.false_starts = 0
        """Times that the server heard speech where there was none, over a reply."""
        self.sent_ms = 0.0

    @property
    def is_ready(self) -> bool:
        """Whether the server has taken the session's settings."""
        return self._ready_to_speak_ms is not None

    @property
    def is_done(self) -> bool:
        """Whether it has said all that it wants to say."""
        return self._phase is _Phase.DONE

    @property
    def is_in_turn(self) -> bool:
        """Whether it speaks or waits for, or hears, a reply."""
        return self._turn is not None

    def open(self) -> Json:
        """The first message: what the session is to be like."""
        audio_format = {"type": "audio/pcm", "rate": RATE}
        sound = {"input": {"format": audio_format, "turn_detection": {"type": "server_vad"}}, "output": {"format": audio_format}}
        return {"type": "session.update", "session": {"type": "realtime", "output_modalities": ["audio"], "audio": sound}}

    def piece(self, now_ms: float) -> Json:
        """What the microphone has taken since the last piece, as a message. Call it once in `piece_ms`."""
        self._advance(now_ms)
        turn, sound = self._turn, self._room
        if turn is not None and self._phase is _Phase.SPEAKING:
            spoken = turn.utterance.pcm[turn.at : turn.at + self._size]
            turn.at += len(spoken)
            sound = self._room.copy()
            sound[: len(spoken)] = spoken
            if turn.at >= len(turn.utterance.pcm):
                turn.speech_end_ms = now_ms - (self._size - len(spoken)) * 1000 / RATE
                self._phase = _Phase.WAITING
        self.sent_ms += self._settings.piece_ms
        return {"type": "input_audio_buffer.append", "audio": base64.b64encode(sound.tobytes()).decode()}

    def receive(self, event: Json, now_ms: float) -> list[Json]:
        """An event of the server; what the caller's program answers."""
        match event.get("type"):
            case "session.updated" if self._ready_to_speak_ms is None:
                self._ready_to_speak_ms = now_ms + self._thinking_ms()
            case "input_audio_buffer.speech_started":
                return self._stop_playing(now_ms)
            case "response.created":
                self._known.add(_id(event))
            case "response.output_audio.delta":
                self._hear(event, now_ms)
            case "response.output_audio_transcript.delta" if self._turn is not None:
                said, of = self._turn.said, str(event.get("response_id"))
                said[of] = said.get(of, "") + str(event.get("delta", ""))
            case "response.done":
                self._response_done(event, now_ms)
            case "error":
                self.errors[_error_code(event)] += 1
        return []

    def lost(self, reason: str) -> None:
        """The connection ended. A turn that goes on is lost."""
        if self._turn is not None:
            self._end_turn(Result.LOST, reason)
        self._phase = _Phase.DONE

    def _advance(self, now_ms: float) -> None:
        """What has become due with time."""
        turn = self._turn
        if turn is None:
            if self._phase is _Phase.THINKING and self._ready_to_speak_ms is not None and now_ms >= self._ready_to_speak_ms:
                self._speak(now_ms, barges_in=False)
        elif self._phase is _Phase.WAITING and now_ms - turn.speech_end_ms > self._settings.reply_limit_ms:
            self._finish(Result.NO_REPLY, f"no reply within {self._settings.reply_limit_ms / 1000:g} s", now_ms)
        elif self._phase is _Phase.LISTENING:
            if turn.reply_done and now_ms >= self._ear.ends_ms:
                self._finish(Result.ANSWERED, None, now_ms)
            elif now_ms - self._ear.ends_ms > self._settings.reply_limit_ms:
                self._finish(Result.FAILED, "the reply stopped without response.done", now_ms)
            elif turn.cut_in_at_ms is not None and self._ear.heard_ms(now_ms) >= turn.cut_in_at_ms and self._has_more:
                turn.was_cut = True
                self._end_turn(Result.ANSWERED, None)
                self._speak(now_ms, barges_in=True)

    @property
    def _has_more(self) -> bool:
        return self._settings.turns is None or self._begun < self._settings.turns

    def _speak(self, now_ms: float, *, barges_in: bool) -> None:
        utterance = next(self._script, None) if self._has_more else None
        if utterance is None:
            self._phase = _Phase.DONE
            return
        self._begun += 1
        self._old = set(self._known)
        self._turn = turn = _Open(utterance, now_ms - self._settings.piece_ms, barges_in)
        if self._chance.random() < self._settings.interruptions:
            turn.cut_in_at_ms = self._chance.uniform(*INTERRUPT_AFTER_MS)
        self._phase = _Phase.SPEAKING

    def _hear(self, event: Json, now_ms: float) -> None:
        response_id, turn = str(event.get("response_id")), self._turn
        data = str(event.get("delta", ""))
        length_ms = (len(data) * 3 // 4 - data[-2:].count("=")) // 2 * 1000 / RATE
        if response_id in self._muted or length_ms <= 0:
            return
        if turn is not None and response_id not in self._old and response_id != turn.reply_id:
            if self._phase is _Phase.SPEAKING:
                turn.early.add(response_id)
            elif self._phase is _Phase.WAITING and response_id not in turn.early:
                turn.latency_ms, turn.reply_id = max(now_ms - turn.speech_end_ms, 0.0), response_id
                self._phase = _Phase.LISTENING
                self._ear.begin()
        index = event.get("content_index")
        self._ear.hear(str(event.get("item_id")), index if isinstance(index, int) else 0, length_ms, now_ms)

    def _stop_playing(self, now_ms: float) -> list[Json]:
        """The server hears the caller: fall silent, and say how much was heard."""
        turn = self._turn
        playing = self._ear.cut(now_ms)
        if playing is None:
            return []
        self._muted |= self._known
        if turn is not None and turn.barged_in and turn.stopped_after_ms is None and self._phase is not _Phase.LISTENING:
            turn.stopped_after_ms = now_ms - turn.began_ms
        elif turn is not None and self._phase is _Phase.LISTENING:
            self.false_starts += 1
            turn.was_cut = True
        end_ms = int(playing.heard_ms)
        place = {"item_id": playing.item_id, "content_index": playing.content_index}
        return [{"type": "conversation.item.truncate", **place, "audio_end_ms": end_ms}]

    def _response_done(self, event: Json, now_ms: float) -> None:
        response_id, turn = _id(event), self._turn
        if turn is None or response_id in self._old:
            return
        status = str(_response(event).get("status"))
        if response_id == turn.reply_id:
            turn.reply_done = True
        elif self._phase is _Phase.WAITING and status != "cancelled":
            early = response_id in turn.early
            reason = "it was answered before it was over" if early else f"a reply without sound: {_why(event)}"
            self._finish(Result.FAILED, reason, now_ms)

    def _finish(self, result: Result, reason: str | None, now_ms: float) -> None:
        self._end_turn(result, reason)
        self._phase = _Phase.THINKING if self._has_more else _Phase.DONE
        self._ready_to_speak_ms = max(now_ms, self._ear.ends_ms) + self._thinking_ms()

    def _end_turn(self, result: Result, reason: str | None) -> None:
        turn, self._turn = self._turn, None
        assert turn is not None
        answered = result is Result.ANSWERED
        reply = " ".join(said.strip() for of, said in turn.said.items() if of not in self._old)
        expects, words = turn.utterance.expects, reply.lower()
        self.turns.append(
            Turn(
                self.number,
                turn.utterance.text,
                turn.began_ms,
                result,
                reason,
                turn.latency_ms,
                self._ear.audio_ms if turn.reply_id is not None else 0.0,
                tuple(self._ear.gaps) if turn.reply_id is not None else (),
                turn.barged_in,
                turn.stopped_after_ms,
                turn.was_cut,
                reply,
                any(word.lower() in words for word in expects) if expects and answered and not turn.was_cut else None,
            )
        )

    def _thinking_ms(self) -> float:
        return self._chance.uniform(*self._settings.think_ms)


def shuffled(utterances: Sequence[Utterance], chance: random.Random) -> Iterator[Utterance]:
    """All of them in random order, again and again."""
    while True:
        yield from chance.sample(utterances, len(utterances))


def _room(size: int) -> Pcm:
    """int16 [size] of faint noise."""
    return (np.random.default_rng(0).standard_normal(size) * ROOM_LEVEL).astype("<i2")


def _response(event: Json) -> Json:
    response = event.get("response")
    return response if isinstance(response, dict) else {}


def _id(event: Json) -> str:
    return str(_response(event).get("id"))


def _error_code(event: Json) -> str:
    error = event.get("error")
    return str(error.get("code") or error.get("type") or "unknown") if isinstance(error, dict) else "unknown"


def _why(event: Json) -> str:
    """What a response says of why it ended as it did."""
    response = _response(event)
    details = response.get("status_details")
    error = details.get("error") if isinstance(details, dict) else None
    if isinstance(error, dict):
        return f"{response.get('status')}, {error.get('code')}: {error.get('message')}"
    return str(response.get("status"))
