"""A Realtime codec with a session behind it that plays a script, all in one thread and without time of its own: what a client
sends and what a user says go in, and every server event is checked and kept."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np

from textpro.agent.events import (
    Audio,
    Event,
    Interrupt,
    ReplyDelta,
    ReplyDone,
    ReplySpoken,
    ReplyStart,
    TokensCommitted,
    TurnEnd,
    TurnStart,
    VoiceActivity,
)
from textpro.serving.realtime.codec import RealtimeCodec
from textpro.serving.realtime.wire import (
    Apply,
    Aside,
    Command,
    EndTurn,
    GiveResult,
    Hear,
    Output,
    Plan,
    Played,
    Respond,
    Say,
    Stop,
)

RATE = 16_000


class Exchange:
    """`reply` is what the session answers, `reply_ms` how long its sound is; `calls` are calls of functions that its next
    reply makes. With `hold` replies stop in mid-sentence until `finish`."""

    def __init__(self, reply: str = "Yes, I can.", reply_ms: int = 1000, **codec: Any) -> None:
        count = itertools.count()
        self.codec = RealtimeCodec("tiny", new_id=lambda prefix: f"{prefix}_{next(count)}", **codec)
        self.reply, self.reply_ms, self.hold = reply, reply_ms, False
        self.calls: list[tuple[str, str]] = []
        self.now_ms = 0.0
        self.events: list[dict[str, Any]] = []
        self.commands: list[Command] = []
        self.plan = Plan()
        self.turn_id = self.played_ms = 0
        self.running = False
        self.committed_text = ""
        self._keys = itertools.count(1)
        self._take(self.codec.open())

    def send(self, type: str, **fields: Any) -> list[dict[str, Any]]:
        """A client event; gives the server events that came of it."""
        return self.raw(json.dumps({"type": type, **fields}))

    def raw(self, text: str) -> list[dict[str, Any]]:
        begin = len(self.events)
        self._take(self.codec.receive(text, self.now_ms))
        return self.events[begin:]

    def update(self, **session: Any) -> list[dict[str, Any]]:
        return self.send("session.update", session={"type": "realtime", **session})

    def type(self, text: str) -> None:
        content = [{"type": "input_text", "text": text}]
        self.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})

    def append(self, length_ms: int = 200) -> list[dict[str, Any]]:
        import base64

        return self.send("input_audio_buffer.append", audio=base64.b64encode(bytes(48 * length_ms)).decode())

    def wait(self, length_ms: float) -> None:
        for _ in range(int(length_ms // 50)):
            self.now_ms += 50
            self._take(self.codec.tick(self.now_ms))

    def start_speech(self, start_ms: int = 400) -> None:
        self.turn_id += 1
        self.say(TurnStart, start_ms=start_ms)

    def end_speech(self, text: str = "hello there") -> None:
        self.say(TokensCommitted, start_index=0, tokens=(1, 2, 3), text=text, end_ms=900)
        self.say(VoiceActivity, t_ms=1200, probability=0.9, speaking=True)
        self.say(TurnEnd, t_ms=1900, text=text, p_end=0.9)
        if self.plan.auto_reply:
            self._answer()

    def say(self, kind: type[Event], t_ms: int = 1000, **values: Any) -> None:
        self._take(self.codec.observe(kind(t_ms=t_ms, turn_id=self.turn_id, **values), self.now_ms))

    def finish(self) -> None:
        """The reply that was held is completed."""
        half = len(self.reply) // 2
        self._speak(self.reply[half:])
        self.say(ReplySpoken, tokens=4)

    def types(self, begin: int = 0) -> list[str]:
        return [event["type"] for event in self.events[begin:]]

    def of(self, type: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == type]

    def ordered(self, kind: type) -> list[Any]:
        """The commands of one kind."""
        return [command for command in self.commands if isinstance(command, kind)]

    def _take(self, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, dict):
                self.events.append(json.loads(json.dumps(output)))
            else:
                self.commands.append(output)
                self._do(output)

    def _do(self, command: Command) -> None:
        match command:
            case Apply():
                if self.codec.can_apply(command):
                    self.plan = command.plan
                    self.codec.applied(command)
            case Say(text):
                self.turn_id += 1
                self._end_reply(cut=True)
                self.say(TurnEnd, text=text, p_end=0.9)
                self._answer()
            case Respond():
                self._end_reply(cut=True)
                self._answer()
            case Played(total_ms):
                self.played_ms = total_ms
                if self.running and total_ms >= self.reply_ms and not self.hold and not self.calls:
                    self._end_reply(cut=False)
            case Stop():
                self._end_reply(cut=True)
            case EndTurn(item_id):
                if self.committed_text:
                    self.say(TurnStart, start_ms=0)
                    self.say(TurnEnd, text=self.committed_text, p_end=0.9)
                self._take(self.codec.turn_ended(item_id))
            case GiveResult():
                self._speak(self.reply)
                self.say(ReplySpoken, tokens=4)
            case Aside(response_id):
                for event in (
                    ReplyStart(t_ms=0, context_tokens=5),
                    ReplyDelta(t_ms=0, text="Aside."),
                    ReplySpoken(t_ms=0, tokens=2),
                ):
                    self._take(self.codec.observe_aside(response_id, event))
            case Hear():
                pass

    def _answer(self) -> None:
        self.running, self.played_ms = True, 0
        self.say(ReplyStart, context_tokens=20)
        if self.calls:
            for name, arguments in self.calls:
                self._take(self.codec.client_call(name, arguments, next(self._keys)))
            self.calls = []
        elif self.hold:
            self._speak(self.reply[: len(self.reply) // 2])
        else:
            self._speak(self.reply)
            self.say(ReplySpoken, tokens=4)

    def _speak(self, text: str) -> None:
        length_ms = self.reply_ms * len(text) // len(self.reply)
        self.say(ReplyDelta, text=text)
        if self.plan.speak:
            self.say(Audio, pcm=np.ones(length_ms * RATE // 1000, np.int16), sample_rate=RATE, text=text)

    def _end_reply(self, cut: bool) -> None:
        if not self.running:
            return
        self.running = False
        heard = self.reply[: int(len(self.reply) * self.played_ms / self.reply_ms)] if cut else self.reply
        if cut:
            self.say(Interrupt, heard_text=heard)
        self.say(ReplyDone, text=self.reply, heard_text=heard, interrupted=cut)
