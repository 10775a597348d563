"""`textpro-agent simulate`: conversations of YAML files in virtual time, with the real model, and recorded sessions led again.
Progress and the table go to stderr with `--json`. Exit code 1: a scenario failed or a replay differs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .exits import clean_exit
from .models.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from .evaluation.simulator import Outcome, Simulator

FAILED = 1


def simulate(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE...", help="Scenarios (.yaml), or folders of them.", show_default=False)
    ] = None,
    replay: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A session that --record wrote: led again, its events compared; repeatable."),
    ] = None,
    model: Annotated[str, typer.Option(metavar="tiny|FOLDER", help="The model that listens and answers.")] = "tiny",
    pictures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Draw the time line of each scenario as DIR/NAME.svg.")
    ] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the results as JUnit XML.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object per scenario on stdout.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of torch.")] = None,
) -> None:
    """Lead simulated conversations (docs/scenarios.md): a user with a synthetic voice speaks, hesitates, cuts in and types.

    Time is virtual and stands still while the model works, so results do not depend on how fast the machine is.
    """
    with clean_exit():
        from .evaluation.scenario import read_scenario
        from .evaluation.simulate_replay import read_recording

        scenarios = [read_scenario(path) for path in found(files or ())]
        recordings = [read_recording(path) for path in replay or ()]
        if not scenarios and not recordings:
            raise InputError("nothing to simulate: give scenario files, folders of them, or --replay FILE")
        from rich.console import Console

        console = Console(stderr=json, highlight=False, soft_wrap=True)
        with _simulator(model, threads) as simulator:
            outcomes = []
            for scenario in scenarios:
                outcome = simulator.run(scenario)
                outcomes.append(outcome)
                _tell(outcome, console)
                if json:
                    from .evaluation.simulate_report import as_json

                    typer.echo(as_json(outcome))
                if pictures is not None:
                    _draw(outcome, pictures)
            differing = 0
            for recorded in recordings:
                replayed = simulator.replay(recorded)
                differing += replayed.difference is not None
                verdict = "[green]same events[/green]" if replayed.difference is None else "[red]differs[/red]"
                console.print(f"{verdict} {recorded.path} ({len(replayed.events)} events, {replayed.wall_s:.1f} s)")
                if replayed.difference is not None:
                    console.print(f"  {replayed.difference}", style="red", markup=False)
        if junit is not None:
            from .evaluation.simulate_report import junit as write_junit

            write_junit(outcomes, junit)
        if outcomes:
            _summarize(outcomes, console)
        if differing or not all(outcome.passed for outcome in outcomes):
            raise typer.Exit(FAILED)


def found(paths: Sequence[Path]) -> list[Path]:
    """The scenario files: those named, and all of a folder in order of their names. InputError for an empty folder."""
    files: list[Path] = []
    for path in paths:
        inside = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
        if not inside:
            raise InputError(f"{path}: holds no .yaml file; give a scenario or a folder of them")
        files += inside
    return files


@contextlib.contextmanager
def _simulator(model: str, threads: int | None) -> Iterator[Simulator]:
    from transformers.utils import logging as transformers_logging

    from .evaluation.simulator import Simulator

    transformers_logging.disable_progress_bar()
    with Simulator(model, threads) as simulator:
        yield simulator


def _tell(outcome: Outcome, console: Console) -> None:
    verdict = "[green]passed[/green]" if outcome.passed else "[red]FAILED[/red]"
    times = f"[dim]{outcome.duration_ms / 1000:.1f} s in {outcome.wall_s:.1f} s[/dim]"
    console.print(verdict, f"{outcome.scenario.path.stem}: {outcome.scenario.name}".replace("[", r"\["), times)
    for failure in outcome.failures:
        console.print(f"  {failure}", style="red", markup=False)


def _draw(outcome: Outcome, folder: Path) -> None:
    from .evaluation.simulate_picture import picture
    from .evaluation.simulate_report import write

    write(folder / f"{outcome.scenario.path.stem}.svg", picture(outcome))


def _summarize(outcomes: Sequence[Outcome], console: Console) -> None:
    passed = sum(outcome.passed for outcome in outcomes)
    audio_s = sum(outcome.duration_ms for outcome in outcomes) / 1000
    wall_s = sum(outcome.wall_s for outcome in outcomes)
    console.print(f"{passed} of {len(outcomes)} passed; {audio_s:.0f} s of conversation in {wall_s:.0f} s")
