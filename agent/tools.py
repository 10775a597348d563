"""What the model may call: Python functions with typed arguments, or the demo tools of the bundled model.

A call's arguments are checked against the function's own signature by pydantic before it runs; whatever goes wrong comes
back as a result that names the fault, so the model can say so.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import ValidationError, validate_call

from ..models.demo_tools import TOOLS, Call, demo_result

ToolFunction = Callable[..., Any]


class Toolbox:
    """The tools of one session. Without functions of its own it holds the demo tools, whose results are made up."""

    def __init__(self, functions: Sequence[ToolFunction] | None = None, time_limit_s: float = 10.0) -> None:
        self._time_limit_s = time_limit_s
        self._functions = None if functions is None else {f.__name__: validate_call(f) for f in functions}
        self._is_async = {f.__name__: inspect.iscoroutinefunction(f) for f in functions or ()}

    @property
    def names(self) -> tuple[str, ...]:
        """What can be called."""
        return tuple(tool.name for tool in TOOLS) if self._functions is None else tuple(self._functions)

    async def run(self, call: Call) -> dict[str, Any]:
        """Carry out a call; a dict result is passed on, any other value becomes {"result": value}."""
        if call.name not in self.names:
            return {"ok": False, "error": f"there is no tool {call.name!r}; there are: {', '.join(self.names)}"}
        if self._functions is None:
            return dict(demo_result(call))
        try:
            value = await asyncio.wait_for(self._start(call), self._time_limit_s)
        except ValidationError as error:
            return {"ok": False, "error": f"wrong arguments for {call.name}: {error.errors(include_url=False)}"}
        except TimeoutError:
            return {"ok": False, "error": f"{call.name} took more than {self._time_limit_s:g} s"}
        except Exception as error:
            return {"ok": False, "error": f"{call.name} failed: {type(error).__name__}: {error}"}
        return value if isinstance(value, dict) else {"ok": True} if value is None else {"result": value}

    async def _start(self, call: Call) -> Any:
        assert self._functions is not None
        function = self._functions[call.name]
        if self._is_async[call.name]:
            return await function(**call.arguments)
        return await asyncio.to_thread(function, **call.arguments)
