"""How commands end: a TextProError is one line on stderr and exit code 2, Ctrl-C is 130, a closed pipe is
141."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import typer

from .models.errors import TextProError

ERROR, INTERRUPTED, BROKEN_PIPE = 2, 130, 141


@contextlib.contextmanager
def clean_exit() -> Iterator[None]:
    """Ends the command the way that people and scripts expect, without a traceback."""
    try:
        yield
    except TextProError as error:
        typer.echo(f"textpro-agent: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(ERROR) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # The interpreter flushes stdout once more when it ends; let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise typer.Exit(BROKEN_PIPE) from None
