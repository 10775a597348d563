"""A session that hears a script: audio whose level names its words, ears that read them as a detector and a recognizer would,
and an engine whose P(end of turn) is told. Everything in virtual time, without a model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

from scripted_engine import CHAT, Message, ScriptedEngine, ScriptedTalk
from textpro.agent.listener import Heard, Report
from textpro.agent.session_settings import SessionSettings
from textpro.agent.turns import TurnSettings
from textpro.engine import Append, Truncate
from textpro.evaluation.partner import SilentVoice
from textpro.streaming.synthesis import AS_SET, Manner, SpeechChunk

CHUNK, CHUNK_MS = 512, 32
CONFIRM_CHUNKS = 3
"""Chunks of voice, or of silence, until the detector is sure: 96 ms."""
WORDS = (
    "hello there what time is it stop please mm hm yes yeah tuesday wait a moment and so on noise one two three four five".split()
)
_LEVEL = 1 / 64


def speech(*parts: str | int) -> np.ndarray:
    """Words of 160 ms each, and pauses in ms; "noise" is a voice without words."""
    pieces = []
    for part in parts:
        if isinstance(part, int):
            pieces.append(np.zeros(part * 16 // CHUNK * CHUNK, np.float32))
            continue
        for word in part.split():
            pieces.append(np.full(5 * CHUNK, (WORDS.index(word) + 1) * _LEVEL, np.float32))
    return np.concatenate(pieces)


class ScriptedEars:
    """In place of a `Listener`; `make` stands for its constructor."""

    def __init__(self, *_: Any) -> None:
        self.stages = {"vad": 0.0, "interleave": 0.0}
        self.tone, self.is_open, self.realtime_factor = ("unknown", 0.0), False, None
        self.start_samples = 0
        self._left = np.zeros(0, np.float32)
        self._history: list[int] = []  # word of each chunk, 0 for silence
        self._speaking, self._run = False, 0
        self._from, self._known = 0, 0

    def listen(self, samples: np.ndarray) -> Iterator[Heard]:
        self._left = np.concatenate([self._left, samples])
        while len(self._left) >= CHUNK:
            word = round(float(self._left[CHUNK // 2]) / _LEVEL)
            self._left = self._left[CHUNK:]
            self._history.append(word)
            voiced, start, end = word > 0, None, None
            self._run = self._run + 1 if voiced != self._speaking else 0
            now = len(self._history)
            if self._run == CONFIRM_CHUNKS:
                self._speaking, self._run = voiced, 0
                edge = (now - CONFIRM_CHUNKS) * CHUNK
                start, end = (edge, None) if voiced else (None, edge)
            yield Heard(now * CHUNK, 0.9 * voiced, self._speaking, start, end)

    @property
    def block_ready(self) -> bool:
        return self.is_open and len(self._history) % 10 == 0

    @property
    def words(self) -> list[str]:
        said: list[str] = []
        before, length = 0, 0
        for word in [*self._history[self._from : self._known], 0]:
            if word == before:
                length += 1
                continue
            if before and length >= 3:
                said += [WORDS[before - 1]] * max(1, length // 5)
            before, length = word, 1
        return [word for word in said if word != "noise"]

    @property
    def tokens(self) -> tuple[int, ...]:
        return CHAT.words(" ".join(self.words)) if self.words else ()

    @property
    def text(self) -> str:
        return " ".join(self.words)

    vectors = None

    def open(self, onset_samples: int) -> None:
        self._from = self._known = max(onset_samples // CHUNK, self._closed if hasattr(self, "_closed") else 0)
        self.start_samples, self.is_open = onset_samples, True

    def close(self) -> None:
        self.is_open, self._closed = False, len(self._history)

    async def tick(self) -> Report:
        await asyncio.sleep(0)
        known = len(self._history)
        while known > self._from and self._history[known - 1] == self._history[-1] and self._history[-1]:
            known -= 1  # the last word may go on
        self._known = max(self._known, known)
        return [("Update", {"committed": self.text, "tentative": ""})]

    async def finish(self) -> Report:
        await asyncio.sleep(0)
        self._known = len(self._history)
        return [("Update", {"committed": self.text, "tentative": ""})]

    def resume(self) -> Report:
        return []


class EarsEngine(ScriptedEngine):
    """`p_end` by the last word of the context; `queued` pieces of work wait in it."""

    p_end: dict[str, float]
    queued = 0

    def stats(self) -> Any:
        return SimpleNamespace(queued=self.queued)

    async def run(self, item: Append | Truncate) -> Any:
        done = await super().run(item)
        if isinstance(item, Append) and item.probe:
            last = CHAT.text([entry.token_id for entry in self.context.entries]).split()[-1]
            done = type(done)(done.length, dict.fromkeys(item.probe, self.p_end.get(last, 0.5)), 0.0)
        return done


class CountingVoice(SilentVoice):
    """Counts the clauses that were spoken."""

    def __init__(self) -> None:
        self.clauses: list[str] = []

    async def synthesize(self, text: str, *, manner: Manner = AS_SET) -> AsyncGenerator[SpeechChunk, None]:
        self.clauses.append(text)
        async for chunk in super().synthesize(text, manner=manner):
            yield chunk


class EarsTalk(ScriptedTalk):
    """A spoken conversation. `hear` sends audio chunk by chunk and plays the reply meanwhile, as a transport does."""

    def __init__(
        self,
        *script: Message,
        tools: Sequence[Any] = (),
        turns: TurnSettings | None = None,
        p_end: dict[str, float] | None = None,
        voice: Any = None,
        **settings: Any,
    ) -> None:
        chosen = SessionSettings(playback="acknowledged", turns=turns or TurnSettings(endpointing="model"), **settings)
        self.voice = voice or CountingVoice()
        super().__init__(tools, *script, settings=chosen, synthesizer=self.voice)
        engine = EarsEngine(script)
        engine.p_end = p_end or {}
        self.engine = self.session._engine = engine
        self.reply_of, self.sent_ms, self.played_ms, self.ducked = (0, 0), 0.0, 0.0, False

    async def __aenter__(self) -> EarsTalk:
        with mock.patch("textpro.agent.session.Listener", ScriptedEars):
            await super().__aenter__()
        return self

    async def hear(self, *parts: str | int, plays: bool = True) -> list[Any]:
        """The user says `parts`; gives the events since."""
        at, audio = len(self.events), speech(*parts)
        for start in range(0, len(audio), CHUNK):
            await self.session.send_audio(audio[start : start + CHUNK], 16_000)
            await self.settled()
            if plays:
                self.play(CHUNK_MS)
                await self.settled()
        return self.events[at:]

    def look(self) -> list[Any]:
        fresh = super().look()
        for event in fresh:
            self._take(event)
        return fresh

    def _take(self, event: Any) -> None:
        key = (event.turn_id, event.revision)
        match event.type:
            case "audio":
                if key != self.reply_of:
                    self.reply_of, self.sent_ms, self.played_ms, self.ducked = key, 0.0, 0.0, False
                self.sent_ms += len(event.pcm) * 1000 / event.sample_rate
            case "duck" | "unduck":
                self.ducked = event.type == "duck"
            case "interrupt" | "turn_resumed" if event.turn_id == self.reply_of[0]:
                self.sent_ms = self.played_ms

    def play(self, ms: float) -> None:
        """The transport plays on, unless it is ducked."""
        if self.ducked or self.sent_ms <= self.played_ms:
            return
        self.played_ms = min(self.sent_ms, self.played_ms + ms)
        self.session.played(self.played_ms)

    def types(self) -> list[str]:
        """The events that matter, in order."""
        self.look()
        quiet = ("voice_activity", "update", "metrics", "reply_delta", "audio")
        return [event.type for event in self.events if event.type not in quiet]
