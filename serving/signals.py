"""Ctrl-C and the system's request to end: the first asks a conversation to stop, so that it can say goodbye; the second ends
the program. Invariant: the handlers are given back as they were.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType


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
