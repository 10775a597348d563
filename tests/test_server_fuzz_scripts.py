"""Whole conversations, mutated: messages of a valid script lost, doubled, moved, mixed with another script's and changed inside,
while the session behind goes on talking. The codecs stay sound throughout and serve the next turn."""

from __future__ import annotations

import json
import random
from collections import deque
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from load_size import sized
from phone import STREAM, Caller
from realtime_fuzz import LIGHT, SOUND
from realtime_script import Exchange
from test_realtime_fuzz import check_responses
from textpro.agent.events import Audio, Duck, Interrupt, ReplyDone, TurnDropped, TurnResumed, Unduck
from textpro.models.errors import InputError
from textpro.serving.realtime.wire import Command, Output
from textpro.serving.telephone.twilio_codec import MAX_GAP_MS, Began, Ended, Heard, Played, Pressed, Send, TwilioCodec
from twilio_fuzz import changed, shuffle, twilio_frames

APPEND = {"type": "input_audio_buffer.append", "audio": SOUND}
COMMIT, CLEAR = {"type": "input_audio_buffer.commit"}, {"type": "input_audio_buffer.clear"}
RESPOND, CANCEL = {"type": "response.create"}, {"type": "response.cancel"}
START, END, DROP, RESUME, HOLD, FINISH, CALL = "start", "end", "drop", "resume", "hold", "finish", "call"
Step = dict[str, Any] | str | int
"""A message of the client, something that the session does, or so many ms."""


def update(**session: Any) -> dict[str, Any]:
    return {"type": "session.update", "session": {"type": "realtime", **session}}


def detection(value: Any) -> dict[str, Any]:
    return update(audio={"input": {"turn_detection": value}})


def item(kind: str = "message", **fields: Any) -> dict[str, Any]:
    content = {"role": "user", "content": [{"type": "input_text", "text": "hello"}]} if kind == "message" else {}
    return {"type": "conversation.item.create", "item": {"type": kind, **content, **fields}}


def about(type: str, **fields: Any) -> dict[str, Any]:
    """A message about the newest item that the server named."""
    return {"type": type, "item_id": "$item", **fields}


OUTPUT = item("function_call_output", call_id="$call", output='{"ok": true}')
TRUNCATE = about("conversation.item.truncate", content_index=0, audio_end_ms=120)
ASIDE = {"type": "response.create", "response": {"conversation": "none", "input": [{"type": "item_reference", "id": "$item"}]}}
SCRIPTS: tuple[tuple[Step, ...], ...] = (
    (update(audio={"input": {"transcription": {"model": "x"}}}), APPEND, APPEND, START, APPEND, 100, END, 50, 1500),
    (detection({"type": "server_vad"}), APPEND, START, END, 300, START, TRUNCATE, 100, END, 2000),
    (update(tools=[LIGHT]), CALL, APPEND, START, END, OUTPUT, RESPOND, 1500),
    (update(tools=[LIGHT]), CALL, item(), RESPOND, START, END, OUTPUT, 500, RESPOND, 1000),
    (detection(None), APPEND, *[APPEND] * 9, COMMIT, RESPOND, 1000, APPEND, CLEAR, COMMIT, *[APPEND] * 12, COMMIT, RESPOND),
    (item(), RESPOND, ASIDE, {**CANCEL, "response_id": "$response"}, about("conversation.item.retrieve"), 300,
     about("conversation.item.delete"), ASIDE, item(id="mine"), RESPOND, 1000),
    (APPEND, START, update(instructions="y"), detection({"type": "semantic_vad"}), END, 100, START, END, 400,
     update(output_modalities=["text"]), item(), RESPOND, 200, update(output_modalities=["audio"])),
    (APPEND, HOLD, START, END, 200, CANCEL, 400, FINISH, item(), RESPOND, 300, START, 50, END, FINISH, 700),
    (APPEND, START, END, 100, RESUME, 50, END, 1200, START, END, RESUME, CANCEL, 200, END),
    (update(textpro={"events": ["prosody", "turn_end", "reply_done"], "playback": "acknowledged"}), item(), RESPOND, 100,
     about("textpro.playback", audio_end_ms=200), 100, about("textpro.playback", audio_end_ms=1000), START, END, TRUNCATE, 500),
    (detection({"type": "server_vad", "idle_timeout_ms": 5000, "create_response": False}), APPEND, START, RESPOND, END, 500,
     START, DROP, START, RESPOND, DROP, START, RESPOND, CANCEL, END, START, RESPOND, CLEAR, 100, item(), RESPOND, 800,
     START, END, 6000, detection({"type": "server_vad", "interrupt_response": False}), START, END, 300, START, END, 1000),
)  # fmt: skip


class Session(Exchange):
    """Does what the codec orders one after the other, when the codec has said all, as the server does."""

    def __init__(self, **settings: Any) -> None:
        self._ordered: deque[Command] = deque()
        self._busy = False
        super().__init__(**settings)

    def _take(self, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, dict):
                self.events.append(json.loads(json.dumps(output)))
            else:
                self._ordered.append(output)
        if self._busy:
            return
        self._busy = True
        while self._ordered:
            self._do(self._ordered.popleft())
        self._busy = False


