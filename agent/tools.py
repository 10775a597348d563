"""What the model may call: Python functions with typed arguments, or the demo tools of the bundled model.

`tool` says how a function is to be treated; a plain function is a tool with the usual treatment. A `Toolbox` holds those of
one session by name. How calls are run is in `tool_calls.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from string import Formatter
from typing import TYPE_CHECKING, Any, overload

from ..models.demo_tools import TOOLS, Call, demo_result
from ..models.errors import CheckpointError, InputError
from .tool_schema import Bound, checker_of, description_of, parameters_of

if TYPE_CHECKING:
    from ..models.checkpoint import Checkpoint  # brings torch

TIME_LIMIT_S = 10.0
FILLER = "One moment."
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")

ToolFunction = Callable[..., Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function that the model may call, and how it is treated. Calling it calls the function.

    `parameters` is the JSON schema of an object; `check` turns a call's arguments into those of the function and raises
    WrongArguments. `filler` is spoken once when the tool is slow. `confirm`: the user is asked first; a string is the
    question, in which {name} stands for an argument.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    function: ToolFunction
    check: Callable[[Mapping[str, Any]], Bound]
    time_limit_s: float = TIME_LIMIT_S
    confirm: bool | str = False
    filler: str | None = FILLER
    cancel_on_interrupt: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InputError(f"a tool cannot be called {self.name!r}: expected letters, digits and _.-, at most 64")
        if not self.time_limit_s > 0:
            raise InputError(f"the time limit of {self.name} is {self.time_limit_s} s: expected more than 0")
        if isinstance(self.confirm, str):
            asked = {field for _, field, _, _ in Formatter().parse(self.confirm) if field is not None}
            if unknown := asked - set(self.parameters.get("properties", {})):
                raise InputError(f"the question of {self.name} names {sorted(unknown)}, which are no parameters of it")
        if self.cancel_on_interrupt and not self.is_async:
            raise InputError(f"{self.name} is not async and cannot be cancelled: make it async or let it finish")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    @property
    def is_async(self) -> bool:
        """Whether it runs on the event loop; if not, in a thread of its own."""
        return inspect.iscoroutinefunction(self.function)

    @property
    def schema(self) -> dict[str, Any]:
        """The function's form in which models know tools."""
        described = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": described}

    def question(self, arguments: Mapping[str, Any]) -> str:
        """What the user is asked before this call."""
        if isinstance(self.confirm, str):
            properties = self.parameters.get("properties", {})
            defaults = {name: schema.get("default", "") for name, schema in properties.items()}
            return self.confirm.format(**{**defaults, **arguments})
        said = ", ".join(f"{name} {value}" for name, value in arguments.items()).replace("_", " ")
        return f"Shall I {self.name.replace('_', ' ')}{': ' if said else ''}{said}? Say yes or no."

    async def run(self, bound: Bound) -> Any:
        """Call the function; one that is not async runs in a thread that nobody waits for at the end."""
        args, kwargs = bound
        value = self.function(*args, **kwargs) if self.is_async else await _in_thread(self.function, bound)
        return await value if inspect.isawaitable(value) else value


@overload
def tool(function: ToolFunction, /) -> Tool: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    time_limit_s: float = TIME_LIMIT_S,
    confirm: bool | str = False,
    filler: str | None = FILLER,
    cancel_on_interrupt: bool = False,
) -> Callable[[ToolFunction], Tool]: ...


def tool(
    function: ToolFunction | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    time_limit_s: float = TIME_LIMIT_S,
    confirm: bool | str = False,
    filler: str | None = FILLER,
    cancel_on_interrupt: bool = False,
) -> Tool | Callable[[ToolFunction], Tool]:
    """Make a function a tool, as a decorator with or without options. InputError for what cannot be one."""

    def make(function: ToolFunction) -> Tool:
        return Tool(
            name=name or str(getattr(function, "__name__", type(function).__name__)),
            description=description_of(function) if description is None else description,
            parameters=parameters_of(function),
            function=function,
            check=checker_of(function),
            time_limit_s=time_limit_s,
            confirm=confirm,
            filler=filler,
            cancel_on_interrupt=cancel_on_interrupt,
        )

    return make if function is None else make(function)


class Toolbox:
    """The tools of one session. Without functions of its own it holds the demo tools, whose results are made up.

    `time_limit_s` is that of plain functions. InputError for two tools of one name, or what is no function.
    """

    def __init__(self, functions: Sequence[ToolFunction | Tool] | None = None, time_limit_s: float = TIME_LIMIT_S) -> None:
        self._tools: dict[str, Tool] = {}
        for function in _demo_tools() if functions is None else functions:
            if not callable(function) and not isinstance(function, Tool):
                raise InputError(f"{function!r} is no tool: expected a function, or what `tool` makes of one")
            made = function if isinstance(function, Tool) else replace(tool(function), time_limit_s=time_limit_s)
            if made.name in self._tools:
                raise InputError(f"two tools are called {made.name}: give one of them another name")
            self._tools[made.name] = made

    @property
    def names(self) -> tuple[str, ...]:
        """What can be called."""
        return tuple(self._tools)

    @property
    def schemas(self) -> tuple[dict[str, Any], ...]:
        """All tools in the form in which models know them."""
        return tuple(tool.schema for tool in self._tools.values())

    def system(self, instructions: str | None, checkpoint: Checkpoint) -> tuple[int, ...]:
        """The turn of instructions, () for none. It lists the tools where the checkpoint's configuration says
        `tool_prompt: hermes`: its backbone was trained to read them. CheckpointError for another form."""
        form = checkpoint.config.get("tool_prompt")
        if form not in (None, "hermes"):
            raise CheckpointError(f"tool_prompt {form!r} in textpro_config.json: expected hermes, or nothing")
        if form and self._tools:
            text = checkpoint.chat.default_system if instructions is None else instructions
            return checkpoint.chat.system_with_tools(text or "", self.schemas)
        return checkpoint.chat.opening(instructions)

    def get(self, name: str) -> Tool:
        """The tool of that name. InputError if there is none."""
        if name not in self._tools:
            raise InputError(f"there is no tool {name!r}; there are: {', '.join(self.names) or 'none'}")
        return self._tools[name]


def _demo_tools() -> list[Tool]:
    def demo(name: str) -> ToolFunction:
        async def answer(**arguments: Any) -> dict[str, Any]:
            return dict(demo_result(Call(name, arguments)))

        return answer

    return [
        Tool(
            name=known.name,
            description=known.description,
            parameters=known.parameters,
            function=demo(known.name),
            check=unchecked,
        )
        for known in TOOLS
    ]


def unchecked(arguments: Mapping[str, Any]) -> Bound:
    """The `check` of a tool that looks at its arguments itself."""
    return (), dict(arguments)


async def _in_thread(function: ToolFunction, bound: Bound) -> Any:
    """Run a function that may block. Its thread is a daemon: one that never ends keeps neither the session nor the
    process from ending, which a pool's would."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()
    context = contextvars.copy_context()

    def tell(value: Any, error: BaseException | None) -> None:
        if not done.done():
            done.set_result((value, error))

    def work() -> None:
        value, error = None, None
        try:
            value = context.run(function, *bound[0], **bound[1])
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile, and with it whoever waited
            loop.call_soon_threadsafe(tell, value, error)

    threading.Thread(target=work, name=f"tool-{getattr(function, '__name__', 'call')}", daemon=True).start()
    value, error = await done
    if isinstance(error, Exception):
        raise error
    if error is not None:
        raise RuntimeError(f"{type(error).__name__}: {error}")
    return value
