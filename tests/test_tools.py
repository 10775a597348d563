"""Functions as tools: their schemas, what is refused, results as JSON, a yes or a no in words, the tools in the system turn."""

from __future__ import annotations

import asyncio
import math
import runpy
import threading
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from scripted_engine import CHAT, TOKENIZER, ScriptedTalk
from textpro.agent.consent import read_consent
from textpro.agent.tool_schema import MAX_RESULT_CHARACTERS, WrongArguments, as_result
from textpro.agent.tools import Toolbox, tool
from textpro.models.demo_tools import TOOLS
from textpro.models.errors import CheckpointError, InputError


class Place(BaseModel):
    title: str
    floor: int = 0


def deliver(
    item: str,
    count: Annotated[int, Field(ge=1, description="how many")] = 1,
    *,
    to: Place,
    speed: Literal["slow", "fast"] = "slow",
) -> str:
    """Bring something
    somewhere.

    Only the robot in the hall can do this.
    """
    return f"{count} {item} to {to.title} {speed}"


def test_a_function_becomes_a_schema_in_the_form_that_models_know():
    schema = tool(deliver).schema
    assert schema["type"] == "function"
    function = schema["function"]
    assert (function["name"], function["description"]) == ("deliver", "Bring something somewhere.")
    assert function["parameters"]["required"] == ["item", "to"]
    assert function["parameters"]["properties"]["count"] == {
        "type": "integer", "minimum": 1, "default": 1, "description": "how many"
    }  # fmt: skip
    assert function["parameters"]["properties"]["speed"]["enum"] == ["slow", "fast"]
    assert set(function["parameters"]["$defs"]["Place"]["properties"]) == {"title", "floor"}


def test_arguments_are_checked_and_converted_before_the_function_runs():
    args, kwargs = tool(deliver).check({"item": "tea", "count": "2", "to": {"title": "hall"}})
    assert deliver(*args, **kwargs) == "2 tea to hall slow"
    with pytest.raises(WrongArguments, match=r"count: .*\bto: .*colour: "):
        tool(deliver).check({"item": "tea", "count": 0, "colour": "red"})


def test_a_decorated_function_can_still_be_called_and_keeps_its_options():
    @tool(name="add_up", description="Adds.", time_limit_s=2, filler=None)
    def add(a: int, b: int) -> int:
        return a + b

    assert add(1, 2) == 3
    assert (add.name, add.description, add.time_limit_s, add.filler) == ("add_up", "Adds.", 2, None)
    assert Toolbox([add]).get("add_up") is add


def by_position(a: int, /) -> None: ...
def plain(a: int) -> None: ...


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tool(by_position), "by name"),
        (lambda: tool(lambda: None), "<lambda>"),
        (lambda: tool(time_limit_s=0)(plain), "time limit"),
        (lambda: tool(confirm="Really {b}?")(plain), r"\['b'\]"),
        (lambda: tool(cancel_on_interrupt=True)(plain), "async"),
        (lambda: Toolbox([plain, plain]), "two tools"),
        (lambda: Toolbox([plain]).get("gone"), "there are: plain"),
    ],
)
def test_what_cannot_be_a_tool_is_refused_with_the_reason(make, message):
    with pytest.raises(InputError, match=message):
        make()


@dataclass
class Weather:
    day: date
    rain: float


@pytest.mark.parametrize(
    ("value", "result"),
    [
        (None, {"ok": True}),
        ("fine", {"result": "fine"}),
        ({"a": 1}, {"a": 1}),
        (Weather(date(2026, 1, 2), math.nan), {"day": "2026-01-02", "rain": "NaN"}),
        (Place(title="hall"), {"title": "hall", "floor": 0}),
        ({3}, {"result": [3]}),
    ],
)
def test_what_a_tool_returns_becomes_a_json_object(value, result):
    assert as_result(value) == result