class PlayedOut:
    """One conversation by a mutated script."""

    def __init__(self, chance: random.Random) -> None:
        self.chance, self.exchange, self.messages = chance, Session(reply_ms=chance.choice((50, 200, 1_000))), 0

    def play(self, steps: list[Step], share: float) -> None:
        exchange, hearing = self.exchange, self.exchange.codec._hearing
        for step in steps:
            match step:
                case dict():
                    text = json.dumps(self.named(step))
                    exchange.raw(changed(self.chance, text) if self.chance.random() < share else text)
                    self.messages += 1
                case int():
                    exchange.wait(step)
                case "start" if not hearing.turn_open:
                    exchange.start_speech()
                case "end" if hearing.turn_open:
                    exchange.end_speech()
                case "drop" if hearing.turn_open:
                    exchange.say(TurnDropped, reason="silence")
                case "resume" if not hearing.turn_open and hearing.speech is not None and exchange.plan.auto_reply:
                    exchange.running = False
                    exchange.say(TurnResumed)
                case "hold":
                    exchange.hold = True
                case "finish":
                    if exchange.hold and exchange.running:
                        exchange.finish()
                    exchange.hold = False
                case "call":
                    exchange.calls = [("set_light", "{}")]

    def named(self, message: Any) -> Any:
        """The message with the newest id of the server in place of $item, $response and $call."""
        if isinstance(message, dict):
            return {key: self.named(value) for key, value in message.items()}
        if isinstance(message, list):
            return [self.named(value) for value in message]
        if not isinstance(message, str) or not message.startswith("$"):
            return message
        name = f"{message[1:]}_id"
        return next((event[name] for event in reversed(self.exchange.events) if isinstance(event.get(name), str)), "none")


def check_conversation(chance: random.Random, steps: list[Step], share: float) -> PlayedOut:
    """Play it; every event was sound, and a typed turn after it is answered."""
    played = PlayedOut(chance)
    played.play(steps, share)
    exchange = played.exchange
    played.play([FINISH, END, 1500], 0.0)
    exchange.calls = []
    exchange.update(output_modalities=["audio"], audio={"input": {"turn_detection": {"type": "server_vad"}}})
    exchange.send("response.cancel")
    exchange.wait(2_000)
    done = len(exchange.of("response.done"))
    exchange.type("hello")
    exchange.send("response.create")
    exchange.wait(2_000)
    after = exchange.of("response.done")[done:]
    assert after and after[-1]["response"]["status"] == "completed", after or exchange.events[-3:]
    check_responses(exchange.events)
    assert len({event["event_id"] for event in exchange.events}) == len(exchange.events)
    return played


@pytest.mark.parametrize("end", [CLEAR, DROP, CANCEL], ids=("clear", "drop", "cancel"))
def test_a_response_asked_for_while_the_user_speaks_does_not_block_the_next_one(end: Step) -> None:
    """A reply that waits for a turn which is then cleared, or was no speech, begins at once; one that is cancelled is gone."""
    exchange = check_conversation(random.Random(0), [START, RESPOND, end, 1_500], 0.0).exchange
    first = exchange.of("response.done")[0]["response"]["status"]
    assert first == ("cancelled" if end is CANCEL else "completed")


@pytest.mark.parametrize("seed", range(4))
def test_mutated_conversations_leave_a_codec_that_serves_the_next_turn(seed: int) -> None:
    chance = random.Random(seed)
    conversations = sized(60, 600)
    messages = 0
    for _ in range(conversations):
        steps: list[Step] = [step for script in chance.sample(SCRIPTS, 3) for step in script]
        shuffle(chance, steps)
        messages += check_conversation(random.Random(chance.random()), steps, chance.choice((0.0, 0.1, 0.4))).messages
    assert messages > conversations * 15


@pytest.mark.parametrize("seed", range(4))
def test_mutated_calls_are_heard_as_long_as_they_were_and_get_only_what_twilio_knows(seed: int) -> None:
    chance = random.Random(seed)
    refused = ended = 0
    for _ in range(sized(60, 600)):
        codec, caller = TwilioCodec(), Caller()
        frames = twilio_frames(chance, 42)
        heard, sent_ms, played, begun, over = 0, 0.0, [0.0], False, False
        for frame in frames:
            try:
                commands = codec.receive(frame)
            except InputError as error:
                assert "expected" in str(error) or "base64" in str(error) or "binary" in str(error)
                refused += 1
                continue
            for command in commands:
                match command:
                    case Began():
                        assert not begun
                        begun = command.stream_sid == STREAM
                    case Heard(pcm):
                        assert pcm.dtype == np.int16 and len(pcm) <= 8 * MAX_GAP_MS + 2 * len(frame)
                        heard += len(pcm)
                    case Pressed():
                        assert command.words
                    case Played(total_ms):
                        played.append(total_ms)
                    case Send(text) if begun:
                        caller.take(text)
                    case Ended():
                        over = True
            if not begun:
                continue
            match chance.randrange(12):
                case 0 | 1 | 2:
                    length = chance.choice((1, 160, 4_410))
                    sent_ms += length * 1000 / 22_050
                    event: Any = Audio(t_ms=0, pcm=np.ones(length, np.int16), sample_rate=22_050, text="")
                case 3:
                    event = Duck(t_ms=0)
                case 4:
                    event = Unduck(t_ms=0)
                case 5:
                    event, sent_ms = ReplyDone(t_ms=0, text="", heard_text="", interrupted=False), 0.0
                    played = [0.0]
                case 6 if chance.random() < 0.3:
                    event, sent_ms, played = Interrupt(t_ms=0, heard_text=""), 0.0, [0.0]
                case _:
                    event = None
            for send in codec.speak(event) if event is not None else ():
                for mark in caller.take(send.frame):
                    assert codec.receive(mark) == []  # what a clear gives back was not heard
            assert all(a <= b for a, b in pairwise(played)) and played[-1] <= sent_ms + 1
        ended += over
        if begun and not over:
            (silence,) = Caller().silence(20)
            assert len(next(command.pcm for command in codec.receive(silence) if isinstance(command, Heard))) >= 160
    assert refused > 100 and ended > 5
