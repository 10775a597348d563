"""The streaming bench from end to end on two utterances with the bundled model."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from rich.console import Console
from typer import Typer
from typer.testing import CliRunner

from textpro.bench_commands import bench_streaming as command
from textpro.evaluation import streaming_bench, streaming_noise
from textpro.evaluation.streaming_bench import BASELINE, QUICK, bench_streaming
from textpro.evaluation.streaming_sets import LONG, PAUSE, SENTENCE, Counts, draw_spoken
from textpro.evaluation.streaming_trace import Pace

SMALL = replace(QUICK, counts=Counts(1, 0, 1), blocks=(1,), noise_seconds=2, alone_seconds=2)
pytestmark = pytest.mark.usefixtures("espeak_library")


def test_the_bench_measures_and_draws_two_utterances(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    quiet = {name: streaming_noise.NOISES[name] for name in ("silence", "tones")}
    monkeypatch.setattr(streaming_noise, "NOISES", quiet)
    stages: set[str] = set()
    report = bench_streaming("tiny", SMALL, 3, ["both"], lambda stage, done, total: stages.add(stage))
    own, kept, baseline = report.results
    assert kept.name == f"{own.name}, kept" and kept.measures.drift is not None and own.measures.drift is None
    assert kept.measures.drift.count > 0 and -1 <= kept.measures.drift.p5 <= kept.measures.drift.p50 <= 1 + 1e-6
    assert baseline.name == BASELINE and {own.name, BASELINE, "noise"} <= stages
    assert own.measures.end_equals_offline.value == 1
    assert own.measures.vectors_final is not None and own.measures.vectors_final.whole > 0
    unaware, aware = (own.measures.lags[pace].commit for pace in (Pace.UNAWARE, Pace.AWARE))
    assert unaware.p50 is not None and aware.p50 is not None and 0 < unaware.p50 <= aware.p50
    assert baseline.measures.lags[Pace.UNAWARE].commit.p50 > unaware.p50
    assert [(noise.name, noise.tokens) for noise in report.noises] == [("silence", 0), ("tones", 0)]
    values = json.loads(json.dumps(report.to_dict()))
    assert {"aims", "designs", "noise", "seed"} <= set(values) and values["designs"][own.name]["all"]["compute"]["value"] > 0
    console = Console(width=200, file=io.StringIO())
    console.print(report.tables())
    assert own.name in (printed := console.file.getvalue()) and "Promised" in printed
    ElementTree.fromstring(report.timeline)
    report.write_csv(tmp_path / "words.csv")
    assert f'"{BASELINE}"' in (tmp_path / "words.csv").read_text()


def test_utterances_come_again_with_their_seed_and_hold_their_kinds() -> None:
    counts = Counts(2, 1, 1)
    first, second = (list(draw_spoken(counts, 5)) for _ in range(2))
    assert [one.kind for one in first] == [SENTENCE, SENTENCE, LONG, PAUSE]
    assert [one.words for one in first] == [one.words for one in second]
    assert all(len(one.words) == len(one.ends) and one.ends[-1] < len(one.samples) for one in first)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--timeline", "picture.jpg"], "expected a name that ends in .svg"),
        (["--csv", "nowhere/words.csv"], "its folder does not exist"),
        (["--policy", "guess"], "no commit policy 'guess'"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_measured(
    options: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming_bench, "draw_spoken", lambda *_: pytest.fail("it began to measure"))
    app = Typer()
    app.command()(command)
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 2 and message in " ".join(result.output.split())
