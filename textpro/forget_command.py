"""`textpro-agent forget`: deletes logs of conversations that `serve --state` has kept, for good (docs/server.md, Resume)."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Annotated

import typer

from .exits import clean_exit
from .models.errors import InputError

_SECONDS = {"m": 60, "h": 3600, "d": 86_400}


def forget(
    state: Annotated[Path, typer.Option(metavar="DIR", help="The folder that `serve --state` was given.")],
    session: Annotated[str | None, typer.Option(metavar="ID", help="The session of this id (sess_...).")] = None,
    older_than: Annotated[
        str | None, typer.Option(metavar="TIME", help="Those that nothing was added to for so long: 30m, 12h, 7d.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
) -> None:
    """Delete kept conversations for good: what was said, how it sounded, what was answered.

    The space is overwritten and given back. A server may be running: what is deleted cannot be resumed, and is not written
    again; conversations that are going on go on.
    """
    with clean_exit():
        if (session is not None) + (older_than is not None) + everything != 1:
            raise InputError("say which conversations are to be forgotten: one of --session ID, --older-than TIME, --all.")
        before_s = None if older_than is None else time.time() - seconds_of(older_than)
        from .serving.session_store import existing_store

        store = existing_store(state)
        try:
            count = store.forget(session_id=session, before_s=before_s)
        finally:
            store.close()
        typer.echo(f"{count} conversation{'' if count == 1 else 's'} forgotten")


def seconds_of(text: str) -> float:
    """30m, 12h or 7d in seconds. InputError for anything else."""
    if (found := re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)([mhd])", text.strip())) is None:
        raise InputError(f"--older-than {text}: expected a number with m, h or d, such as 30m, 12h or 7d.")
    return float(found[1]) * _SECONDS[found[2]]
