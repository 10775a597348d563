"""A conversation's input as the backbone sees it: a log of entries (tokens and prosody vectors), of which
the first `cached` have keys and values in a slot of the slab. The log is the truth and the slot a cache of
it: rolling back lowers two numbers, replaying lowers one, and an evicted context is a log without a slot.
Positions are places in the log, so keys never need to be moved. A context belongs to the engine's thread
while work on it is outstanding; in between, anyone may read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from ..models.errors import CapacityError, InputError


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One row of input: a token, or (with a vector [feature_dim]) a marker row that carries prosody.

    `vector` is copied to a read-only float32 array. `position` is filled in by the log; where it is given,
    the log checks it, so that an entry computed for another state of the conversation is refused.
    """

    token_id: int | None
    vector: npt.NDArray[np.float32] | None = None
    position: int | None = None

    def __post_init__(self) -> None:
        if self.token_id is None and self.vector is None:
            raise InputError("an entry needs a token id or a prosody vector")
        if self.vector is not None:
            object.__setattr__(self, "vector", _own_copy(self.vector))

    def same_input(self, other: Entry) -> bool:
        """True when both give the model the same row, bit for bit; positions are not compared."""
        if self.vector is None or other.vector is None:
            return self.vector is other.vector and self.token_id == other.token_id
        return np.array_equal(self.vector, other.vector)


def _own_copy(vector: npt.ArrayLike | torch.Tensor) -> npt.NDArray[np.float32]:
    """A float32 array that nobody else can change; an array made here before is passed on."""
    if isinstance(vector, torch.Tensor):
        vector = vector.detach().float().cpu().numpy()
    elif isinstance(vector, np.ndarray) and vector.dtype == np.float32 and not vector.flags.writeable:
        return vector
    copied = np.array(vector, dtype=np.float32)
    copied.setflags(write=False)
    return copied


class Context:
    """A log with a place in the slab. Made by `Engine.open_context`; `capacity` is the slab's slot length."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.slot: int | None = None
        self.closed = False
        self.next_logits: torch.Tensor | None = None  # [vocab] after the log's last row; None if not at hand
        self._log: list[Entry] = []
        self._cached = 0
        self._committed = 0

    @property
    def length(self) -> int:
        """Entries in the log; the position that the next one gets."""
        return len(self._log)

    @property
    def cached(self) -> int:
        """Leading entries whose keys and values are in the slot."""
        return self._cached

    @property
    def pending(self) -> int:
        """Entries that the next step has to run before the context can be continued."""
        return len(self._log) - self._cached

    @property
    def committed(self) -> int:
        """Entries before this position are part of the conversation; those after it are speculation."""
        return self._committed

    @property
    def room(self) -> int:
        """Entries that still fit."""
        return self.capacity - len(self._log)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """A copy of the log."""
        return tuple(self._log)

    def rows(self, start: int, count: int) -> list[Entry]:
        """Entries `start .. start + count` of the log."""
        return self._log[start : start + count]

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries to the log. Raises CapacityError or InputError, and then nothing was added."""
        if len(entries) > self.room:
            raise CapacityError(
                f"{len(entries)} entries do not fit: the context holds {self.length} of {self.capacity}; "
                "truncate it, begin a new one, or open the engine with a larger slot_len"
            )
        placed = []
        for position, entry in enumerate(entries, start=self.length):
            if entry.position not in (None, position):
                raise InputError(
                    f"an entry for position {entry.position} came when {position} is next: it is stale"
                )
            placed.append(replace(entry, position=position) if entry.position is None else entry)
        if placed:
            self._log += placed
            self.next_logits = None

    def truncate(self, position: int) -> None:
        """Forget all entries from `position` on; the committed mark goes back with them. Nothing is
        copied."""
        self._check(position)
        if position < self.length:
            del self._log[position:]
            self.next_logits = None
        self._cached = min(self._cached, position)
        self._committed = min(self._committed, position)

    def replay(self, from_position: int = 0) -> None:
        """Forget the keys and values from `from_position` on, so that the next step computes them from the
        log again."""
        self._check(from_position)
        self._cached = min(self._cached, from_position)
        self.next_logits = None

    def want_logits(self) -> None:
        """Make sure that the last row's logits are at hand or will be computed; after a truncate the last
        entry runs again."""
        if self.pending == 0 and self.next_logits is None:
            self.replay(self.length - 1)

    def commit(self, position: int) -> None:
        """Move the committed mark, in either direction, to a position within the log."""
        self._check(position)
        self._committed = position

    def attach(self, slot: int) -> None:
        """Take a slot as the place of the cache; it holds nothing of this log yet."""
        self.replay(0)
        self.slot = slot

    def evict(self) -> int | None:
        """Leave the slot, if there is one, and return its number; the log stays."""
        slot, self.slot = self.slot, None
        self.replay(0)
        return slot

    def fork_into(self, branch: Context) -> None:
        """Make `branch`, a new context, equal to this one; the slab's contents are the caller's to copy."""
        branch._log = list(self._log)
        branch._committed = self._committed
        branch._cached = self._cached
        branch.next_logits = self.next_logits

    def mark_cached(self, count: int) -> None:
        """Note that a step has written the keys and values of the next `count` entries."""
        self._cached += count

    def _check(self, position: int) -> None:
        if not 0 <= position <= self.length:
            raise InputError(f"position {position} is outside the log 0..{self.length}")
