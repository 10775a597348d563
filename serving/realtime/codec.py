"""The Realtime protocol of one connection as a state machine: a client's messages and a session's events in; server events
and commands for the session out. No I/O, no clock (`now_ms` comes with each call), no model.

Its parts: `Hearing` is the user's side, `Replies` the responses, `Asides` those beside the conversation, `Known` what the
session was told. Facts of the protocol: docs/server.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from ...agent.events import (
    Event,
    Failed,
    Interrupt,
    Metrics,
    Prosody,
    ReplyStart,
    TurnDropped,
    TurnResumed,
    Update,
    VoiceActivity,
)
from ..session_log import SessionLog
from .asides import Asides
from .config import checked_response, default_config, merged, plan_of
from .editing import Editing
from .extensions import Extensions, ResumeOffer
from .hearing import Hearing
from .items import Items
from .known import Known
from .limits import Meter
from .replies import Replies
from .response import ResponseSettings
from .resuming import Resuming
from .wire import (
    Apply,
    Command,
    Json,
    Outbox,
    Output,
    ProtocolError,
    Respond,
    Say,
    Turn,
    mapping,
    optional_string,
    random_id,
    read_message,
    string,
    wrong,
)

MAX_EVENT = 512 * 1024
"""Characters of an event that is no audio."""


class RealtimeCodec:
    """Every method gives what is to be sent and done, in order. `speaks`: whether the server has a voice; `session` is what a
    client secret wants otherwise than the defaults; `offer` a token for clients that ask for one; with a `log` the
    conversation goes on from there."""

    def __init__(
        self,
        model: str,
        *,
        speaks: bool = True,
        expires_at: int = 0,
        session: Json | None = None,
        meter: Meter | None = None,
        new_id: Callable[[str], str] = random_id,
        offer: ResumeOffer | None = None,
        log: SessionLog | None = None,
    ) -> None:
        self._out = Outbox(new_id)
        self._speaks = speaks
        self.items = Items()
        self._meter = meter or Meter()
        self.config = merged(default_config(new_id("sess"), model, expires_at, speaks), {"type": "realtime", **(session or {})})
        if log is not None:
            self.config = {**log.settings, "model": model, "expires_at": expires_at}
        self._conversation_id = new_id("conv") if log is None else str(log.state["conversation_id"])
        self._hearing = Hearing(self._out, self.items, self.config)
        self._replies = Replies(self._out, self.items, self._meter)
        self._asides = Asides(self._out, self.items, self._meter)
        self._known = Known(self._out, self.items)
        self._extensions = Extensions(self._out, self.items, self._hearing, self._replies, offer)
        self.resuming = Resuming(self._out, self.items, self._hearing, self._replies, self._known, self._extensions)
        if log is not None:
            self.resuming.restore(log)
        self._extensions.configure(self.config)
        self.changes = 0
        """Grows with whatever a log has to have."""
        self._quiet_since_ms: float | None = None
        self._waiting_start: Json | None = None
        self.has_failed = False
        editing = Editing(self._out, self.items, self._known, self._replies)
        self._handlers: dict[str, Callable[[Json], None]] = {
            "session.update": self._update,
            "input_audio_buffer.append": self._append,
            "input_audio_buffer.commit": lambda _: self._hearing.commit(),
            "input_audio_buffer.clear": lambda _: self._clear(),
            "conversation.item.create": editing.create,
            "conversation.item.retrieve": editing.retrieve,
            "conversation.item.delete": editing.delete,
            "conversation.item.truncate": editing.truncate,
            "response.create": self._create_response,
            "response.cancel": self._cancel,
            "textpro.playback": self._extensions.acknowledge,
            "textpro.confirm": self._extensions.confirm,
        }

    @property
    def is_idle(self) -> bool:
        """Whether nobody speaks and no reply is made or playing."""
        replies = self._replies
        return not (
            self._hearing.turn_open or replies.running or replies.requested or self._hearing.reply_due or len(self._asides)
        )

    def open(self) -> list[Output]:
        """The connection stands."""
        self._out.event("session.created", session=self.config)
        self._extensions.offer()
        return self._out.take()

    def remember(self) -> tuple[SessionLog, int | None]:
        """The conversation as a log; see `Resuming.remember`."""
        return self.resuming.remember(self.config, self._conversation_id)

    def come_back(self, now_ms: float, expires_at: int) -> list[Output]:
        """The client has another connection, or the conversation was restored from a log; see `resuming` for the rest."""
        self._quiet_since_ms, self.config["expires_at"] = None, expires_at
        return self.resuming.come_back(self.config, now_ms)

    def receive(self, text: str, now_ms: float) -> list[Output]:
        """A message of the client. What is wrong with it becomes an `error` event; it never raises."""
        self._replies.now_ms = now_ms
        event_id: str | None = None
        try:
            event = read_message(text)
            event_id = event["event_id"] if isinstance(event.get("event_id"), str) else None
            optional_string(event, "event_id")
            kind = string(event, "type")
            if len(text) > MAX_EVENT and kind != "input_audio_buffer.append":
                reason = f"the event has {len(text)} characters: expected at most {MAX_EVENT}"
                raise ProtocolError("invalid_event", reason)
            handler = self._handlers.get(kind)
            if handler is None:
                known = ", ".join(self._handlers)
                raise ProtocolError("invalid_value", f"there is no client event {kind[:80]!r}: expected {known}", "type")
            handler(event)
            self.changes += kind not in ("input_audio_buffer.append", "textpro.playback")
        except ProtocolError as fault:
            self._out.error(fault, event_id)
        return self._out.take()

    def observe(self, event: Event, now_ms: float) -> list[Output]:
        """An event of the session."""
        replies, hearing = self._replies, self._hearing
        replies.now_ms = now_ms
        match event:
            case Failed():
                self.has_failed = True
                replies.fail(event.reason)
                self._out.fault("server_error", "session_failed", f"the session ended: {event.reason}")
            case ReplyStart():
                asked = self._unasked_settings()
                replies.start(event, hearing.tokens, asked)
            case Interrupt():
                hearing.announce()
                replies.observe(event, None)
            case TurnResumed() if hearing.speech is not None and hearing.speech.committed is not None:
                self._hearing.reply_due = False
                replies.void()
                hearing.observe(event, False)
            case _:
                before = hearing.speech if hearing.speech is not None and hearing.speech.is_announced else None
                ended = hearing.observe(event, self._holds_speech())
                replies.observe(event, self._known.open_plan.max_tokens)
                speech = hearing.speech
                if speech is not None and speech is not before and speech.is_announced and speech.committed is None:
                    self._user_started()
                if ended and not self._replied_by_session():
                    self._start_waiting()
                elif ended:
                    self._hearing.reply_due = True
                elif isinstance(event, TurnDropped):
                    self._start_waiting()
        self._extensions.observe(event)
        self.changes += not isinstance(event, VoiceActivity | Update | Prosody | Metrics)
        return self._out.take()

    def tick(self, now_ms: float) -> list[Output]:
        """Time has passed; call it some times a second."""
        self._replies.now_ms = now_ms
        self._replies.tick()
        self._refresh()
        self._watch_idle(now_ms)
        return self._out.take()

    def client_call(self, name: str, arguments: str, key: int, aside: str | None = None) -> list[Output]:
        """The session calls a function of the client. `key` comes back with its result."""
        if aside is None:
            self._replies.call(name, arguments, key)
        else:
            self._asides.call(aside, name, arguments, self._replies.now_ms / 1000)
        return self._out.take()

    def turn_ended(self, item_id: str | None) -> list[Output]:
        """The `EndTurn` of an item has been worked off."""
        self._hearing.worked_off(item_id)
        return self._out.take()

    def can_apply(self, apply: Apply) -> bool:
        """Whether a session may be opened anew now; if not, it is asked for again later."""
        if apply.force or not self._hearing.turn_open:
            return True
        self._known.forget()
        return False

    def applied(self, apply: Apply) -> None:
        """The session was opened anew."""
        self._known.open_plan = apply.plan
        self._hearing.base_ms = apply.heard_ms
        self._hearing.turn_open = False
        self._replies.reopened()

    def refused(self, command: Command, error: Exception) -> list[Output]:
        """A command could not be done."""
        if isinstance(command, Say | Respond) and self._replies.requested:
            detail = {"type": "invalid_request_error", "code": "response_failed", "message": str(error)}
            self._replies.requested.popleft().close("failed", error=detail)
        else:
            self._out.fault("server_error", "not_done", str(error))
        return self._out.take()

    def observe_aside(self, response_id: str, event: Event) -> list[Output]:
        """An event of a session beside the conversation."""
        self._asides.observe(response_id, event, self._replies.now_ms / 1000)
        return self._out.take()

    def aside_failed(self, response_id: str, reason: str) -> list[Output]:
        """A session beside the conversation could not be opened or led."""
        self._asides.fail(response_id, reason, self._replies.now_ms / 1000)
        return self._out.take()

    # The client's events, in the order of the protocol's list.

    def _update(self, event: Json) -> None:
        update = mapping(event.get("session"), "session") if event.get("session") is not None else {}
        config = merged(self.config, update)
        if config["output_modalities"] == ["audio"] and not self._speaks:
            raise wrong("session.output_modalities", ["audio"], '["text"], as this server has no voice')
        if len(json.dumps(config)) > MAX_EVENT:
            raise ProtocolError("invalid_value", f"the session would have more than {MAX_EVENT} characters", "session")
        self.config = config
        self._hearing.configure(config)
        self._extensions.configure(config)
        self._out.event("session.updated", session=config)
        self._extensions.offer()
        if self._known.plan is not None:
            self._refresh()

    def _append(self, event: Json) -> None:
        string(event, "audio")
        if self._known.plan is None:
            self._known.apply(plan_of(self.config, {}), self._hearing.fed_ms)
        self._hearing.append(event)

    def _clear(self) -> None:
        if self._hearing.turn_open or self._hearing.is_manual:
            self._replies.settle()
            self._known.apply(plan_of(self.config, {}), self._hearing.fed_ms, force=True)
        self._hearing.forget()
        self._out.event("input_audio_buffer.cleared")
        self._start_waiting()

    def _create_response(self, event: Json) -> None:
        params = checked_response(event.get("response"))
        if self.config["type"] == "transcription":
            raise ProtocolError("invalid_value", "a transcription session gives no responses: use type realtime", "type")
        if params.get("output_modalities") == ["audio"] and not self._speaks:
            raise wrong("response.output_modalities", ["audio"], '["text"], as this server has no voice')
        turns = self.items.read_turns(params["input"], self._out.new_id) if "input" in params else None
        if params.get("conversation") == "none":
            self._begin_aside(params, turns)
            return
        if (active := self._replies.active) is not None:
            raise ProtocolError(
                "conversation_already_has_active_response",
                f"Conversation already has an active response in progress: {active.id}. Wait until the response is finished "
                "before creating a new one (response.create).",
            )
        settings = self._settings(params)
        if not self._meter.take(self._replies.now_ms / 1000):
            reason = f"this key had {self._meter.limit} responses in the last minute (response.create): wait a little"
            raise ProtocolError("rate_limit_exceeded", reason)
        if self._replies.go_on(settings):
            return
        response = self._replies.make(settings)
        self._replies.requested.append(response)
        if self._hearing.turn_open and not self._hearing.is_ending:
            self._waiting_start = params
        else:
            self._start(params, turns)

    def _cancel(self, event: Json) -> None:
        response_id = optional_string(event, "response_id")
        if response_id in self._asides:
            self._asides.end(str(response_id), "cancelled", self._replies.now_ms / 1000)
            return
        active = self._replies.active
        if active is None or (response_id is not None and response_id != active.id):
            raise ProtocolError("response_cancel_not_active", "Cancellation failed: no active response found", "response_id")
        self._replies.cut("client_cancelled")
        if self._waiting_start is not None:  # the session was never asked for it
            self._waiting_start = None
            self._replies.requested.pop()

    # From items to what the session reads.

    def _start(self, params: Json, turns: tuple[Turn, ...] | None) -> None:
        """Let the session begin the reply that was requested last."""
        self._replies.settle()
        plan = plan_of(self.config, params)
        if turns is not None:
            self._known.replace(plan, turns, self._hearing.fed_ms, self._replies.now_ms)
            self._out.do(Respond())
        else:
            text = self._known.take_typed(plan, self._hearing.fed_ms)
            self._out.do(Say(text) if text else Respond())

    def _start_waiting(self) -> None:
        """The turn over which a response was asked for is over, and nobody else replies to it."""
        params, self._waiting_start = self._waiting_start, None
        if params is not None:
            self._start(params, None)

    def _refresh(self) -> None:
        """Bring the session up to date where nobody speaks and nothing is asked for."""
        if self.is_idle:
            self._known.refresh(plan_of(self.config, {}), self._hearing.fed_ms, self._replies.now_ms)

    # Responses.

    def _settings(self, params: Json, conversation: bool = True) -> ResponseSettings:
        return ResponseSettings.of(params, self.config, self._conversation_id if conversation else None)

    def _unasked_settings(self) -> ResponseSettings | None:
        """Those of a reply to a heard turn; None where the reply was asked for."""
        due, self._hearing.reply_due = self._hearing.reply_due, False
        if due and self._waiting_start is not None and self._replies.requested:
            self._waiting_start = None
            return None
        return self._settings({}) if due or not self._replies.requested else None

    def _replied_by_session(self) -> bool:
        return self._known.open_plan.auto_reply

    def _holds_speech(self) -> bool:
        """Over a reply that plays, semantic detection waits for words before it says that the user speaks."""
        detection = self.config["audio"]["input"]["turn_detection"]
        return detection is not None and detection["type"] == "semantic_vad" and self._replies.running is not None

    def _user_started(self) -> None:
        detection = self.config["audio"]["input"]["turn_detection"]
        self._quiet_since_ms = None
        if detection is not None and detection["interrupt_response"] and self._waiting_start is None:
            self._replies.cut("turn_detected")

    def _begin_aside(self, params: Json, turns: tuple[Turn, ...] | None) -> None:
        settings = self._settings(params, conversation=False)
        plan = plan_of({**self.config, "output_modalities": settings.modalities}, params)
        if turns is None:
            turns = tuple(turn for item in self.items for turn in item.turns())
        self._asides.begin(settings, plan, turns)

    def _watch_idle(self, now_ms: float) -> None:
        """`idle_timeout_ms`: where the user says nothing after a response, another one begins."""
        detection = self.config["audio"]["input"]["turn_detection"] or {}
        busy = self._hearing.turn_open or self._replies.running is not None or self._replies.requested
        if detection.get("idle_timeout_ms") is None or busy or self._hearing.reply_due or not len(self.items):
            self._quiet_since_ms = None
        elif self._quiet_since_ms is None:
            self._quiet_since_ms = now_ms
        elif now_ms - self._quiet_since_ms >= detection["idle_timeout_ms"]:
            self._quiet_since_ms = None
            end_ms = round(self._hearing.fed_ms)
            start_ms = max(0, end_ms - int(detection["idle_timeout_ms"]))
            item_id = self.items.last_id()
            event = "input_audio_buffer.timeout_triggered"
            self._out.event(event, audio_start_ms=start_ms, audio_end_ms=end_ms, item_id=item_id)
            self._replies.requested.append(self._replies.make(self._settings({})))
            self._start({}, None)
