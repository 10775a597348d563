"""The session object of the Realtime protocol: defaults, deep merge of what a client sends, checks, and what of it the
session has to know. What has no effect here is kept and given back, because clients end a session over an error.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from typing import Any

from ...models.errors import InputError
from .wire import Json, Plan, ProtocolError, mapping, number, one_of, optional_string, wrong

PCM_RATE = 24_000
EAGERNESS = {"low": 8_000, "medium": 4_000, "auto": 4_000, "high": 2_000}
"""The longest wait for the user to go on, in ms."""
SERVER_VAD: Json = {
    "type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 500, "idle_timeout_ms": None,
    "create_response": True, "interrupt_response": True,
}  # fmt: skip
SEMANTIC_VAD: Json = {"type": "semantic_vad", "eagerness": "auto", "create_response": True, "interrupt_response": True}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
MAX_TOOLS = 128
MAX_INSTRUCTIONS = 100_000
_FIXED = ("id", "object", "model", "type", "expires_at")


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """`kind` is the protocol's name; `rate` in Hz."""

    kind: str
    rate: int

    @classmethod
    def of(cls, value: Json) -> AudioFormat:
        """From a checked format object."""
        kind = str(value["type"])
        return cls(kind, int(value.get("rate", PCM_RATE)) if kind == "audio/pcm" else 8_000)


def default_config(session_id: str, model: str, expires_at: int, speaks: bool) -> Json:
    """The session object as a client finds it."""
    return {
        "type": "realtime", "object": "realtime.session", "id": session_id, "model": model,
        "output_modalities": ["audio"] if speaks else ["text"], "instructions": "", "tools": [], "tool_choice": "auto",
        "max_output_tokens": "inf", "tracing": None, "truncation": "auto", "prompt": None, "expires_at": expires_at,
        "include": None,
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": PCM_RATE}, "transcription": None, "noise_reduction": None,
                "turn_detection": dict(SERVER_VAD),
            },
            "output": {"format": {"type": "audio/pcm", "rate": PCM_RATE}, "voice": "default", "speed": 1.0},
        },
    }  # fmt: skip


def merged(config: Json, update: Any) -> Json:
    """`config` with the present fields of a client's `session`; neither is changed. ProtocolError where one is wrong."""
    update = mapping(update, "session")
    if update.get("type") is None:
        raise ProtocolError("missing_required_parameter", "session.type is missing: send realtime", "session.type")
    one_of(update["type"], "session.type", ("realtime", "transcription"))
    result = copy.deepcopy(config)
    result["type"] = update["type"]
    for key, value in update.items():
        if key in _FIXED:
            continue
        if key == "audio":
            _merge_audio(result["audio"], value)
        elif key == "textpro":
            result["textpro"] = _extensions(result.get("textpro", {}), value)
        else:
            result[key] = _checked(key, value, "session.")
    return result


def _checked(key: str, value: Any, where: str) -> Any:
    """A top-level field's new value."""
    name = where + key
    match key:
        case "instructions":
            text = optional_string({key: value}, key, where) or ""
            if len(text) > MAX_INSTRUCTIONS:
                raise wrong(name, f"{len(text)} characters", f"at most {MAX_INSTRUCTIONS} characters")
            return text
        case "tools":
            return checked_tools(value, name)
        case "tool_choice":
            if not isinstance(value, dict):
                one_of(value, name, ("auto", "none", "required", None))
            return value or "auto"
        case "output_modalities":
            one_of(value, name, (["audio"], ["text"]))
        case "max_output_tokens":
            if value is None:
                return "inf"
            if value != "inf":
                return int(number(value, name, 1, 4096))
    return copy.deepcopy(value)


def checked_response(params: Any) -> Json:
    """The `response` of a response.create without what is null. ProtocolError where a field is wrong."""
    given = {key: value for key, value in mapping({} if params is None else params, "response").items() if value is not None}
    if "conversation" in given:
        one_of(given["conversation"], "response.conversation", ("auto", "none"))
    if "metadata" in given:
        mapping(given["metadata"], "response.metadata")
    if "input" in given and not isinstance(given["input"], list):
        raise wrong("response.input", given["input"], "an array of items")
    if "audio" in given:
        output = mapping(mapping(given["audio"], "response.audio").get("output") or {}, "response.audio.output")
        if output.get("format") is not None:
            _check_format(output["format"], "response.audio.output.format")
    for key in ("instructions", "tools", "tool_choice", "output_modalities", "max_output_tokens"):
        if key in given:
            given[key] = _checked(key, given[key], "response.")
    return given


def checked_tools(value: Any, name: str) -> list[Json]:
    """Function tools; null is none."""
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > MAX_TOOLS:
        raise wrong(name, value, f"an array of at most {MAX_TOOLS} tools")
    names = set()
    for at, tool in enumerate(value):
        place = f"{name}[{at}]"
        mapping(tool, place)
        if tool.get("type", "function") != "function":
            raise wrong(f"{place}.type", tool.get("type"), '"function"; other tools belong to the server')
        if not isinstance(tool.get("name"), str) or not _NAME.fullmatch(tool["name"]):
            raise wrong(f"{place}.name", tool.get("name"), "letters, digits and _.-, at most 64")
        if tool["name"] in names:
            raise wrong(f"{place}.name", tool["name"], "a name that no other tool has")
        names.add(tool["name"])
        optional_string(tool, "description", f"{place}.")
        mapping(tool.get("parameters") or {}, f"{place}.parameters")
    return copy.deepcopy(value)


