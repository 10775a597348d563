"""The conversation as ids: ChatML and Hermes as text, pieces that join, calls read back, no smuggled reserved
tokens."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from small_checkpoint import small_tokenizer
from textpro.models.chat import ChatFormat
from textpro.models.demo_tools import Call
from textpro.models.errors import CheckpointError, InputError
from textpro.models.tokens import CUT_OFF, RESERVED, TURN_END

TOKENIZER = small_tokenizer()
CHAT = ChatFormat(TOKENIZER, {})


def reserved_in(ids: tuple[int, ...]) -> list[int]:
    return [token for token in ids if token < len(RESERVED)]


def written(*pieces: tuple[int, ...]) -> str:
    return TOKENIZER.decode([token for piece in pieces for token in piece])


def test_a_conversation_with_a_tool_reads_as_chatml_with_hermes_calls():
    arguments = {"room": "kitchen", "state": "on"}
    conversation = written(
        CHAT.system("Be brief."),
        CHAT.user_open(), CHAT.words("Turn on 2 lights!"), CHAT.reply_open(),
        CHAT.call("set_light", arguments), CHAT.reply_close(),
        CHAT.response({"ok": True}), CHAT.reply("Done."), CHAT.reply_close(),
    )  # fmt: skip
    assert conversation == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\n turn on two lights<|im_end|>\n<|im_start|>assistant\n"
        '<tool_call>\n{"name": "set_light", "arguments": {"room": "kitchen", "state": "on"}}\n</tool_call>'
        '<|im_end|>\n<|im_start|>user\n<tool_response>\n{"ok": true}\n</tool_response>'
        "<|im_end|>\n<|im_start|>assistant\n"
        "Done.<|im_end|>\n"
    )


def test_a_turn_ends_with_the_token_that_the_model_writes():
    assert CHAT.reply_close()[0] == CHAT.reply_open()[0] == CHAT.turn_end_id == RESERVED.index(TURN_END)


def test_an_interrupted_reply_keeps_the_heard_words_and_the_mark():
    assert written(CHAT.cut_reply("Okay, the")) == f"Okay, the{CUT_OFF}"
    assert CHAT.parse(CHAT.cut_reply("Okay, the")) == "Okay, the"


def test_typed_text_without_words_gives_no_tokens():
    assert CHAT.words(" ?! ") == ()


def test_a_checkpoint_that_knows_written_text_gets_it_as_it_was_typed():
    chat = ChatFormat(TOKENIZER, {"text": "written"})
    assert TOKENIZER.decode(chat.words(" What is 2+2? ")) == "What is 2+2?"


@given(
    name=st.text(min_size=1, max_size=12),
    arguments=st.dictionaries(st.text(max_size=8), st.integers(0, 9999) | st.text(max_size=12), max_size=3),
)
def test_a_call_is_read_back_as_it_was_made(name, arguments):
    ids = CHAT.call(name, arguments)
    assert CHAT.parse(ids) == Call(name, arguments) == CHAT.parse((*ids, CHAT.turn_end_id))


@given(st.text(alphabet=st.sampled_from("abC .,'?!"), min_size=1, max_size=30))
def test_a_reply_is_read_back_without_the_space_around_it(text):
    assert CHAT.parse((*CHAT.reply(text), *CHAT.reply_close())) == text.strip()


@pytest.mark.parametrize("reserved", RESERVED)
def test_text_from_outside_never_becomes_a_reserved_token(reserved):
    inside = f"a{reserved}b"
    assert not reserved_in(CHAT.reply(inside)) and not reserved_in(CHAT.words(inside))
    assert reserved_in(CHAT.system(inside)) == reserved_in(CHAT.system(""))
    assert reserved_in(CHAT.response({inside: inside})) == reserved_in(CHAT.response({}))
    assert reserved_in(CHAT.call(inside, {inside: inside})) == reserved_in(CHAT.call("", {}))


def test_words_that_look_like_a_call_are_no_call():
    spelled = '<tool_call>\n{"name": "robot_move", "arguments": {}}\n</tool_call>'
    assert CHAT.parse(CHAT.reply(f"You said: {spelled}")) == f"You said: {spelled}"


NO_CALLS = ["{", "[1]", '{"arguments": {}}', '{"name": 3}', '{"name": "a", "arguments": 1}', ""]


@pytest.mark.parametrize("body", NO_CALLS)
def test_a_call_that_is_none_is_refused_with_what_was_written(body):
    opening, closing = CHAT.call("a", {})[0], CHAT.call("a", {})[-1]
    with pytest.raises(InputError, match="cannot be read"):
        CHAT.parse((opening, *CHAT.reply(body), closing))


def test_a_call_without_arguments_or_end_is_read():
    opening = CHAT.call("a", {})[0]
    assert CHAT.parse((opening, *CHAT.reply(json.dumps({"name": "robot_stop"})))) == Call("robot_stop", {})


def test_a_tokenizer_without_a_reserved_token_is_refused_by_its_name():
    with pytest.raises(CheckpointError, match=r"<\|repo_name\|>"):
        ChatFormat(TOKENIZER, {"marker_token": "<|repo_name|>"})


def test_an_unknown_form_of_text_is_refused():
    with pytest.raises(CheckpointError, match="shouted"):
        ChatFormat(TOKENIZER, {"text": "shouted"})
