"""`textpro-agent bench streaming`: how soon, how surely and at what cost words are committed while they are spoken.
`cli.py` hangs `bench_streaming` into the group `bench`.
"""

from __future__ import annotations

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
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of torch; without it torch's own choice.")] = None,
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
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    from .evaluation import streaming_bench

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage)
            bar.update(tasks[stage], completed=done, total=total)

        size = streaming_bench.FULL if full else streaming_bench.QUICK
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
