"""Responses of the Realtime protocol in the codec: interruption, cancel, calls, items that change, extensions."""

from __future__ import annotations

from typing import Any

import pytest

from realtime_script import Exchange
from requirements import require_module
from textpro.agent.events import Failed, Prosody, TurnDropped, TurnResumed
from textpro.serving.realtime.limits import Meter
from textpro.serving.realtime.wire import Apply, Aside, GiveResult, Played, Stop

LIGHT = {"type": "function", "name": "set_light", "description": "", "parameters": {"type": "object", "properties": {}}}
MANUAL = {"input": {"turn_detection": None}}


def error_of(events: list[dict[str, Any]]) -> dict[str, Any]:
    assert [event["type"] for event in events] == ["error"]
    return events[0]["error"]


def test_who_speaks_over_the_reply_cancels_it_and_the_session_is_told_what_was_played() -> None:
    exchange = Exchange(reply_ms=1000)
    exchange.hold = True
    exchange.append()
    exchange.start_speech()
    exchange.end_speech()
    item_id = exchange.of("response.output_item.added")[0]["item"]["id"]
    begin = len(exchange.events)
    exchange.start_speech()
    assert exchange.types(begin)[0] == "input_audio_buffer.speech_started"
    done = exchange.of("response.done")[0]["response"]
    assert done["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
    assert done["output"][0]["status"] == "incomplete" and not exchange.ordered(Stop)
    exchange.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=300)
    assert exchange.ordered(Played)[-1] == Played(300) and len(exchange.ordered(Stop)) == 1
    exchange.send("conversation.item.retrieve", item_id=item_id)
    assert exchange.events[-1]["item"]["content"][0]["transcript"] == "Yes"
    assert all(event.get("response_id") != done["id"] for event in exchange.events[begin + len(exchange.types(begin)) :])


def test_a_client_that_does_not_say_what_it_played_is_taken_by_the_clock() -> None:
    exchange = Exchange(reply_ms=1000)
    exchange.append()
    exchange.start_speech()
    exchange.end_speech()
    exchange.wait(600)
    exchange.start_speech()
    assert not exchange.ordered(Stop)
    exchange.wait(400)
    assert exchange.ordered(Stop) and exchange.ordered(Played)[-1].total_ms == pytest.approx(600, abs=60)


def test_a_reply_that_was_played_to_its_end_is_over_for_the_session() -> None:
    exchange = Exchange(reply_ms=1000)
    exchange.type("hello")
    exchange.send("response.create")
    exchange.wait(1000)
    assert exchange.running
    exchange.wait(700)
    assert not exchange.running and not exchange.ordered(Stop)


def test_a_truncation_past_the_end_is_no_error_and_cuts_nothing() -> None:
    exchange = Exchange()
    exchange.type("hello")
    exchange.send("response.create")
    item_id = exchange.of("response.output_item.done")[0]["item"]["id"]
    exchange.wait(2000)
    assert exchange.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=99_999)[0]["type"] == (
        "conversation.item.truncated"
    )
    exchange.send("conversation.item.retrieve", item_id=item_id)
    assert exchange.events[-1]["item"]["content"][0]["transcript"] == "Yes, I can."


def test_a_truncation_after_the_reply_is_brought_to_the_session_before_the_next_one() -> None:
    exchange = Exchange()
    exchange.type("hello")
    exchange.send("response.create")
    item_id = exchange.of("response.output_item.done")[0]["item"]["id"]
    exchange.wait(2000)
    exchange.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=400)
    exchange.type("again")
    exchange.send("response.create")
    apply = exchange.ordered(Apply)[-1]
    assert not apply.keep and [(turn.kind, turn.text, turn.cut) for turn in apply.turns] == [
        ("user", "hello", False),
        ("assistant", "Yes,", True),
    ]


