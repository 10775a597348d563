"""From the session's reply to responses of the Realtime protocol, and back from what the client does to it.

The session knows one reply at a time, from `ReplyStart` to `ReplyDone`, which comes when it was played. A response ends
earlier, when all of it was sent, and calls of the client's functions end one response in mid-reply. A client that cuts a reply
off tells soon after what it had played, so the session is cut off `CUT_GRACE_MS` later, or with that word.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from ...agent.events import Audio, Event, Interrupt, ReplyDelta, ReplyDone, ReplySpoken, ReplyStart
from ..session_log import HeardMark, Sound, behind, joined
from .config import AudioFormat
from .items import Item, Items
from .limits import Meter
from .response import Response, ResponseSettings
from .sound import Playback, SoundOut
from .wire import GiveResult, Outbox, Played, Stop

CUT_GRACE_MS = 300
PLAYED_LAG_MS = 400
"""How far what the session is told stays behind the estimate: told is told, and clients buffer."""
PLAYED_STEP_MS = 100
PLAYED_TAIL_MS = 500
"""How long after its estimated end a reply still counts as playing."""


@dataclass(slots=True)
class Call:
    """A call of a client's function. `key` is the session's name for it; `output` the client's result."""

    call_id: str
    key: int
    output: str | None = None
    is_given: bool = False


@dataclass(slots=True)
class Running:
    """The session's reply and the response that now tells of it. It begins behind `context_tokens` of the model's input and
    the item `behind`; `away_ms` is what was played of it when the connection was lost."""

    response: Response
    turn_id: int
    context_tokens: int = 0
    behind: str | None = None
    read_before: tuple[int, int] = (0, 0)
    away_ms: float | None = None
    sounds: list[Sound] = field(default_factory=list)
    playback: Playback = field(default_factory=Playback)
    items: list[Item] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    total_ms: float = 0.0
    told_ms: float = 0.0
    text_length: int = 0
    deltas: int = 0
    is_spoken: bool = False
    is_stopped: bool = False
    cut_at_ms: float | None = None
    cut_played_ms: float = 0.0

    @property
    def is_cut(self) -> bool:
        """Whether the user or the client has cut it off."""
        return self.is_stopped or self.cut_at_ms is not None

    @property
    def awaits(self) -> bool:
        """Whether it waits for the client's functions."""
        return any(not call.is_given for call in self.calls)


