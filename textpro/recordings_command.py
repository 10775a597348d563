"""`textpro-agent recordings DIR`: what `--record DIR` wrote, and deleting it: one, the old ones, all."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from .exits import clean_exit
from .models.errors import InputError


def recordings(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of --record.", show_default=False)],
    delete: Annotated[
        list[str] | None, typer.Option(metavar="NAME|all", help="Delete this recording, or all of them; repeatable.")
    ] = None,
    older_than_days: Annotated[
        int | None, typer.Option(min=0, metavar="DAYS", help="Delete the recordings that are older than this.")
    ] = None,
) -> None:
    """List recorded sessions, the oldest first, or delete some. Other files in the folder are left alone."""
    with clean_exit():
        from .serving import recordings as kept

        found = kept.recordings(folder)
        chosen = list(found) if "all" in (delete or ()) else []
        for name in delete or ():
            matching = [one for one in found if name in (one.path.name, one.path.stem)]
            if name != "all" and not matching:
                raise InputError(f"{folder} holds no recording {name!r}; without --delete the command lists them")
            chosen += [one for one in matching if one not in chosen]
        for one in chosen:
            kept.delete(one)
            typer.echo(f"deleted {one.path}")
        if older_than_days is not None:
            for one in kept.delete_older(folder, older_than_days):
                typer.echo(f"deleted {one.path}")
        if delete is None and older_than_days is None:
            for one in found:
                age = (datetime.now(UTC) - one.began).days
                typer.echo(f"{one.path.name}  {one.began:%Y-%m-%d %H:%M} UTC  {age} days old  {one.n_bytes / 1e6:.1f} MB")
