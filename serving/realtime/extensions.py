"""What only clients get that ask for it (docs/server.md, Extensions): events of the session, playback that is said and not
estimated, decisions on calls, and the token with which a lost connection is resumed.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...agent.events import Audio, Event
from .hearing import Hearing
from .items import Items
from .replies import Replies
from .wire import Decide, Json, Outbox, ProtocolError, number, one_of, string


@dataclass(frozen=True, slots=True)
class ResumeOffer:
    """The `token` with which a client may come back: `keep_s` after its connection was lost to the session as it is, and
    `log_s` to its log (0: no log is kept)."""

    token: str
    keep_s: float
    log_s: float = 0.0


class Extensions:
    """Of one connection. `offer` None: nothing can be resumed."""

    def __init__(self, out: Outbox, items: Items, hearing: Hearing, replies: Replies, offer: ResumeOffer | None) -> None:
        self._out, self._items, self._hearing, self._replies, self._offer = out, items, hearing, replies, offer
        self._wanted: Json = {}
        self._is_told = False

    @property
    def resumes(self) -> bool:
        """Whether the client asked for a token and has one."""
        return self._offer is not None and bool(self._wanted.get("resume"))

    def configure(self, config: Json) -> None:
        """The session object is now this one."""
        self._wanted = config.get("textpro", {})
        self._replies.acknowledged = self._wanted.get("playback") == "acknowledged"
        self._replies.keeps_sound = self.resumes

    def offer(self) -> None:
        """Tell the token to a client that asked for it, once."""
        if not self._wanted.get("resume") or self._is_told:
            return
        self._is_told = True
        offer = self._offer or ResumeOffer("", 0.0)
        times = {"keep_seconds": offer.keep_s, "log_seconds": offer.log_s}
        self._out.event("textpro.resume_token", token=offer.token or None, **times)

    def go_on(self) -> None:
        """The client has the token already."""
        self._is_told = True

    def observe(self, event: Event) -> None:
        """An event of the session."""
        if event.type in self._wanted.get("events", ()) and not isinstance(event, Audio):
            speech = self._hearing.speech
            item = {"item_id": speech.item_id} if speech is not None else {}
            fields = {key: value for key, value in event.to_dict().items() if key != "type"}
            self._out.event(f"textpro.{event.type}", **item, **fields)

    def acknowledge(self, event: Json) -> None:
        """The client says what it has played."""
        if not self._replies.acknowledged:
            reason = 'ask for it first: session.update with {"textpro": {"playback": "acknowledged"}}'
            raise ProtocolError("invalid_event", f"textpro.playback is an extension; {reason}", "type")
        item = self._items.get(string(event, "item_id"))
        self._replies.acknowledge(item, min(number(event.get("audio_end_ms"), "audio_end_ms", 0, 10**12), item.audio_ms))

    def confirm(self, event: Json) -> None:
        """The client decides a call that waits for the user."""
        one_of(event.get("accepted"), "accepted", (True, False))
        self._out.do(Decide(string(event, "call_id"), event["accepted"]))