def test_a_cancelled_response_is_closed_at_once_and_named_no_more() -> None:
    exchange = Exchange()
    exchange.hold = True
    exchange.type("hello")
    exchange.send("response.create")
    exchange.send("response.cancel")
    done = exchange.of("response.done")[0]["response"]
    assert done["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
    begin = len(exchange.events)
    exchange.finish()
    assert exchange.types(begin) == []
    exchange.hold = False
    exchange.type("again")
    exchange.send("response.create")
    assert exchange.of("response.done")[-1]["response"]["status"] == "completed"
    assert exchange.ordered(Stop)


def test_a_second_response_beside_an_active_one_is_refused() -> None:
    exchange = Exchange()
    exchange.hold = True
    exchange.type("hello")
    exchange.send("response.create")
    error = error_of(exchange.send("response.create", event_id="second"))
    assert (error["code"], error["event_id"]) == ("conversation_already_has_active_response", "second")


def test_a_call_ends_the_response_and_its_result_goes_on_with_the_next() -> None:
    exchange = Exchange()
    exchange.update(tools=[LIGHT])
    exchange.calls = [("set_light", '{"state": "on"}')]
    exchange.type("light on")
    begin = len(exchange.events)
    exchange.send("response.create")
    assert exchange.types(begin) == [
        "response.created", "response.output_item.added", "conversation.item.added",
        "response.function_call_arguments.delta", "response.function_call_arguments.done",
        "conversation.item.done", "response.output_item.done", "response.done", "rate_limits.updated",
    ]  # fmt: skip
    added, done = exchange.of("response.output_item.added")[-1]["item"], exchange.of("response.output_item.done")[-1]["item"]
    assert (added["status"], added["arguments"]) == ("in_progress", "")
    assert (done["status"], done["arguments"]) == ("completed", '{"state": "on"}')
    output = {"type": "function_call_output", "call_id": done["call_id"], "output": "done"}
    exchange.send("conversation.item.create", item=output)
    assert not exchange.ordered(GiveResult)
    exchange.send("response.create")
    assert exchange.ordered(GiveResult) == [GiveResult(1, "done")]
    assert exchange.of("response.done")[-1]["response"]["output"][0]["type"] == "message"
    assert error_of(exchange.send("conversation.item.create", item=output))["param"] == "item.call_id"


def test_a_result_that_comes_after_the_user_went_on_still_reaches_the_session() -> None:
    exchange = Exchange()
    exchange.update(tools=[LIGHT])
    exchange.calls = [("set_light", "{}")]
    exchange.type("light on")
    exchange.send("response.create")
    call_id = exchange.of("response.output_item.done")[0]["item"]["call_id"]
    exchange.start_speech()
    exchange.wait(500)
    exchange.send("conversation.item.create", item={"type": "function_call_output", "call_id": call_id, "output": "{}"})
    assert exchange.ordered(GiveResult) == [GiveResult(1, "{}")]


def test_a_response_beside_the_conversation_leaves_nothing_in_it() -> None:
    exchange = Exchange()
    exchange.type("hello")
    begin = len(exchange.events)
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "sum up"}]}
    exchange.send(
        "response.create",
        response={"conversation": "none", "input": [item], "output_modalities": ["text"], "metadata": {"topic": "1"}},
    )
    assert exchange.of("response.created")[0]["response"]["conversation_id"] is None
    assert not [kind for kind in exchange.types(begin) if kind.startswith("conversation.")]
    assert exchange.of("response.output_text.delta")[0]["delta"] == "Aside."
    assert [turn.text for turn in exchange.ordered(Aside)[0].turns] == ["sum up"]
    assert [item.text for item in exchange.codec.items] == ["hello"]


def test_what_a_client_puts_in_or_takes_out_is_brought_to_the_session() -> None:
    exchange = Exchange()
    exchange.append()
    system = {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "The user is Ann."}]}
    exchange.send("conversation.item.create", item={**system, "id": "mine"})
    assert exchange.of("conversation.item.added")[0]["item"]["id"] == "mine"
    exchange.wait(400)
    assert exchange.ordered(Apply)[-1].keep and exchange.ordered(Apply)[-1].turns[0].text == "The user is Ann."
    exchange.send("conversation.item.delete", item_id="mine")
    exchange.wait(400)
    assert not exchange.ordered(Apply)[-1].keep and exchange.ordered(Apply)[-1].turns == ()


def test_an_item_can_be_put_behind_another_one() -> None:
    exchange = Exchange()
    for text, behind in (("b", None), ("a", "root"), ("c", None)):
        content = [{"type": "input_text", "text": text}]
        item = {"type": "message", "role": "user", "content": content, "id": text}
        exchange.send("conversation.item.create", item=item, previous_item_id=behind)
    assert [item.id for item in exchange.codec.items] == ["a", "b", "c"]
    assert exchange.of("conversation.item.added")[1]["previous_item_id"] is None
    twice = {"type": "message", "role": "user", "content": [], "id": "a"}
    assert error_of(exchange.send("conversation.item.create", item=twice))["param"] == "item.id"


