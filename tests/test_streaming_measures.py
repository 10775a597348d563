"""The streaming bench's measures on made-up events in virtual time, its baseline on scripted hypotheses, its picture."""

from __future__ import annotations

import asyncio
from xml.etree import ElementTree

import numpy as np
import pytest

from textpro.evaluation.local_agreement import Agreement, Decoded, TimedWord, local_agreement
from textpro.evaluation.streaming_bench import QUICK, designs_of
from textpro.evaluation.streaming_measures import (
    Cosines,
    Spread,
    churn,
    commits_alone,
    committed_at,
    first_guess,
    heard_ends,
    lags,
    measure,
    prefix_errors,
)
from textpro.evaluation.streaming_report import Report, WordRow, measures_to_dict
from textpro.evaluation.streaming_trace import (
    Activity,
    CacheUse,
    DeviceClock,
    EndGuess,
    Kind,
    Pace,
    Spoken,
    Step,
    Trace,
    Turn,
)
from textpro.evaluation.timeline import draw_timeline
from textpro.models.errors import InputError

MS = 16


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def step(at_ms: int, committed: str, tentative: str = "", kind: Kind = Kind.TICK, cost_ms: int = 0, back: int = 0, add: int = 0):
    return Step(kind, at_ms * MS, (at_ms + cost_ms) * MS, words(committed), words(tentative), add, back)


def spoken(text: str, *ends_ms: int, kind: str = "sentence") -> Spoken:
    starts = (0, *ends_ms[:-1])
    samples = np.zeros(2_000 * MS, np.float32)
    return Spoken(samples, words(text), tuple(at * MS for at in starts), tuple(at * MS for at in ends_ms), kind)


SAID = spoken("turn the light on", 400, 500, 900, 1_100)
TURN = Turn(
    0,
    1_300 * MS,
    (
        step(320, "", "turn", cost_ms=10),
        step(640, "turn", "a light", cost_ms=20, add=1),
        step(960, "turn the", "light", cost_ms=30, add=1),
        step(1_300, "turn the light on", kind=Kind.FINAL, cost_ms=50, add=2),
    ),
    (CacheUse(held=4, kept=3, needed=6),),
    vectors=4,
    final_vectors=3,
)
TRACE = Trace(2_000 * MS, (TURN,), {"vad": 0.1, "encode": 0.2, "prosody": 0.3, "extend": 0.2}, late=1)


def test_a_lag_runs_from_the_end_of_the_sound_to_the_commit_on_either_clock() -> None:
    free = lags([SAID], [TRACE], Pace.UNAWARE)
    assert free.commit == Spread.of([240, 460, 400, 200])
    assert lags([SAID], [TRACE], Pace.AWARE).commit == Spread.of([260, 490, 450, 250])
    assert free.first_partial == Spread.of([-80])
    assert (free.final_pass.p50, lags([SAID], [TRACE], Pace.AWARE).final_pass.p50) == (0, 50)


def test_a_word_counts_from_when_it_stands_for_good() -> None:
    turn = Turn(
        0,
        900 * MS,
        (
            step(100, "one"),
            step(200, "one two"),
            step(300, "one", back=1),
            step(400, "one too"),
            step(500, "one two", kind=Kind.FINAL),
        ),
    )
    assert committed_at(turn, 0, Pace.UNAWARE) == 100 * MS
    assert committed_at(turn, 1, Pace.UNAWARE) == 500 * MS


def test_misheard_words_have_no_lag_and_first_guesses_must_be_the_first_word_of_the_end() -> None:
    turn = Turn(0, 900 * MS, (step(300, "", "burn the"), step(700, "turn a light", kind=Kind.FINAL)))
    trace = Trace(900 * MS, (turn,), {})
    assert heard_ends(SAID, trace) == {0: 400 * MS, 2: 900 * MS}
    assert first_guess(turn, Pace.UNAWARE) == 700 * MS
    assert lags([SAID], [trace], Pace.UNAWARE).commit.count == 2


def test_words_of_several_turns_keep_their_places() -> None:
    first = Turn(0, 600 * MS, (step(600, "turn the", kind=Kind.FINAL),))
    second = Turn(700 * MS, 1_300 * MS, (step(1_300, "light on", kind=Kind.FINAL),))
    trace = Trace(1_500 * MS, (first, second), {})
    assert trace.words == words("turn the light on")
    assert lags([SAID], [trace], Pace.UNAWARE).commit == Spread.of([200, 100, 400, 200])


def test_churn_counts_words_that_were_shown_in_vain() -> None:
    assert churn(TURN) == (2, 4)  # "a light" gave way to "the light"
    assert churn(Turn(0, 1, (step(1, "", "one two"), step(2, "one two", "three"), step(3, "one two three")))) == (0, 3)


