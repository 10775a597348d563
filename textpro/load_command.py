"""`textpro-agent load`: callers with real speech against any server of the Realtime protocol (docs/load.md). Progress and, with
`--json`, the table go to stderr. Exit code 1: a turn was not answered or a connection failed; 130 after Ctrl-C, with the
figures so far."""

from __future__ import annotations

import asyncio
import json as json_format
import signal
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .exits import INTERRUPTED, clean_exit
from .models.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from .evaluation.load import LoadRun, LoadSettings
    from .evaluation.load_caller import Utterance
    from .evaluation.load_report import LoadReport

FAILED = 1
KEY_VARIABLE = "TEXTPRO_LOAD_KEY"
DEFAULT_TURNS, DEFAULT_MINUTES = 3, 10.0
SPEECH, SERVER, RESULTS = "What callers do", "The server", "Results"


def load(
    url: Annotated[str, typer.Argument(metavar="URL", help="ws://HOST/v1/realtime, or the base URL http://HOST/v1.")],
    callers: Annotated[int, typer.Option("--callers", "-n", min=1, help="Who talk at once.")] = 1,
    turns: Annotated[
        int | None, typer.Option(min=1, help=f"Turns of each caller; {DEFAULT_TURNS} unless --minutes is given.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help=f"How long it lasts; with --turns at most so long ({DEFAULT_MINUTES:g}).")
    ] = None,
    idle: Annotated[int, typer.Option(min=0, help="Connections beside them that only stay open.")] = 0,
    interruptions: Annotated[
        float, typer.Option(min=0, max=1, metavar="SHARE", help="Of the replies, cut off by the caller.", rich_help_panel=SPEECH)
    ] = 0.0,
    think_ms: Annotated[
        str, typer.Option(metavar="FROM-TO", help="Pause before each turn, drawn anew.", rich_help_panel=SPEECH)
    ] = "500-2000",
    wav: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE[=WORDS]",
            help="Say this instead of the built-in sentences; a right reply holds WORDS (or one of A|B). Repeatable.",
            rich_help_panel=SPEECH,
        ),
    ] = None,
    reply_seconds: Annotated[
        float, typer.Option(min=0.1, help="Without a reply for so long the turn has failed.", rich_help_panel=SPEECH)
    ] = 20.0,
    piece_ms: Annotated[int, typer.Option(min=10, max=200, help="Sound in one message.", rich_help_panel=SPEECH)] = 40,
    ramp_ms: Annotated[int, typer.Option(min=0, help="Between two callers' beginning.", rich_help_panel=SPEECH)] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Who says what, and when.", rich_help_panel=SPEECH)] = 0,
    key: Annotated[str | None, typer.Option(envvar=KEY_VARIABLE, help="Sent as the bearer key.", rich_help_panel=SERVER)] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Asked for in the URL.", rich_help_panel=SERVER)] = None,
    ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Certificate to trust, instead of the system's.", rich_help_panel=SERVER)
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object on stdout, with every turn.", rich_help_panel=RESULTS)
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Draw latencies over time.", rich_help_panel=RESULTS)
    ] = None,
) -> None:
    """Call a Realtime server with many voices at once, and measure what the callers hear.

    Each caller speaks at the pace of real time, thinks, listens and sometimes interrupts. Measured: from the last sample said
    to the first reply audio, gaps in replies, interruptions, refusals. With another provider this costs money.
    """
    with clean_exit():
        from rich.console import Console

        from .evaluation.load import LoadSettings, realtime_url
        from .evaluation.load_caller import CallerSettings

        realtime_url(url)
        settings = LoadSettings(
            url=url,
            callers=callers,
            idle=idle,
            minutes=DEFAULT_MINUTES if minutes is None else minutes,
            key=key,
            model=model,
            seed=seed,
            ramp_ms=ramp_ms,
            caller=CallerSettings(
                turns=DEFAULT_TURNS if turns is None and minutes is None else turns,
                piece_ms=piece_ms,
                think_ms=_span(think_ms),
                interruptions=interruptions,
                reply_limit_ms=round(reply_seconds * 1000),
            ),
            tls=None if ca is None else _trusting(ca),
        )
        errors = Console(stderr=True, highlight=False, soft_wrap=True)
        report, interrupted = asyncio.run(_run(settings, wav or (), errors))
        if plot is not None:
            from .evaluation.load_plot import draw_load

            _write(plot, draw_load(report))
        (errors if json else Console(highlight=False, soft_wrap=True)).print(report.tables())
        if json:
            typer.echo(json_format.dumps(report.to_dict(), ensure_ascii=False))
        if interrupted:
            raise typer.Exit(INTERRUPTED)
        if not report.passed:
            raise typer.Exit(FAILED)


async def _run(settings: LoadSettings, wavs: Sequence[str], console: Console) -> tuple[LoadReport, bool]:
    """The report, and whether Ctrl-C ended it."""
    from .evaluation.load import LoadRun

    stop = asyncio.Event()
    with console.status("making the callers' speech ...") as status:
        run = LoadRun(settings, await _utterances(wavs))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        told = [time.monotonic()]

        def watch(run: LoadRun) -> None:
            status.update(_line(run))
            if not console.is_terminal and time.monotonic() - told[0] >= 10:
                told[0] = time.monotonic()
                console.print(_line(run))

        try:
            return await run.run(stop, watch), stop.is_set()
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)


async def _utterances(wavs: Sequence[str]) -> list[Utterance]:
    from .evaluation.load_speech import recorded_utterance, spoken_utterances

    if not wavs:
        return await spoken_utterances()
    said = []
    for given in wavs:
        name, _, words = given.partition("=")
        said.append(recorded_utterance(Path(name), tuple(word.strip() for word in words.split("|") if word.strip())))
    return said


def _line(run: LoadRun) -> str:
    """How it stands, in one line."""
    from .evaluation.load import Status
    from .evaluation.load_caller import Result
    from .evaluation.load_report import spread

    turns = run.turns
    answered = sum(turn.result is Result.ANSWERED for turn in turns)
    latency = spread([turn.latency_ms for turn in turns if turn.latency_ms is not None])
    parts = [f"{run.seconds:.0f} s", f"{run.count(Status.OPEN)} connected, {run.in_turn} in a turn"]
    parts.append(f"{answered} of {len(turns)} turns answered")
    if latency["n"]:
        parts.append(f"latency {latency['p50']:.0f} ms, 90 % {latency['p90']:.0f} ms")
    if gaps := sum(len(turn.gaps) for turn in turns):
        parts.append(f"{gaps} gaps")
    parts += [f"{count} {status.value}" for status in (Status.REFUSED, Status.LOST) if (count := run.count(status))]
    return " · ".join(parts)


def _span(given: str) -> tuple[int, int]:
    """Two numbers of ms, or one twice. InputError for anything else."""
    low, _, high = given.partition("-")
    if not low.isdecimal() or (high and not high.isdecimal()) or int(low) > int(high or low):
        raise InputError(f"--think-ms {given}: expected milliseconds from-to, as 500-2000.")
    return int(low), int(high or low)


def _trusting(ca: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise InputError(f"--ca {ca}: no certificate that can be read ({error}): give a PEM file.") from None


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: the picture cannot be written ({error.strerror}): give another --plot.") from None
