"""`textpro-agent bench streaming`: how soon, how surely and at what cost words are committed while they are spoken; and
`bench noise`: whether anything is said about what is no speech. `cli.py` hangs both into the group `bench`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from .exits import clean_exit
from .models.errors import InputError


def bench_streaming(
    model: Annotated[
        str, typer.Option(metavar="tiny|FOLDER", help="The model to measure; it needs a chunked recognizer.")
    ] = "tiny",
    full: Annotated[bool, typer.Option("--full/--quick", help="Many more samples, for figures that are written down.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Which sentences, voices and noises are drawn.")] = 0,
    policy: Annotated[
        list[str] | None, typer.Option("--policy", metavar="NAME", help="A commit policy to measure; repeatable. Default: all.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of torch; without it one core stays free.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write one line for each word and design.")] = None,
    timeline: Annotated[
        Path | None, typer.Option("--timeline", metavar="FILE.svg", help="Draw one utterance: sound, ticks, commits, P(end).")
    ] = None,
) -> None:
    """Measure streaming: lags, retractions, word error rates against offline, compute, noise; beside LocalAgreement-2.

    About four minutes on two cores; --full takes hours, ten minutes of each noise among them. Progress goes to stderr.
    """
    with clean_exit():
        for file in (csv, timeline):
            if file is not None and not file.parent.is_dir():
                raise InputError(f"{file}: its folder does not exist; make it first, the measurement takes minutes")
        if timeline is not None and timeline.suffix.lower() != ".svg":
            raise InputError(f"--timeline {timeline}: expected a name that ends in .svg; browsers and converters read that")
        _measure(model, full, seed, policy or [], threads, json, csv, timeline)


def bench_noise(
    model: Annotated[
        str, typer.Option(metavar="tiny|FOLDER", help="The model to measure; a chunked recognizer or a full one.")
    ] = "tiny",
    seconds: Annotated[int, typer.Option(min=1, help="How much of each noise a session hears.")] = 600,
    seed: Annotated[int, typer.Option(min=0, help="Which noises are drawn.")] = 0,
    keep: Annotated[
        Path | None, typer.Option("--keep", metavar="FILE.json", help="Keep each noise's result here, and go on from it.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of torch; without it one core stays free.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Count tokens on silence, white and pink noise, babble, clicks, DTMF and tones; none is promised. Exit 1 for any.

    Ten minutes of each take about ten minutes on two cores. Progress goes to stderr; with --keep a run that was stopped goes
    on behind the last noise that was done.
    """
    with clean_exit():
        if keep is not None and not keep.parent.is_dir():
            raise InputError(f"{keep}: its folder does not exist; make it first, the measurement takes minutes")
        from rich.console import Console

        from .evaluation import streaming_noise

        with _bars() as show:
            done: dict[str, int] = {}

            def add(name: str, count: int) -> None:
                done[name] = done.get(name, 0) + count
                show(name, done[name], seconds)

            noises = streaming_noise.bench_noise(model, seconds, seed, keep, add, threads)
        if json:
            import json as encoder

            values = [streaming_noise.noise_values(one) for one in noises]
            typer.echo(encoder.dumps({"model": model, "seed": seed, "noise": values}))
        else:
            Console(highlight=False).print(streaming_noise.noise_table(noises))
        if any(one.tokens or one.turn_ends for one in noises):
            raise typer.Exit(1)


def _measure(
    model: str,
    full: bool,
    seed: int,
    policies: list[str],
    threads: int | None,
    json: bool,
    csv: Path | None,
    timeline: Path | None,
) -> None:
    from rich.console import Console

    from .evaluation import streaming_bench

    size = streaming_bench.FULL if full else streaming_bench.QUICK
    with _bars() as show:
        report = streaming_bench.bench_streaming(model, size, seed, policies, show, threads)
    if csv is not None:
        report.write_csv(csv)
    if timeline is not None:
        timeline.write_text(report.timeline, encoding="utf-8")
    if json:
        import json as encoder

        typer.echo(encoder.dumps(report.to_dict(), ensure_ascii=False))
    else:
        Console(highlight=False).print(report.tables())


@contextmanager
def _bars() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each stage on stderr; yields what is told a stage, how much of it is done, and how much there is."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage)
            bar.update(tasks[stage], completed=done, total=total)

        yield show
