"""Which contexts have a slot. Admission lets a context in, the slab gives it a slot with its first work,
eviction takes both away and keeps the log, and the next work on an evicted context lets it in again.
Where admission has more places than the slab has slots, a context without work lends its slot to one with
work, the one that has rested longest first; it keeps its place and log, and its next work replays it.
`open` and `close_soon` may be called from any thread; all else belongs to the engine's thread, since a
slot must not change hands during a step."""

from collections import deque
from collections.abc import Callable

from ..models.errors import CapacityError
from .admission import Admission, Tenant
from .context import Context
from .slab import Slab


class Residency:
    """Moves contexts in and out of the slab. `is_busy` says whether a context has work, so that its slot is
    left alone; `evicted` counts those that others took the slots of."""

    def __init__(self, slab: Slab, admission: Admission) -> None:
        self._slab = slab
        self._admission = admission
        self.is_busy: Callable[[Context], bool] = lambda context: False
        self.evicted = 0
        self._closing: deque[Context] = deque()
        self._resident: dict[Context, None] = {}  # those in a slot, the one that has rested longest first

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

    def has_slot(self, context: Context) -> bool:
        """Whether `settle` would find a slot for the context."""
        self.release_closed()
        return context.slot is not None or self._slab.free > 0 or self._resting() is not None

    def settle(self, context: Context) -> None:
        """See that the context has a slot; one that comes back is admitted as a session. Raises
        CapacityError if refused."""
        if not self._admission.holds(context):
            self._admission.admit(context, Tenant.SESSION)
        if context.slot is None:
            self._take_slot(context)
        else:
            self._resident[context] = self._resident.pop(context)

    def vacate(self, context: Context) -> None:
        """Free the context's slot and place; its log stays."""
        self._lend(context)
        self._admission.leave(context)

    def fork(self, context: Context) -> Context:
        """A branch: the same log, and a copy of the cache. Raises CapacityError when no slot is left for
        it."""
        branch = Context(self._slab.slot_len)
        self._admission.admit(branch, Tenant.BRANCH)
        try:
            self._take_slot(branch)
        except CapacityError:
            self._admission.leave(branch)
            raise
        context.fork_into(branch)
        if context.slot is not None and branch.slot is not None:
            self._slab.copy(context.slot, branch.slot, context.cached)
        return branch

    def _take_slot(self, context: Context) -> None:
        self.release_closed()
        if not self._slab.free and (resting := self._resting()) is not None:
            self._lend(resting)
            self.evicted += 1
        context.attach(self._slab.take())
        self._resident[context] = None

    def _resting(self) -> Context | None:
        """The context with a slot and no work that has rested longest."""
        return next((context for context in self._resident if not self.is_busy(context)), None)

    def _lend(self, context: Context) -> None:
        """Free the slot, if there is one; place and log stay."""
        self._resident.pop(context, None)
        slot = context.evict()
        if slot is not None:
            self._slab.give_back(slot)
