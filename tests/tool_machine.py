"""A tool that counts what it does, for conversations whose model is a script, and what to look at in them."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from scripted_engine import Message, ScriptedTalk
from textpro.agent.tools import tool

ANSWER = "It is done."


class Machine:
    """An async tool that takes a while and counts what it does; `turn` is what the model calls."""

    def __init__(self, seconds: float = 0.1, **options: Any) -> None:
        self.started: list[str] = []
        self.ended: list[str] = []

        async def turn(what: str = "left") -> dict:
            """Turn the machine."""
            self.started.append(what)
            await asyncio.sleep(seconds)
            self.ended.append(what)
            return {"turned": what}

        self.tool = tool(**options)(turn)


def call(what: str = "left") -> Message:
    return (("turn", {"what": what}),)


def results(talk: ScriptedTalk) -> list[dict]:
    return [event.result for event in talk.of("tool_result")]


def replies(talk: ScriptedTalk) -> list[str]:
    return [event.text for event in talk.of("reply_done")]


def assert_well_formed(history: str) -> None:
    """Turns open and close in turn, and behind each call stands its response, before anybody else speaks."""
    turns = re.findall(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>\n", history, re.S)
    assert "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns) == history
    for (role, text), following in zip(turns, [*turns[1:], ("", "")], strict=True):
        if "<tool_call>" in text:
            assert role == "assistant" and following[0] == "user"
            assert following[1].count("<tool_response>") == text.count("</tool_call>") == text.count("<tool_call>")


async def until(talk: ScriptedTalk, event_type: str, count: int = 1) -> None:
    while len(talk.of(event_type)) < count:
        await asyncio.sleep(0.001)