class Replies:
    """The responses of one connection's conversation. `now_ms` is set by the codec before each call."""

    def __init__(self, out: Outbox, items: Items, meter: Meter) -> None:
        self._out, self._items, self._meter = out, items, meter
        self.now_ms = 0.0
        self.acknowledged = False
        self.running: Running | None = None
        self.requested: deque[Response] = deque()
        self.calls: dict[str, Call] = {}
        self.keeps_sound = self._is_away = False
        self.latest: Response | None = None
        self.mark: HeardMark | None = None
        self.leftover: tuple[Sound, ...] = ()
        """Sound of a reply of an older session that the client has not played."""
        self._read = (0, 0)  # text and audio tokens that the session's last reply had read

    @property
    def active(self) -> Response | None:
        """The response in progress."""
        if self.running is not None and not self.running.response.is_closed:
            return self.running.response
        return next((response for response in self.requested if not response.is_closed), None)

    def make(self, settings: ResponseSettings) -> Response:
        """A new response, announced."""
        response = Response(self._out.new_id("resp"), settings, self._out, self._items, self._begin_item)
        response.begin()
        self.latest = response
        return response

    def observe(self, event: Event, max_tokens: int | None) -> None:
        """What the session says of its reply, after `ReplyStart`."""
        running = self.running
        if running is None:
            return
        match event:
            case ReplyDelta():
                running.response.say(event.text)
                running.text_length += len(event.text)
                running.deltas += 1
            case Audio():
                sent_ms = running.response.sound(event.pcm, event.sample_rate, event.text)
                running.total_ms += len(event.pcm) * 1000 / event.sample_rate
                if sent_ms:
                    running.playback.send(sent_ms, self.now_ms)
                    if self.keeps_sound and (sound := running.response.kept(event.pcm, event.sample_rate)) is not None:
                        running.sounds.append(sound)
            case ReplySpoken():
                running.is_spoken = True
                running.response.usage.output = event.tokens
                full = max_tokens is not None and event.tokens >= max_tokens
                self._finish(running.response, *(("incomplete", "max_output_tokens") if full else ("completed", None)))
                if not running.playback.sent_ms:
                    self._tell(running, running.total_ms)
            case Interrupt():
                self.cancel(running.response, "turn_detected")
            case ReplyDone():
                self._over(running, event)

    def start(self, event: ReplyStart, audio_tokens: int, unasked: ResponseSettings | None) -> None:
        """The session begins a reply: to the turn that it heard (`unasked`), or to what was requested."""
        if self.running is not None:
            self.cancel(self.running.response, "turn_detected")
            self._give_results(self.running)
        response = self.requested.popleft() if unasked is None and self.requested else None
        if response is None:
            assert unasked is not None, "a reply that nobody asked for"
            response = self.make(unasked)
        away_ms = 0.0 if self._is_away else None
        behind = self._items.last_id()
        self.running = Running(response, event.turn_id, event.context_tokens, behind, self._read, away_ms)
        self.leftover = ()
        usage, heard = response.usage, min(audio_tokens, event.context_tokens)
        usage.input_audio, usage.input_text = heard, event.context_tokens - heard
        usage.cached_text, usage.cached_audio = min(self._read[0], usage.input_text), min(self._read[1], heard)
        self._read = (usage.input_text, usage.input_audio)
        if response.is_closed:
            self._stop(self.running)

    def call(self, name: str, arguments: str, key: int) -> None:
        """The session's reply calls a function of the client, and the response ends with that."""
        running = self.running
        call = Call(self._out.new_id("call"), key)
        self.calls[call.call_id] = call
        if running is None:
            return
        running.calls.append(call)
        running.response.call(name, arguments, call.call_id)
        running.response.usage.output = max(running.deltas, 1)
        self._finish(running.response, "completed", None)

    def go_on(self, settings: ResponseSettings) -> bool:
        """Where the reply waits for functions and has all results: give them, and go on as another response."""
        running = self.running
        if running is None or not running.awaits or any(call.output is None for call in running.calls):
            return False
        running.response = self.make(settings)
        self._give_results(running)
        return True

    def result(self, call: Call, output: str) -> None:
        """The client's result: kept for the next response, or, when its reply is over, given at once."""
        call.output = output
        if self.running is None or call not in self.running.calls:
            self._give(call)

    def cancel(self, response: Response, reason: str) -> None:
        """Close it as cancelled, if it is not closed."""
        if not response.is_closed:
            if self.running is not None and self.running.response is response:
                response.usage.output = self.running.deltas
            self._finish(response, "cancelled", reason)

    def cut(self, reason: str) -> None:
        """The client stops playing: close the response now, cut the session off when it is known what was played."""
        running, self.leftover = self.running, ()
        for response in self.requested:
            self.cancel(response, reason)
        if running is None or running.is_stopped:
            return
        self.cancel(running.response, reason)
        if running.cut_at_ms is None:
            running.cut_at_ms = self.now_ms + CUT_GRACE_MS
            running.cut_played_ms = running.told_ms if self.acknowledged else running.playback.played_ms(self.now_ms)

    def void(self) -> None:
        """The turn goes on that the reply was for, and the session has taken it back."""
        running, self.running = self.running, None
        if running is not None:
            self._read = running.read_before
            self.cancel(running.response, "turn_detected")

    def truncate(self, item: Item, audio_ms: float) -> bool:
        """The client played so much of an item; cuts the session's reply off there. False if that reply is over."""
        running, self.leftover = self.running, ()
        if running is None or not any(item is known for known in running.items):
            return False
        self.cancel(running.response, "client_cancelled")
        running.cut_played_ms = item.at_ms + audio_ms
        self._stop(running)
        return True

    def acknowledge(self, item: Item, audio_ms: float) -> None:
        """The client has played so much of an item and goes on."""
        self.mark = HeardMark(item.id, audio_ms)
        self.leftover = behind(self.leftover, self.mark)
        if self.running is not None and any(item is known for known in self.running.items):
            self._tell(self.running, item.at_ms + audio_ms)

    def settle(self) -> None:
        """Another reply is to begin: let the running one be over, as heard as it is."""
        running = self.running
        if running is None or running.is_stopped:
            return
        if running.is_spoken and running.cut_at_ms is None:
            self._tell(running, running.total_ms)
        else:
            if running.cut_at_ms is None:
                running.cut_played_ms = running.playback.played_ms(self.now_ms)
            self._stop(running)

    def tick(self) -> None:
        """Time has passed."""
        running = self.running
        if running is None or running.is_stopped:
            return
        if running.cut_at_ms is not None:
            if self.now_ms >= running.cut_at_ms:
                self._stop(running)
        elif running.total_ms and not self.acknowledged:
            if running.is_spoken and running.playback.over_since_ms(self.now_ms) >= PLAYED_TAIL_MS:
                self._tell(running, running.total_ms)
            else:
                played = running.playback.played_ms(self.now_ms) - PLAYED_LAG_MS
                if played >= running.told_ms + PLAYED_STEP_MS:
                    self._tell(running, played)

    def reopened(self) -> None:
        """The session was opened anew, and has read nothing yet."""
        self._read = (0, 0)

    @property
    def unheard(self) -> tuple[Sound, ...]:
        """The sound so far that was not played, as far as is known."""
        running = self.running
        if running is None:
            return self.leftover
        if running.is_cut:
            return ()
        played_ms = running.told_ms
        if not self.acknowledged:
            played_ms = running.playback.played_ms(self.now_ms) if running.away_ms is None else running.away_ms
        begins = {item.id: item.at_ms for item in running.items}
        rest = (sound.behind(played_ms - begins[sound.item_id]) for sound in running.sounds)
        return joined(sound for sound in rest if sound is not None)

    def leave(self) -> None:
        """The connection is lost: nothing is played until `come_back`, and what was cut off is."""
        running, self._is_away = self.running, True
        if running is None:
            return
        running.away_ms = running.playback.played_ms(self.now_ms)
        if running.cut_at_ms is not None and not running.is_stopped:
            self._stop(running)

    def come_back(self, unheard: tuple[Sound, ...]) -> None:
        """There is a connection again, and this is played on it first."""
        running, self._is_away = self.running, False
        for sound in unheard:
            self._say_again(sound)
        if running is not None:
            played_ms = running.told_ms if self.acknowledged else running.away_ms or 0.0
            running.playback.go_on(played_ms, self.now_ms)
            running.away_ms = None
        elif not self.acknowledged:
            self.leftover = ()

    def fail(self, message: str) -> None:
        """The session ended: whatever is in progress failed."""
        error = {"type": "server_error", "code": "session_failed", "message": message}
        running, self.running = self.running, None
        for response in (*([running.response] if running else []), *self.requested):
            response.close("failed", error=error)
        self.requested.clear()

    def say_limits(self) -> None:
        """How many more responses this key may have."""
        self._out.event("rate_limits.updated", rate_limits=self._meter.state(self.now_ms / 1000))

    def _over(self, running: Running, event: ReplyDone) -> None:
        self.running = None
        if event.interrupted:
            self.cancel(running.response, "turn_detected")
            for item in running.items:
                heard = event.heard_text[item.text_at : item.text_at + len(item.text)]
                if len(heard.rstrip()) < len(item.text.rstrip()):
                    item.heard = heard
        self._finish(running.response, "completed", None)
        self._give_results(running)

    def _say_again(self, sound: Sound) -> None:
        """Send it once more; the item's further sound follows it without a seam."""
        out = SoundOut(AudioFormat.of(sound.format))
        pieces = [out.encode(sound.pcm[at : at + sound.rate], sound.rate) for at in range(0, len(sound.pcm), sound.rate)]
        if self.running is None or not self.running.response.go_on(sound.item_id, out):
            pieces.append(out.rest())
        for piece in filter(None, pieces):
            self._out.event("response.output_audio.delta", **sound.place, delta=piece)

    def _begin_item(self, item: Item) -> None:
        if self.running is not None and item.kind == "message":
            item.at_ms, item.text_at = self.running.total_ms, self.running.text_length
            self.running.items.append(item)

    def _finish(self, response: Response, status: str, reason: str | None) -> None:
        if not response.is_closed:
            response.close(status, reason)
            self.say_limits()

    def _give_results(self, running: Running) -> None:
        for call in running.calls:
            if call.output is not None:
                self._give(call)

    def _give(self, call: Call) -> None:
        if not call.is_given and call.output is not None:
            call.is_given = True
            self._out.do(GiveResult(call.key, call.output))

    def _tell(self, running: Running, played_ms: float) -> None:
        if played_ms > running.told_ms or running.is_spoken:
            running.told_ms = max(running.told_ms, played_ms)
            self._out.do(Played(running.told_ms))

    def _stop(self, running: Running) -> None:
        running.is_stopped = True
        self._out.do(Played(max(running.told_ms, running.cut_played_ms)))
        self._out.do(Stop(running.turn_id))
