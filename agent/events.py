"""Everything a session says to its owner: frozen dataclasses with one JSON form each.

`type` is the class name in snake case. `t_ms` is audio time since the session began; `turn_id` counts turns from 1 and
`revision` counts how often the turn was reopened. A consumer that holds on to something compares both before it acts.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What every event carries."""

    t_ms: int
    turn_id: int = 0
    revision: int = 0

    @property
    def type(self) -> str:
        """The name of the event on the wire."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()

    def to_dict(self) -> dict[str, object]:
        """JSON values; audio is left out and only its length told."""
        values: dict[str, object] = {"type": self.type}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                values["samples"] = len(value)
            else:
                values[field.name] = list(value) if isinstance(value, tuple) else value
        return values

    def to_json(self) -> str:
        """One line."""
        return json.dumps(self.to_dict(), ensure_ascii=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceActivity(Event):
    """How likely the last piece of audio holds speech, and whether the detector takes it for speech."""

    probability: float
    speaking: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnStart(Event):
    """The user began to speak; the turn's audio starts at `start_ms`, some pre-roll before the voice. `over_reply`: while a
    reply was given, so it may turn out to be no turn."""

    start_ms: int
    over_reply: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Update(Event):
    """The whole turn as far as it is guessed now: `committed` will stay, `tentative` may change."""

    committed: str
    tentative: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokensCommitted(Event):
    """Tokens from `start_index` of the turn on, with their words; `end_ms` is when the last of them ended."""

    start_index: int
    tokens: tuple[int, ...]
    text: str
    end_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TokensRetracted(Event):
    """Only the first `to_index` tokens of the turn still stand."""

    to_index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Prosody(Event):
    """How the turn sounds so far. `label` is "unknown" below a confidence of 0.6; pitch, energy and rate are measured
    from the signal and the words, None where there is nothing to measure."""

    label: str
    confidence: float
    pitch_hz: float | None
    energy_db: float | None
    words_per_minute: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EagerTurnEnd(Event):
    """A short silence: `text` is the whole turn if it ends here, which has probability `p_end`."""

    text: str
    p_end: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnResumed(Event):
    """The user goes on after an `EagerTurnEnd`; after a `TurnEnd` too as long as nothing of the reply was heard. What was
    said of a reply of an earlier revision is void, and its sound is not to be played."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnEnd(Event):
    """The turn is over; `text` equals the last eager text."""

    text: str
    p_end: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnDropped(Event):
    """What seemed to be a turn was none, for this reason: no words, or a backchannel."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Duck(Event):
    """The user speaks over the reply of this turn: its sound stops for now and keeps its place. `unduck`, `interrupt` or
    `reply_done` follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unduck(Event):
    """It was nothing: the sound of the reply goes on where it stopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backchannel(Event):
    """The user only said "mm-hm" or the like over the reply, which goes on."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupt(Event):
    """The reply was cut off; `heard_text` is what had been played of it. `estimated`: by estimate, not by report."""

    heard_text: str
    estimated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall(Event):
    """The model calls a tool. Each call gets one `tool_result`, which may come after its reply was cut off."""

    call_id: str
    name: str
    arguments: dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult(Event):
    """What the tool returned, or its error, as the model is told."""

    call_id: str
    name: str
    result: dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmationRequest(Event):
    """A call waits for the user's yes or no, which the next turn or `Session.confirm` gives; `question` is spoken."""

    call_id: str
    name: str
    arguments: dict[str, object]
    question: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmationAnswer(Event):
    """A waiting call was decided: by the user's "words", by the "client", or refused as the words stayed "unclear"."""

    call_id: str
    accepted: bool
    decided_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyStart(Event):
    """A reply begins; one `reply_done` ends it, or a `turn_resumed` takes it back. `context_tokens` is what the model has
    read by then."""

    context_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplySpoken(Event):
    """All text and sound of the reply has been said in `tokens` tokens of the model; it may still be playing."""

    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyDelta(Event):
    """More text of the reply; also what the agent says by itself: that a tool takes a moment, a question."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Audio(Event):
    """More sound of the reply: `pcm` int16 mono; `text` is the clause it belongs to."""

    pcm: NDArray[np.int16]
    sample_rate: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyDone(Event):
    """The reply is over: `text` as generated, `heard_text` as played; they differ after an interruption. `estimated`: what
    was played is an estimate and not a report."""

    text: str
    heard_text: str
    interrupted: bool
    estimated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryDropped(Event):
    """The conversation outgrew its context: its oldest turns are forgotten, the instructions stay."""

    turns: int
    entries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics(Event):
    """Milliseconds of compute of a turn, by stage, and the time from the decision to the first text and sound. Of the session
    so far: replies drafted at soft ends that were used and that were not, and the time to the first sound that was saved; and
    how often recognition during speech was left out because it was behind."""

    stages_ms: dict[str, float]
    first_text_ms: float | None
    first_audio_ms: float | None
    realtime_factor: float | None
    drafts_accepted: int = 0
    drafts_wasted: int = 0
    drafts_saved_ms: float = 0.0
    skipped_ticks: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(Event):
    """The session ended because of this."""

    reason: str
