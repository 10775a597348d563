"""`textpro-agent verify`: the command around `evaluation/verify.py`. Asks before it downloads a preset, prints one line for each
check, writes the report. Exit code 0 when nothing is wrong, 1 when a check is not ok, 2 where it could not begin.
"""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .exits import clean_exit
from .models.errors import InputError
from .models.presets import PRESETS, gigabytes, state_of

if TYPE_CHECKING:
    from .evaluation.verify import Verification
    from .models.named import Pair


class Device(StrEnum):
    """Where a model computes."""

    CPU = "cpu"
    CUDA = "cuda"


class Precision(StrEnum):
    """Precisions of a backbone, by their names in torch."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


_STYLES = {"ok": "green", "not ok": "bold red", "not run": "yellow"}


def verify(
    model: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="A preset, or a checkpoint folder.")] = None,
    encoder: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="A Whisper or WhisperPro, with --backbone, in place of MODEL.")
    ] = None,
    backbone: Annotated[Path | None, typer.Option(metavar="FOLDER", help="A chat model or TextPro-SLM, with --encoder.")] = None,
    wav: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE [FILE ...]", help="Recordings of your own to say to it, with what is said in FILE.txt beside."
        ),
    ] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE.md", help="Write a report to attach to an issue.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Download what is missing and agree to its licence, for scripts.")] = False,
    max_wer: Annotated[float, typer.Option(min=0, help="Word error rate that is still ok.")] = 0.35,
    max_latency_ms: Annotated[
        float, typer.Option(min=0, help="Milliseconds to the first reply token, after the turn is over, that are still ok.")
    ] = 1500.0,
    sentences: Annotated[int, typer.Option(min=0, max=5, help="How many sentences espeak-ng says, where it is installed.")] = 5,
    device: Annotated[Device | None, typer.Option(help="Where to compute; without it a GPU where there is one.")] = None,
    dtype: Annotated[
        Precision | None, typer.Option(help="Precision of the backbone; without it bfloat16 on a GPU, float32 on the CPU.")
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Speak as fast as the machine works instead of real time.")] = False,
) -> None:
    """Check a model against plain transformers: shapes, words, prosody, replies, word errors, latency, memory.

    Exit code 0 when nothing is wrong, else 1. The report holds versions, settings and hashes, nothing of yours.
    """
    with clean_exit():
        chosen = _chosen(model, encoder, backbone)
        if report is not None and not report.parent.is_dir():
            raise InputError(f"{report}: there is no folder {report.parent}; give another file.")
        if isinstance(chosen, str):
            _fetch(chosen, yes)
        from transformers.utils import logging as transformers_logging

        from .evaluation.verify import Plan
        from .evaluation.verify import verify as run
        from .evaluation.verify_checks import Limits
        from .evaluation.verify_report import markdown

        transformers_logging.disable_progress_bar()
        limits = Limits(word_error_rate=max_wer, first_token_ms=max_latency_ms)
        found = run(chosen, Plan(tuple(wav or ()), sentences, not fast, limits, device, dtype), _to_stderr)
        if as_json:
            typer.echo(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
        else:
            _show(found)
        if report is not None:
            report.write_text(markdown(found), encoding="utf-8")
            _to_stderr(f"report written to {report}")
    if not found.passed:
        raise typer.Exit(1)


def _chosen(model: str | None, encoder: Path | None, backbone: Path | None) -> str | Pair:
    if (encoder is None) != (backbone is None) or (model is None) == (encoder is None):
        raise InputError("give one of them: MODEL, or both --encoder and --backbone.")
    if encoder is None or backbone is None:
        assert model is not None
        return model
    from .models.named import Pair

    return Pair(encoder, backbone)


def _fetch(model: str, yes: bool) -> None:
    """Download a preset that is not here, if whoever sits there wants it."""
    preset = PRESETS.get(model)
    if preset is None or state_of(preset) in ("bundled", "here"):
        return
    size = gigabytes(preset.download_bytes)
    if not yes:
        import sys

        if not sys.stdin.isatty():
            raise InputError(f"{model} is not here: run textpro-agent models download {model} ({size}), or agree with --yes.")
        if not typer.confirm(f"{model} is not here. Download about {size}?", err=True):
            raise InputError("nothing was downloaded.")
    from .model_commands import download

    download(model, yes)


def _show(found: Verification) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    for check in found.checks:
        line = Text.assemble((f"{check.status:8}", _STYLES[check.status]), f"{check.name:32}", check.measured)
        if check.tolerance and check.measured:
            line.append(f" (tolerance: {check.tolerance})")
        if check.detail:
            line.append(f" -> {check.detail}")
        console.print(line)


def _to_stderr(text: str) -> None:
    typer.echo(text, err=True)