def test_a_turn_that_goes_on_after_its_end_replaces_its_item() -> None:
    exchange = Exchange()
    exchange.hold = True
    exchange.append()
    exchange.start_speech()
    exchange.end_speech("turn on the")
    exchange.say(TurnResumed)
    exchange.end_speech("turn on the light")
    items = [item for item in exchange.codec.items if item.role == "user"]
    assert [item.text for item in items] == ["turn on the light"]
    assert exchange.of("response.done")[0]["response"]["status"] == "cancelled"


def test_over_a_reply_semantic_detection_tells_of_speech_only_when_it_is_a_turn() -> None:
    exchange = Exchange()
    exchange.update(audio={"input": {"turn_detection": {"type": "semantic_vad", "eagerness": "low"}}})
    exchange.append()
    exchange.start_speech()
    exchange.end_speech()
    exchange.start_speech()
    exchange.say(TurnDropped, reason="a hum")
    assert len(exchange.of("input_audio_buffer.speech_started")) == 1 and not exchange.ordered(Stop)
    assert exchange.plan.max_wait_ms == 8000


def test_nothing_of_the_extensions_is_sent_unasked() -> None:
    exchange = Exchange()
    prosody = {"label": "sad", "confidence": 0.8, "pitch_hz": 110.0, "energy_db": -20.0, "words_per_minute": 130.0}
    exchange.say(Prosody, **prosody)
    assert exchange.types() == ["session.created"]
    exchange.update(textpro={"events": ["prosody"], "prosody": True})
    exchange.say(Prosody, **prosody)
    assert exchange.events[-1]["type"] == "textpro.prosody" and exchange.events[-1]["label"] == "sad"


def test_with_acknowledgements_the_clock_is_not_asked() -> None:
    exchange = Exchange(reply_ms=1000)
    exchange.update(textpro={"playback": "acknowledged"})
    exchange.type("hello")
    exchange.send("response.create")
    item_id = exchange.of("response.output_item.done")[0]["item"]["id"]
    exchange.wait(5000)
    assert exchange.running and not exchange.ordered(Played)
    exchange.send("textpro.playback", item_id=item_id, audio_end_ms=1000)
    assert not exchange.running


def test_more_responses_than_a_key_may_have_are_refused_and_counted() -> None:
    exchange = Exchange(meter=Meter(2))
    for _ in range(2):
        exchange.type("hello")
        exchange.send("response.create")
    limits = exchange.of("rate_limits.updated")[-1]["rate_limits"]
    assert (limits[0]["name"], limits[0]["limit"], limits[0]["remaining"]) == ("requests", 2, 0)
    assert error_of(exchange.send("response.create"))["code"] == "rate_limit_exceeded"
    exchange.now_ms = 61_000
    assert exchange.send("response.create")[0]["type"] == "response.created"


def test_a_reply_cut_by_the_token_limit_is_incomplete() -> None:
    exchange = Exchange()
    exchange.type("hello")
    exchange.send("response.create", response={"max_output_tokens": 4})
    done = exchange.of("response.done")[0]["response"]
    assert done["status_details"] == {"type": "incomplete", "reason": "max_output_tokens"}


def test_a_session_that_fails_fails_its_response_and_says_why() -> None:
    exchange = Exchange()
    exchange.hold = True
    exchange.type("hello")
    exchange.send("response.create")
    exchange.say(Failed, reason="no memory")
    assert exchange.of("response.done")[0]["response"]["status"] == "failed"
    assert "no memory" in exchange.events[-1]["error"]["message"] and exchange.codec.has_failed


def test_every_server_event_is_one_that_openai_s_own_types_take() -> None:
    require_module("openai")
    from openai.types.realtime import RealtimeServerEvent
    from pydantic import TypeAdapter

    adapter: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
    exchange = Exchange()
    exchange.update(tools=[LIGHT], audio={"input": {"transcription": {"model": "x"}}})
    exchange.append()
    exchange.start_speech()
    exchange.end_speech()
    exchange.start_speech()
    exchange.wait(400)
    exchange.end_speech()
    exchange.calls = [("set_light", "{}")]
    exchange.type("light on")
    exchange.send("response.create", response={"output_modalities": ["text"]})
    exchange.send("response.create", response={"conversation": "none", "output_modalities": ["text"]})
    for item in list(exchange.codec.items):
        exchange.send("conversation.item.retrieve", item_id=item.id)
        exchange.send("conversation.item.delete", item_id=item.id)
    exchange.send("input_audio_buffer.clear")
    exchange.send("no.such.event")
    for event in exchange.events:
        adapter.validate_python(event)
    assert len({event["event_id"] for event in exchange.events}) == len(exchange.events)
    assert len(set(exchange.types())) > 25
