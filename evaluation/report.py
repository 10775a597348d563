"""The result of an evaluation: as JSON values, and as tables for people, with what the project promises
beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from ..models.whisperpro import TONES
from .answers import Outcome, Scored, SetResult
from .recognition import UNKNOWN, ConditionResult, ToneResult
from .sets import FILLERS
from .statistics import Ratio

NOT_MEASURED = "not measured"
MAX_WRONG = 40
"""Wrong turns that the JSON lists of each set and way."""


@dataclass(frozen=True, slots=True)
class Aim:
    """A promised figure, a share unless `unit` names another ("" for a plain number); `met` None where it was not measured."""

    name: str
    value: float | None
    at_least: float | None = None
    at_most: float | None = None
    unit: str = "%"

    @property
    def met(self) -> bool | None:
        """Whether the figure itself, not its interval, keeps the promise."""
        if self.value is None:
            return None
        above = self.at_least is None or self.value >= self.at_least
        return above and (self.at_most is None or self.value <= self.at_most)

    def shown(self, value: float) -> str:
        """A value or a bound in its unit."""
        return f"{100 * value:.4g} %" if self.unit == "%" else f"{value:.4g} {self.unit}".rstrip()


def aims_table(aims: Sequence[Aim]) -> Table:
    """What was measured beside what is promised, for a terminal; every report shows its aims so."""
    table = _table("Promised", "figure", "measured", "promised", "kept")
    for aim in aims:
        bound = f"<= {aim.shown(aim.at_most or 0)}" if aim.at_least is None else f">= {aim.shown(aim.at_least)}"
        measured = NOT_MEASURED if aim.value is None else aim.shown(aim.value)
        table.add_row(aim.name, measured, bound, {True: "yes", False: "no", None: "-"}[aim.met])
    return table


def aim_values(aim: Aim) -> dict[str, Any]:
    """JSON values."""
    return {**asdict(aim), "met": aim.met}


@dataclass(frozen=True, slots=True)
class Report:
    """What `evaluate` measured; the same model, size and seed give the same figures on the same machine."""

    model: str
    size: str
    seed: int
    seconds: float
    sets: tuple[SetResult, ...]
    conditions: tuple[ConditionResult, ...]
    tones: ToneResult

    @property
    def aims(self) -> tuple[Aim, ...]:
        """The promised figures."""
        fillers = {one.name: one for one in self.sets}[FILLERS]
        return (
            Aim("answers to typed turns, fillers", fillers.text.value, at_least=0.95),
            Aim("answers to speech, fillers", fillers.speech.value, at_least=0.75),
            Aim("word error rate, training voices", self.conditions[0].offline.value, at_most=0.06),
            Aim("tones, unseen voice variants", self.tones.accuracy.value, at_least=0.75),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON values; ratios with their 95 % intervals and counts."""
        return {
            "model": self.model,
            "size": self.size,
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "aims": [aim_values(aim) for aim in self.aims],
            "sets": {one.name: _set_values(one) for one in self.sets},
            "recognition": {one.name: _condition_values(one) for one in self.conditions},
            "tones": {
                "accuracy": self.tones.accuracy.to_dict(),
                "best_guess": self.tones.best_guess.to_dict(),
                "unknown": self.tones.unknown.to_dict(),
                "confusion": {tone: dict(labels) for tone, labels in self.tones.confusion.items()},
            },
        }

    def tables(self) -> RenderableType:
        """For a terminal."""
        return Group(*self._tables())

    def _tables(self) -> Iterator[RenderableType]:
        yield self._answers()
        yield self._skills()
        yield self._recognition()
        yield self._tones()
        yield (
            f"right {percent(self.tones.accuracy)}, unknown {percent(self.tones.unknown)}; "
            f"the likeliest tone, however unsure, is right {percent(self.tones.best_guess)}"
        )
        yield aims_table(self.aims)
        yield (f"{self.model}, size {self.size}, seed {self.seed}, {self.seconds:.0f} s. In brackets: bootstrap 95 % intervals.")

    def _answers(self) -> Table:
        wrong = [kind for kind in Outcome if kind is not Outcome.RIGHT]
        table = _table("Answers", "set", "typed", "spoken", "gap", *(f"spoken: {kind.value}" for kind in wrong))
        for one in self.sets:
            counts = (str(one.speech_outcomes[kind]) for kind in wrong)
            table.add_row(one.name, percent(one.text), percent(one.speech), points(one.gap), *counts)
        return table

    def _skills(self) -> Table:
        table = _table("Right turns by skill", "set", "", *(skills := self._skill_names()))
        for one in self.sets:
            for way, found in (("typed", one.text_skills), ("spoken", one.speech_skills)):
                counts = [found.get(skill) for skill in skills]
                table.add_row(one.name, way, *("" if pair is None else f"{pair[0]}/{pair[1]}" for pair in counts))
        return table

    def _skill_names(self) -> list[str]:
        found = [skill for one in self.sets for skill in (*one.text_skills, *one.speech_skills)]
        return list(dict.fromkeys(found))

    def _recognition(self) -> Table:
        table = _table("Word error rate", "condition", "offline", "sentences without error", "streaming")
        for one in self.conditions:
            if one.missing is None:
                table.add_row(one.name, percent(one.offline), percent(one.exact), percent(one.streaming))
            else:
                table.add_row(one.name, f"{NOT_MEASURED}: {one.missing}")
        return table

    def _tones(self) -> Table:
        table = _table("Tones of unseen voice variants", "said", *(labels := (*TONES, UNKNOWN)))
        for tone, counts in self.tones.confusion.items():
            table.add_row(tone, *(str(counts[label]) for label in labels))
        return table


