"""When does the user's turn begin and end, and when does the user take the floor from the agent? A pure state machine over
voice activity, words, P(end of turn) and time; no I/O, no clock.

A short silence is a soft end: the turn is completed and may still go on. How much more silence ends it falls with P(end).
Speech over the agent's voice opens OVERLAP, where the user's words decide: a lone "mm-hm" is a backchannel and the reply goes
on, words of substance or a long voice cancel it. (Eager ends and resumption: Deepgram Flux; overlap rules: reference systems
use 500 to 800 ms or two words.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal

from ..models.errors import InputError
from .phrases import count_real, is_backchannel

Endpointing = Literal["auto", "model", "vad"]


class TurnState(Enum):
    """IDLE: nobody speaks. STARTING: perhaps the user begins. SPEAKING: the user does. SOFT_END: a short silence, the turn
    may be over. OVERLAP: the user speaks while the agent does."""

    IDLE = auto()
    STARTING = auto()
    SPEAKING = auto()
    SOFT_END = auto()
    OVERLAP = auto()


class Agent(Enum):
    """SILENT: no reply. PENDING: the reply to the last spoken turn is there, and nothing of it was heard or done. SPEAKING: a
    reply is heard, or cannot be taken back."""

    SILENT = auto()
    PENDING = auto()
    SPEAKING = auto()


class Decision(Enum):
    """What the session has to do now. REOPEN: the ended turn goes on. OVERLAP: open a turn that may turn out to be none.
    DUCK: the reply steps back. JUDGE: complete the words over the reply and ask `judge_overlap`. CANCEL: cut the reply off,
    the overlap is a turn. BACKCHANNEL, FALSE_ALARM: it is none, the reply goes on."""

    START = auto()
    SOFT_END = auto()
    RESUME = auto()
    END = auto()
    REOPEN = auto()
    OVERLAP = auto()
    DUCK = auto()
    JUDGE = auto()
    CANCEL = auto()
    BACKCHANNEL = auto()
    FALSE_ALARM = auto()


@dataclass(frozen=True, slots=True)
class TurnSettings:
    """Timing of turns. InputError for a rule by which more certainty would need more silence.

    `endpointing`: "model" ends a turn by P(end), "vad" by `end_silence_ms` alone, "auto" by what the checkpoint is calibrated
    for. Between `unsure_p_end` and `sure_p_end` the logarithm of the silence needed falls evenly with the log-odds: of the
    pauses that people make, the share that is longer falls with a power of the length, so a silence that lasts twice as long
    makes the end likelier by a constant factor. Equal ones make a step.
    """

    soft_end_silence_ms: int = 100
    end_silence_ms: int = 640
    max_turn_ms: int = 180_000
    endpointing: Endpointing = "auto"
    sure_p_end: float = 0.7
    sure_silence_ms: int = 200
    unsure_p_end: float = 0.2
    unsure_silence_ms: int = 2_000
    hold_silence_ms: int = 8_000
    """Silence that ends a turn in which the user asked to be waited for."""
    voice_probability: float = 0.5
    """The detector's probability from which a piece of audio may be the beginning of speech."""
    starting_ms: int = 128
    """How long such a piece keeps an ending turn open until the detector is sure."""
    judge_silence_ms: int = 200
    """Silence after words over the reply at which they are judged; no less than that of a soft end."""
    duck_voice_ms: int = 96
    """Voice over the reply that makes it step back."""
    cancel_voice_ms: int = 800
    """Voice over the reply that cancels it whatever the words."""
    cancel_words: int = 2
    """Words over the reply, backchannels not counted, that cancel it."""
    backchannel_ms: int = 700
    """A backchannel is shorter."""
    answer_rest_ms: int = 500
    """With less of the reply left to play, "yes" is an answer and no backchannel."""

    def __post_init__(self) -> None:
        if self.endpointing not in ("auto", "model", "vad"):
            raise InputError(f"endpointing is {self.endpointing!r}: expected auto, model or vad")
        if not 0 <= self.unsure_p_end <= self.sure_p_end <= 1:
            raise InputError(
                f"unsure_p_end {self.unsure_p_end} and sure_p_end {self.sure_p_end}: expected 0 <= unsure <= sure <= 1"
            )
        if not 0 <= self.sure_silence_ms <= self.unsure_silence_ms:
            raise InputError(
                f"sure_silence_ms {self.sure_silence_ms} and unsure_silence_ms {self.unsure_silence_ms}: "
                "expected 0 <= sure <= unsure"
            )

    def silence_needed_ms(self, p_end: float | None, acoustic: float | None = None) -> int:
        """Silence that ends a turn whose words so far end it with `p_end`; None: not known. `acoustic` is the opinion of a
        detector that listens to the voice alone; the two count alike, as log-odds."""
        if self.endpointing != "model" or p_end is None:
            return self.end_silence_ms
        p = p_end if acoustic is None else _mean_odds(p_end, acoustic)
        if p >= self.sure_p_end:
            return self.sure_silence_ms
        if p <= self.unsure_p_end:
            return self.unsure_silence_ms
        low, high = _log_odds(self.unsure_p_end), _log_odds(self.sure_p_end)
        share = (_log_odds(p) - low) / (high - low)
        longest, shortest = self.unsure_silence_ms, self.sure_silence_ms
        return round(max(shortest, longest * (max(shortest, 1) / max(longest, 1)) ** share))


