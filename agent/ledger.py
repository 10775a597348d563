"""Which words of the reply were heard? The ledger ties the reply's text to its audio and to what the transport played.

Clauses are entered in the order in which they are spoken, words as their times become known. `played` is what the
transport says, or an estimate; the heard text is every word that had ended by then, so of a word cut in two nothing counts.
Pure bookkeeping: no I/O, no clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..streaming.synthesis import WordTime


@dataclass(slots=True)
class _Clause:
    text: str
    start_ms: float
    samples: int = 0
    words: list[WordTime] = field(default_factory=list)
    complete: bool = False


class PlaybackLedger:
    """One reply."""

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate
        self._clauses: list[_Clause] = []
        self._played_ms = 0.0
        self.is_estimate = False
        """Whether what counts as played was assumed or computed, and not reported by what plays."""

    @property
    def audio_ms(self) -> float:
        """Length of all audio entered so far."""
        return self._end_ms(self._clauses[-1]) if self._clauses else 0.0

    @property
    def played_ms(self) -> float:
        """What the transport says it has played."""
        return self._played_ms

    @property
    def is_played(self) -> bool:
        """Whether all audio entered so far has been played."""
        return self._played_ms >= self.audio_ms - 0.5

    def begin_clause(self, text: str) -> None:
        """The next clause of the reply is about to be spoken; clauses joined are the reply's text."""
        self._clauses.append(_Clause(text, self.audio_ms))

    def add_audio(self, samples: int, words: tuple[WordTime, ...]) -> None:
        """More audio of the current clause and the words whose times are known with it."""
        self._clauses[-1].samples += samples
        self._clauses[-1].words += words

    def end_clause(self) -> None:
        """The current clause has all its audio."""
        self._clauses[-1].complete = True

    @property
    def rest_ms(self) -> float:
        """Audio entered and not played."""
        return self.audio_ms - self._played_ms

    def played(self, total_ms: float, estimated: bool = False) -> None:
        """The transport has played the first `total_ms` of the reply, by its report or as an estimate; never goes back,
        never past the audio. A report that reaches as far as an estimate takes its place."""
        reached = min(total_ms, self.audio_ms)
        if reached > self._played_ms or (reached == self._played_ms and self.is_estimate):
            self.is_estimate = estimated
        self._played_ms = max(self._played_ms, reached)

    def heard_text(self) -> str:
        """The words that were played to their end, with the text before and between them."""
        heard = ""
        for clause in self._clauses:
            if clause.complete and self._played_ms >= self._end_ms(clause) - 0.5:
                heard += clause.text
                continue
            ended = [
                word for word in clause.words if clause.start_ms + word.end_samples * 1000 / self._rate <= self._played_ms + 0.5
            ]
            if ended:
                heard += clause.text[: ended[-1].text_start + ended[-1].text_length]
            break
        return heard

    def _end_ms(self, clause: _Clause) -> float:
        return clause.start_ms + clause.samples * 1000 / self._rate
