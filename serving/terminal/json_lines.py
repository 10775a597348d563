"""Events as lines of JSON on a stream, for programs: one event per line and nothing else, written through at
once. Audio is told by its length, rate and offset within the reply, not by its samples; voice activity at
most ten times per second of audio."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import TextIO

from ...agent.events import Audio, Event, VoiceActivity

ACTIVITY_INTERVAL_MS = 100


class JsonLines:
    """A view that writes `stream`; notices go to `notice`. A closed pipe is the writer's BrokenPipeError."""

    def __init__(self, stream: TextIO, notice: Callable[[str], None]) -> None:
        self._stream = stream
        self._notice = notice
        self._activity: VoiceActivity | None = None
        self._reply: tuple[int, int] | None = None
        self._offset_samples = 0

    def show(self, event: Event) -> None:
        """Write the event's line, if it is to be written."""
        values = event.to_dict()
        match event:
            case VoiceActivity():
                if not self._is_due(event):
                    return
                self._activity = event
            case Audio():
                if (event.turn_id, event.revision) != self._reply:
                    self._reply, self._offset_samples = (event.turn_id, event.revision), 0
                values["offset_samples"] = self._offset_samples
                self._offset_samples += len(event.pcm)
        self._stream.write(json.dumps(values, ensure_ascii=False) + "\n")
        self._stream.flush()

    def notice(self, text: str) -> None:
        """Passed on; never written to the stream."""
        self._notice(text)

    def played(self, turn_id: int, total_ms: float) -> None:
        """Told by events alone."""

    def status(self, text: str) -> None:
        """Told by notices."""

    def _is_due(self, event: VoiceActivity) -> bool:
        return self._activity is None or event.t_ms - self._activity.t_ms >= ACTIVITY_INTERVAL_MS


@contextlib.contextmanager
def claimed_stdout() -> Iterator[TextIO]:
    """The real standard output, for events alone: meanwhile, whatever else writes to file descriptor 1, from
    Python or from a C library, arrives on stderr."""
    sys.stdout.flush()
    claimed = os.dup(1)
    os.dup2(2, 1)
    try:
        with open(claimed, "w", encoding="utf-8", newline="\n", closefd=False) as stream:
            yield stream
    finally:
        sys.stdout.flush()
        os.dup2(claimed, 1)
        os.close(claimed)
