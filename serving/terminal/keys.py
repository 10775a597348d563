"""What a person presses: single keys of a terminal, read without waiting for a line. Invariant: the terminal is given back
as it was, however the conversation ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator

try:
    import termios
    import tty
except ImportError:  # Windows
    HAVE_TERMIOS = False
else:
    HAVE_TERMIOS = True

STDIN = 0


def why_no_keys() -> str | None:
    """Why keys cannot be read here, or None if they can."""
    if not HAVE_TERMIOS:
        return "keys are not available on this system"
    if not os.isatty(STDIN):
        return "keys need a terminal, and standard input is none"
    if os.tcgetpgrp(STDIN) != os.getpgrp():
        return "keys need a program in the foreground of its terminal"
    return None


@contextlib.contextmanager
def keys_of_terminal(press: Callable[[str], None]) -> Iterator[None]:
    """Call `press` on the running event loop for every character typed; only where `why_no_keys` is None."""
    before = termios.tcgetattr(STDIN)
    loop = asyncio.get_running_loop()

    def read() -> None:
        typed = os.read(STDIN, 64)
        if not typed:  # the terminal is gone
            loop.remove_reader(STDIN)
        for key in typed.decode(errors="ignore"):
            press(key)

    tty.setcbreak(STDIN)
    try:
        loop.add_reader(STDIN, read)
        yield
    finally:
        loop.remove_reader(STDIN)
        with contextlib.suppress(termios.error):
            termios.tcsetattr(STDIN, termios.TCSADRAIN, before)