def test_what_has_no_json_form_is_refused_by_its_kind_and_what_is_long_is_cut():
    with pytest.raises(InputError, match="lock"):
        as_result({"a": threading.Lock()})
    assert len(as_result("x" * 9_999)["result"]) == MAX_RESULT_CHARACTERS


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("yes", True),
        ("Yes, please.", True),
        ("um yeah do it", True),
        ("okay go ahead", True),
        ("sure, thank you", True),
        ("of course", True),
        ("no", False),
        ("No, thanks!", False),
        ("please don\u2019t", False),
        ("stop", False),
        ("never mind", False),
        ("yes no", None),
        ("i don't know", None),
        ("why not", None),
        ("not sure", None),
        ("okay what is the weather", None),
        ("what is the time", None),
        ("and what is not allowed here then", None),
        ("", None),
    ],
)
def test_yes_and_no_are_read_only_where_they_are_plain(said, meaning):
    assert read_consent(said) is meaning


def test_a_backbone_trained_for_it_reads_the_tools_in_its_system_turn_and_others_nothing():
    async def systems() -> list[str]:
        found = []
        for config, tools in (({"tool_prompt": "hermes"}, [plain]), ({"tool_prompt": "hermes"}, []), ({}, [plain])):
            async with ScriptedTalk(tools, config=config) as talk:
                found.append(talk.history)
        with pytest.raises(CheckpointError, match="xml"):
            await ScriptedTalk([], config={"tool_prompt": "xml"}).__aenter__()
        return found

    told, without_tools, untrained = asyncio.run(systems())
    assert without_tools == untrained == ""
    assert told.startswith("<|im_start|>system\n# Tools\n\nYou may call one or more functions")
    assert (
        '<tools>\n{"type": "function", "function": {"name": "plain", "description": "", "parameters": '
        '{"additionalProperties": false, "properties": {"a": {"type": "integer"}}, "required": ["a"], "type": "object"}}}'
        "\n</tools>"
    ) in told
    assert told.endswith(
        "within <tool_call></tool_call> XML tags:\n<tool_call>\n"
        '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call><|im_end|>\n'
    )
    reserved = [
        token for token in CHAT.system_with_tools("<tool_call>", [{"a": "<tool_call>"}]) if token == CHAT.call("a", {})[0]
    ]
    assert len(reserved) == 2, "only the two of the form itself are the model's own token"


def test_the_calls_of_one_message_are_read_back_with_their_places():
    first, second = CHAT.call("a", {"x": 1}), CHAT.call("b", {})
    lead = CHAT.reply("Let me see.\n")
    ids = (*lead, *first, *CHAT.after_turn_end(), *second)
    (at, end, call), (at_2, end_2, call_2) = CHAT.calls(ids)
    assert (ids[at:end], call.name, call.arguments) == (first, "a", {"x": 1})
    assert (ids[at_2:end_2], call_2.name) == (second, "b")
    both = TOKENIZER.decode(CHAT.responses([{"n": 1}, {"n": 2}]))
    assert both == (
        '<|im_start|>user\n<tool_response>\n{"n": 1}\n</tool_response>\n<tool_response>\n{"n": 2}\n</tool_response>'
        "<|im_end|>\n<|im_start|>assistant\n"
    )
    assert CHAT.responses([{"n": 1}]) == CHAT.response({"n": 1})


def test_without_functions_a_session_has_the_demo_tools():
    assert Toolbox().names == tuple(known.name for known in TOOLS)
    assert asyncio.run(Toolbox().get("set_light").run(((), {"room": "hall"}))) == {"ok": True}


def test_the_example_has_tools_that_a_session_takes():
    example = runpy.run_path(str(Path(__file__).parent.parent / "examples" / "tools.py"))
    functions = [example[name] for name in ("set_light", "order_status", "cancel_order")]
    box = Toolbox(functions)
    known = {tool.name: set(tool.parameters["properties"]) for tool in TOOLS}
    assert all(set(box.get(name).parameters["properties"]) == known[name] for name in box.names), "as the model was trained"
    assert box.get("cancel_order").question({"order": "4719"}) == "Shall I cancel order 4719? Say yes or no."
