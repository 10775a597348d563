"""What of the running turn has been committed: tokens with their prosody vectors and times, in order.

Everything downstream reads this log and nothing else. It grows by `append` and shrinks by `truncate`, and says of both
what changed, so replaying the changes gives the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Commit:
    """One token. `visible` encoder frames went into its `vector` [dim]; its word ends at `end_samples` of the turn."""

    token: int
    vector: NDArray[np.float32]
    visible: int
    end_samples: int


class CommitLog:
    """The committed tokens of one turn."""

    def __init__(self) -> None:
        self._commits: list[Commit] = []
        self.committed_total = self.retracted_total = 0

    def __len__(self) -> int:
        return len(self._commits)

    @property
    def commits(self) -> tuple[Commit, ...]:
        """All of them, in order."""
        return tuple(self._commits)

    @property
    def tokens(self) -> tuple[int, ...]:
        """Token ids, [n]."""
        return tuple(commit.token for commit in self._commits)

    @property
    def visible(self) -> tuple[int, ...]:
        """Encoder frames behind each vector, [n]."""
        return tuple(commit.visible for commit in self._commits)

    @property
    def vectors(self) -> list[NDArray[np.float32]]:
        """Prosody vectors, n of [dim]."""
        return [commit.vector for commit in self._commits]

    @property
    def end_samples(self) -> int:
        """Where the last committed word ends, in samples since the turn's start; 0 for an empty log."""
        return self._commits[-1].end_samples if self._commits else 0

    def append(self, commits: Sequence[Commit]) -> None:
        """Add tokens behind the last one."""
        self._commits += commits
        self.committed_total += len(commits)

    def truncate(self, length: int) -> int:
        """Keep the first `length` tokens; returns how many were retracted."""
        retracted = max(0, len(self._commits) - length)
        del self._commits[length:]
        self.retracted_total += retracted
        return retracted
