"""`textpro-agent models`: the models that have a name, as a table for people, programs (`--json`) and the README
(`--markdown`), and `models download`, which asks before a licence that is not open. The data are those of
`models/presets.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from .exits import clean_exit
from .models.errors import InputError
from .models.hub import HubState, ask_hub, fetch
from .models.presets import OPEN_LICENCES, PRESETS, Licence, Preset, find_preset, gigabytes, state_of

HERE = {"bundled": "bundled", "here": "yes", "partly": "partly", "absent": "no"}
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
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("preset", "here", *COLUMNS[1:]):
        table.add_column(column, overflow="fold")
    for preset in PRESETS.values():
        name, *cells = _cells(preset)
        table.add_row(name.strip("`"), HERE[state_of(preset)], *(cell.replace("`", "") for cell in cells))
    console = Console(highlight=False)
    console.print(table)
    console.print("\nmemory: the weights; caches of the conversations come on top. Fetch one: textpro-agent models download NAME")


def _ask(asked: Iterable[HubState]) -> None:
    """InputError where nobody is there to answer, or the answer is no."""
    names = ", ".join(f"{state.repository.name} ({licence_text(state)})" for state in asked)
    if not sys.stdin.isatty():
        raise InputError(f"the licence is not known to be open: {names}; read it on the hub, then agree with --yes")
    if not typer.confirm(f"Not known to be open: {names}. Have you read the licence, and do you agree to it?", err=True):
        raise InputError("nothing was downloaded: the licence was not agreed to")
