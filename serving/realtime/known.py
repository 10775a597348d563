"""What the session behind a Realtime connection knows of the conversation, and how it gets to know the rest.

A client puts items in, takes some out and changes instructions at any time; the session is opened anew with them: behind its
own history, which has the user's prosody, or behind the items as text where that history itself was changed.
"""

from __future__ import annotations

from .items import Item, Items
from .wire import Apply, Outbox, Plan, Turn

SETTLE_MS = 250
"""How long items that a client adds wait for more of them."""


class Known:
    """`plan` is how the session was asked to be opened last, None before that; `open_plan` how it is open now."""

    def __init__(self, out: Outbox, items: Items) -> None:
        self._out, self._items = out, items
        self.plan: Plan | None = None
        self.open_plan = Plan()
        self._unsent: list[Item] = []
        self._edited = self._goes_on = False
        self._changed_at_ms = 0.0

    @property
    def unread(self) -> list[Item]:
        """Items that the session has still to be brought: all of them where its own history does not count any more."""
        return list(self._items) if self._edited or not (self._goes_on or self.plan is not None) else list(self._unsent)

    def go_on(self, unread: list[Item]) -> None:
        """The first session will have a history that it can keep, which has all items but these."""
        self._unsent, self._goes_on = unread, True

    def add(self, item: Item, now_ms: float) -> None:
        """An item was put at the end."""
        self._unsent.append(item)
        self._changed_at_ms = now_ms

    def edit(self, now_ms: float) -> None:
        """The history was changed."""
        self._edited, self._changed_at_ms = True, now_ms

    def remove(self, item: Item, now_ms: float) -> None:
        """An item was taken out."""
        left = [unsent for unsent in self._unsent if unsent is not item]
        if len(left) == len(self._unsent):
            self.edit(now_ms)
        self._unsent = left

    def forget(self) -> None:
        """A session was not opened as asked for: everything is to be brought again."""
        self.plan, self._edited = None, True

    def refresh(self, plan: Plan, heard_ms: float, now_ms: float) -> None:
        """Nobody speaks: bring everything, if there is something to bring."""
        waited = now_ms - self._changed_at_ms >= SETTLE_MS
        if plan != self.plan or ((self._unsent or self._edited) and waited):
            self.apply(plan, heard_ms)

    def take_typed(self, plan: Plan, heard_ms: float) -> str:
        """A reply is asked for: bring everything but what the user typed last, and give that."""
        typed: list[Item] = []
        while self._unsent and self._unsent[-1].kind == "message" and self._unsent[-1].role == "user":
            typed.insert(0, self._unsent.pop())
        if plan != self.plan or self._unsent or self._edited:
            self.apply(plan, heard_ms, but=typed)
        return " ".join(item.text for item in typed).strip()

    def replace(self, plan: Plan, turns: tuple[Turn, ...], heard_ms: float, now_ms: float) -> None:
        """For one reply, let the session know these turns and nothing else."""
        self._out.do(Apply(plan, turns, False, heard_ms))
        self.plan = plan
        self.edit(now_ms)

    def apply(self, plan: Plan, heard_ms: float, *, but: list[Item] | None = None, force: bool = False) -> None:
        """Open the session anew."""
        keep = not self._edited and (self._goes_on or self.plan is not None)
        left_out = but or []
        items = self._unsent if keep else [item for item in self._items if not any(item is other for other in left_out)]
        turns = tuple(turn for item in items for turn in item.turns())
        self._out.do(Apply(plan, turns, keep, heard_ms, force))
        self.plan, self._edited, self._goes_on = plan, False, False
        self._unsent.clear()
