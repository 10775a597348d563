"""Whatever a client sends, the codec answers with events that are well formed, and the conversation goes on."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from realtime_fuzz import messages
from realtime_script import Exchange


def check_responses(events: list[dict[str, Any]]) -> None:
    """Each response is announced once and ended at most once, and nothing names it before or afterwards."""
    running: set[str] = set()
    for event in events:
        match event["type"]:
            case "response.created":
                assert event["response"]["id"] not in running
                running.add(event["response"]["id"])
            case "response.done":
                running.remove(event["response"]["id"])
                assert event["response"]["usage"]["input_token_details"]["cached_tokens_details"] is not None
            case _ if "response_id" in event:
                assert event["response_id"] in running, event
    assert len(running) <= 3


@pytest.mark.parametrize("seed", range(4))
def test_no_message_breaks_the_codec(seed: int) -> None:
    exchange = Exchange(reply_ms=200)
    chance = random.Random(seed)
    ids: list[str] = []
    kinds: Counter[str] = Counter()
    for number, text in enumerate(messages(seed, 5_000, ids)):
        begin = len(exchange.events)
        exchange.raw(text)
        for event in exchange.events[begin:]:
            kinds[event["type"]] += 1
            ids += [value for key in ("item_id", "response_id") if isinstance(value := event.get(key), str)]
        del ids[:-40]
        if number % 5 == 0:
            exchange.hold = chance.random() < 0.2
            exchange.wait(chance.choice((50, 300)))
        if number % 160 == 0:
            exchange.update(audio={"input": {"turn_detection": {"type": "server_vad"}}}, output_modalities=["audio"])
        if number % 40 == 0:
            exchange.start_speech()
        elif number % 40 == 9 and exchange.codec._hearing.turn_open:
            exchange.end_speech()
        if len(exchange.codec.items) > 60:
            for item in list(exchange.codec.items)[:40]:
                exchange.send("conversation.item.delete", item_id=item.id)
    check_responses(exchange.events)
    assert len({event["event_id"] for event in exchange.events}) == len(exchange.events)
    assert len(kinds) > 20 and kinds["error"] > 1000

    fresh = len(exchange.of("response.done"))
    exchange.hold = False
    if exchange.codec._hearing.turn_open:
        exchange.end_speech()
    exchange.wait(1_500)
    exchange.update(output_modalities=["audio"])
    exchange.send("response.cancel")
    exchange.wait(1_500)
    exchange.type("hello")
    exchange.send("response.create")
    done = exchange.of("response.done")[fresh:]
    assert done and done[-1]["response"]["status"] == "completed"
