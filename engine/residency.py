"""Which contexts have a slot. Admission lets a context in, the slab gives it a slot with its first work,
eviction takes both away and keeps the log, and the next work on an evicted context lets it in again.
`open` and `close_soon` may be called from any thread; all else belongs to the engine's thread, since a
slot must not change hands during a step."""

from collections import deque

from .admission import Admission, Tenant
from .context import Context
from .slab import Slab


class Residency:
    """Moves contexts in and out of the slab. At most `admission.slots` contexts are inside, so `take`
    finds a slot."""

    def __init__(self, slab: Slab, admission: Admission) -> None:
        self._slab = slab
        self._admission = admission
        self._closing: deque[Context] = deque()

    def open(self) -> Context:
        """A new, empty context. Raises CapacityError when no slot is left for it."""
        context = Context(self._slab.slot_len)
        self._admission.admit(context, Tenant.SESSION)
        return context

    def close_soon(self, context: Context) -> None:
        """End a context: its place is free at once, its slot before another one is taken."""
        context.closed = True
        self._closing.append(context)
        self._admission.leave(context)

    def release_closed(self) -> None:
        """Take back the slots of closed contexts."""
        while self._closing:
            self.vacate(self._closing.popleft())

    def settle(self, context: Context) -> None:
        """See that the context has a slot; one that comes back is admitted as a session. Raises
        CapacityError if refused."""
        if context.slot is not None:
            return
        if not self._admission.holds(context):
            self._admission.admit(context, Tenant.SESSION)
        self._take_slot(context)

    def vacate(self, context: Context) -> None:
        """Free the context's slot and place; its log stays."""
        slot = context.evict()
        if slot is not None:
            self._slab.give_back(slot)
        self._admission.leave(context)

    def fork(self, context: Context) -> Context:
        """A branch: the same log, and a copy of the cache. Raises CapacityError when no slot is left for
        it."""
        branch = Context(self._slab.slot_len)
        self._admission.admit(branch, Tenant.BRANCH)
        self._take_slot(branch)
        context.fork_into(branch)
        if context.slot is not None and branch.slot is not None:
            self._slab.copy(context.slot, branch.slot, context.cached)
        return branch

    def _take_slot(self, context: Context) -> None:
        self.release_closed()
        context.attach(self._slab.take())
