"""What a tokenizer's own chat template does beyond plain ChatML turns, found by rendering it and looking: the instructions it
adds where a conversation has none (Qwen2.5), the empty thought it puts before a reply that shall not think aloud (Qwen3), and
whether it lists tools the Hermes way. What is no ChatML at all is refused. `ChatFormat` writes by these facts, so its ids are
those of `apply_chat_template` for the same messages.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from .errors import CheckpointError
from .tokens import THINK, THINK_END, TOOL_CALL, TOOL_CALL_END, TURN_END, TURN_START

TOOLS_BEFORE = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:"
)
TOOLS_AFTER = "For each function call, return a json object with function name and arguments within"
CALL_FORM = '{"name": <function-name>, "arguments": <args-json-object>}'
_EMPTY_THOUGHT = re.compile(rf"{re.escape(THINK)}\s*{re.escape(THINK_END)}\s*")
_SCHEMA = {
    "type": "function",
    "function": {"name": "probe", "description": "A probe.", "parameters": {"type": "object", "properties": {}}},
}


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """`system`: the instructions of a conversation that brings none, None for no such turn. `reply_lead`: what stands between
    the opening of a reply and its first word. `lists_tools`: whether tools are listed as `ChatFormat` does it."""

    system: str | None = None
    reply_lead: str = ""
    lists_tools: bool = False


PLAIN = ChatTemplate()


def read_template(tokenizer: PreTrainedTokenizerFast, place: Path | str) -> ChatTemplate:
    """The facts of the tokenizer's template; `place` names it in errors. CheckpointError unless it writes ChatML turns and
    lets a reply begin without a thought."""
    known = tokenizer.get_vocab()
    missing = [token for token in (TURN_START, TURN_END) if token not in known]
    if missing:
        raise CheckpointError(f"the tokenizer of {place} does not know {' and '.join(missing)}: expected a model of ChatML turns")
    question = {"role": "user", "content": "b"}
    told = [{"role": "system", "content": "a"}, question]
    rendered, expected = _render(tokenizer, place, told), _turns(told)
    lead = rendered.removeprefix(expected)
    if not rendered.startswith(expected) or not (lead == "" or lead.startswith(THINK)):
        raise CheckpointError(f"the chat template of {place} writes {rendered!r}: expected plain ChatML turns; use another model")
    if lead and not _EMPTY_THOUGHT.fullmatch(lead):
        raise CheckpointError(
            f"the chat template of {place} begins a reply with {lead!r} even with enable_thinking=False: expected a model that "
            "can answer at once; use one that does not always think first"
        )
    alone = _render(tokenizer, place, [question])
    added = rf"(?:{re.escape(TURN_START)}system\n(.*?){re.escape(TURN_END)}\n)?"
    system = re.fullmatch(added + re.escape(_turns([question]) + lead), alone, re.DOTALL)
    if system is None:
        raise CheckpointError(f"the chat template of {place} writes {alone!r}: expected plain ChatML turns; use another model")
    return ChatTemplate(system[1], lead, _lists_tools(tokenizer, told, lead))


def tools_text(schemas: list[dict[str, Any]]) -> str:
    """How Qwen's templates list tools in the turn of instructions, behind its text."""
    listed = "".join(f"\n{json.dumps(schema, ensure_ascii=False)}" for schema in schemas)
    shown = f"{TOOL_CALL}\n{CALL_FORM}\n{TOOL_CALL_END}"
    return f"{TOOLS_BEFORE}\n<tools>{listed}\n</tools>\n\n{TOOLS_AFTER} {TOOL_CALL}{TOOL_CALL_END} XML tags:\n{shown}"


def _turns(messages: list[dict[str, str]]) -> str:
    """ChatML, with a reply opened behind it."""
    turns = "".join(f"{TURN_START}{one['role']}\n{one['content']}{TURN_END}\n" for one in messages)
    return f"{turns}{TURN_START}assistant\n"


def _render(tokenizer: PreTrainedTokenizerFast, place: Path | str, messages: list[dict[str, str]], **more: Any) -> str:
    try:
        return str(
            tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=False, **more)
        )
    except Exception as error:  # whatever the template of a stranger raises
        raise CheckpointError(f"the chat template of {place} fails ({error}): expected a model of ChatML turns") from error


def _lists_tools(tokenizer: PreTrainedTokenizerFast, told: list[dict[str, str]], lead: str) -> bool:
    """Whether a tool is listed as `tools_text` does; a template that cannot is no fault."""
    instructed = {"role": "system", "content": f"{told[0]['content']}\n\n{tools_text([_SCHEMA])}"}
    try:
        return _render(tokenizer, "", told, tools=[_SCHEMA]) == _turns([instructed, told[1]]) + lead
    except CheckpointError:
        return False
