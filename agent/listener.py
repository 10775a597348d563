"""The ears of a session: ring, detector and recognizer of one stream of audio, and how the running turn sounds.

Samples go in at 16 kHz in pieces of any size; out come the detector's chunks one after the other. While a turn is open,
the recognizer is fed up to the chunk in hand and no further, so what it knows at a decision depends on the audio alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from ..engine import Engine, SpeechDone
from ..models.checkpoint import Checkpoint
from ..models.speech_stream import Encode, Extend, Prosody, Verify
from ..models.whisper_full import FullWhisper, Transcribe
from ..models.whisperpro import TONES
from ..streaming.clock import SAMPLES_PER_MS, ms_to_samples
from ..streaming.full_recognizer import FullRecognizer
from ..streaming.recognizer import Recognized, Recognizer
from ..streaming.ring import AudioRing
from ..streaming.signal_prosody import measure
from ..streaming.vad import SpeechDetector, SpeechEnd, SpeechStart, VadDecision

Report = list[tuple[str, dict[str, object]]]
"""Events to be said: name and fields."""

PRE_ROLL_MS = 500
"""Audio before the detected onset that belongs to the turn."""
UNKNOWN_BELOW = 0.6
"""Confidence under which a label says unknown."""
NO_TONE = ("unknown", 0.0)


@dataclass(frozen=True, slots=True)
class Heard:
    """One chunk of the detector, ending at `now_samples`; where speech began or ended, if it says so."""

    now_samples: int
    probability: float
    speaking: bool
    speech_start: int | None
    speech_end: int | None


class Listener:
    """Audio in, recognized turns out. Only one turn is open at a time."""

    def __init__(self, engine: Engine, checkpoint: Checkpoint, prosody: bool) -> None:
        self._engine, self._checkpoint, self._prosody = engine, checkpoint, prosody
        self._ring, self._detector = AudioRing(), SpeechDetector()
        self._recognizer = self._open_recognizer(checkpoint)
        full = isinstance(self._recognizer, FullRecognizer)
        work = ("transcribe",) if full else ("encode", "verify", "extend", "prosody")
        self.stages = dict.fromkeys(("vad", *work, "interleave"), 0.0)
        self.is_open = self._speaking = False
        self.tone: tuple[str, float] = NO_TONE
        self.start_samples = self._end_samples = self._fed_samples = 0

    def _open_recognizer(self, checkpoint: Checkpoint) -> Recognizer | FullRecognizer:
        """The recognizer for the checkpoint's kind of speech model."""
        speech = checkpoint.speech
        if isinstance(speech, FullWhisper):
            self._prosody = self._prosody and speech.feature_dim > 0
            return FullRecognizer(self._ask, speech.window_samples, self._prosody)
        tokenizer = checkpoint.tokenizer
        pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        starts_word = [piece.startswith("\u0120") for piece in pieces]
        return Recognizer(self._run, speech.config, starts_word)

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
                elif isinstance(change, SpeechEnd):
                    end, self._speaking = change.at_samples, False
            self._now = event.end_samples
            if self.is_open:
                self._feed()
            yield Heard(event.end_samples, event.probability, self._speaking, start, end)

    @property
    def block_ready(self) -> bool:
        """Whether a tick has something new to encode."""
        return self._recognizer.block_ready

    @property
    def tokens(self) -> tuple[int, ...]:
        """Committed tokens of the turn, as the backbone reads them."""
        return self._checkpoint.heard_ids(self._recognizer.log.tokens)

    @property
    def vectors(self) -> list[NDArray[np.float32]] | None:
        """The prosody vectors of the recognizer's tokens; None with prosody off or a plain Whisper."""
        return self._recognizer.log.vectors if self._prosody else None

    @property
    def text(self) -> str:
        """Committed words of the turn."""
        return self._checkpoint.speech_text(self._recognizer.log.tokens).strip()

    @property
    def words(self) -> list[str]:
        """The same as a list; a full recognizer gives the words it is likely to commit as long as none is."""
        recognizer = self._recognizer
        likely = recognizer.likely if isinstance(recognizer, FullRecognizer) else recognizer.log.tokens
        return self._checkpoint.speech_text(likely).split()

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
        self._fed_samples = self.start_samples
        self.stages = dict.fromkeys(self.stages, 0.0)
        self._recognizer.start()
        self.is_open, self.tone = True, NO_TONE
        self._feed()

    def close(self) -> None:
        """The turn is over; the next one begins behind it at the earliest."""
        self._end_samples = self._fed_samples
        self.is_open = False

    async def tick(self) -> Report:
        """Encode, verify, extend and commit what is new."""
        return self._report(await self._recognizer.tick())

    async def finish(self) -> Report:
        """The final pass at a soft end."""
        return self._report(await self._recognizer.finish())

    def resume(self) -> Report:
        """Speech goes on after a soft end."""
        return self._report(self._recognizer.resume())

    def _feed(self) -> None:
        end = min(self._now, self.start_samples + self._recognizer.capacity_samples)
        if end > self._fed_samples:
            self._recognizer.feed(self._ring.read(self._fed_samples, end))
            self._fed_samples = end

    async def _run(self, item: Encode | Verify | Extend | Prosody) -> object:
        return (await self._ask(item)).value

    async def _ask(self, item: Encode | Verify | Extend | Prosody | Transcribe) -> SpeechDone:
        done = await self._engine.run(item)
        self.stages[type(item).__name__.lower()] += done.seconds
        return done

    def _report(self, change: Recognized) -> Report:
        report: Report = []
        log, words = self._recognizer.log, self._checkpoint.speech_text
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
        report.append(("Update", {"committed": self.text, "tentative": words(change.tentative).strip()}))
        return report

    def _sounds_like(self) -> dict[str, object]:
        """Fields of the Prosody event for the turn so far."""
        speech, label, confidence = self._checkpoint.speech, "unknown", 0.0
        if not isinstance(speech, FullWhisper):  # which has no head that reads a tone
            probabilities = speech.tone_probabilities(np.stack(self._recognizer.log.vectors))
            best = int(probabilities.argmax())
            confidence = float(probabilities[best])
            label = TONES[best] if confidence >= UNKNOWN_BELOW else "unknown"
        self.tone = (label, confidence)
        signal = measure(self._ring.read(self.start_samples, self._fed_samples), len(self.words))
        return {"label": label, "confidence": round(confidence, 3), **asdict(signal)}
