"""The conversation as token ids: ChatML turns, Hermes tool calls, and the pieces that a session appends as it
goes.

A turn is never rendered as a whole and tokenized again: each method gives the ids of one piece, and pieces
are joined as ids, in training as at run time, so a cached prefix stays the prefix of what comes later. Text
from outside (words, instructions, tool results) can never produce a reserved token: whatever looks like one
is spelled out. What a model thinks between `<think>` and `</think>` stays in the context and is neither text nor a call.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerFast

from .chat_template import CALL_FORM, TOOLS_AFTER, TOOLS_BEFORE
from .demo_tools import Call
from .errors import CheckpointError, InputError
from .text import normalize_typed
from .tokens import (
    CUT_OFF,
    MARKER,
    THINK,
    THINK_END,
    TOOL_CALL,
    TOOL_CALL_END,
    TOOL_RESPONSE,
    TOOL_RESPONSE_END,
    TURN_END,
    TURN_START,
)

Ids = tuple[int, ...]
_THOUGHT = -1
"""Stands in ids in the place of what is no text."""
LOWER_WORDS, WRITTEN = "lower_words", "written"
"""How a checkpoint knows the user's text: as a recognizer's lower case words, or as it was written."""


class ChatFormat:
    """Renders and reads the turns of one checkpoint. `config` is its `textpro_config.json`.

    Raises CheckpointError where the tokenizer lacks a reserved token. Nothing is kept between calls.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, config: Mapping[str, Any]) -> None:
        self._tokenizer = tokenizer
        self._lookalikes = _lookalikes(tokenizer)
        self._text = str(config.get("text", LOWER_WORDS))
        if self._text not in (LOWER_WORDS, WRITTEN):
            raise CheckpointError(f"text {self._text!r} in textpro_config.json: expected {LOWER_WORDS} or {WRITTEN}")
        self.marker_id = self._id(str(config.get("marker_token", MARKER)))
        self.cut_off_id = self._id(str(config.get("cut_off_token", CUT_OFF)))
        self.turn_end_id = self._id(TURN_END)
        self.turn_start_id = self._id(TURN_START)
        newline = self._plain("\n")
        self._close = (self.turn_end_id, *newline)
        self._user_open = (self.turn_start_id, *self._plain("user\n"))
        lead = self._lead(str(config.get("reply_lead", "")))
        self._reply_open = (*self._close, self.turn_start_id, *self._plain("assistant\n"), *lead)
        self._think, self._think_end = self._single(THINK), self._single(THINK_END)
        system = config.get("default_system")
        self.default_system = None if system is None else str(system)
        self._system_open = (self.turn_start_id, *self._plain("system\n"))
        self._call, self._call_end = self._reserved(TOOL_CALL), self._reserved(TOOL_CALL_END)
        self._newline = newline
        self._response_open = (*self._reserved(TOOL_RESPONSE), *newline)
        self._response_close = (*newline, *self._reserved(TOOL_RESPONSE_END))

    def opening(self, instructions: str | None) -> Ids:
        """The turn of instructions that a conversation begins with, () for none. None asks for those that the checkpoint's own
        template adds where a conversation brings none; an empty text for no such turn."""
        text = self.default_system if instructions is None else instructions
        return self.system(text) if text and text.strip() else ()

    def system(self, text: str) -> Ids:
        """A whole turn of instructions; it comes first or not at all."""
        return (*self._system_open, *self._plain(text.strip()), *self._close)

    def system_with_tools(self, text: str, schemas: Sequence[Mapping[str, Any]]) -> Ids:
        """A whole turn of instructions that also lists the tools, in the words that Qwen2.5's chat template uses."""
        listed = "".join(f"\n{json.dumps(dict(schema), ensure_ascii=False)}" for schema in schemas)
        before = f"{text.strip()}\n\n{TOOLS_BEFORE}\n<tools>{listed}\n</tools>\n\n{TOOLS_AFTER} "
        ids = (*self._plain(before.lstrip()), *self._call, *self._call_end, *self._plain(" XML tags:\n"))
        shown = (*self._call, *self._newline, *self._plain(CALL_FORM), *self._newline, *self._call_end)
        return (*self._system_open, *ids, *shown, *self._close)

    def user_open(self) -> Ids:
        """What stands before the user's words."""
        return self._user_open

    def words(self, text: str) -> Ids:
        """Typed words of the user, in the form in which the checkpoint knows speech; () for no words."""
        if self._text == WRITTEN:
            return self._plain(text.strip())
        words = normalize_typed(text)
        return self._plain(" " + words) if words else ()

    def reply_open(self) -> Ids:
        """Ends the user's turn and opens the assistant's; where the template has it, behind an empty thought."""
        return self._reply_open

    def reply_close(self) -> Ids:
        """Ends the assistant's turn: `turn_end_id`, which the model writes itself, and a newline, which it
        does not."""
        return self._close

    def after_turn_end(self) -> Ids:
        """What follows `turn_end_id` in a closed turn."""
        return self._newline

    def is_call(self, ids: Sequence[int]) -> bool:
        """Whether an assistant's turn that begins with `ids` calls a tool."""
        return _find(self._said(ids), self._call) is not None

    def reply(self, text: str) -> Ids:
        """What the assistant says, without opening and end."""
        return self._plain(text)

    def cut_reply(self, heard: str) -> Ids:
        """A reply of which only `heard` was played, without opening and end: those words and the cut-off
        mark."""
        return (*self._plain(heard), self.cut_off_id)

    def call(self, name: str, arguments: Mapping[str, Any]) -> Ids:
        """A tool call as the assistant writes it, without opening and end."""
        body = json.dumps({"name": name, "arguments": dict(arguments)}, ensure_ascii=False)
        return (*self._call, *self._newline, *self._plain(body), *self._newline, *self._call_end)

    def response(self, result: Mapping[str, Any]) -> Ids:
        """A tool's result as a user turn, from its opening to the opening of the assistant's answer."""
        body = json.dumps(dict(result), ensure_ascii=False)
        inside = (*self._response_open, *self._plain(body), *self._response_close)
        return (*self._user_open, *inside, *self._reply_open)

    def responses(self, results: Sequence[Mapping[str, Any]]) -> Ids:
        """`response` for the results of all calls of one message, in their order."""
        inside: Ids = ()
        for result in results:
            body = json.dumps(dict(result), ensure_ascii=False)
            lead = self._newline if inside else ()
            inside += (*lead, *self._response_open, *self._plain(body), *self._response_close)
        return (*self._user_open, *inside, *self._reply_open)

    def calls(self, ids: Sequence[int]) -> list[tuple[int, int, Call | InputError]]:
        """All calls of an assistant's turn: where each begins and ends in `ids`, and what it calls or why it cannot
        be read."""
        ids, said, end = tuple(ids), self._said(ids), 0
        found: list[tuple[int, int, Call | InputError]] = []
        while (start := _find(said, self._call, end)) is not None:
            last = _find(said, self._call_end, start)
            end = len(ids) if last is None else last + len(self._call_end)
            try:
                called = self.parse(ids[start:end])
                found.append((start, end, called if isinstance(called, Call) else InputError("no call")))
            except InputError as error:
                found.append((start, end, error))
        return found

    def text(self, ids: Sequence[int]) -> str:
        """The words of ids, without reserved tokens and without thoughts; one that is not closed hides what follows."""
        said = self._said(ids)
        kept = [token for token in said if token != _THOUGHT]
        text = str(self._tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False))
        return text.lstrip() if said and said[0] == _THOUGHT else text

    def parse(self, ids: Sequence[int]) -> str | Call:
        """What an assistant's turn says or calls; a closing `turn_end_id` may be there or not.

        Raises InputError for a call that is not JSON with a name and arguments.
        """
        ids = self._said(ids)
        start = _find(ids, self._call)
        if start is None:
            return self.text(ids).strip()
        start += len(self._call)
        end = _find(ids, self._call_end, start)
        return _read_call(self.text(ids[start:end]).strip())

    def _said(self, ids: Sequence[int]) -> Ids:
        """`ids` with `_THOUGHT` in the places of thoughts and of their marks."""
        ids, said, inside = tuple(ids), list[int](), False
        if self._think not in ids and self._think_end not in ids:
            return ids
        for token in ids:
            inside = inside or token == self._think
            said.append(_THOUGHT if inside or token == self._think_end else token)
            inside = inside and token != self._think_end
        return tuple(said)

    def _lead(self, text: str) -> Ids:
        """An empty thought, as the template renders it."""
        pieces = re.split(f"({re.escape(THINK)}|{re.escape(THINK_END)})", text)
        return tuple(
            token
            for piece in pieces
            if piece
            for token in (self._reserved(piece) if piece in (THINK, THINK_END) else self._plain(piece))
        )

    def _plain(self, text: str) -> Ids:
        """The ids of a text in which nothing is reserved. Added tokens that are not marked as special would be found in it
        all the same, as `<tool_call>` of Qwen2.5, so whatever looks like one is cut behind its first character."""
        pieces, at = [], 0
        for found in self._lookalikes.finditer(text) if self._lookalikes is not None else ():
            pieces.append(text[at : found.start() + 1])
            at = found.start() + 1
        encoded = [
            self._tokenizer(piece, add_special_tokens=False, split_special_tokens=True)["input_ids"]
            for piece in (*pieces, text[at:])
        ]
        return tuple(token for ids in encoded for token in ids)

    def _reserved(self, token: str) -> Ids:
        """One id where the tokenizer reserves the token, else its spelling."""
        index = self._tokenizer.convert_tokens_to_ids(token)
        if not isinstance(index, int) or index == self._tokenizer.unk_token_id:
            return self._plain(token)
        return (index,)

    def _single(self, token: str) -> int | None:
        """The id of a token, None where the tokenizer does not reserve it: then nobody was taught to write it."""
        ids = self._reserved(token)
        return ids[0] if len(ids) == 1 else None

    def _id(self, token: str) -> int:
        index = self._tokenizer.convert_tokens_to_ids(token)
        if not isinstance(index, int) or index == self._tokenizer.unk_token_id:
            raise CheckpointError(
                f"the tokenizer does not know {token}: expected a token of its own for it; use the "
                "checkpoint's tokenizer, or name another token in textpro_config.json"
            )
        return index


def _lookalikes(tokenizer: PreTrainedTokenizerFast) -> re.Pattern[str] | None:
    """Finds the added tokens that the tokenizer reads in any text; None where there are none."""
    names = [token.content for token in tokenizer.added_tokens_decoder.values() if not token.special and len(token.content) > 1]
    return re.compile("|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))) if names else None


def _find(ids: Ids, part: Ids, start: int = 0) -> int | None:
    """Where `part` begins in `ids`."""
    places = range(start, len(ids) - len(part) + 1)
    return next((place for place in places if ids[place : place + len(part)] == part), None)


def _read_call(body: str) -> Call:
    try:
        value = json.loads(body)
        name, arguments = value["name"], value.get("arguments", {})
        if not isinstance(name, str) or not isinstance(arguments, dict):
            raise TypeError("name and arguments have the wrong kind")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"the model wrote a tool call that cannot be read: {body!r}; expected a JSON object with a "
            "name and arguments; drop the call or ask again"
        ) from error
    return Call(name, arguments)
