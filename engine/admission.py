"""Who gets a slot. A live conversation is never queued: it is let in at once or refused with a reason, so
that those already in keep their pace. Sessions may be kept out of a reserve, so that a branch (a fork of a
live session) still finds room. Counts only; the slots themselves are handed out by the slab on the
engine's thread. Safe to call from any thread."""

import threading
from enum import Enum

from ..models.errors import CapacityError, InputError


class Tenant(Enum):
    """What a slot is for."""

    SESSION = "session"
    BRANCH = "branch"


class Admission:
    """Counts the holders of `slots` places; the last `branch_reserve` of them are for branches alone. There
    may be more places than the slab has slots: then contexts that rest lend theirs to others."""

    def __init__(self, slots: int, branch_reserve: int = 0) -> None:
        if slots < 1 or not 0 <= branch_reserve < slots:
            raise InputError(
                f"branch_reserve must leave a slot for a session, got {branch_reserve} of {slots} slots"
            )
        self.slots = slots
        self.branch_reserve = branch_reserve
        self.refused = 0
        self._lock = threading.Lock()
        self._holders: dict[object, Tenant] = {}

    @property
    def taken(self) -> int:
        """Places that are held now."""
        return len(self._holders)

    def holds(self, holder: object) -> bool:
        """Whether `holder` was let in and has not left."""
        return holder in self._holders

    def admit(self, holder: object, tenant: Tenant) -> None:
        """Let a holder in. Raises CapacityError, with who is inside, when there is no place for it."""
        with self._lock:
            limit = self.slots - (self.branch_reserve if tenant is Tenant.SESSION else 0)
            if len(self._holders) >= limit:
                self.refused += 1
                branches = sum(held is Tenant.BRANCH for held in self._holders.values())
                raise CapacityError(
                    f"no slot for another {tenant.value}: {len(self._holders) - branches} sessions and "
                    f"{branches} branches hold {len(self._holders)} of {self.slots} slots"
                    + (f", {self.branch_reserve} are reserved for branches" if self.branch_reserve else "")
                    + "; try again when one has ended, or start the engine with more slots"
                )
            self._holders[holder] = tenant

    def check_load(self, capacity: int | None) -> None:
        """Raise CapacityError when as many are inside as the measured costs leave room for; None: no limit."""
        with self._lock:
            if capacity is not None and len(self._holders) >= capacity:
                self.refused += 1
                raise CapacityError(
                    f"no time for another session: {len(self._holders)} are inside, and by the measured cost "
                    f"of speech and replies {capacity} can be served in time; try again when one has ended"
                )

    def leave(self, holder: object) -> None:
        """Free the holder's place; nothing happens when it has none."""
        with self._lock:
            self._holders.pop(holder, None)
