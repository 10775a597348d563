"""Voice to voice: from the last sample of the user to the first sample of the reply, by stage, through real sessions at
real-time pace.

All is read off the session's events, so a reply that was drafted before the turn was over is measured like any other: what
it had ready when the turn ended costs nothing afterwards. The sound counts as played when the session hands it over; a
loudspeaker's own buffer comes on top.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..agent import events
from ..agent.session import Session
from ..streaming.clock import SAMPLE_RATE, ms_to_samples
from .sets import draw_sentences
from .turn_sets import SpokenTurn, with_pauses
from .turn_voices import HeldOutVoices

FRAME_MS = 20
LONGEST_WAIT_MS = 8_000
"""Silence behind a turn in which a reply must have begun to sound."""
Seen = Sequence[tuple[float, events.Event]]
"""Events with the loop's time in seconds at which each was said."""
Found = TypeVar("Found", bound=events.Event)


@dataclass(frozen=True, slots=True)
class VoiceToVoice:
    """One answered turn, milliseconds. The stages follow one another and add up to `total_ms`.

    `silence_ms`: audio behind the last sample of speech that the rule let pass before it ended the turn; `decision_ms`:
    compute until that was known (final pass, P(end)); `text_ms`: until there was text of the reply; `voice_ms`: until there
    was sound. `eager_ms`: until the turn was first thought to be over, which is when a reply may be drafted.
    """

    silence_ms: float
    decision_ms: float
    text_ms: float
    voice_ms: float
    eager_ms: float | None

    @property
    def total_ms(self) -> float:
        """From the last sample of the user to the first of the reply."""
        return self.silence_ms + self.decision_ms + self.text_ms + self.voice_ms


STAGES = ("silence_ms", "decision_ms", "text_ms", "voice_ms")


@dataclass(frozen=True, slots=True)
class Latencies:
    """Turns of one setting: those answered, and how many were cut off or stayed without a spoken answer."""

    name: str
    answered: tuple[VoiceToVoice, ...]
    cut_off: int
    unanswered: int

    def percentile(self, field: str, percent: float) -> float | None:
        """Of a stage, `eager_ms` or `total_ms`; None where nothing was answered."""
        values = [value for one in self.answered if (value := getattr(one, field)) is not None]
        return float(np.percentile(values, percent)) if values else None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        names = ("total_ms", *(field.name for field in fields(VoiceToVoice)))
        shown = {name: {f"p{at}": _rounded(self.percentile(name, at)) for at in (50, 95)} for name in names}
        return {"answered": len(self.answered), "cut_off": self.cut_off, "unanswered": self.unanswered, **shown}


def draw_questions(n: int, seed: int) -> list[SpokenTurn]:
    """Whole sentences without pauses, by held-out espeak-ng voices."""
    voices = HeldOutVoices(seed)
    turns = draw_sentences(n, random.Random(f"voice to voice {seed}").randrange(10**6))
    return [with_pauses(voices.by_espeak(turn.user, turn.tone), {}, seed=index) for index, turn in enumerate(turns)]


async def measure_latency(
    name: str,
    open_session: Callable[[], AbstractAsyncContextManager[Session]],
    questions: Sequence[SpokenTurn],
    done: Callable[[int], None],
) -> Latencies:
    """Each question in a session of its own."""
    found: list[VoiceToVoice] = []
    cut_off = unanswered = 0
    for question in questions:
        last_ms = question.silences[-1].start_samples * 1000 / SAMPLE_RATE
        async with open_session() as session:
            began, seen = await ask(session, question.samples, last_ms)
        if _cut_off(seen, last_ms):
            cut_off += 1
        elif (one := voice_to_voice(seen, began, last_ms)) is not None:
            found.append(one)
        else:
            unanswered += 1
        done(1)
    return Latencies(name, tuple(found), cut_off, unanswered)


async def ask(session: Session, samples: NDArray[np.float32], last_ms: float) -> tuple[float, Seen]:
    """Speak at real-time pace until the reply sounds or it takes too long; (loop time of the first sample, events)."""
    loop = asyncio.get_running_loop()
    seen: list[tuple[float, events.Event]] = []
    over = asyncio.Event()

    async def read() -> None:
        async for event in session:
            seen.append((loop.time(), event))
            if isinstance(event, events.Audio | events.TurnDropped | events.Failed) and event.t_ms > last_ms:
                over.set()

    reader = asyncio.create_task(read())
    began, frame = loop.time(), ms_to_samples(FRAME_MS)
    for fed_ms in range(0, int(last_ms) + LONGEST_WAIT_MS, FRAME_MS):
        if over.is_set():
            break
        at = ms_to_samples(fed_ms)
        await asyncio.sleep(max(began + (fed_ms + FRAME_MS) / 1000 - loop.time(), 0))
        piece = samples[at : at + frame]
        await session.send_audio(np.pad(piece, (0, frame - len(piece))), SAMPLE_RATE)
    reader.cancel()
    return began, seen


def voice_to_voice(seen: Seen, began_s: float, last_ms: float) -> VoiceToVoice | None:
    """The stages of a turn from its events; `began_s` is the loop's time of the first sample, `last_ms` the end of speech on
    the audio clock. None where no sound of a reply followed the last end of the turn."""
    ends = [(at, event) for at, event in _of(seen, events.TurnEnd)]
    if not ends:
        return None
    ended_s, ended = ends[-1]
    same = [(at, event) for at, event in seen if event.turn_id == ended.turn_id]
    answer = [(at, event) for at, event in same if event.revision == ended.revision]
    sounds = [at for at, _ in _of(answer, events.Audio) if at >= ended_s]
    if not sounds:
        return None
    sound_s = sounds[0]
    texts = [at for at, _ in _of(answer, events.ReplyDelta) if at <= sound_s]
    text_s = min(max(texts[0], ended_s), sound_s) if texts else sound_s
    eager = [at for at, event in _of(same, events.EagerTurnEnd) if event.t_ms >= last_ms and at <= ended_s]
    silence_ms = ended.t_ms - last_ms
    return VoiceToVoice(
        silence_ms,
        (ended_s - began_s) * 1000 - last_ms - silence_ms,
        (text_s - ended_s) * 1000,
        (sound_s - text_s) * 1000,
        (eager[0] - began_s) * 1000 - last_ms if eager else None,
    )


def _cut_off(seen: Seen, last_ms: float) -> bool:
    """Whether a turn ended while the user was still speaking."""
    return any(event.t_ms < last_ms for _, event in _of(seen, events.TurnEnd))


def _of(seen: Seen, kind: type[Found]) -> list[tuple[float, Found]]:
    return [(at, event) for at, event in seen if isinstance(event, kind)]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
