"""How many responses a key may have in a minute, as the Realtime protocol's `rate_limits` tell it. Time is handed in."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from .wire import Json

WINDOW_S = 60.0


@dataclass(slots=True)
class Meter:
    """Responses of one key in the last minute; 0 `limit` is no limit."""

    limit: int = 0
    _taken: deque[float] = field(default_factory=deque)

    def take(self, now_s: float) -> bool:
        """Count one more, unless there were too many."""
        self._forget(now_s)
        if self.limit and len(self._taken) >= self.limit:
            return False
        if self.limit:
            self._taken.append(now_s)
        return True

    def state(self, now_s: float) -> list[Json]:
        """As `rate_limits.updated` says it."""
        if not self.limit:
            return []
        self._forget(now_s)
        reset = WINDOW_S - (now_s - self._taken[0]) if self._taken else 0.0
        left = self.limit - len(self._taken)
        return [{"name": "requests", "limit": self.limit, "remaining": left, "reset_seconds": round(reset, 3)}]

    def _forget(self, now_s: float) -> None:
        while self._taken and now_s - self._taken[0] >= WINDOW_S:
            self._taken.popleft()
