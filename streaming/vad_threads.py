"""Keeps Silero's library to one thread.

It asks OpenMP for four threads for a network of a tenth of a millisecond, whatever OMP_NUM_THREADS says; they cost ten times
what the network does, nearly all of it waiting for one another, and more where other work needs the cores. With no levels of
parallelism allowed, GNU's OpenMP runs such a region on the thread that comes to it, with the same result. Which of the
loaded copies of OpenMP serves the library depends on what was imported first (torch brings one, too), so all that it may find
are told. Where there is none of that name, as on macOS, nothing is done.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache

Setter = Callable[[int], object]


class OneThread:
    """A context within which the library of this file starts no threads. May be entered again and again, by many threads."""

    def __init__(self, library_file: str) -> None:
        self._found = _levels(library_file)

    def __enter__(self) -> None:
        for set_levels, _ in self._found:
            set_levels(0)

    def __exit__(self, *_: object) -> None:
        for set_levels, usual in self._found:
            set_levels(usual)


@lru_cache(maxsize=4)
def _levels(library_file: str) -> tuple[tuple[Setter, int], ...]:
    """What sets the levels of parallelism in each OpenMP that the library may use, and their usual number, read before
    anybody sets it. Called with the interpreter's lock held: to let it go would cost more than the calls."""
    found = dict[int, tuple[Setter, int]]()
    for name in (None, library_file):
        try:
            library = ctypes.PyDLL(name)
            set_levels, get_levels = library.omp_set_max_active_levels, library.omp_get_max_active_levels
        except (OSError, TypeError, AttributeError):  # no such library, no search of the whole process, no such function
            continue
        address = ctypes.cast(set_levels, ctypes.c_void_p).value or 0
        found[address] = set_levels, get_levels()
    return tuple(found.values())
