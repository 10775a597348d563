"""The other side of a caller of a load test: a little Realtime server in virtual time that hears speech by its level and answers
as a script says."""

from __future__ import annotations

import base64
import heapq
import itertools
import random
from collections.abc import Iterator
from typing import Any

import numpy as np

from textpro.evaluation.load_caller import Caller, CallerSettings, Utterance

RATE = 24_000
STEP_MS = 5


def said(length_ms: int = 600, text: str = "hello", expects: tuple[str, ...] = ()) -> Utterance:
    """Something loud."""
    return Utterance(text, np.full(RATE * length_ms // 1000, 8_000, np.int16), expects)


def delta(length_ms: float) -> str:
    """So much sound in base64."""
    return base64.b64encode(bytes(int(RATE * length_ms / 1000) * 2)).decode()


class Partner:
    """Ends a turn after `silence_ms`, answers `think_ms` later with `pieces`: (ms after the reply's beginning, ms of sound).
    `answers` scripts turns: "reply", "nothing", "failed", "early" (the reply comes while the caller still speaks)."""

    def __init__(self, *answers: str, silence_ms: int = 300, think_ms: int = 200, deaf: bool = False) -> None:
        self._answers = itertools.chain(answers, itertools.repeat("reply"))
        self._silence_ms, self._think_ms, self._deaf = silence_ms, think_ms, deaf
        self.pieces: list[tuple[float, float]] = [(0, 500), (10, 500)]
        self.words = "four"
        self.received: list[dict[str, Any]] = []
        self._waiting: list[tuple[float, int, dict[str, Any]]] = []
        self._count = itertools.count(1)
        self._speaking = False
        self._quiet_ms = 0.0
        self._running: str | None = None

    def take(self, message: dict[str, Any], now_ms: float) -> None:
        self.received.append(message)
        match message["type"]:
            case "session.update":
                self.say(now_ms, "session.updated", session=message["session"])
            case "input_audio_buffer.append":
                self._hear(np.frombuffer(base64.b64decode(message["audio"]), "<i2"), now_ms)

    def say(self, at_ms: float, type: str, **fields: Any) -> None:
        heapq.heappush(self._waiting, (at_ms, next(self._count), {"type": type, **fields}))

    def due(self, now_ms: float) -> Iterator[dict[str, Any]]:
        while self._waiting and self._waiting[0][0] <= now_ms:
            event = heapq.heappop(self._waiting)[2]
            if event["type"] == "response.done":
                self._running = None
            yield event

    def reply(self, at_ms: float, status: str = "completed", sound: bool = True) -> None:
        number = next(self._count)
        response, item = {"id": f"resp_{number}"}, f"item_{number}"
        self._running = response["id"]
        self.say(at_ms, "response.created", response={**response, "status": "in_progress"})
        place = {"response_id": response["id"], "item_id": item, "content_index": 0}
        last = at_ms
        for after_ms, length_ms in self.pieces if sound else ():
            last = at_ms + after_ms
            self.say(last, "response.output_audio.delta", **place, delta=delta(length_ms))
        if sound:
            self.say(last, "response.output_audio_transcript.delta", **place, delta=self.words)
        details = {"type": "failed", "error": {"code": "broken", "message": "no"}} if status == "failed" else None
        self.say(last + 1, "response.done", response={**response, "status": status, "status_details": details})

    def _hear(self, pcm: np.ndarray, now_ms: float) -> None:
        if self._deaf:
            return
        if np.abs(pcm.astype(int)).max() > 1_000:
            self._quiet_ms = 0.0
            if not self._speaking:
                self._speaking = True
                self.say(now_ms, "input_audio_buffer.speech_started", audio_start_ms=0, item_id="u")
                self._waiting = [entry for entry in self._waiting if not entry[2]["type"].startswith("response.")]
                heapq.heapify(self._waiting)
                if self._running:
                    self.say(now_ms, "response.done", response={"id": self._running, "status": "cancelled"})
                self._answer = next(self._answers)
                if self._answer == "early":
                    self.reply(now_ms + 100)
            return
        self._quiet_ms += len(pcm) * 1000 / RATE
        if self._speaking and self._quiet_ms >= self._silence_ms:
            self._speaking = False
            match self._answer:
                case "reply":
                    self.reply(now_ms + self._think_ms)
                case "failed":
                    self.reply(now_ms + self._think_ms, "failed", sound=False)


def converse(caller: Caller, partner: Partner, most_ms: int = 60_000, piece_ms: int = 20) -> Caller:
    """Lead both, in virtual time, until the caller has done."""
    partner.take(caller.open(), 0)
    for now_ms in range(0, most_ms, STEP_MS):
        if now_ms % piece_ms == 0 and now_ms:
            partner.take(caller.piece(now_ms), now_ms)
        for event in list(partner.due(now_ms)):
            for answer in caller.receive(event, now_ms):
                partner.take(answer, now_ms)
        if caller.is_done:
            break
    return caller


def calling(*script: Utterance, seed: int = 0, **settings: Any) -> Caller:
    """A caller who says these, with pauses of exactly a second."""
    given = {"turns": len(script), "piece_ms": 20, "think_ms": (1_000, 1_000), **settings}
    return Caller(0, iter(script), CallerSettings(**given), random.Random(seed))
