"""`textpro-agent models`: the models that have a name, as a table for people, programs (`--json`) and the README
(`--markdown`), and `models download`, which asks before a licence that is not open; the data are those of
`models/presets.py`. `models align` and `models windows` find out about a Whisper folder what its files do not say, and keep
it there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .exits import clean_exit
from .models.errors import InputError
from .models.hub import HubState, ask_hub, fetch
from .models.presets import OPEN_LICENCES, PRESETS, Licence, Preset, find_preset, gigabytes, state_of

if TYPE_CHECKING:
    from .evaluation.streaming_trace import Spoken
    from .models.whisper_full import FullWhisper

HERE = {"bundled": "bundled", "here": "yes", "partly": "partly", "absent": "no"}
TABLE_WIDTH = 140
"""Columns of the terminal from which on the presets are one table."""
COLUMNS = ("preset", "download", "memory CPU fp32 / GPU bf16", "licence", "languages", "what it can do", "measured")

models = typer.Typer(
    help="The models that have a name: what they need, what they may, whether they are here.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@models.callback(invoke_without_command=True)
def list_models(
    ctx: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="One JSON array on stdout.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="The table of the README.")] = False,
) -> None:
    """List the presets. Nothing is fetched: whether one is here is what the local cache of the hub says."""
    if ctx.invoked_subcommand is not None:
        return
    if json and markdown:
        raise typer.BadParameter("give --json or --markdown, not both.")
    with clean_exit():
        if markdown:
            typer.echo(markdown_table())
        elif json:
            import json as encoder

            typer.echo(encoder.dumps([described(preset) for preset in PRESETS.values()], indent=2))
        else:
            _print_table()


@models.command()
def download(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A preset, as `textpro-agent models` lists them.")],
    yes: Annotated[bool, typer.Option("--yes", help="Agree to licences that are not open, for scripts.")] = False,
) -> None:
    """Fetch a preset into the hub's local cache (HF_HOME moves it) and verify every file."""
    with clean_exit():
        preset = find_preset(name)
        if not preset.repositories:
            typer.echo(f"{name} is bundled, there is nothing to download")
            return
        states = [ask_hub(repository) for repository in preset.repositories]
        for state in states:
            typer.echo(f"{state.repository.name}: {gigabytes(state.size)}, licence {licence_text(state)}", err=True)
        asked = [state for state in states if not is_open(state)]
        if asked and not yes:
            _ask(asked)
        for state in states:
            folder = fetch(state)
            typer.echo(f"{state.repository.name}: {len(state.files)} files verified, {gigabytes(state.size)}, in {folder}")


Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="A Whisper as Hugging Face lays it out, on this disk.")]
Utterances = Annotated[int, typer.Option(min=1, help="How many sentences are spoken by espeak-ng for it.")]
Seed = Annotated[int, typer.Option(min=0, help="Which sentences and voices are drawn.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what was found; write nothing.")]


@models.command()
def align(folder: Folder, utterances: Utterances = 60, seed: Seed = 0, dry_run: DryRun = False) -> None:
    """Find the attention heads of a Whisper that follow the audio, which word times need, and keep them in its folder.

    Published checkpoints of OpenAI name theirs already. English sentences with known word times are forced on the decoder.
    """
    with clean_exit():
        from .evaluation.streaming_align import find_heads
        from .models.whisper_settings import HEADS, store

        speech = _whisper(folder)
        with _progress("sentences", utterances) as done:
            found = find_heads(speech, _spoken(speech, utterances, 0, seed), done)
        for head, share in zip(found.heads, found.shares, strict=True):
            typer.echo(f"layer {head[0]}, head {head[1]}: at the right word for {share:.0%} of {found.n_tokens} tokens")
        off = found.off_ms
        typer.echo(f"ends of {off.count} words by these heads are off by {off.p50:.0f} ms (median), {off.p95:.0f} ms (95 %)")
        if not dry_run:
            typer.echo(f"written to {store(folder, {HEADS: [list(head) for head in found.heads]})}")


