"""Results of tools that came after their reply was cut off, and their place in the context.

A reply that is cut off while a tool runs leaves a response that says so. When the next reply begins and the result is there,
that response is written anew with it, so the history reads as if it had come in time; if it comes later still, it gets a
response of its own in front of the user's turn that is being answered. The model thus always learns it before it speaks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..engine import Append, Context, Engine, Entry, Truncate
from ..models.chat import ChatFormat
from .tool_calls import RUNNING, Result, ToolCalls, ToolRun


@dataclass(frozen=True, slots=True)
class OpenResponse:
    """The response at position `at` of the context, the last thing in it, tells of `runs` that are not all settled."""

    at: int
    runs: tuple[ToolRun, ...]


class LateResults:
    """Of one session's context."""

    def __init__(self, engine: Engine, context: Context, chat: ChatFormat, calls: ToolCalls) -> None:
        self._engine, self._context, self._chat, self._calls = engine, context, chat, calls
        self.open: OpenResponse | None = None

    @property
    def is_due(self) -> bool:
        """Whether something has come that the model does not know."""
        return self._calls.has_late

    async def place(self, front: int) -> None:
        """Write what has come in front of position `front`, behind which the user's turn stands."""
        left, self.open = self.open, None
        late = self._calls.take_late()
        if left is not None and any(run in late for run in left.runs):
            front = await self._write(left.at, front, [run.report for run in left.runs])
            late = [run for run in late if run not in left.runs]
        if late:
            await self._write(front, front, [_named(run) for run in late])

    async def _write(self, at: int, front: int, results: Sequence[Result]) -> int:
        """Replace what is between the two positions by a response that nothing was said to; gives where it ends."""
        chat = self._chat
        response = (*chat.responses(results), chat.cut_off_id, *chat.reply_close())
        behind = tuple(replace(entry, position=None) for entry in self._context.entries[front:])
        await self._engine.run(Truncate(self._context, at))
        await self._engine.run(Append(self._context, (*(Entry(token) for token in response), *behind)))
        return at + len(response)


def _named(run: ToolRun) -> Result:
    return {"late_result_of": run.call.name, "arguments": dict(run.call.arguments), **(run.result or RUNNING)}