def plan_of(config: Json, response: Json) -> Plan:
    """How the session is to be led, with what one response wants otherwise."""
    wanted = {**config, **response}
    detection = config["audio"]["input"]["turn_detection"]
    silence = wait = None
    if detection is not None:
        silence = detection.get("silence_duration_ms")
        silence = None if silence == SERVER_VAD["silence_duration_ms"] else silence
        wait = EAGERNESS[detection["eagerness"]] if detection["type"] == "semantic_vad" else None
    tokens = wanted["max_output_tokens"]
    transcribes = config["type"] == "transcription"
    return Plan(
        instructions=wanted["instructions"] or None,
        tools=() if wanted["tool_choice"] == "none" else tuple(wanted["tools"]),
        speak=config["output_modalities"] == ["audio"] and not transcribes,
        prosody=bool(config.get("textpro", {}).get("prosody", True)),
        manual=detection is None,
        auto_reply=detection is not None and bool(detection["create_response"]) and not transcribes,
        end_silence_ms=None if silence is None else int(silence),
        max_wait_ms=wait,
        max_tokens=None if tokens == "inf" else tokens,
    )


def _merge_audio(audio: Json, update: Any) -> None:
    for side, value in mapping(update or {}, "session.audio").items():
        name = f"session.audio.{side}"
        if side not in ("input", "output"):
            audio[side] = copy.deepcopy(value)
            continue
        for key, inner in mapping(value or {}, name).items():
            if key == "format":
                if inner is not None:
                    _check_format(inner, f"{name}.format")
                    audio[side]["format"] = _full_format(inner)
            elif key == "turn_detection":
                audio[side][key] = _detection(audio[side].get(key), inner)
            elif key == "transcription":
                audio[side][key] = None if inner is None else copy.deepcopy(mapping(inner, f"{name}.{key}"))
            elif key == "speed":
                audio[side][key] = 1.0 if inner is None else number(inner, f"{name}.speed", 0.25, 1.5)
            else:
                audio[side][key] = copy.deepcopy(inner)


def _check_format(value: Any, name: str) -> None:
    one_of(mapping(value, name).get("type"), f"{name}.type", ("audio/pcm", "audio/pcmu", "audio/pcma"))
    if value["type"] == "audio/pcm" and value.get("rate") is not None:
        one_of(value["rate"], f"{name}.rate", (PCM_RATE, 8_000, 16_000, 44_100, 48_000))


def _full_format(value: Json) -> Json:
    return (
        {"type": "audio/pcm", "rate": value.get("rate") or PCM_RATE} if value["type"] == "audio/pcm" else {"type": value["type"]}
    )


def _detection(current: Json | None, update: Any) -> Json | None:
    name = "session.audio.input.turn_detection"
    if update is None:
        return None
    kind = mapping(update, name).get("type") or (current or SERVER_VAD)["type"]
    one_of(kind, f"{name}.type", ("server_vad", "semantic_vad"))
    base = current if current is not None and current["type"] == kind else SERVER_VAD if kind == "server_vad" else SEMANTIC_VAD
    given = {key: copy.deepcopy(value) for key, value in update.items() if value is not None or key == "idle_timeout_ms"}
    result = {**base, **given, "type": kind}
    for key in ("create_response", "interrupt_response"):
        one_of(result[key], f"{name}.{key}", (True, False))
    if kind == "semantic_vad":
        one_of(result["eagerness"], f"{name}.eagerness", tuple(EAGERNESS))
    else:
        number(result["threshold"], f"{name}.threshold", 0, 1)
        number(result["prefix_padding_ms"], f"{name}.prefix_padding_ms", 0, 10_000)
        number(result["silence_duration_ms"], f"{name}.silence_duration_ms", 0, 10_000)
        if result["idle_timeout_ms"] is not None:
            number(result["idle_timeout_ms"], f"{name}.idle_timeout_ms", 1_000, 600_000)
    return result


def _extensions(current: Json, update: Any) -> Json:
    """The extensions that a client asks for; see docs/server.md."""
    result = {**current, **mapping(update or {}, "session.textpro")}
    events = result.get("events", [])
    if not isinstance(events, list) or not all(isinstance(name, str) for name in events) or len(events) > MAX_TOOLS:
        raise wrong("session.textpro.events", events, "an array of names of events")
    one_of(result.get("playback", "estimated"), "session.textpro.playback", ("estimated", "acknowledged"))
    for key, usual in (("prosody", True), ("resume", False)):
        one_of(result.get(key, usual), f"session.textpro.{key}", (True, False))
    return result


def check_session(update: Any) -> Json:
    """A session object as a client secret may carry it, checked. InputError where it is wrong."""
    if update is not None and not isinstance(update, dict):
        raise InputError("session is no object: send the session that the secret is for, or leave it out")
    return merged(default_config("sess_unused", "unused", 0, True), {"type": "realtime", **(update or {})})