@models.command()
def windows(folder: Folder, utterances: Utterances = 60, seed: Seed = 0, dry_run: DryRun = False) -> None:
    """Measure how short the window of a Whisper's encoder may be by its word error rate, and keep that in its folder.

    Each utterance is decoded in every window that holds it and in the trained one. Minutes to hours, by the checkpoint.
    """
    with clean_exit():
        from .evaluation.streaming_windows import MOST_WORSE, measure_windows, shortest_allowed
        from .models.whisper_encoder import WINDOWS_S
        from .models.whisper_settings import WINDOW, store

        speech = _whisper(folder)
        spoken = _spoken(speech, utterances, utterances // 2, seed)
        shorter = sum(seconds * 16_000 < speech.window_samples for seconds in WINDOWS_S)
        with _progress("decoded", len(spoken) * (1 + shorter)) as done:
            results = measure_windows(speech, spoken, done)
        for one in results:
            typer.echo(
                f"{one.window_s:2} s: {one.utterances} utterances, word error rate {one.wer:.2%} (trained window "
                f"{one.trained_wer:.2%}), {one.trained_seconds / one.seconds:.1f} times as fast"
            )
        shortest = shortest_allowed(results)
        allowed = "only the trained window" if shortest is None else f"windows from {shortest} s on"
        typer.echo(f"allowed, at {MOST_WORSE:.1%} word error rate more at most: {allowed}")
        if not dry_run:
            typer.echo(f"written to {store(folder, {WINDOW: shortest})}")


def _whisper(folder: Path) -> FullWhisper:
    from .models.pair import load_full_whisper

    if not folder.is_dir():
        raise InputError(f"no model at {folder}: expected the folder of a Whisper, with config.json and safetensors")
    return load_full_whisper(folder)


def _spoken(speech: FullWhisper, sentences: int, long: int, seed: int) -> list[Spoken]:
    """English sentences with the times of their words, some of them joined; those that fit into the window."""
    from .evaluation.streaming_sets import Counts, draw_spoken

    drawn = draw_spoken(Counts(sentences, long, 0), seed)
    return [one for one in drawn if len(one.samples) <= speech.window_samples]


@contextmanager
def _progress(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr; yields what is told the work that was done."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=total)
        yield lambda count: bar.advance(task, count)


def is_open(state: HubState) -> bool:
    """Whether any use is allowed: by what is known of the model, or, where that is nothing, by its card on the hub."""
    known = state.repository.licence.open
    return known if known is not None else (state.licence or "").lower() in OPEN_LICENCES


def licence_text(state: HubState) -> str:
    """The licence as known and as the card on the hub states it."""
    licence, stated = state.repository.licence, state.licence or "not stated"
    note = f"; {licence.note}" if licence.note else ""
    return f"{stated} by its card{note}" if licence.open is None else f"{licence.name} (card: {stated}){note}"


def described(preset: Preset) -> dict[str, Any]:
    """A preset as `--json` prints it; sizes in bytes."""
    return {
        "name": preset.name,
        "title": preset.title,
        "state": state_of(preset),
        "repositories": [
            {
                "name": repository.name,
                "role": repository.role,
                "revision": repository.revision,
                "download_bytes": repository.download_bytes,
                "licence": repository.licence.name,
                "open": repository.licence.open,
                "assumed": repository.assumed,
            }
            for repository in preset.repositories
        ],
        "download_bytes": preset.download_bytes,
        "cpu_bytes": preset.cpu_bytes,
        "gpu_bytes": preset.gpu_bytes,
        "open": preset.open,
        "languages": preset.languages,
        "prosody": preset.fusion,
        "can": preset.can,
        "measured": preset.measured,
    }


def markdown_table() -> str:
    """The table of the README."""
    rows = [COLUMNS, ("---",) * len(COLUMNS), *(_cells(preset) for preset in PRESETS.values())]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cells(preset: Preset) -> tuple[str, ...]:
    about = "about " if any(repository.assumed for repository in preset.repositories) else ""
    return (
        f"`{preset.name}`",
        about + gigabytes(preset.download_bytes) if preset.repositories else "none, bundled",
        f"{gigabytes(preset.cpu_bytes)} / {gigabytes(preset.gpu_bytes)}",
        ", ".join(dict.fromkeys(licence_cell(licence) for licence in preset.licences)),
        preset.languages,
        preset.can,
        preset.measured,
    )


def licence_cell(licence: Licence) -> str:
    """The licence in a table; what is not open is said."""
    return licence.name if licence.open is not False else f"{licence.name} (not open)"


def _print_table() -> None:
    """One table where the terminal is wide enough for its columns, else a block of lines for each preset."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    names = ("preset", "here", *COLUMNS[1:])
    wide = Table(box=None, pad_edge=False, header_style="bold")
    for column in names:
        wide.add_column(column, overflow="fold", no_wrap=column == "preset")
    for preset in PRESETS.values():
        name, *cells = _cells(preset)
        row = (name.strip("`"), HERE[state_of(preset)], *(cell.replace("`", "") for cell in cells))
        wide.add_row(*row)
        if console.width < TABLE_WIDTH:
            block = Table(box=None, pad_edge=False, show_header=False, title=row[0], title_justify="left", title_style="bold")
            for label, cell in zip(names[1:], row[1:], strict=True):
                block.add_row(f"  {label}", cell)
            console.print(block)
    if console.width >= TABLE_WIDTH:
        console.print(wide)
    console.print("\nmemory: the weights; caches of the conversations come on top. Fetch one: textpro-agent models download NAME")


def _ask(asked: Iterable[HubState]) -> None:
    """InputError where nobody is there to answer, or the answer is no."""
    names = ", ".join(f"{state.repository.name} ({licence_text(state)})" for state in asked)
    if not sys.stdin.isatty():
        raise InputError(f"the licence is not known to be open: {names}; read it on the hub, then agree with --yes")
    if not typer.confirm(f"Not known to be open: {names}. Have you read the licence, and do you agree to it?", err=True):
        raise InputError("nothing was downloaded: the licence was not agreed to")