class TurnMachine:
    """Feed it, in order, the detector's opinion of each piece (`voice`), where speech starts and ends, and where the audio
    stands (`advance`). `agent` is for the owner to keep true."""

    def __init__(self, settings: TurnSettings | None = None) -> None:
        self.settings = settings or TurnSettings()
        self.state = TurnState.IDLE
        self.agent = Agent.SILENT
        self._started_ms = 0
        self._silent_since_ms: int | None = None
        self._speaking = False  # as the detector has it
        self._needed_ms = self.settings.end_silence_ms
        self._voice_ms: int | None = None  # end of the last piece that may be voice
        self._ducked = False
        self._cut_at_ms: int | None = None  # a turn that grew too long was ended here

    def voice(self, now_ms: int, probability: float) -> None:
        """The piece of audio that ends at `now_ms` holds voice with this probability; told before its other news."""
        if probability >= self.settings.voice_probability:
            self._voice_ms = now_ms
            if self.state is TurnState.IDLE:
                self.state = TurnState.STARTING
        elif self.state is TurnState.STARTING and not self._maybe_voice(now_ms):
            self.state = TurnState.IDLE

    def speech_started(self, at_ms: int) -> Decision | None:
        """The detector took `at_ms` for the onset of speech."""
        self._silent_since_ms, self._speaking, self._cut_at_ms = None, True, None
        match self.state:
            case TurnState.IDLE | TurnState.STARTING if self.agent is Agent.PENDING:
                self.state = TurnState.SPEAKING
                return Decision.REOPEN
            case TurnState.IDLE | TurnState.STARTING:
                return self._begin(at_ms)
            case TurnState.SOFT_END:
                self.state = TurnState.SPEAKING
                return Decision.RESUME
            case TurnState.SPEAKING | TurnState.OVERLAP:
                return None

    def speech_ended(self, at_ms: int) -> None:
        """The detector says that speech ended at `at_ms`; it may go on."""
        self._speaking, self._cut_at_ms = False, None
        if self.state in (TurnState.SPEAKING, TurnState.OVERLAP):
            self._silent_since_ms = at_ms

    def judged(self, p_end: float | None, acoustic: float | None = None) -> None:
        """The turn's words at the soft end, as the backbone reads them."""
        self._needed_ms = self.settings.silence_needed_ms(p_end, acoustic)

    def hold(self) -> None:
        """At the soft end: the user asked to be waited for."""
        self._needed_ms = max(self._needed_ms, self.settings.hold_silence_ms)

    def heard_words(self, words: Sequence[str]) -> Decision | None:
        """What the user is known to have said so far, in lower case; over the reply enough of it cancels."""
        if self.state is TurnState.OVERLAP and count_real(words) >= self.settings.cancel_words:
            return self._cancel()
        return None

    def judge_overlap(self, words: Sequence[str], *, rest_ms: float = math.inf) -> Decision:
        """After JUDGE, with all that was said over the reply: whether it is a turn. `rest_ms` is left of the reply, 0 where
        it waits for an answer. A single word of substance is a turn: a "stop" is not to be swallowed."""
        short = self._voiced_ms(self._silent_since_ms or 0) < self.settings.backchannel_ms
        if not words:
            return self._yield(Decision.FALSE_ALARM)
        if short and is_backchannel(words) and rest_ms >= self.settings.answer_rest_ms:
            return self._yield(Decision.BACKCHANNEL)
        return self._cancel()

    def floor_taken(self) -> None:
        """The reply was cut off by something else than words: whoever speaks over it has the floor."""
        self.agent = Agent.SILENT
        if self.state is TurnState.OVERLAP:
            self._cancel()

    def advance(self, now_ms: int) -> Decision | None:
        """The audio has got to `now_ms`. Call again until it returns None."""
        match self.state:
            case TurnState.IDLE | TurnState.STARTING:
                return self._begin_again(now_ms)
            case TurnState.OVERLAP if self.agent is not Agent.SILENT:
                return self._advance_overlap(now_ms)
            case TurnState.OVERLAP:  # the reply is over, the floor is the user's
                self._cancel()
        silence = 0 if self._silent_since_ms is None else now_ms - self._silent_since_ms
        too_long = now_ms - self._started_ms >= self.settings.max_turn_ms
        if self.state is TurnState.SPEAKING and (silence >= self.settings.soft_end_silence_ms or too_long):
            self.state, self._needed_ms = TurnState.SOFT_END, self.settings.end_silence_ms
            return Decision.SOFT_END
        if self.state is TurnState.SOFT_END and (too_long or self._is_silent_enough(silence, now_ms)):
            self.state = TurnState.IDLE
            self._cut_at_ms = now_ms if too_long and self._speaking else None
            return Decision.END
        return None

    def force_end(self) -> list[Decision]:
        """End the turn now: what is still to be done for it, in order."""
        state, self.state = self.state, TurnState.IDLE
        match state:
            case TurnState.IDLE | TurnState.STARTING:
                return []
            case TurnState.SPEAKING:
                return [Decision.SOFT_END, Decision.END]
            case TurnState.SOFT_END:
                return [Decision.END]
            case TurnState.OVERLAP:
                return [Decision.CANCEL, Decision.SOFT_END, Decision.END]

    def _begin(self, at_ms: int) -> Decision:
        self._started_ms, self._ducked = at_ms, False
        over = self.agent is not Agent.SILENT
        self.state = TurnState.OVERLAP if over else TurnState.SPEAKING
        return Decision.OVERLAP if over else Decision.START

    def _begin_again(self, now_ms: int) -> Decision | None:
        """A turn that was ended for its length goes on as the next one."""
        if self._cut_at_ms is None or now_ms <= self._cut_at_ms:
            return None
        self._cut_at_ms, self._silent_since_ms = None, None
        return self._begin(now_ms)

    def _advance_overlap(self, now_ms: int) -> Decision | None:
        voiced_ms = self._voiced_ms(now_ms)
        if voiced_ms >= self.settings.cancel_voice_ms:
            return self._cancel()
        if not self._ducked and voiced_ms >= self.settings.duck_voice_ms:
            self._ducked = True
            return Decision.DUCK
        silent = self._silent_since_ms
        if silent is not None and now_ms - silent >= max(self.settings.judge_silence_ms, self.settings.soft_end_silence_ms):
            return Decision.JUDGE
        return None

    def _cancel(self) -> Decision:
        self.state = TurnState.SPEAKING
        return Decision.CANCEL

    def _yield(self, decision: Decision) -> Decision:
        self.state = TurnState.IDLE
        return decision

    def _voiced_ms(self, now_ms: int) -> int:
        """Voice since the overlap began, short pauses included."""
        end = self._silent_since_ms
        if end is None:
            end = now_ms if self._voice_ms is None else min(now_ms, self._voice_ms)
        return end - self._started_ms

    def _maybe_voice(self, now_ms: int) -> bool:
        return self._voice_ms is not None and now_ms - self._voice_ms < self.settings.starting_ms

    def _is_silent_enough(self, silence_ms: int, now_ms: int) -> bool:
        """A voice that may just be coming back keeps the turn open for a moment, but not for ever."""
        if silence_ms < self._needed_ms:
            return False
        comes_back = self._voice_ms is not None and self._voice_ms > (self._silent_since_ms or 0) and self._maybe_voice(now_ms)
        return not comes_back or silence_ms >= self._needed_ms + 4 * self.settings.starting_ms


def _log_odds(p: float) -> float:
    p = min(max(p, 1e-6), 1 - 1e-6)
    return math.log(p / (1 - p))


def _mean_odds(p: float, q: float) -> float:
    """The probability whose log-odds are the mean of both."""
    return 1 / (1 + math.exp(-(_log_odds(p) + _log_odds(q)) / 2))
