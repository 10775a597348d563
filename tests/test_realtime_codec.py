"""The Realtime protocol as a state machine: what a client sends and a session says, and what comes of it."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest

from realtime_script import Exchange
from textpro.agent.events import TurnDropped
from textpro.serving.realtime.wire import Apply, Hear, Respond, Say

LIGHT = {"type": "function", "name": "set_light", "description": "", "parameters": {"type": "object", "properties": {}}}
MANUAL = {"input": {"turn_detection": None}}


def error_of(events: list[dict[str, Any]]) -> dict[str, Any]:
    assert [event["type"] for event in events] == ["error"]
    return events[0]["error"]


def test_a_session_begins_with_the_defaults_of_the_protocol() -> None:
    session = Exchange().events[0]["session"]
    assert session["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": 24_000}
    detection = session["audio"]["input"]["turn_detection"]
    assert (detection["type"], detection["create_response"], detection["interrupt_response"]) == ("server_vad", True, True)


def test_an_update_changes_what_it_names_and_keeps_the_rest() -> None:
    exchange = Exchange()
    exchange.update(instructions="be brief", audio={"input": {"turn_detection": {"type": "server_vad", "threshold": 0.8}}})
    exchange.update(audio={"output": {"voice": "cedar"}}, tracing="auto", something_unknown=[1])
    session = exchange.events[-1]["session"]
    assert session["instructions"] == "be brief" and session["audio"]["output"]["voice"] == "cedar"
    assert session["audio"]["input"]["turn_detection"]["threshold"] == 0.8
    assert session["audio"]["input"]["turn_detection"]["create_response"] is True
    exchange.update(audio={"input": {"turn_detection": {"type": "semantic_vad"}}}, instructions=None)
    detection = exchange.events[-1]["session"]["audio"]["input"]["turn_detection"]
    assert detection == {"type": "semantic_vad", "eagerness": "auto", "create_response": True, "interrupt_response": True}
    assert exchange.events[-1]["session"]["instructions"] == ""
    assert "textpro" not in exchange.events[-1]["session"]


@pytest.mark.parametrize(
    ("session", "code", "param"),
    [
        ({}, "missing_required_parameter", "session.type"),
        ({"type": "other"}, "invalid_value", "session.type"),
        ({"output_modalities": ["audio", "text"]}, "invalid_value", "session.output_modalities"),
        ({"audio": {"input": {"format": {"type": "audio/mp3"}}}}, "invalid_value", "session.audio.input.format.type"),
        ({"audio": {"input": {"format": {"type": "audio/pcm", "rate": 1}}}}, "invalid_value", "session.audio.input.format.rate"),
        ({"audio": {"output": {"speed": 9}}}, "invalid_value", "session.audio.output.speed"),
        ({"tools": [{"type": "function"}]}, "invalid_value", "session.tools[0].name"),
        ({"tools": [{"type": "mcp", "server_label": "x"}]}, "invalid_value", "session.tools[0].type"),
        ({"max_output_tokens": "many"}, "invalid_value", "session.max_output_tokens"),
        ({"audio": {"input": {"turn_detection": {"type": "x"}}}}, "invalid_value", "session.audio.input.turn_detection.type"),
    ],
)
def test_a_wrong_session_is_an_error_that_names_the_field_and_the_event(session: Any, code: str, param: str) -> None:
    exchange = Exchange()
    before = json.dumps(exchange.codec.config)
    if session and "type" not in session:
        session = {"type": "realtime", **session}
    error = error_of(exchange.send("session.update", session=session, event_id="mine"))
    assert (error["code"], error["param"], error["event_id"]) == (code, param, "mine")
    assert json.dumps(exchange.codec.config) == before


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "invalid_json"),
        ("{", "invalid_json"),
        ("[1]", "invalid_event"),
        ("null", "invalid_event"),
        ("{}", "missing_required_parameter"),
        ('{"type": 3}', "invalid_value"),
        ('{"type": "no.such"}', "invalid_value"),
        ('{"type": "response.create", "event_id": 5}', "invalid_value"),
        ('{"type": "response.create", "x": NaN}', "invalid_json"),
        ('{"type": "response.create", "x": "\\ud800"}', "invalid_event"),
        ("[" * 100_000, "invalid_json"),
        ('{"type": "response.create", "x": ' + "[" * 60 + "]" * 60 + "}", "invalid_event"),
        ('{"type": "input_audio_buffer.append"}', "missing_required_parameter"),
        ('{"type": "input_audio_buffer.append", "audio": "not base64!"}', "invalid_value"),
        ('{"type": "input_audio_buffer.commit"}', "input_audio_buffer_commit_empty"),
        ('{"type": "response.cancel"}', "response_cancel_not_active"),
        ('{"type": "conversation.item.retrieve", "item_id": "none"}', "item_retrieve_invalid_item_id"),
        ('{"type": "conversation.item.truncate", "item_id": "none", "audio_end_ms": 0}', "item_truncate_invalid_item_id"),
        ('{"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": 1}}', "invalid_value"),
        ('{"type": "textpro.playback", "item_id": "x", "audio_end_ms": 1}', "invalid_event"),
        ('{"type": "session.update", "session": {"type": "realtime"}, "x": "' + "a" * 600_000 + '"}', "invalid_event"),
    ],
    ids=range(21),
)
def test_a_bad_message_is_answered_by_an_error_and_the_next_turn_works(text: str, code: str) -> None:
    exchange = Exchange()
    assert error_of(exchange.raw(text))["code"] == code
    exchange.type("hello")
    exchange.send("response.create")
    assert exchange.of("response.done")[0]["response"]["status"] == "completed"


def test_a_typed_turn_goes_to_the_session_as_one_turn() -> None:
    exchange = Exchange()
    exchange.type("hello")
    exchange.type("how are you")
    exchange.send("response.create")
    assert exchange.ordered(Say) == [Say("hello how are you")]
    assert len(exchange.ordered(Apply)) == 1 and exchange.ordered(Apply)[0].turns == ()


def test_every_event_of_a_response_comes_in_order_and_before_its_end() -> None:
    exchange = Exchange()
    exchange.type("hello")
    begin = len(exchange.events)
    exchange.send("response.create", response={"metadata": {"client_event_id": "17"}})
    assert exchange.types(begin) == [
        "response.created", "response.output_item.added", "conversation.item.added", "response.content_part.added",
        "response.output_audio_transcript.delta", "response.output_audio.delta", "response.output_audio.delta",
        "response.output_audio.done", "response.output_audio_transcript.done", "response.content_part.done",
        "conversation.item.done", "response.output_item.done", "response.done", "rate_limits.updated",
    ]  # fmt: skip
    created, done = exchange.of("response.created")[0]["response"], exchange.of("response.done")[0]["response"]
    assert created["metadata"] == done["metadata"] == {"client_event_id": "17"}
    assert created["status_details"] is None and done["status_details"] is None
    assert done["usage"]["input_tokens"] == 20 and done["usage"]["output_tokens"] == 4
    assert done["output"][0]["content"] == [{"type": "output_audio", "transcript": "Yes, I can."}]


@pytest.mark.parametrize(
    ("kind", "rate", "width"), [("audio/pcm", 24_000, 2), ("audio/pcmu", 8_000, 1), ("audio/pcma", 8_000, 1)]
)
def test_sound_goes_out_in_the_format_that_was_asked_for(kind: str, rate: int, width: int) -> None:
    exchange = Exchange()
    exchange.update(audio={"output": {"format": {"type": kind}}})
    exchange.type("hello")
    exchange.send("response.create")
    sound = b"".join(base64.b64decode(event["delta"]) for event in exchange.of("response.output_audio.delta"))
    assert len(sound) == pytest.approx(rate * width, rel=0.01)


@pytest.mark.parametrize("kind", ["audio/pcmu", "audio/pcma"])
def test_telephone_sound_comes_in_as_samples(kind: str) -> None:
    exchange = Exchange()
    exchange.update(audio={"input": {"format": {"type": kind}}})
    exchange.send("input_audio_buffer.append", audio=base64.b64encode(bytes(range(256))).decode())
    (heard,) = exchange.ordered(Hear)
    assert heard.rate == 8_000 and len(heard.pcm) == 256 and heard.pcm.max() > 30_000 and heard.pcm.min() < -30_000


def test_half_a_sample_waits_for_its_other_half() -> None:
    exchange = Exchange()
    data = np.arange(-50, 50, dtype="<i2").tobytes()
    for piece in (data[:33], data[33:]):
        exchange.send("input_audio_buffer.append", audio=base64.b64encode(piece).decode())
    assert np.concatenate([heard.pcm for heard in exchange.ordered(Hear)]).tolist() == list(range(-50, 50))


def test_a_spoken_turn_becomes_an_item_and_a_response() -> None:
    exchange = Exchange()
    exchange.update(audio={"input": {"transcription": {"model": "x"}}})
    exchange.append()
    begin = len(exchange.events)
    exchange.start_speech()
    exchange.end_speech("hello there")
    types = exchange.types(begin)
    assert types[:8] == [
        "input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped", "input_audio_buffer.committed",
        "conversation.item.added", "conversation.item.done", "conversation.item.input_audio_transcription.delta",
        "conversation.item.input_audio_transcription.completed", "response.created",
    ]  # fmt: skip
    started, stopped, committed, added = exchange.events[begin : begin + 4]
    assert started["item_id"] == stopped["item_id"] == committed["item_id"] == added["item"]["id"]
    assert (started["audio_start_ms"], stopped["audio_end_ms"], committed["previous_item_id"]) == (400, 1200, None)
    assert added["item"]["content"] == [{"type": "input_audio", "transcript": None}]
    assert exchange.of("response.done")[0]["response"]["usage"]["input_token_details"]["audio_tokens"] == 3


def test_without_create_response_the_client_asks_for_the_reply() -> None:
    exchange = Exchange()
    exchange.update(audio={"input": {"turn_detection": {"type": "server_vad", "create_response": False}}})
    exchange.append()
    exchange.start_speech()
    exchange.end_speech()
    assert not exchange.of("response.created")
    exchange.send("response.create")
    assert exchange.ordered(Respond) and exchange.of("response.done")[0]["response"]["status"] == "completed"


def test_a_client_that_commits_gets_its_item_at_once_and_its_words_later() -> None:
    exchange = Exchange()
    exchange.update(audio={"input": {"turn_detection": None, "transcription": {"model": "x"}}})
    exchange.append(50)
    assert error_of(exchange.send("input_audio_buffer.commit"))["code"] == "input_audio_buffer_commit_empty"
    exchange.append(500)
    exchange.committed_text = "hello there"
    assert [event["type"] for event in exchange.send("input_audio_buffer.commit")] == [
        "input_audio_buffer.committed", "conversation.item.added", "conversation.item.done",
        "conversation.item.input_audio_transcription.delta", "conversation.item.input_audio_transcription.completed",
    ]  # fmt: skip
    assert exchange.of("conversation.item.input_audio_transcription.completed")[0]["transcript"] == "hello there"
    assert exchange.plan.manual and not exchange.plan.auto_reply and not exchange.of("response.created")


def test_committed_sound_without_words_is_transcribed_as_nothing() -> None:
    exchange = Exchange()
    exchange.update(audio={"input": {"turn_detection": None, "transcription": {"model": "x"}}})
    exchange.append(500)
    exchange.send("input_audio_buffer.commit")
    assert exchange.of("conversation.item.input_audio_transcription.completed")[0]["transcript"] == ""


def test_a_cleared_buffer_is_forgotten_by_the_session() -> None:
    exchange = Exchange()
    exchange.update(audio=MANUAL)
    exchange.append(500)
    assert exchange.types(len(exchange.events)) == []
    assert [event["type"] for event in exchange.send("input_audio_buffer.clear")] == ["input_audio_buffer.cleared"]
    assert exchange.ordered(Apply)[-1].force
    assert error_of(exchange.send("input_audio_buffer.commit"))["code"] == "input_audio_buffer_commit_empty"


def test_noise_that_seemed_to_be_speech_is_closed_and_becomes_no_item() -> None:
    exchange = Exchange()
    exchange.append()
    exchange.start_speech()
    exchange.say(TurnDropped, reason="no words")
    assert exchange.types()[-2:] == ["input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped"]
    assert len(exchange.codec.items) == 0
