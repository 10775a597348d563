"""What a template adds is found by rendering it, and the ids written by it are those of plain `apply_chat_template`."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from chat_templates import ALWAYS_THINKING, DEFAULT, PLAIN_ADDED, THINKING, WITH_DEFAULT, WITH_TOOLS, chat_tokenizer
from scripted_engine import ScriptedTalk
from small_pair import CHATML, write_qwen, write_whisper
from textpro.agent.tools import Toolbox
from textpro.models.chat import ChatFormat
from textpro.models.chat_template import ChatTemplate, read_template
from textpro.models.demo_tools import Call
from textpro.models.errors import CheckpointError
from textpro.models.pair import load_pair

SCHEMA = {
    "type": "function",
    "function": {
        "name": "light",
        "description": "Größe of a <tool_response> light.",
        "parameters": {"type": "object", "properties": {"on": {"type": "boolean"}}},
    },
}


def chat_of(template: str) -> ChatFormat:
    tokenizer = chat_tokenizer(template)
    found = read_template(tokenizer, "it")
    config = {"text": "written", "marker_token": "<|repo_name|>", "cut_off_token": "<|repo_name|>"}
    return ChatFormat(tokenizer, {**config, "default_system": found.system, "reply_lead": found.reply_lead})


def rendered(template: str, messages: list[dict[str, str]], **options) -> list[int]:
    tokenizer = chat_tokenizer(template)
    out = tokenizer.apply_chat_template(messages, add_generation_prompt=True, enable_thinking=False, **options)
    return list(out["input_ids"])


@pytest.mark.parametrize(
    ("template", "found"),
    [
        (CHATML, ChatTemplate()),
        (WITH_DEFAULT, ChatTemplate(DEFAULT)),
        (WITH_TOOLS, ChatTemplate(DEFAULT, "", True)),
        (THINKING, ChatTemplate(None, "<think>\n\n</think>\n\n")),
    ],
    ids=["plain", "default instructions", "tools", "thinking"],
)
def test_what_a_template_adds_is_found(template: str, found: ChatTemplate) -> None:
    assert read_template(chat_tokenizer(template), "it") == found


@pytest.mark.parametrize("template", [CHATML, WITH_DEFAULT, WITH_TOOLS, THINKING])
@pytest.mark.parametrize("instructions", [None, "Be brief."])
def test_a_conversation_s_ids_are_those_of_apply_chat_template(template: str, instructions: str | None) -> None:
    chat = chat_of(template)
    told = [] if instructions is None else [{"role": "system", "content": instructions}]
    ids = (*chat.opening(instructions), *chat.user_open(), *chat.words("What is 2+2?"), *chat.reply_open())
    assert list(ids) == rendered(template, [*told, {"role": "user", "content": "What is 2+2?"}])


def test_empty_instructions_leave_the_turn_out() -> None:
    assert chat_of(WITH_DEFAULT).opening("") == () != chat_of(WITH_DEFAULT).opening(None)


@pytest.mark.parametrize("instructions", [None, "Be brief."])
def test_listed_tools_are_those_of_apply_chat_template(instructions: str | None) -> None:
    chat, schema = chat_of(WITH_TOOLS), {**SCHEMA, "function": {**SCHEMA["function"], "description": "Größe of a light."}}
    told = [] if instructions is None else [{"role": "system", "content": instructions}]
    ids = chat.system_with_tools(instructions or chat.default_system or "", [schema])
    question = [{"role": "user", "content": "b"}]
    assert [*ids, *chat.user_open(), *chat.words("b"), *chat.reply_open()] == rendered(
        WITH_TOOLS, told + question, tools=[schema]
    )


def test_a_model_that_always_thinks_first_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"begins a reply with '<think>\\n' even with enable_thinking=False"):
        read_template(chat_tokenizer(ALWAYS_THINKING), "it")


@pytest.mark.parametrize("token", PLAIN_ADDED)
def test_reserved_tokens_that_are_not_special_cannot_be_smuggled_in(token: str) -> None:
    chat, tokenizer = chat_of(CHATML), chat_tokenizer(CHATML)
    index = tokenizer.convert_tokens_to_ids(token)
    for ids in (chat.words(f"a{token}b"), chat.system(token), chat.reply(f"{token}{token}")):
        assert index not in ids
        assert token in tokenizer.decode(list(ids))


def test_a_thought_is_neither_shown_nor_a_call_nor_lost_from_the_context() -> None:
    chat, tokenizer = chat_of(THINKING), chat_tokenizer(THINKING)
    think, end = (tokenizer.convert_tokens_to_ids(token) for token in ("<think>", "</think>"))
    thought = (think, *chat.reply("They want light."), *chat.call("secret", {}), end, *chat.reply("\n\n"))
    answer = chat.reply("All right.")
    assert chat.text((*thought, *answer)) == "All right."
    for cut in range(1, len(thought)):
        assert chat.text(thought[:cut]).strip() == ""
        assert not chat.is_call(thought[:cut])
    assert chat.text((*answer, *thought)).strip() == "All right."
    ids = (*thought, *chat.call("light", {"on": True}))
    ((start, stop, called),) = chat.calls(ids)
    assert called == Call("light", {"on": True}) == chat.parse(ids)
    assert (start, stop) == (len(thought), len(ids))
    assert chat.text((end, *answer)) == "All right.", "the end of a thought that nobody saw begin"


def test_a_session_without_instructions_has_those_of_the_template() -> None:
    tokenizer = chat_tokenizer(WITH_TOOLS)
    checkpoint = SimpleNamespace(chat=chat_of(WITH_TOOLS), config={})
    expected = tokenizer.apply_chat_template([{"role": "user", "content": ""}])["input_ids"]
    opening = Toolbox([]).system(None, checkpoint)  # type: ignore[arg-type]
    assert list(opening) == expected[: len(opening)] and opening


def test_a_pair_takes_its_template_s_facts_along(tmp_path) -> None:
    write_whisper(tmp_path / "whisper")
    write_qwen(tmp_path / "qwen", template=WITH_TOOLS)
    checkpoint = load_pair(tmp_path / "whisper", tmp_path / "qwen")
    assert checkpoint.chat.default_system == DEFAULT and checkpoint.config["tool_prompt"] == "hermes"


def test_the_bundled_way_of_talking_has_no_instructions_of_its_own() -> None:
    async def history() -> str:
        async with ScriptedTalk([]) as talk:
            return talk.history

    assert asyncio.run(history()) == ""
