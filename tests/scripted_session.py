"""A session that plays a script: what it says depends on the audio time that was sent to it and on what was
played."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from textpro.agent.events import (
    Audio,
    Event,
    Metrics,
    Prosody,
    ReplyDelta,
    ReplyDone,
    TurnDropped,
    TurnEnd,
    TurnStart,
    VoiceActivity,
)

REPLY_RATE = 22_050
LOUD = 0.02


@dataclass
class ScriptedSession:
    """Audio louder than `LOUD` opens a turn; `silence_ms` without it ends it. Each turn gets the next of
    `replies`, `reply_ms` of audio long; the reply is done when it was played. None as a reply: the turn is
    dropped."""

    replies: Sequence[str | None] = ("Yes.", "No.", "Well.")
    silence_ms: int = 600
    reply_ms: int = 500
    frames: list[np.ndarray] = field(default_factory=list)
    played_ms: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    entered: int = 0

    def __post_init__(self) -> None:
        self.events: asyncio.Queue[Event | None] = asyncio.Queue()
        self.now_ms = self.turn_id = self.quiet_ms = self.settled_calls = 0
        self.open = False
        self.speaks = True
        self.unplayed: tuple[int, str] | None = None  # audio ms and text of the running reply

    async def __aenter__(self) -> ScriptedSession:
        self.entered += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self.events.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[Event]:
        while (event := await self.events.get()) is not None:
            yield event

    def say(self, kind: type[Event], **values: object) -> None:
        self.events.put_nowait(kind(t_ms=self.now_ms, turn_id=self.turn_id, **values))

    async def send_audio(self, pcm: np.ndarray, sample_rate: int) -> None:
        assert sample_rate == 16_000
        self.frames.append(pcm)
        self.now_ms += len(pcm) * 1000 // sample_rate
        loud = bool(np.abs(pcm).max() > LOUD)
        self.say(VoiceActivity, probability=float(loud), speaking=loud)
        self.quiet_ms = 0 if loud else self.quiet_ms + 20
        if loud and not self.open and self.speaks:
            self.open, self.turn_id = True, self.turn_id + 1
            self.say(TurnStart, start_ms=self.now_ms)
        elif self.open and self.quiet_ms >= self.silence_ms:
            self.open = False
            self._answer("hello there")

    async def send_text(self, text: str) -> None:
        self.texts.append(text)
        self.turn_id += 1
        self._answer(text)

    def _answer(self, words: str) -> None:
        reply = self.replies[self.turn_id - 1]
        if reply is None:
            self.say(TurnDropped, reason="no words were recognized")
            return
        self.say(TurnEnd, text=words, p_end=0.9)
        self.say(Prosody, label="sad", confidence=0.83, pitch_hz=110.0, energy_db=-20.0, words_per_minute=130.0)
        self.say(ReplyDelta, text=reply)
        pcm = np.full(REPLY_RATE * self.reply_ms // 1000, self.turn_id, np.int16)
        for piece in np.array_split(pcm, 3):
            self.say(Audio, pcm=piece, sample_rate=REPLY_RATE, text=reply)
        self.unplayed = (self.reply_ms, reply)

    def played(self, total_ms: int) -> None:
        self.played_ms.append(total_ms)
        if self.unplayed is not None and total_ms >= self.unplayed[0]:
            text, self.unplayed = self.unplayed[1], None
            self.say(ReplyDone, text=text, heard_text=text, interrupted=False)
            self.say(Metrics, stages_ms={"vad": 3.0}, first_text_ms=80.0, first_audio_ms=180.0, realtime_factor=0.2)

    async def settled(self) -> None:
        self.settled_calls += 1


class RecordingView:
    """Keeps what it is shown."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.notices: list[str] = []

    def show(self, event: Event) -> None:
        self.events.append(event)

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def played(self, turn_id: int, total_ms: float) -> None:
        return None

    def status(self, text: str) -> None:
        return None

    def types(self) -> list[str]:
        return [event.type for event in self.events if event.type != "voice_activity"]
