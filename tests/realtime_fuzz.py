"""Mutated messages of the Realtime protocol, from a seed: valid ones with values swapped, dropped, nested or cut."""

from __future__ import annotations

import base64
import copy
import json
import random
from collections.abc import Iterator
from typing import Any

SOUND = base64.b64encode(bytes(960)).decode()
LIGHT = {"type": "function", "name": "set_light", "description": "x", "parameters": {"type": "object", "properties": {}}}
VALID: tuple[dict[str, Any], ...] = (
    {"type": "session.update", "session": {"type": "realtime", "instructions": "x", "tools": [LIGHT], "tool_choice": "auto"}},
    {"type": "session.update", "session": {"type": "realtime", "output_modalities": ["text"], "max_output_tokens": 50}},
    {"type": "session.update", "session": {"type": "realtime", "audio": {
        "input": {"format": {"type": "audio/pcm", "rate": 24000}, "turn_detection": None, "transcription": {"model": "x"}},
        "output": {"format": {"type": "audio/pcmu"}, "voice": "a", "speed": 1.0}}}},
    {"type": "session.update", "session": {"type": "realtime", "audio": {"input": {"turn_detection": {
        "type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 400, "idle_timeout_ms": 5000,
        "create_response": True, "interrupt_response": True}}}, "textpro": {"events": ["prosody"], "playback": "estimated"}}},
    {"type": "session.update", "session": {"type": "realtime", "audio": {"input": {"turn_detection": {
        "type": "semantic_vad", "eagerness": "high"}}}}},
    {"type": "session.update", "session": {"type": "transcription"}},
    {"type": "input_audio_buffer.append", "audio": SOUND},
    {"type": "input_audio_buffer.commit"},
    {"type": "input_audio_buffer.clear"},
    {"type": "conversation.item.create", "previous_item_id": "root", "item": {
        "id": "item_x", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}},
    {"type": "conversation.item.create", "item": {
        "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hi"}]}},
    {"type": "conversation.item.create", "item": {"type": "function_call_output", "call_id": "call_1", "output": "{}"}},
    {"type": "conversation.item.create", "item": {
        "type": "function_call", "call_id": "call_2", "name": "set_light", "arguments": "{}"}},
    {"type": "conversation.item.retrieve", "item_id": "item_x"},
    {"type": "conversation.item.delete", "item_id": "item_x"},
    {"type": "conversation.item.truncate", "item_id": "item_9", "content_index": 0, "audio_end_ms": 300},
    {"type": "response.create"},
    {"type": "response.create", "response": {
        "conversation": "none", "output_modalities": ["text"], "metadata": {"a": "b"}, "instructions": "x",
        "input": [{"type": "item_reference", "id": "item_x"}], "tools": [], "tool_choice": "none", "max_output_tokens": "inf"}},
    {"type": "response.cancel", "response_id": "resp_1"},
    {"type": "textpro.playback", "item_id": "item_9", "audio_end_ms": 10},
    {"type": "textpro.confirm", "call_id": "x", "accepted": True},
)  # fmt: skip
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 1e308, -1e308, 10**30, "", "x", "root", "item_9", "\u00e9\U0001f600", "\x00",
    "A" * 300, "null",    [], {}, [None], [[]], {"type": None}, {"type": "message"},
    "audio/pcm", "inf", ["audio"], "resp_1", "call_1", SOUND,
)  # fmt: skip


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container and key inside a value."""
    found: list[tuple[Any, Any]] = []
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            found.append((value, key))
            found += places(value[key])
    return found


def mutated(chance: random.Random, ids: list[str]) -> str:
    """One message: mostly JSON that is nearly right, now and then no JSON at all."""
    message = copy.deepcopy(chance.choice(VALID))
    for _ in range(chance.choice((0, 0, 0, 1, 1, 1, 2, 3))):
        spots = places(message)
        if not spots:
            break
        container, key = chance.choice(spots)
        match chance.randrange(5):
            case 0 if isinstance(container, dict) and len(container) > 1:
                del container[key]
            case 1 if isinstance(container, dict):
                container[chance.choice(("x", "type", "item_id", "event_id", "session", "id"))] = copy.deepcopy(
                    chance.choice(ODD)
                )
            case 2 if ids:
                container[key] = chance.choice(ids)
            case 3:
                container[key] = copy.deepcopy(chance.choice(chance.choice(spots)[0:1]))
            case _:
                container[key] = copy.deepcopy(chance.choice(ODD))
    text = json.dumps(message)
    if chance.random() < 0.08:
        at = chance.randrange(len(text))
        text = text[:at] + chance.choice(("", "\\", '"', "}", "\ud800", "\x01", "]")) + text[at + chance.randrange(3) :]
    return text.encode("utf-8", "replace").decode()


def messages(seed: int, count: int, ids: list[str]) -> Iterator[str]:
    """That many; `ids` may grow with what the server names meanwhile."""
    chance = random.Random(seed)
    for _ in range(count):
        yield mutated(chance, ids)
