"""The other side of a conversation: types or speaks a user's turns to a real session and notes what comes
back.

Speech goes in pieces of 20 ms as fast as the session works them off, followed by silence until the turn has
ended. Replies are spoken by a voice without sound whose words all last equally long, so that a reply can be
cut off behind a given word and the session has to remember what was heard.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..agent import events
from ..agent.runtime import Runtime
from ..agent.session import Session
from ..agent.session_settings import SessionSettings
from ..agent.tools import Toolbox
from ..engine import Entry
from ..models.demo_tools import Call
from ..models.errors import TextProError
from ..streaming.clock import SAMPLE_RATE, ms_to_samples
from ..streaming.synthesis import AS_SET, Manner, SpeechChunk, WordTime

WORD_MS = 100
PIECE_MS = 20
NO_TURN_MS = 2_000
"""Silence after an utterance by which a turn must have begun."""
OPEN_TURN_MS = 4_000
"""Silence after an utterance by which its turn must have ended; else it is committed."""
ALL_MS = 1e9


class SilentVoice:
    """A synthesizer whose audio is silence with word times."""

    sample_rate = SAMPLE_RATE

    async def synthesize(self, text: str, *, manner: Manner = AS_SET) -> AsyncGenerator[SpeechChunk, None]:
        """One chunk, whatever the manner, `WORD_MS` for each whitespace word."""
        step = ms_to_samples(WORD_MS)
        words = [
            WordTime(found[0], found.start(), len(found[0]), index * step, (index + 1) * step)
            for index, found in enumerate(re.finditer(r"\S+", text))
        ]
        yield SpeechChunk(np.zeros(len(words) * step, np.int16), tuple(words))

    def cancel(self) -> None:
        """Nothing to silence."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the agent made of a turn: the words it took, None where it found no turn; the tools it called;
    what it said, None where it said nothing; the reason where the session failed."""

    words: str | None
    calls: tuple[Call, ...] = ()
    reply: str | None = None
    failure: str | None = None


class Partner:
    """One conversation with a runtime; an async context manager."""

    def __init__(self, runtime: Runtime) -> None:
        settings = SessionSettings(playback="acknowledged")
        self._session = Session(runtime.engine, runtime.checkpoint, SilentVoice(), Toolbox(), settings)
        self._events: list[events.Event] = []

    async def __aenter__(self) -> Partner:
        await self._session.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._session.__aexit__(*error)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The conversation as the backbone reads it."""
        return self._session.entries

    async def write(self, text: str, heard: str | None = None) -> Answer:
        """Send a typed turn. The reply is cut off behind as many words as `heard` has; None: heard to its
        end."""
        try:
            await self._session.send_text(text)
            await self._listen(heard)
        except TextProError as error:
            return self._answer(str(error))
        return self._answer()

    async def speak(self, samples: NDArray[np.float32], heard: str | None = None) -> Answer:
        """Say an utterance, float32 [n] at 16 kHz; `heard` as in `write`."""
        try:
            await self._send(samples)
            if not await self._wait_for_end():
                await self._session.commit()
            await self._listen(heard)
        except TextProError as error:
            return self._answer(str(error))
        return self._answer()

    async def _send(self, samples: NDArray[np.float32]) -> None:
        """Piece by piece, so that a session that fails is noticed at the next one."""
        step = ms_to_samples(PIECE_MS)
        for start in range(0, len(samples), step):
            await self._session.send_audio(samples[start : start + step], SAMPLE_RATE)
            await self._session.settled()
            self._events += self._session.said()

    async def _wait_for_end(self) -> bool:
        """Send silence until no turn is open any more; False where one stays open."""
        silence = np.zeros(ms_to_samples(PIECE_MS), np.float32)
        for waited_ms in range(0, OPEN_TURN_MS, PIECE_MS):
            begun = self._last(events.TurnStart)
            ended = max(self._last(events.TurnEnd), self._last(events.TurnDropped))
            if ended > begun or (begun < 0 and waited_ms >= NO_TURN_MS):
                return True
            await self._send(silence)
        return False

    def _last(self, kind: type[events.Event]) -> int:
        """Where the last event of a kind lies, -1 where there is none."""
        found = [index for index, event in enumerate(self._events) if isinstance(event, kind)]
        return found[-1] if found else -1

    async def _listen(self, heard: str | None) -> None:
        """Hear the reply, and cut it off where that is wanted."""
        await self._session.settled()
        self._session.played(ALL_MS if heard is None else WORD_MS * len(heard.split()))
        if heard is not None:
            await self._session.interrupt()
        await self._session.settled()

    def _answer(self, failure: str | None = None) -> Answer:
        self._events += self._session.said()
        happened, self._events = self._events, []
        return read_answer(happened, failure)


def read_answer(happened: Sequence[events.Event], failure: str | None = None) -> Answer:
    """The answer that a turn's events tell. Of a turn that fell apart, all words and calls count, and the
    last reply."""
    words: list[str] = []
    calls: list[Call] = []
    reply = None
    for event in happened:
        match event:
            case events.TurnEnd():
                words.append(event.text)
                reply = None
            case events.ToolCall():
                calls.append(Call(event.name, dict(event.arguments)))  # type: ignore[arg-type]
            case events.ReplyDone():
                reply = event.text
            case events.Failed():
                failure = event.reason
    return Answer(" ".join(words) if words else None, tuple(calls), reply, failure)