def test_commits_alone_end_before_the_last_final_pass() -> None:
    assert TURN.commits_alone == words("turn the")
    resumed = Turn(
        0,
        1,
        (step(1, "one"), step(2, "one two", kind=Kind.FINAL), step(3, "one", kind=Kind.RESUME), step(4, "one", kind=Kind.FINAL)),
    )
    assert resumed.commits_alone == words("one")
    assert commits_alone(Trace(1, (TURN, resumed), {})) == words("turn the light on one")


@pytest.mark.parametrize(
    ("said", "errors"),
    [("", (0, 0)), ("turn the", (0, 2)), ("turn a", (1, 2)), ("turn light", (1, 3)), ("turn the light on now", (1, 4))],
)
def test_words_not_committed_yet_are_no_errors(said: str, errors: tuple[int, int]) -> None:
    assert prefix_errors(SAID.words, words(said)) == errors


def test_all_figures_of_a_made_up_run() -> None:
    found = measure([SAID], [TRACE], [TRACE], [(words("turn the light on"),)], seed=1)
    assert found.end_text.value == found.offline.value == found.commits_alone.value == 0
    assert found.end_equals_offline.value == 1
    assert found.committed_before_end.value == 0.5
    assert found.retracted_tokens.value == 0 and found.turns_with_retraction.value == 0
    assert found.churn.value == 0.5
    assert found.compute.value == pytest.approx(0.4) and found.recognition.value == pytest.approx(0.2)
    assert found.vectors_final is not None and found.vectors_final.value == 0.75
    assert found.cache_kept is not None and found.cache_kept.value == 0.75
    assert found.cache_ready is not None and found.cache_ready.value == 0.5
    assert found.late_ticks == 1
    assert measures_to_dict(found)["lags_ms"]["compute-aware"]["commit"]["count"] == 4


def test_other_words_offline_and_retractions_show() -> None:
    turn = Turn(
        0,
        9 * MS,
        (
            step(1, "one two", add=2),
            step(2, "one", kind=Kind.RESUME, back=1),
            step(3, "one two three", add=2),
            step(4, "one two", kind=Kind.FINAL, back=1),
        ),
    )
    said = spoken("one two", 1, 2)
    found = measure([said], [Trace(9 * MS, (turn,), {})], [Trace(9 * MS, (turn,), {})], [(words("one too"),)], seed=1)
    assert found.retracted_tokens.value == 0.5 and found.of_them_by_resume.value == 0.25
    assert found.turns_with_retraction.value == 1
    assert found.end_equals_offline.value == 0 and found.offline.value == 0.5
    assert found.vectors_final is None and found.cache_kept is None


def test_the_device_does_one_thing_at_a_time() -> None:
    clock = DeviceClock()
    assert clock.work(1_000, {"encode": 0.1}) == 2_600
    assert clock.work(1_500, {"encode": 0.1, "extend": 0.1}) == 5_800
    assert clock.work(9_000, {}) == 9_000
    assert clock.seconds == pytest.approx({"encode": 0.2, "extend": 0.1})


def timed(*words_and_ends: object, start: int = 0) -> tuple[TimedWord, ...]:
    found, at = [], start
    for word, end in zip(words_and_ends[::2], words_and_ends[1::2], strict=True):
        found.append(TimedWord(str(word), at, int(end) * MS))  # type: ignore[call-overload]
        at = found[-1].end_samples
    return tuple(found)


def test_local_agreement_commits_what_two_decodings_agree_on() -> None:
    rule = Agreement()
    assert rule.insert(timed("turn", 400, "the", 500, "lamp", 900)) == ()
    assert [word.text for word in rule.insert(timed("turn", 400, "the", 500, "light", 900))] == ["turn", "the"]
    assert [word.text for word in rule.tentative] == ["light"]
    assert [word.text for word in rule.insert(timed("turn", 400, "the", 500, "light", 900, "on", 1_100))] == ["light"]
    assert [word.text for word in rule.finish(timed("turn", 400, "the", 500, "light", 900, "on", 1_100))] == ["on"]
    assert [word.text for word in rule.committed] == ["turn", "the", "light", "on"]


def test_local_agreement_drops_words_that_repeat_the_end_of_the_commits() -> None:
    rule = Agreement()
    rule.insert(timed("turn", 400, "the", 500))
    rule.insert(timed("turn", 400, "the", 500))
    again = (TimedWord("the", 480 * MS, 560 * MS), TimedWord("light", 560 * MS, 900 * MS))
    assert rule.insert(again) == () and [word.text for word in rule.tentative] == ["light"]
    assert [word.text for word in rule.insert(again)] == ["light"]