def percent(ratio: Ratio) -> str:
    """As '95.0 % [93.1, 96.8] of 500'."""
    if ratio.value is None or ratio.low is None or ratio.high is None:
        return NOT_MEASURED
    return f"{ratio.value:.1%} \\[{ratio.low * 100:.1f}, {ratio.high * 100:.1f}] of {ratio.whole:.0f}"


def points(ratio: Ratio) -> str:
    """A difference of shares, as '+4.5 points [1.0, 8.2] of 200'."""
    if ratio.value is None or ratio.low is None or ratio.high is None:
        return NOT_MEASURED
    interval = f"\\[{ratio.low * 100:.1f}, {ratio.high * 100:.1f}]"
    return f"{ratio.value * 100:+.1f} points {interval} of {ratio.whole:.0f}"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _set_values(one: SetResult) -> dict[str, Any]:
    return {
        "text": one.text.to_dict(),
        "speech": one.speech.to_dict(),
        "gap": {
            "text": one.both_text.to_dict(),
            "speech": one.both_speech.to_dict(),
            "difference": one.gap.to_dict(),
        },
        "text_outcomes": {kind.value: one.text_outcomes[kind] for kind in Outcome},
        "speech_outcomes": {kind.value: one.speech_outcomes[kind] for kind in Outcome},
        "text_skills": {skill: list(pair) for skill, pair in one.text_skills.items()},
        "speech_skills": {skill: list(pair) for skill, pair in one.speech_skills.items()},
        "wrong": [value for way in ("text", "speech") for value in _wrong_values(way, one.wrong)[:MAX_WRONG]],
    }


def _wrong_values(way: str, wrong: tuple[tuple[str, Scored], ...]) -> list[dict[str, Any]]:
    return [
        {
            "by": way,
            "dialogue": one.dialogue,
            "outcome": one.outcome.value,
            "said": one.turn.user,
            "tone": one.turn.tone,
            "understood": one.answer.words,
            "expected": one.turn.reply,
            "expected_call": None if one.turn.call is None else [one.turn.call.name, one.turn.call.arguments],
            "reply": one.answer.reply,
            "calls": [[call.name, call.arguments] for call in one.answer.calls],
            "failure": one.answer.failure,
        }
        for by, one in wrong
        if by == way
    ]


def _condition_values(one: ConditionResult) -> dict[str, Any]:
    if one.missing is not None:
        return {"not_measured": one.missing}
    return {
        "offline_wer": one.offline.to_dict(),
        "exact_sentences": one.exact.to_dict(),
        "streaming_wer": one.streaming.to_dict(),
    }
