"""The user's side of the Realtime protocol: appended audio, where turns begin and end in it, and the items they become.

With voice activity detection the session says where turns are; without it the client commits. What is held back until the
session is sure (`hold`) is how a lone "mm-hm" over a reply never reaches the client.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...agent.events import Event, TokensCommitted, TokensRetracted, TurnDropped, TurnEnd, TurnResumed, TurnStart, VoiceActivity
from .config import AudioFormat
from .items import Item, Items
from .sound import SoundIn
from .wire import EndTurn, Hear, Json, Outbox, ProtocolError, string

MIN_COMMIT_MS = 100
LAST_MS = 200
"""A turn that ends so near the end of what was committed ends with it; the session hears in pieces."""
PIECE_MS = 200
"""The longest piece of audio that the session is given at once, so that others get their turn."""


@dataclass(slots=True)
class Speech:
    """The turn that is being spoken, which will become the item of this id."""

    item_id: str
    start_ms: int
    is_announced: bool = False
    committed: Item | None = None


class Hearing:
    """One connection's input audio buffer."""

    def __init__(self, out: Outbox, items: Items, config: Json) -> None:
        self._out, self._items = out, items
        self._sound = SoundIn(AudioFormat.of(config["audio"]["input"]["format"]))
        self.configure(config)
        self.speech: Speech | None = None
        self.turn_open = False
        self.reply_due = False
        """Whether the last turn is over and its reply has not begun."""
        self.fed_ms = 0.0
        self.base_ms = 0.0
        self.tokens = 0
        """Spoken tokens of all turns so far."""
        self._turn_tokens = 0
        self._voice_end_ms = 0
        self._buffer_ms = 0.0  # without detection: what was appended and not committed
        self._texts: list[str] = []
        self._committed: list[tuple[Item, float]] = []
        self._words: list[tuple[int, int, str]] = []  # of the running turn: first token, end, text
        self._words_end_ms = 0

    @property
    def is_ending(self) -> bool:
        """Whether the client has committed a turn that is still worked at."""
        return bool(self._committed)

    @property
    def covered_ms(self) -> float:
        """Up to where in the audio so far there are items or committed words."""
        return self.base_ms + self._words_end_ms if self.turn_open else self.fed_ms

    @property
    def unfinished(self) -> tuple[list[Item], list[Item]]:
        """Items as they were if nothing more came: of turns that are over, and of the one that is spoken."""
        over: list[Item] = []
        spoken: list[Item] = []
        if self._texts:
            waiting = self._committed[0][0] if self._committed else Item(self._out.new_id("item"), content="input_audio")
            over.append(replace(waiting, text=" ".join(self._texts), has_transcript=self._transcribes))
        words = " ".join(" ".join(text for _, _, text in self._words).split())
        if self.turn_open and words:
            new_id = self.speech.item_id if self.speech is not None else self._out.new_id("item")
            spoken.append(Item(new_id, content="input_audio", text=words, has_transcript=self._transcribes))
        return over, spoken

    def configure(self, config: Json) -> None:
        """The session object is now this one."""
        sound = config["audio"]["input"]
        audio_format = AudioFormat.of(sound["format"])
        if self._sound.format != audio_format:
            self._sound = SoundIn(audio_format)
        self.is_manual = sound["turn_detection"] is None
        self._transcribes = sound["transcription"] is not None or config["type"] == "transcription"

    def leave(self) -> None:
        """The connection is lost, with half a sample perhaps; the next one begins with a whole one."""
        self._sound = SoundIn(self._sound.format)

    def append(self, event: Json) -> None:
        """More audio."""
        pcm, rate = self._sound.decode(string(event, "audio")), self._sound.format.rate
        length_ms = len(pcm) * 1000 / rate
        self.fed_ms += length_ms
        self._buffer_ms += length_ms
        step = rate * PIECE_MS // 1000
        for start in range(0, len(pcm), step):
            self._out.do(Hear(pcm[start : start + step], rate))

    def commit(self) -> None:
        """The client says that the turn is over."""
        if not self.is_manual:
            if not self.turn_open:
                raise _empty(0.0)
            self._out.do(EndTurn())
            return
        if self._buffer_ms < MIN_COMMIT_MS:
            raise _empty(self._buffer_ms)
        item = self._commit(Item(self._out.new_id("item"), content="input_audio", has_transcript=False))
        self._committed.append((item, self.fed_ms))
        self._buffer_ms = 0.0
        self._out.do(EndTurn(item.id))

    def forget(self) -> None:
        """The buffer is cleared."""
        self._buffer_ms, self.turn_open, self.speech = 0.0, False, None
        self._texts.clear()

    def worked_off(self, item_id: str | None) -> None:
        """What a commit asked for is done: its words, if there are any, are all there."""
        if self._committed and self._committed[0][0].id == item_id:
            item, _ = self._committed.pop(0)
            item.text = " ".join(self._texts)
            self._texts.clear()
            self._transcribed(item, 0.0)

    def observe(self, event: Event, hold: bool) -> bool:
        """What the session says of the user's turn; True where it ended a spoken turn with words. `hold`: announce speech
        only when it has become a turn."""
        match event:
            case VoiceActivity(speaking=True):
                self._voice_end_ms = event.t_ms
            case TokensCommitted():
                self._turn_tokens = event.start_index + len(event.tokens)
                self._words.append((event.start_index, self._turn_tokens, event.text))
                self._words_end_ms = event.end_ms
            case TokensRetracted():
                self._turn_tokens = event.to_index
                self._words = [_kept(piece, event.to_index) for piece in self._words if piece[0] < event.to_index]
            case TurnStart():
                self.turn_open, self._turn_tokens = True, 0
                self._words.clear()
                self._words_end_ms = event.start_ms
                if not self.is_manual:
                    self.speech = Speech(self._items.promise(self._out.new_id("item")), event.start_ms)
                    if not hold:
                        self.announce()
            case TurnResumed() if self.speech is not None and self.speech.committed is not None:
                self._reopen(self.speech.committed)
            case TurnDropped():
                self._drop()
            case TurnEnd() if self.turn_open:
                self._end(event)
                return True
        return False

    def announce(self) -> None:
        """Tell the client that the user speaks, if it was not told."""
        speech = self.speech
        if speech is not None and not speech.is_announced and speech.committed is None:
            speech.is_announced = True
            start_ms = round(self.base_ms) + speech.start_ms
            self._out.event("input_audio_buffer.speech_started", audio_start_ms=start_ms, item_id=speech.item_id)

    def _end(self, event: TurnEnd) -> None:
        self.turn_open = False
        self.tokens += self._turn_tokens
        speech = self.speech
        if self.is_manual or speech is None:
            self._texts.append(event.text)
            if self._committed and self.base_ms + event.t_ms >= self._committed[0][1] - LAST_MS:
                self.worked_off(self._committed[0][0].id)
            return
        self.announce()
        self._stopped(speech, event.t_ms)
        speech.committed = self._commit(Item(speech.item_id, content="input_audio", text=event.text, has_transcript=False))
        self._buffer_ms = 0.0
        self._transcribed(speech.committed, max(0, event.t_ms - speech.start_ms) / 1000)

    def _drop(self) -> None:
        self.turn_open = False
        if self.speech is not None and self.speech.is_announced:
            self._stopped(self.speech, self._voice_end_ms)
        self.speech = None

    def _reopen(self, committed: Item) -> None:
        """The turn that was over goes on: its item is taken back, and another one begins where it began."""
        assert self.speech is not None
        if self._items.find(committed.id) is not None:
            self._items.remove(committed)
            self._out.event("conversation.item.deleted", item_id=committed.id)
        self.speech = Speech(self._items.promise(self._out.new_id("item")), self.speech.start_ms)
        self.turn_open = True
        self.announce()

    def _stopped(self, speech: Speech, at_ms: int) -> None:
        end_ms = round(self.base_ms) + max(min(self._voice_end_ms or at_ms, at_ms), speech.start_ms)
        self._out.event("input_audio_buffer.speech_stopped", audio_end_ms=end_ms, item_id=speech.item_id)

    def _commit(self, item: Item) -> Item:
        before = self._items.append(item)
        self._out.event("input_audio_buffer.committed", item_id=item.id, previous_item_id=before)
        for step in ("added", "done"):
            self._out.event(f"conversation.item.{step}", previous_item_id=before, item=item.wire())
        return item

    def _transcribed(self, item: Item, seconds: float) -> None:
        if not self._transcribes:
            return
        item.has_transcript = True
        place = {"item_id": item.id, "content_index": 0}
        kind = "conversation.item.input_audio_transcription"
        if item.text:
            self._out.event(f"{kind}.delta", **place, delta=item.text)
        usage = {"type": "duration", "seconds": round(seconds, 3)}
        self._out.event(f"{kind}.completed", **place, transcript=item.text, usage=usage)


def _kept(piece: tuple[int, int, str], to_index: int) -> tuple[int, int, str]:
    """What stands of a piece of committed words when only so many tokens of the turn do."""
    start, end, text = piece
    if end <= to_index:
        return piece
    words = text.split()
    return start, to_index, " ".join(words[: len(words) * (to_index - start) // (end - start)])


def _empty(length_ms: float) -> ProtocolError:
    return ProtocolError(
        "input_audio_buffer_commit_empty",
        f"Error committing input audio buffer: buffer too small. Expected at least {MIN_COMMIT_MS}ms of audio, "
        f"but buffer only has {length_ms:.2f}ms of audio.",
    )
