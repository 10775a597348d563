"""What the codec remembers of a conversation at any moment, and what it tells a client that comes back; without I/O."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from realtime_script import Exchange
from textpro.agent.events import TokensCommitted, TokensRetracted, TurnEnd, TurnStart
from textpro.serving.realtime.codec import RealtimeCodec
from textpro.serving.realtime.extensions import ResumeOffer
from textpro.serving.realtime.resuming import WHOLE_CONTEXT
from textpro.serving.realtime.wire import Apply, Hear, Output, Say, Stop
from textpro.serving.session_log import SessionLog

OFFER = ResumeOffer("a-token", 60.0)
LIGHT = {"type": "function", "name": "set_light", "description": "", "parameters": {"type": "object", "properties": {}}}


def asking(**extensions: Any) -> Exchange:
    exchange = Exchange(offer=OFFER)
    exchange.update(textpro={"resume": True, "playback": "acknowledged", **extensions})
    return exchange


def remembered(exchange: Exchange) -> tuple[SessionLog, int | None]:
    log, reach = exchange.codec.remember()
    return SessionLog.from_bytes(log.to_bytes()), reach


def restored(log: SessionLog) -> tuple[RealtimeCodec, list[Output]]:
    codec = RealtimeCodec("tiny", offer=OFFER, log=log)
    return codec, codec.come_back(0.0, 123)


def told(outputs: list[Output]) -> dict[str, Any]:
    return next(output for output in outputs if isinstance(output, dict) and output["type"] == "textpro.resumed")


def sound_ms(outputs: list[Any]) -> float:
    deltas = [output["delta"] for output in outputs if isinstance(output, dict) and output["type"].endswith("audio.delta")]
    return sum(len(base64.b64decode(delta)) for delta in deltas) / 48


def away(exchange: Exchange) -> list[Output]:
    """The connection is lost and there is another one."""
    exchange._take(exchange.codec.resuming.leave(exchange.now_ms))
    exchange.now_ms += 5_000
    return exchange.codec.come_back(exchange.now_ms, 123)


def test_the_token_is_told_once_and_only_to_who_asks() -> None:
    exchange = Exchange(offer=OFFER)
    exchange.update(instructions="Be brief.")
    assert not exchange.of("textpro.resume_token") and not exchange.codec.resuming.is_wanted
    for _ in range(2):
        exchange.update(textpro={"resume": True})
    (event,) = exchange.of("textpro.resume_token")
    assert (event["token"], event["keep_seconds"], event["log_seconds"]) == ("a-token", 60.0, 0.0)
    assert exchange.codec.resuming.is_wanted
    assert exchange.update(textpro={"resume": "yes"})[0]["error"]["param"] == "session.textpro.resume"


def test_the_token_is_in_no_log_and_no_session_object() -> None:
    exchange = asking()
    assert b"a-token" not in exchange.codec.remember()[0].to_bytes()
    assert all("a-token" not in str(event) for event in exchange.of("session.updated"))


def test_a_reply_that_goes_on_while_nobody_listens_is_told_whole() -> None:
    exchange = asking()
    exchange.hold = True
    exchange.type("hello")
    exchange.send("response.create")
    item_id = exchange.of("response.output_item.added")[0]["item"]["id"]
    exchange.send("textpro.playback", item_id=item_id, audio_end_ms=300)
    outputs = away(exchange)
    event = told(outputs)
    assert event["response"]["status"] == "in_progress"
    assert event["items"][-1]["content"] == [{"type": "output_audio", "transcript": "Yes, "}]
    (audio,) = event["audio"]
    before = sound_ms(exchange.events)
    assert audio["audio_start_ms"] == 300 and audio["audio_end_ms"] == pytest.approx(before, abs=30)
    exchange._take(outputs)
    exchange.finish()
    again = sound_ms(exchange.events) - before
    assert again == pytest.approx(700, abs=2)  # what was unheard and what came later, without a seam
    assert exchange.of("response.done")[-1]["response"]["status"] == "completed"


def test_half_a_sample_that_was_sent_last_does_not_shift_what_comes_next() -> None:
    exchange = asking()
    exchange.send("input_audio_buffer.append", audio=base64.b64encode(b"\x01\x02\x03").decode())
    away(exchange)
    exchange.send("input_audio_buffer.append", audio=base64.b64encode(b"\x04\x05").decode())
    assert [hear.pcm.tobytes() for hear in exchange.ordered(Hear)] == [b"\x01\x02", b"\x04\x05"]


def test_where_the_clock_estimates_what_was_played_it_stands_still_without_a_connection() -> None:
    exchange = asking(playback="estimated")
    exchange.type("hello")
    exchange.send("response.create")
    exchange.wait(400)
    outputs = away(exchange)
    assert told(outputs)["audio"][0]["audio_start_ms"] == pytest.approx(400, abs=1) and exchange.running
    exchange._take(outputs)
    exchange.wait(500)
    assert exchange.running
    exchange.wait(800)
    assert not exchange.running and not exchange.ordered(Stop)


def test_a_reply_that_was_made_to_its_end_is_remembered_whole_with_its_unheard_sound() -> None:
    exchange = asking()
    exchange.type("hello")
    exchange.send("response.create")
    item_id = exchange.of("response.output_item.done")[0]["item"]["id"]
    exchange.send("textpro.playback", item_id=item_id, audio_end_ms=250)
    log, reach = remembered(exchange)
    assert reach == WHOLE_CONTEXT and log.unread == ()
    codec, outputs = restored(log)
    assert told(outputs)["audio"] == [{"item_id": item_id, "audio_start_ms": 250, "audio_end_ms": 1000}]
    assert sound_ms(outputs) == pytest.approx(750, abs=1)
    # The user cuts in: the client says what it had played, and the history is read again with that.
    cut = {"type": "conversation.item.truncate", "item_id": item_id, "content_index": 0, "audio_end_ms": 400}
    codec.receive(json.dumps(cut), 0)
    (apply,) = [output for output in codec.tick(1_000) if isinstance(output, Apply)]
    assert not apply.keep and [(turn.text, turn.cut) for turn in apply.turns] == [("hello", False), ("Yes,", True)]


def test_a_reply_that_was_not_made_to_its_end_is_cut_where_its_sound_ends() -> None:
    exchange = asking()
    exchange.hold = True
    exchange.type("hello")
    exchange.send("response.create")
    log, reach = remembered(exchange)
    assert reach == 20 and [record["role"] for record in log.items if record["id"] in log.unread] == ["assistant"]
    codec, outputs = restored(log)
    (apply,) = [output for output in codec.tick(1_000) if isinstance(output, Apply)]
    assert apply.keep and [(turn.text, turn.cut) for turn in apply.turns] == [("Yes, ", True)]
    assert told(outputs)["items"][-1]["status"] == "incomplete"


def test_a_reply_that_the_user_cut_off_is_not_said_again() -> None:
    exchange = asking()
    exchange.append()
    exchange.start_speech()
    exchange.end_speech()
    item_id = exchange.of("response.output_item.added")[0]["item"]["id"]
    exchange.send("textpro.playback", item_id=item_id, audio_end_ms=500)
    exchange.start_speech()
    log, reach = remembered(exchange)
    assert log.unheard == () and reach == 20 and log.items[-1]["heard"] == "Yes,"
    assert told(away(exchange))["audio"] == [] and len(exchange.ordered(Stop)) == 1


def test_a_call_without_its_result_is_remembered_and_answered_later() -> None:
    exchange = asking()
    exchange.update(tools=[LIGHT])
    exchange.calls = [("set_light", '{"state": "on"}')]
    exchange.type("light on")
    exchange.send("response.create")
    log, _ = remembered(exchange)
    assert [record["kind"] for record in log.items if record["id"] in log.unread] == ["function_call"]
    codec, _ = restored(log)
    call_id = log.items[-1]["call_id"]
    item = {"type": "function_call_output", "call_id": call_id, "output": "done"}
    codec.receive(json.dumps({"type": "conversation.item.create", "item": item}), 0)
    outputs = codec.receive('{"type":"response.create"}', 0)
    (apply,) = [output for output in outputs if isinstance(output, Apply)]
    assert apply.keep and [turn.kind for turn in apply.turns] == ["call", "output"]


def test_the_words_of_an_open_turn_are_remembered_as_an_item() -> None:
    exchange = asking()
    exchange.append(2_000)
    exchange.start_speech(start_ms=100)
    exchange.say(TokensCommitted, start_index=0, tokens=(1, 2, 3, 4), text="what is the time", end_ms=900)
    exchange.say(TokensRetracted, to_index=2)
    exchange.say(TokensCommitted, start_index=2, tokens=(5, 6), text="two", end_ms=1_100)
    log, reach = remembered(exchange)
    assert reach is None and [(record["text"], record["id"] in log.unread) for record in log.items] == [("what is two", True)]
    _, outputs = restored(log)
    assert told(outputs)["input_audio_ms"] == 1_100 and told(outputs)["speech"] is None
    exchange.say(TurnEnd, t_ms=1_900, text="what is two plus", p_end=0.9)
    log, _ = remembered(exchange)
    assert [(record["text"], record["id"] in log.unread) for record in log.items] == [("what is two plus", True)]
    exchange._answer()
    exchange.send("textpro.playback", item_id=log.items[0]["id"], audio_end_ms=0)
    log, reach = remembered(exchange)
    assert reach == WHOLE_CONTEXT and log.unread == ()


def test_without_turn_detection_what_was_not_committed_becomes_items() -> None:
    exchange = asking()
    exchange.update(audio={"input": {"turn_detection": None}})
    exchange.append(2_000)
    exchange.say(TurnStart, start_ms=0)
    exchange.say(TurnEnd, text="first words", p_end=0.1)
    exchange.say(TurnStart, start_ms=0)
    exchange.say(TokensCommitted, start_index=0, tokens=(1, 2), text="more words", end_ms=1_500)
    log, _ = remembered(exchange)
    assert [(record["text"], record["id"] in log.unread) for record in log.items] == [
        ("first words", False),
        ("more words", True),
    ]


def test_items_and_settings_go_on_and_typed_words_wait_for_their_reply() -> None:
    exchange = asking()
    exchange.update(instructions="Be brief.", output_modalities=["text"])
    exchange.type("hello")
    exchange.send("response.create")
    exchange.type("and now")
    log, _ = remembered(exchange)
    codec, outputs = restored(log)
    assert codec.config == {**exchange.codec.config, "expires_at": 123} and len(told(outputs)["items"]) == 3
    assert codec.config["instructions"] == "Be brief."
    orders = [output for output in codec.receive('{"type":"response.create"}', 0) if isinstance(output, Apply | Say)]
    assert [type(order) for order in orders] == [Apply, Say] and orders[0].keep and orders[0].turns == ()
    assert orders[1] == Say("and now")


def test_cached_tokens_are_those_that_the_last_response_had_read() -> None:
    exchange = Exchange()
    exchange.append()
    exchange.start_speech()
    exchange.end_speech()
    exchange.wait(2_000)
    exchange.type("again")
    exchange.send("response.create")
    first, second = (event["response"]["usage"]["input_token_details"] for event in exchange.of("response.done"))
    assert first["cached_tokens"] == 0 and first["audio_tokens"] == 3
    assert second["cached_tokens"] == 20
    assert second["cached_tokens_details"] == {"text_tokens": 17, "audio_tokens": 3, "image_tokens": 0}
    exchange.wait(2_000)
    exchange.send("conversation.item.delete", item_id=exchange.codec.items.last_id())
    exchange.wait(500)
    exchange.type("and again")
    exchange.send("response.create")
    assert exchange.of("response.done")[-1]["response"]["usage"]["input_token_details"]["cached_tokens"] == 0
