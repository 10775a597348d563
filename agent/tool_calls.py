"""The tool calls of one session: each is begun once and settled once, whatever becomes of the reply that made it.

A run outlives its reply: when the user cuts in, it goes on, and its result waits here until it has a place in the context.
Nothing is run twice: a call that repeats one of its turn, or one that is still running, gets that one's result.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..models.demo_tools import Call
from ..models.errors import InputError
from .consent import read_consent
from .tool_schema import Bound, as_result
from .tools import Tool, Toolbox

MAX_TOOL_CALLS = 3
"""Calls in one turn; further ones are refused."""
MAX_QUESTIONS = 2
"""How often the user is asked before silence on the matter is a no."""
CLOSING_S = 1.0
"""How long tools that were cancelled may take to clean up before the session ends without them."""
RUNNING = {"status": "still running"}
WAITING = {"status": "the user is being asked"}

Result = dict[str, Any]
Say = Callable[..., None]


def fault(reason: str) -> Result:
    """The result of a call that did not do what it was called for."""
    return {"ok": False, "error": reason}


class ToolRun:
    """One call. `result` is None until it is settled, and `finished` is done then."""

    def __init__(self, call: Call, turn_id: int, say: Say) -> None:
        self.call_id = uuid.uuid4().hex[:12]
        self.call, self.turn_id, self._say = call, turn_id, say
        self.tool: Tool | None = None
        self.is_waiting = False
        self.result: Result | None = None
        self.finished: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[Any] | None = None
        self._limit: asyncio.TimerHandle | None = None
        say("ToolCall", call_id=self.call_id, name=call.name, arguments=dict(call.arguments))

    @property
    def report(self) -> Result:
        """What the model can be told of it now."""
        return self.result or (WAITING if self.is_waiting else RUNNING)

    def start(self, tool: Tool, bound: Bound) -> None:
        """Run the tool; it is settled when it ends or its time is over."""
        assert self.task is None, "a call is run once"
        self.tool, self.is_waiting = tool, False
        self.task = asyncio.create_task(tool.run(bound))
        self.task.add_done_callback(self._ended)
        self._limit = asyncio.get_running_loop().call_later(tool.time_limit_s, self._expire)

    def follow(self, other: ToolRun, note: Result) -> None:
        """Take the result of another run of the same call, with a note."""
        other.finished.add_done_callback(lambda done: self.settle({**done.result(), **note}))

    def settle(self, result: Result) -> None:
        """Give it its result; only the first one counts."""
        if self.result is None:
            self.result, self.is_waiting = result, False
            self.finished.set_result(result)
            self._say("ToolResult", call_id=self.call_id, name=self.call.name, result=result)

    def cancel(self, reason: str) -> None:
        """Settle it with a fault and stop what can be stopped."""
        if self.task is not None and self.tool is not None and not self.tool.is_async:
            reason += "; it cannot be stopped and may still take effect"
        self.settle(fault(f"{self.call.name} was cancelled: {reason}"))
        if self.task is not None:
            self.task.cancel()

    def _expire(self) -> None:
        assert self.tool is not None and self.task is not None
        reason = f"{self.call.name} took more than {self.tool.time_limit_s:g} s"
        self.settle(fault(reason if self.tool.is_async else f"{reason} and may still take effect"))
        self.task.cancel()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        assert self._limit is not None
        self._limit.cancel()
        if task.cancelled():
            self.settle(fault(f"{self.call.name} was cancelled"))
        elif error := task.exception():
            self.settle(fault(f"{self.call.name} failed: {type(error).__name__}: {error}"))
        else:
            try:
                self.settle(as_result(task.result()))
            except InputError as error:
                self.settle(fault(f"{self.call.name} failed: {error}"))


@dataclass(slots=True)
class Waiting:
    """A call that needs the user's yes. `decision` is what the client's button said."""

    run: ToolRun
    tool: Tool
    bound: Bound
    question: str
    asked: int = 1
    decision: bool | None = None


class ToolCalls:
    """Begins calls, keeps those that are not settled, and the one that waits for the user."""

    def __init__(self, toolbox: Toolbox) -> None:
        self._toolbox = toolbox
        self._runs: list[ToolRun] = []
        self._owed: list[ToolRun] = []
        self.waiting: Waiting | None = None

    def begin(self, called: Call | InputError, turn_id: int, say: Say) -> ToolRun:
        """Start a call, or settle it at once with why it is not run, or make it wait for the user."""
        self._runs = [run for run in self._runs if run.turn_id == turn_id or run.result is None]
        if isinstance(called, InputError):
            run = ToolRun(Call("unreadable", {"error": str(called)}), turn_id, say)
            run.settle(fault(str(called)))
        else:
            same = next((run for run in self._runs if run.call == called), None)
            run = ToolRun(called, turn_id, say)
            if self.made(turn_id) >= MAX_TOOL_CALLS:
                run.settle(fault(f"not run: this turn has had {MAX_TOOL_CALLS} calls; answer with what is known"))
            elif same is not None:
                self._repeat(run, same)
            else:
                self._start(run, say)
        self._runs.append(run)
        return run

    def made(self, turn_id: int) -> int:
        """Calls of a turn so far."""
        return sum(run.turn_id == turn_id for run in self._runs)

    def answer(self, words: str | None, turn_id: int, say: Say) -> ToolRun | Waiting | None:
        """What a new reply begins with: nothing; the waiting call, decided by the client or by the user's words and
        run or refused; or, where the words were unclear, the question once more."""
        waiting = self.waiting
        if waiting is None:
            return None
        decision, decided_by = waiting.decision, "client"
        if decision is None:
            decision, decided_by = read_consent(words or ""), "words"
        if decision is None and waiting.asked < MAX_QUESTIONS:
            waiting.asked += 1
            self._ask(waiting, say)
            return waiting
        self.waiting, waiting.run.turn_id = None, turn_id  # a repetition in this turn is one
        by = "unclear" if decision is None else decided_by
        say("ConfirmationAnswer", call_id=waiting.run.call_id, accepted=bool(decision), decided_by=by)
        if decision:
            waiting.run.start(waiting.tool, waiting.bound)
        else:
            why = "did not clearly say yes" if decision is None else "said no"
            waiting.run.settle(fault(f"not run: the user was asked and {why}"))
        return waiting.run

    def interrupt(self) -> None:
        """The user cuts in: cancel the tools that are marked so, let the others go on."""
        for run in self._runs:
            if run.task is not None and run.result is None and run.tool is not None and run.tool.cancel_on_interrupt:
                run.cancel("the user interrupted")

    def owe(self, run: ToolRun) -> None:
        """The reply of this run is over and the model was told that it runs: it gets the result later."""
        self._owed.append(run)

    @property
    def has_late(self) -> bool:
        """Whether a run that was owed is settled now."""
        return any(run.result is not None for run in self._owed)

    def take_late(self) -> list[ToolRun]:
        """Runs that were owed and are settled now, each given once."""
        late = [run for run in self._owed if run.result is not None]
        self._owed = [run for run in self._owed if run.result is None]
        return late

    def close(self) -> None:
        """The session ends: every call that is not settled is cancelled."""
        self.waiting = None
        for run in self._runs:
            if run.result is None:
                run.cancel("the session was closed")

    async def aclose(self) -> None:
        """`close`, and give the cancelled tools a moment to clean up."""
        self.close()
        if tasks := [run.task for run in self._runs if run.task is not None and not run.task.done()]:
            await asyncio.wait(tasks, timeout=CLOSING_S)

    def _start(self, run: ToolRun, say: Say) -> None:
        try:
            tool = self._toolbox.get(run.call.name)
            bound = tool.check(run.call.arguments)
        except InputError as error:
            known = run.call.name in self._toolbox.names
            run.settle(fault(f"wrong arguments for {run.call.name}: {error}" if known else str(error)))
            return
        if not tool.confirm:
            run.start(tool, bound)
        elif self.waiting is not None:
            run.settle(fault("not run: another call waits for the user's answer; call it again afterwards"))
        else:
            run.is_waiting = True
            self.waiting = Waiting(run, tool, bound, tool.question(run.call.arguments))
            self._ask(self.waiting, say)

    def _repeat(self, run: ToolRun, same: ToolRun) -> None:
        """`run` is the call that `same` made already: in its turn, or earlier and still going."""
        if same.is_waiting:
            run.settle(fault("not run: the same call waits for the user's answer"))
            return
        self._owed = [owed for owed in self._owed if owed is not same]
        run.tool = same.tool
        run.follow(same, {"note": "called before; run once"} if same.turn_id == run.turn_id else {})

    def _ask(self, waiting: Waiting, say: Say) -> None:
        call = waiting.run.call
        say(
            "ConfirmationRequest",
            call_id=waiting.run.call_id,
            name=call.name,
            arguments=dict(call.arguments),
            question=waiting.question,
        )
