"""`textpro-agent train ...`: the stages of the bundled model's training, each in a folder of its own that a
run goes on in when it is started again. A stage's settings are a dataclass of the training code; `--set
name=value` reaches all of them, so they are defined once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from .exits import clean_exit
from .models.errors import InputError

Stage = TypeVar("Stage")


class SlmStage(StrEnum):
    """The two stages of the language model's training."""

    TEXT = "text"
    SPEECH = "speech"


train = typer.Typer(
    help="Train the bundled model again, from nothing, on synthetic speech.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Folder = Annotated[Path, typer.Option(metavar="FOLDER", help="Where the run lives; an interrupted one goes on.")]
SpeechRun = Annotated[
    Path,
    typer.Option(
        metavar="FOLDER",
        exists=True,
        file_okay=False,
        help="The run of the recognizer, which holds the tokenizer.",
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Another value for a setting of the stage; repeatable."),
]


@train.command()
def tokenizer(
    folder: Folder = Path("runs/tokenizer"),
    vocab_size: Annotated[int, typer.Option(min=512, help="Pieces, reserved ones included.")] = 1280,
) -> None:
    """The byte-level BPE that the recognizer and the language model share."""
    with clean_exit():
        from .training.tokenizer import train_tokenizer

        train_tokenizer(folder, vocab_size)


@train.command()
def festival(
    folder: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the sentences are written.")] = Path("runs/festival"),
    sentences: Annotated[int, typer.Option(min=1, help="How many are spoken.")] = 3000,
    seed: Annotated[int, typer.Option(help="Other sentences.")] = 1,
) -> None:
    """Sentences by a second synthesizer (festival) for the recognizer: train whisperpro --set festival=FOLDER."""
    with clean_exit():
        from rich.progress import Progress

        from .training.festival import speak_corpus

        with Progress(transient=True) as bar:
            task = bar.add_task("speaking", total=sentences)
            speak_corpus(folder, sentences, seed, lambda done: bar.update(task, completed=done))


@train.command()
def pico(
    folder: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the sentences are written.")] = Path("runs/pico"),
    sentences: Annotated[int, typer.Option(min=1, help="How many are spoken.")] = 6000,
    seed: Annotated[int, typer.Option(help="Other sentences.")] = 1,
    aligner: Annotated[Path, typer.Option(metavar="FOLDER", help="The model that times the words.")] = Path("models/tiny"),
) -> None:
    """Sentences by a third synthesizer (SVOX Pico) for the recognizer: train whisperpro --set pico=FOLDER."""
    with clean_exit():
        from rich.progress import Progress

        from .training.pico import speak_corpus

        with Progress(transient=True) as bar:
            task = bar.add_task("speaking", total=sentences)
            speak_corpus(folder, sentences, seed, aligner, lambda done: bar.update(task, completed=done))


@train.command()
def whisperpro(folder: Folder = Path("runs/whisperpro"), changes: Changes = None) -> None:
    """The recognizer with prosody. Hours on two cores; the log is log.csv in the folder."""
    with clean_exit():
        from .training.train_whisperpro import WhisperProTraining, train_whisperpro

        train_whisperpro(stage_settings(WhisperProTraining, {"folder": folder}, changes or ()))


@train.command()
def recognize(
    run: SpeechRun = Path("runs/whisperpro"),
    folder: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the corpus is written.")] = Path("runs/heard"),
    dialogues: Annotated[int, typer.Option(min=1, help="How many dialogues are spoken and heard.")] = 20_000,
    changes: Changes = None,
) -> None:
    """What the recognizer hears of spoken dialogues, as the corpus for the language model's second stage."""
    with clean_exit():
        from .training.slm_data import Recognition, recognize_corpus

        recognize_corpus(folder, dialogues, stage_settings(Recognition, {"run": run}, changes or ()))


@train.command()
def slm(
    stage: Annotated[SlmStage, typer.Option(help="text: from scratch on typed dialogues; speech: then on what was heard.")],
    folder: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where the run lives; without it runs/slm-STAGE.")] = None,
    tokenizer: SpeechRun = Path("runs/whisperpro"),
    start: Annotated[Path, typer.Option(metavar="FOLDER", help="Stage speech: the run of stage text.")] = Path("runs/slm-text"),
    corpus: Annotated[Path, typer.Option(metavar="FOLDER", help="Stage speech: what `train recognize` wrote.")] = Path(
        "runs/heard"
    ),
    changes: Changes = None,
) -> None:
    """The language model and the prosody projector, in two stages."""
    with clean_exit():
        from .training.train_slm import SlmTraining, train_slm

        values: dict[str, object] = {
            "folder": folder or Path(f"runs/slm-{stage}"),
            "stage": stage.value,
            "tokenizer": tokenizer,
        }
        if stage is SlmStage.SPEECH:
            for needed in (start, corpus):
                if not needed.is_dir():
                    raise InputError(f"{needed}: no such folder; stage speech begins with it.")
            values |= {"start": start, "corpus": corpus}
        train_slm(stage_settings(SlmTraining, values, changes or ()))


@train.command()
def average(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Two runs or more of one kind.")],
    folder: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the mean is written, as a run that can be exported.")],
    shares: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="How much each run counts; without it all count alike.")
    ] = None,
) -> None:
    """The mean of the weights of several runs that began at the same weights."""
    with clean_exit():
        from .models.errors import InputError
        from .training.runs import average as write_average

        try:
            given = [float(share) for share in shares.split(",")] if shares else [1.0] * len(runs)
        except ValueError:
            raise InputError(f"--shares {shares}: expected numbers with commas between them") from None
        if len(given) != len(runs):
            raise InputError(f"--shares has {len(given)} numbers for {len(runs)} runs: give one for each")
        write_average(list(zip(runs, given, strict=True)), folder)
        typer.echo(f"written to {folder}")


@train.command()
def export(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The checkpoint folder to write.")],
    speech: SpeechRun = Path("runs/whisperpro"),
    slm: Annotated[
        Path,
        typer.Option(metavar="FOLDER", exists=True, file_okay=False, help="The run of the language model."),
    ] = Path("runs/slm-speech"),
) -> None:
    """Write the runs as one checkpoint folder, for --model."""
    with clean_exit():
        from .training.export import export_tiny

        export_tiny(speech, slm, out)


def stage_settings(kind: type[Stage], given: Mapping[str, object], changes: Sequence[str]) -> Stage:
    """The settings dataclass of a stage: the values `given`, and `name=value` changes to others. InputError
    for a name that it does not have and for a value of another type."""
    from pydantic import TypeAdapter, ValidationError

    names = [field.name for field in fields(kind) if field.name not in given]  # type: ignore[arg-type]
    values = dict(given)
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals or name not in names:
            raise InputError(f"--set {change}: expected NAME=VALUE with one of {', '.join(names)}.")
        values[name] = value
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        problem = error.errors()[0]
        raise InputError(f"--set {problem['loc'][0]}={problem['input']}: {problem['msg']}.") from None
