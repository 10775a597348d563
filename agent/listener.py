"""The ears of a session: ring, detector and recognizer of one stream of audio, and how the running turn sounds.

Samples go in at 16 kHz in pieces of any size; out come the detector's chunks one after the other. While a turn is open,
the recognizer is fed up to the chunk in hand and no further, so what it knows at a decision depends on the audio alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from time import perf_counter
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from ..engine import Engine, SpeechDone, Urgency
from ..models.checkpoint import Checkpoint
from ..models.errors import InputError
from ..models.fusion import turn_vectors
from ..models.speech_stream import Encode, Extend, Prosody, Verify
from ..models.whisper_decoding import Transcribe
from ..models.whisper_full import FullWhisper
from ..models.whisperpro import TONES
from ..streaming.clock import SAMPLES_PER_MS, ms_to_samples
from ..streaming.commit_policy import POLICIES, FinalPass, PolicyName
from ..streaming.full_recognizer import TICK_SAMPLES, FullRecognizer
from ..streaming.guards import split_words, whole_characters, word_starts
from ..streaming.recognizer import Recognized, Recognizer
from ..streaming.ring import AudioRing
from ..streaming.segments import LongTurn, Segment
from ..streaming.signal_prosody import measure
from ..streaming.vad import SpeechDetector, SpeechEnd, SpeechStart, VadDecision

Report = list[tuple[str, dict[str, object]]]
"""Events to be said: name and fields."""

PRE_ROLL_MS = 500
"""Audio before the detected onset that belongs to the turn."""
UNKNOWN_BELOW = 0.6
"""Confidence under which a label says unknown."""
MEASURED_SAMPLES = ms_to_samples(30_000)
"""Newest audio of a turn whose pitch, level and rate are measured."""
NO_TONE = ("unknown", 0.0)
PAUSE_SAMPLES = ms_to_samples(320)
"""A pause of the user in which no tick begins in real time: the final pass it may lead to would have to wait for it."""


@dataclass(frozen=True, slots=True)
class ListeningSettings:
    """How speech becomes words. InputError for a policy or final pass that there is not.

    `policy` and `final_pass`: what ticks commit and whether the final pass may replace it (`commit_policy.py`); a full
    recognizer's ticks commit only where no vectors are wanted. `language`: code or English name, for a full recognizer of
    many; None: found once and kept. `longest_tick_ms`: how far apart the engine may have ticks come under load; 0: as if it
    had none.
    """

    policy: PolicyName = "both"
    final_pass: FinalPass = "replace"
    language: str | None = None
    longest_tick_ms: int = 0

    def __post_init__(self) -> None:
        if self.policy not in get_args(PolicyName) or self.final_pass not in get_args(FinalPass):
            raise InputError(
                f"commit policy {self.policy!r}, final pass {self.final_pass!r}: expected one of {get_args(PolicyName)} and "
                f"one of {get_args(FinalPass)}"
            )


@dataclass(frozen=True, slots=True)
class Heard:
    """One chunk of the detector, ending at `now_samples`; where speech began or ended, if it says so. `waiting_samples` have
    come already behind it."""

    now_samples: int
    probability: float
    speaking: bool
    speech_start: int | None
    speech_end: int | None
    waiting_samples: int = 0


class Listener:
    """Audio in, recognized turns out. Only one turn is open at a time."""

    def __init__(self, engine: Engine, checkpoint: Checkpoint, prosody: bool, settings: ListeningSettings | None = None) -> None:
        self._engine, self._checkpoint, self._prosody = engine, checkpoint, prosody
        self._settings = settings or ListeningSettings()
        self._ring, self._detector = AudioRing(), SpeechDetector()
        self._turn = self._open_turn(checkpoint)
        full = isinstance(checkpoint.speech, FullWhisper)
        work = ("transcribe",) if full else ("encode", "verify", "extend", "prosody")
        self.stages = dict.fromkeys(("vad", *work, "interleave"), 0.0)
        self.is_open = self._speaking = False
        self.tone: tuple[str, float] = NO_TONE
        self.start_samples = self._end_samples = self._fed_samples = self._skip_until = 0
        self._ticked_samples = self._asked_samples = self._now = self._voiced_samples = 0
        self._silent_since = self._pause_samples = self._finished_samples = 0
        self._is_final = False
        self.skipped_ticks = 0

    def _open_turn(self, checkpoint: Checkpoint) -> LongTurn:
        """The recognizer for the checkpoint's kind of speech model. How many tokens a chunked one carries over a cut is what
        it was trained for: `carried_tokens` in its config, else none."""
        speech = checkpoint.speech
        tokenizer = speech.tokenizer if isinstance(speech, FullWhisper) else checkpoint.tokenizer
        starts_word, settings = _word_starts_of(tokenizer), self._settings
        if isinstance(speech, FullWhisper):
            self._prosody = self._prosody and speech.feature_dim > 0
            language = None if settings.language is None else speech.language_id(settings.language)
            policy = POLICIES[settings.policy]
            full = FullRecognizer(self._ask, speech.window_samples, self._prosody, language, speech.text, policy, starts_word)
            return LongTurn(full, speech.max_prompt, starts_word.__getitem__)
        chunked = Recognizer(self._run, speech.config, starts_word, POLICIES[settings.policy], settings.final_pass)
        carried = min(int(checkpoint.config.get("carried_tokens", 0)), speech.config.max_prompt)
        return LongTurn(chunked, carried, starts_word.__getitem__)

    def listen(self, samples: NDArray[np.float32]) -> Iterator[Heard]:
        """The detector's chunks that `samples` [n] at 16 kHz complete."""
        self._ring.append(samples)
        began = perf_counter()
        found = self._detector.push(samples)
        self.stages["vad"] += perf_counter() - began
        for index, event in enumerate(found):
            if not isinstance(event, VadDecision):
                continue
            start = end = None
            for change in found[index + 1 : index + 3]:
                if isinstance(change, VadDecision):
                    break
                if isinstance(change, SpeechStart):
                    start, self._speaking = change.at_samples, True
                    self._pause_samples = start - self._silent_since
                elif isinstance(change, SpeechEnd):
                    end, self._speaking = change.at_samples, False
                    self._silent_since = end
            self._now = event.end_samples
            if event.probability >= self._detector.settings.end_probability:
                self._voiced_samples = self._now
            if self.is_open:
                self._feed()
                self._keep_distance()
            yield Heard(event.end_samples, event.probability, self._speaking, start, end, self._ring.end_samples - self._now)

    @property
    def block_ready(self) -> bool:
        """Whether a tick has something new to encode; after a skipped one, when there is another block; in real time not
        in the first `PAUSE_SAMPLES` of a pause."""
        pausing = 0 < self._now - self._voiced_samples <= PAUSE_SAMPLES and self._settings.longest_tick_ms > 0
        return self._turn.block_ready and self._fed_samples >= self._skip_until and not pausing

    def skip_tick(self) -> None:
        """Recognition is behind: leave this tick out and count it in `skipped_ticks`. A final pass is never left out."""
        self.skipped_ticks += 1
        self._skip_until = self._fed_samples + TICK_SAMPLES

    def _keep_distance(self) -> None:
        """Under load the engine wants ticks further apart than a block: leave out those between."""
        if not self._settings.longest_tick_ms or not self.block_ready:
            return
        wanted_ms = min(self._engine.tick_ms, self._settings.longest_tick_ms)
        due = self._ticked_samples + ms_to_samples(wanted_ms) - TICK_SAMPLES // 2  # of two blocks, the nearer one
        if wanted_ms > TICK_SAMPLES // SAMPLES_PER_MS and self._fed_samples < due:
            self.skip_tick()

    @property
    def tokens(self) -> tuple[int, ...]:
        """Committed tokens of the turn, as the backbone reads them."""
        return self._checkpoint.heard_ids(self._turn.log.tokens)

    @property
    def vectors(self) -> list[NDArray[np.float32]] | None:
        """The prosody vectors that the backbone reads: of the recognizer's tokens, with `global` fusion the mean of each
        segment; None with prosody off or a plain Whisper."""
        return turn_vectors(self._turn.segment_vectors, self._checkpoint.fusion) if self._prosody else None

    @property
    def text(self) -> str:
        """Committed words of the turn."""
        return self._checkpoint.speech_text(self._turn.log.tokens).strip()

    @property
    def words(self) -> list[str]:
        """The same as a list; a full recognizer gives the words it is likely to commit as long as none is."""
        tokens = whole_characters(self._turn.likely, self._checkpoint.speech_text)
        return split_words(self._checkpoint.speech_text(tokens))

    @property
    def drift(self) -> tuple[float, ...]:
        """With the final pass told to keep what was committed: of each such vector its cosine with the offline one."""
        return self._turn.drift

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The closed segments of a turn that is longer than the recognizer's window."""
        return tuple(self._turn.segments)

    @property
    def realtime_factor(self) -> float | None:
        """Compute of the last turn's listening over the length of its audio."""
        if not self._fed_samples:
            return None
        return round(sum(self.stages.values()) * 16_000 / (self._fed_samples - self.start_samples), 4)

    def open(self, onset_samples: int) -> None:
        """Begin a turn whose speech starts at `onset_samples`; it reaches back by the pre-roll."""
        earliest = max(self._end_samples, self._ring.start_samples)
        self.start_samples = max(onset_samples - ms_to_samples(PRE_ROLL_MS), earliest, 0)
        self._fed_samples = self._ticked_samples = self._asked_samples = self.start_samples
        self.stages = dict.fromkeys(self.stages, 0.0)
        self._turn.start()
        self._skip_until = self.skipped_ticks = 0
        self.is_open, self.tone = True, NO_TONE
        self._feed()

    def close(self) -> None:
        """The turn is over; the next one begins behind it at the earliest."""
        self._end_samples = self._fed_samples
        self.is_open = False

    def release(self) -> None:
        """The session is over: give back what holds its sound. It stands in circles of references, and the garbage collector,
        which counts objects and not bytes, would let dozens of sessions wait, 14 MB each."""
        del self._ring, self._detector, self._turn

    async def tick(self) -> Report:
        """Encode, verify, extend and commit what is new."""
        self._ticked_samples = self._fed_samples
        return self._report(await self._turn.tick())

    async def finish(self) -> Report:
        """The final pass at a soft end."""
        self._is_final, self._finished_samples = True, self._fed_samples
        try:
            return self._report(await self._turn.finish())
        finally:
            self._is_final = False

    def resume(self) -> Report:
        """Speech goes on after a soft end."""
        paused = self._silent_since <= self._finished_samples  # else the final pass was forced while somebody spoke
        return self._report(self._turn.resume(self._pause_samples if paused else 0))

    def _feed(self) -> None:
        if self._now > self._fed_samples:
            self._turn.feed(self._ring.read(self._fed_samples, self._now))
            self._fed_samples = self._now

    async def _run(self, item: Encode | Verify | Extend | Prosody) -> object:
        return (await self._ask(item)).value

    async def _ask(self, item: Encode | Verify | Extend | Prosody | Transcribe) -> SpeechDone:
        late, new = self._ring.end_samples - self._fed_samples, self._fed_samples - self._asked_samples
        self._asked_samples = self._fed_samples
        done = await self._engine.run(item, Urgency(self._is_final, late, new))
        self.stages[type(item).__name__.lower()] += done.seconds
        return done

    def _report(self, change: Recognized) -> Report:
        report: Report = []
        log, words = self._turn.log, self._checkpoint.speech_text
        if change.retracted_to is not None:
            report.append(("TokensRetracted", {"to_index": change.retracted_to}))
        if change.committed:
            tokens = tuple(commit.token for commit in change.committed)
            values: dict[str, object] = {
                "start_index": len(log) - len(tokens),
                "tokens": tokens,
                "text": words(tokens),
                "end_ms": (self.start_samples + log.end_samples) // SAMPLES_PER_MS,
            }
            report.append(("TokensCommitted", values))
            if self._prosody:
                report.append(("Prosody", self._sounds_like()))
        tentative = whole_characters(change.tentative, words)
        report.append(("Update", {"committed": self.text, "tentative": words(tentative).strip()}))
        return report

    def _sounds_like(self) -> dict[str, object]:
        """Fields of the Prosody event for the turn so far."""
        speech, label, confidence = self._checkpoint.speech, "unknown", 0.0
        if not isinstance(speech, FullWhisper):  # which has no head that reads a tone
            probabilities = speech.tone_probabilities(np.stack(self._turn.log.vectors))
            best = int(probabilities.argmax())
            confidence = float(probabilities[best])
            label = TONES[best] if confidence >= UNKNOWN_BELOW else "unknown"
        self.tone = (label, confidence)
        begin = max(self.start_samples, self._fed_samples - MEASURED_SAMPLES)
        n_words = round(len(self.words) * (self._fed_samples - begin) / (self._fed_samples - self.start_samples))
        signal = measure(self._ring.read(begin, self._fed_samples), n_words)
        return {"label": label, "confidence": round(confidence, 3), **asdict(signal)}


@lru_cache(maxsize=4)
def _word_starts_of(tokenizer: PreTrainedTokenizerFast) -> list[bool]:
    """For each token whether a word begins with it. Asked once for each model: for 150,000 tokens it takes a third of a second,
    in which every other session of the event loop would wait."""
    return word_starts(tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))))
