"""What a person presses: single keys of a terminal, read without waiting for a line, and Ctrl-C. Invariant: the
terminal and the signal handlers are given back as they were, however the conversation ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType

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


@contextlib.contextmanager
def stop_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """The first SIGINT or SIGTERM calls `stop` on the running event loop; a second one is a KeyboardInterrupt at
    once. For the main thread."""
    loop = asyncio.get_running_loop()
    numbers = [signal.SIGINT, signal.SIGTERM] if sys.platform != "win32" else [signal.SIGINT]

    def first(_number: int, _frame: FrameType | None) -> None:
        for number in numbers:
            signal.signal(number, signal.default_int_handler)
        loop.call_soon_threadsafe(stop)

    before = [signal.signal(number, first) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
