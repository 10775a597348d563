"""The garbage collector of a process that plays and hears sound in real time."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def calm_collector() -> Iterator[None]:
    """Meanwhile the garbage collector looks at nothing that was there before: with torch and transformers loaded, a full
    collection would hold up every session for a quarter of a second."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