def test_local_agreement_never_takes_a_commit_back() -> None:
    rule = Agreement()
    rule.insert(timed("turn", 400, "the", 500))
    rule.insert(timed("turn", 400, "the", 500))
    assert rule.insert(timed("burn", 400, "a", 500, "light", 900)) == ()
    assert [word.text for word in rule.finish(timed("burn", 400, "a", 500, "light", 900))] == ["light"]
    assert [word.text for word in rule.committed] == ["turn", "the", "light"]


def test_the_baseline_decodes_each_second_or_when_it_is_done_and_cuts_a_long_buffer() -> None:
    asked: list[tuple[int, int, tuple[str, ...]]] = []
    script = {1_000: "one", 2_000: "one two", 3_500: "one two three", 4_500: "four five", 5_000: "four five six"}

    async def decode(samples: np.ndarray, start: int, prompt: tuple[str, ...]) -> Decoded:
        now = (start + len(samples)) // MS
        asked.append((start // MS, now, prompt))
        ends = [start // MS + 500 * (index + 1) for index in range(len(script[now].split()))]
        flat = [item for pair in zip(script[now].split(), ends, strict=True) for item in pair]
        return Decoded(timed(*flat, start=start), 1.5 if now == 2_000 else 0.1)

    turn = Turn(0, 5_000 * MS, ())
    trace = asyncio.run(local_agreement(decode, np.zeros(5_000 * MS, np.float32), turn, window_samples=4_000 * MS))
    assert asked == [
        (0, 1_000, ()),
        (0, 2_000, ()),
        (0, 3_500, ()),
        (1_000, 4_500, ("one", "two")),
        (1_000, 5_000, ("one", "two")),
    ]
    (heard,) = trace.turns
    assert [one.done_samples // MS for one in heard.steps] == [1_100, 3_500, 3_600, 4_600, 5_100]
    assert trace.words == words("one two four five six")
    assert heard.commits_alone == words("one two") and trace.late == 1


def test_the_timeline_is_well_formed_and_says_what_was_said() -> None:
    turn = Turn(
        0,
        1_300 * MS,
        (
            step(320, "", "turn <on>"),
            step(640, "turn & wait", "li"),
            step(800, "turn", "the", back=2),
            step(900, "turn", kind=Kind.RESUME),
            step(1_300, "turn the light on", kind=Kind.FINAL, cost_ms=40),
        ),
    )
    activity = tuple(Activity(at, 0.8, 4_000 < at < 16_000) for at in range(512, 32_000, 512))
    trace = Trace(2_000 * MS, (turn,), {}, activity=activity, end_guesses=(EndGuess(640 * MS, 0.1), EndGuess(1_300 * MS, 0.93)))
    svg = draw_timeline(SAID, trace, 'A "timeline" & more')
    root = ElementTree.fromstring(svg)
    shown = " ".join("".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text"))
    for expected in ("turn", "light", "[turn <on>]", "& wait", "✕ −2", "soft end", "0.93", "speech?", "P(end)", "240 ms"):
        assert expected in shown
    assert "turn the light on" in " ".join(shown.split())


def test_the_drift_of_kept_vectors_is_its_median_and_its_low_end() -> None:
    assert Cosines.of([]) is None
    assert Cosines.of([1.0] * 90 + [0.5] * 10) == Cosines(1.0, 0.5, 100)


def test_a_timeline_without_a_turn_is_well_formed() -> None:
    ElementTree.fromstring(draw_timeline(SAID, Trace(2_000 * MS, (), {}), "nothing"))


def test_policies_are_compared_and_unknown_ones_refused() -> None:
    labels = [design.label(320) for design in designs_of(QUICK)]
    assert labels == ["both, 320 ms", "agreement, 320 ms", "alignment, 320 ms", "both, 640 ms", "both, 320 ms, kept"]
    assert {design.policy for design in designs_of(QUICK, ["alignment"])} == {"alignment"}
    with pytest.raises(InputError, match="no commit policy 'none'"):
        designs_of(QUICK, ["none"])


def test_a_word_is_one_line_of_csv(tmp_path) -> None:
    rows = tuple(WordRow.of("both", [SAID], [TRACE], [TRACE]))
    Report("tiny", "quick", 0, 1.0, (), (), rows, "").write_csv(tmp_path / "words.csv")
    lines = (tmp_path / "words.csv").read_text().splitlines()
    assert lines[0] == "design,utterance,kind,word,end_ms,lag_unaware_ms,lag_aware_ms"
    assert lines[1] == "both,0,sentence,turn,400,240,260" and len(lines) == 5
