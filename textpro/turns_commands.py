"""`textpro-agent bench turns` and `textpro-agent calibrate turns`: how well ends of turns are told, and thresholds for a
backbone that we did not train. `cli.py` hangs `bench_turns` into the group `bench`, and `calibrate` into the application.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from .agent.turns import Endpointing
from .exits import clean_exit
from .models.errors import InputError

NOT_USEFUL = 1
"""Exit code of `calibrate turns` where P(end) of the model does not help."""

calibrate = typer.Typer(
    help="Fit what depends on the model.", no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]}
)

ModelName = Annotated[str, typer.Option("--model", metavar="PRESET|FOLDER", help="The model; tiny is the bundled one.")]
Encoder = Annotated[Path | None, typer.Option(metavar="FOLDER", help="Any Whisper, with --backbone, in place of --model.")]
Backbone = Annotated[Path | None, typer.Option(metavar="FOLDER", help="Any chat model, with --encoder, in place of --model.")]
Full = Annotated[bool, typer.Option("--full/--quick", help="400 turns in place of 100, for figures that are written down.")]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        exists=True,
        file_okay=False,
        help="A set of recorded turns in eot-bench's layout (Parquet, or metadata.jsonl) instead of generated ones.",
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Which turns are generated.")]


def bench_turns(
    model: ModelName = "tiny",
    encoder: Encoder = None,
    backbone: Backbone = None,
    full: Full = False,
    data: Data = None,
    seed: Seed = 0,
    latency: Annotated[
        bool, typer.Option(help="Measure voice-to-voice latency as well, at real-time pace through spoken replies.")
    ] = True,
    decisions: Annotated[bool, typer.Option(help="Judge the ends of turns; without it latency alone.")] = True,
    endpointing: Annotated[
        Endpointing, typer.Option(help="What ends a turn while latency is measured; auto: what the model is calibrated for.")
    ] = "auto",
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write one line for each silence.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE.svg", help="Draw dead air against cut-offs.")] = None,
) -> None:
    """Measure how ends of turns are told: dead air against cut-offs, as LiveKit's eot-bench does, and voice-to-voice latency.

    Each silence of at least 100 ms in a user's turn is a decision. Without --data the turns are synthetic: whole sentences
    of espeak-ng and flite with pauses cut into them.
    """
    with clean_exit():
        from .evaluation import turn_bench

        size = turn_bench.FULL if full else turn_bench.QUICK
        chosen = _model(model, encoder, backbone)
        measured = turn_bench.Measured(decisions, latency, endpointing)
        if not decisions and (idle := [name for name, file in (("--csv", csv), ("--plot", plot), ("--data", data)) if file]):
            raise InputError(f"{idle[0]} is about decisions: leave it out, or --no-decisions")
        if not latency and endpointing != "auto":
            raise InputError("--endpointing is about latency: leave it out, or --no-latency")
        with _progress() as show:
            report = turn_bench.bench_turns(chosen, size, seed, data, show, measured)
        if csv is not None:
            report.write_csv(csv)
        if plot is not None:
            plot.write_text(report.svg(), encoding="utf-8")
        _print(report.to_dict() if json else report.tables())


@calibrate.command("turns")
def calibrate_turns(
    model: ModelName = "tiny",
    encoder: Encoder = None,
    backbone: Backbone = None,
    full: Full = False,
    data: Data = None,
    seed: Seed = 0,
    cut_offs: Annotated[
        float, typer.Option(min=0.01, max=0.5, metavar="SHARE", help="Share of the pauses in which a turn may be ended.")
    ] = 0.05,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.toml", help="Write the group [turns] here; without it to stdout.")
    ] = None,
) -> None:
    """Fit the settings that turn P(end) into silence, for a model whose P(end) nobody trained or measured.

    The result is the group [turns] of textpro.toml. Where P(end) does not help, it says so, sets endpointing by silence
    alone, and the exit code is 1.
    """
    with clean_exit():
        from .evaluation import turn_bench
        from .evaluation.turn_settings import settings_toml

        chosen = _model(model, encoder, backbone)
        size = turn_bench.FULL if full else turn_bench.QUICK
        with _progress() as show:
            fit, set_name = turn_bench.fit_turns(chosen, size, seed, data, cut_offs, show)
        text = settings_toml(fit, f"{turn_bench.name_of(chosen)}, {set_name}, seed {seed}")
        if out is None:
            sys.stdout.write(text)
        else:
            out.write_text(text, encoding="utf-8")
        typer.echo(fit.reason, err=True)
        if fit.policy is None:
            raise typer.Exit(NOT_USEFUL)


def _model(model: str, encoder: Path | None, backbone: Path | None) -> Any:
    """What `Runtime` takes."""
    from .models.named import Pair

    if encoder is None and backbone is None:
        return model
    if encoder is None or backbone is None:
        raise InputError("--encoder and --backbone go together: give both folders, or --model")
    return Pair(encoder, backbone)


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Bars on stderr, gone when all is done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=min(done, total))

        yield show


def _print(result: Any) -> None:
    """A dict as one line of JSON, else tables."""
    if isinstance(result, dict):
        import json

        sys.stdout.write(json.dumps(result, ensure_ascii=False) + "\n")
    else:
        from rich.console import Console

        Console(highlight=False).print(result)
