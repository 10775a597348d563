"""Chat templates that behave like those of Qwen2.5, of Qwen3 and of a model that always thinks, short enough to be read."""

from __future__ import annotations

from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from small_pair import CHAT_TOKENS, OTHER_TEXT, trained_tokenizer

DEFAULT = "You are Robin, made for tests. You are a helpful assistant."
HERMES = (
    "{{ '# Tools\\n\\nYou may call one or more functions to assist with the user query.\\n\\nYou are provided with function "
    "signatures within <tools></tools> XML tags:\\n<tools>' }}{% for t in tools %}{{ '\\n' + (t | tojson) }}{% endfor %}"
    "{{ '\\n</tools>\\n\\nFor each function call, return a json object with function name and arguments within "
    '<tool_call></tool_call> XML tags:\\n<tool_call>\\n{"name": <function-name>, "arguments": <args-json-object>}\\n'
    "</tool_call>' }}"
)
TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
OPEN = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
WITH_DEFAULT = "{% if messages[0].role != 'system' %}<|im_start|>system\n" + DEFAULT + "<|im_end|>\n{% endif %}" + TURNS + OPEN
"""Adds instructions where there are none."""
WITH_TOOLS = (
    "{% if messages[0].role == 'system' %}{% set told = messages[0].content %}{% set rest = messages[1:] %}{% else %}"
    "{% set told = '" + DEFAULT + "' %}{% set rest = messages %}{% endif %}"
    "<|im_start|>system\n{{ told }}{% if tools %}{{ '\\n\\n' }}" + HERMES + "{% endif %}<|im_end|>\n"
    "{% for m in rest %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}" + OPEN
)
"""The same, and lists tools."""
THINKING = TURNS + (
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}"
)
"""Thinks unless it is told not to."""
ALWAYS_THINKING = TURNS + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}"
PLAIN_ADDED = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")
"""Reserved tokens that real tokenizers do not mark as special."""


def chat_tokenizer(template: str) -> PreTrainedTokenizerFast:
    """A small tokenizer with this template and the reserved tokens of a Qwen."""
    tokenizer = trained_tokenizer(OTHER_TEXT, 300, CHAT_TOKENS)
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in PLAIN_ADDED])
    tokenizer.chat_template = template
    return tokenizer
