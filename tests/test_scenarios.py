"""Every scenario of tests/scenarios with the bundled model, one runtime for all, and the simulator's own promises."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
import typer
from typer.testing import CliRunner

from requirements import require_module
from textpro.evaluation.scenario import parse_scenario, read_scenario
from textpro.evaluation.simulate_picture import picture
from textpro.evaluation.simulate_report import junit
from textpro.evaluation.simulator import Simulator
from textpro.models.errors import InputError
from textpro.simulate_command import simulate

FOLDER = Path(__file__).parent / "scenarios"
FILES = sorted(FOLDER.glob("*.yaml"))


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    require_module("espeakng_loader")
    with Simulator() as simulator:
        yield simulator


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_scenario(simulator: Simulator, path: Path) -> None:
    outcome = simulator.run(read_scenario(path))
    assert outcome.passed, "\n".join(outcome.failures)
    assert outcome.duration_ms <= 15_000, "keep scenarios short"


def test_there_are_scenarios_for_every_kind_of_complaint() -> None:
    assert len(FILES) >= 30
    assert all("#" in read_scenario(path).about for path in FILES if path.stem not in ("question", "prosody_off"))


def test_every_complaint_that_a_runtime_can_cause_has_its_scenarios_in_the_table_and_every_scenario_its_complaint() -> None:
    page = (Path(__file__).parent.parent / "docs" / "scenarios.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z_]+)`", page[page.index("## Complaints") : page.index("## Recordings")]))
    assert {path.stem for path in FILES} <= named, "say in docs/scenarios.md what a new scenario guards against"


def scenario(steps: str, more: str = "") -> str:
    return f"name: A name of it\nabout: what it is about\n{more}\nsteps:\n{steps}"


def test_two_runs_of_a_scenario_with_costs_are_the_same_to_the_millisecond(simulator: Simulator) -> None:
    text = scenario("  - say: what is twenty plus thirty\n  - expect: sound_end\n", "costs: two_cores")
    runs = [simulator.run(parse_scenario(text, Path("twice.yaml"))) for _ in range(2)]
    first, second = ([(m.at_ms, m.type) for m in run.moments if m.type != "metrics"] for run in runs)
    assert first == second


def test_an_expectation_that_is_not_met_is_told_with_its_line_and_what_came(simulator: Simulator, tmp_path: Path) -> None:
    steps = "  - type: what is twenty plus thirty\n  - expect: reply_done\n    contains: elephant\n"
    outcome = simulator.run(parse_scenario(scenario(steps), Path("wrong.yaml")))
    (failure,) = outcome.failures
    assert failure.startswith("wrong.yaml:6: step 2") and "elephant" in failure and "fifty" in failure.lower()
    junit([outcome], tmp_path / "junit.xml")
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot().find("testsuite")
    assert suite is not None and suite.get("failures") == "1"
    assert ElementTree.fromstring(picture(outcome)).tag.endswith("svg")


@pytest.mark.parametrize(
    ("steps", "more", "line", "told"),
    [
        ("  - say: hello\n  - jump: high\n", "", 6, "first word"),
        ("  - expect: sound_ends\n", "", 5, "there is no event 'sound_ends'"),
        ("  - expect: turn_end\n    within_ms: soon\n", "", 6, "within_ms"),
        ("  - say: [100, hello]\n", "", 5, "begins with words"),
        ("  - say: hello\n", "session: {turns: {end_silence: 3}}", 0, "session.turns has no end_silence"),
        ("  - say: hello\n", "costs: free", 3, "no table of costs 'free'"),
        ("  - say: [hello\n", "", 6, "no YAML"),
        ("  - say: hello\n", "kind: replay\nrecording: a.jsonl", 1, "kind: replay names a recording and has no steps"),
        ("  - say: hello\n", "recording: a.jsonl", 1, "a conversation has at least one step and no recording"),
        ("  - say: hello\n", "line: {echo_db: -10, echo_delay_ms: 30}", 3, "a multiple of 20"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_by_line_and_step(steps: str, more: str, line: int, told: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_scenario(scenario(steps, more), Path("bad.yaml"))
    message = str(caught.value)
    assert message.startswith(f"bad.yaml:{line or 1}:") and told in message and "\n" not in message


def test_the_command_ends_with_1_for_a_failed_scenario_and_with_2_for_a_bad_file(tmp_path: Path) -> None:
    require_module("espeakng_loader")
    app = typer.Typer()
    app.command()(simulate)
    (tmp_path / "no.yaml").write_text(scenario("  - silence: 100\n", "totals: {turn_end: 1}"))
    failed = CliRunner().invoke(app, [str(tmp_path), "--json", "--pictures", str(tmp_path / "pictures")])
    assert failed.exit_code == 1 and json.loads(failed.stdout)["failures"]
    assert (tmp_path / "pictures" / "no.svg").read_text().startswith("<svg")
    (tmp_path / "no.yaml").write_text("name: 3")
    assert CliRunner().invoke(app, [str(tmp_path)]).exit_code == 2


def test_on_and_off_are_words() -> None:
    text = scenario("  - expect: tool_call\n    arguments: {state: on}\n")
    assert parse_scenario(text, Path("a.yaml")).steps[0].arguments == {"state": "on"}  # type: ignore[union-attr]
