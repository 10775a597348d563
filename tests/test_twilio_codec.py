"""Twilio's Media Streams as a state machine: what a call brings in, what a reply makes of it, what is not understood."""

from __future__ import annotations

import base64
import io
import json
import random

import numpy as np
import pytest
import soundfile

from phone import CALL, CONNECTED, STREAM, Caller
from textpro.agent.events import Audio, Duck, Interrupt, ReplyDone, Unduck
from textpro.models.errors import InputError
from textpro.serving.telephone.g711 import decode, encode
from textpro.serving.telephone.twilio_codec import Began, Ended, Heard, Played, Pressed, Send, TwilioCodec

RATE = 22_050


def begun(**settings: int) -> tuple[TwilioCodec, Caller]:
    codec, caller = TwilioCodec(**settings), Caller()
    codec.receive(CONNECTED)
    codec.receive(caller.start())
    return codec, caller


def tone(ms: int, rate: int = RATE, hertz: float = 440.0) -> np.ndarray:
    return (8_000 * np.sin(2 * np.pi * hertz * np.arange(rate * ms // 1000) / rate)).astype(np.int16)


def audio(pcm: np.ndarray, turn_id: int = 1, rate: int = RATE) -> Audio:
    return Audio(t_ms=0, turn_id=turn_id, pcm=pcm, sample_rate=rate, text="")


def heard(commands: list[object]) -> np.ndarray:
    return np.concatenate([command.pcm for command in commands if isinstance(command, Heard)] or [np.zeros(0, np.int16)])


def deliver(caller: Caller, sends: list[Send]) -> list[str]:
    return [answer for send in sends for answer in caller.take(send.frame)]


def play_out(codec: TwilioCodec, caller: Caller, marks: int = 10_000) -> list[float]:
    """The caller hears everything; what the codec reports as played."""
    played: list[float] = []
    while reached := caller.play(min(1, marks - len(played))):
        for command in codec.receive(reached[0]):
            if isinstance(command, Played):
                played.append(command.total_ms)
            else:
                assert isinstance(command, Send) and not caller.take(command.frame)
    return played


def test_mulaw_is_that_of_libsndfile() -> None:
    raw = {"samplerate": 8000, "format": "RAW", "subtype": "ULAW"}
    codes = bytes(range(256))
    theirs, _ = soundfile.read(io.BytesIO(codes), dtype="int16", channels=1, **raw)
    np.testing.assert_array_equal(decode(codes, "mulaw"), theirs)
    every = np.arange(-32768, 32768, dtype=np.int64).astype(np.int16)
    encoded = io.BytesIO()
    soundfile.write(encoded, every, **raw)
    ours = np.abs(decode(encode(every, "mulaw"), "mulaw") - every.astype(int))
    assert (ours <= np.abs(decode(encoded.getvalue(), "mulaw") - every.astype(int))).all()


def test_a_call_begins_with_its_ids_and_parameters() -> None:
    codec, caller = TwilioCodec(), Caller()
    assert codec.receive(CONNECTED) == []
    assert codec.receive(caller.start(customer="4719")) == [Began(STREAM, CALL, {"customer": "4719"})]


def test_the_callers_audio_is_heard_sample_by_sample() -> None:
    codec, caller = begun()
    said = tone(200, 8000)
    commands = [command for piece in said.reshape(-1, 160) for command in codec.receive(caller.media(piece))]
    assert np.abs(heard(commands).astype(int) - said).max() < 300
    np.testing.assert_array_equal(heard(commands), decode(encode(said, "mulaw"), "mulaw"))


def test_audio_that_was_lost_becomes_silence_of_the_same_length() -> None:
    codec, caller = begun()
    before = heard([command for frame in caller.silence(100) for command in codec.receive(frame)])
    caller.now_ms += 600  # Twilio dropped 30 frames
    after = heard([command for frame in caller.silence(100) for command in codec.receive(frame)])
    assert (len(before), len(after)) == (800, 800 + 600 * 8)


def test_jitter_of_the_timestamps_changes_nothing() -> None:
    codec, caller = begun()
    jitter = random.Random(1)
    total = 0
    for _ in range(200):
        (frame,) = caller.silence(20)
        message = json.loads(frame)
        message["media"]["timestamp"] = str(int(message["media"]["timestamp"]) + 7 + jitter.randrange(60))
        total += len(heard(codec.receive(json.dumps(message))))
    assert total == 200 * 160


def test_keys_are_one_entry_after_the_hash_or_a_pause_of_the_call() -> None:
    codec, caller = begun(digit_pause_ms=500)
    for digit in "4719":
        assert codec.receive(caller.press(digit)) == []
    (entry,) = codec.receive(caller.press("#"))
    assert isinstance(entry, Pressed) and (entry.digits, entry.words) == ("4719", "four seven one nine")
    assert codec.receive(caller.press("#")) == []
    codec.receive(caller.press("2"))
    early = [command for frame in caller.silence(480) for command in codec.receive(frame)]
    late = codec.receive(caller.silence(20)[0])
    assert not any(isinstance(command, Pressed) for command in early) and late[-1] == Pressed("2")


def test_a_call_that_stops_gives_the_keys_that_were_pressed_and_ends() -> None:
    codec, caller = begun()
    codec.receive(caller.press("5"))
    assert codec.receive(caller.stop()) == [Pressed("5"), Ended()]
    assert codec.receive(caller.press("6")) == [] and codec.speak(audio(tone(300))) == []


def test_a_reply_arrives_whole_and_its_last_mark_says_that_all_of_it_was_played() -> None:
    codec, caller = begun()
    reply = tone(1_237)
    for piece in np.array_split(reply, 7):
        assert deliver(caller, codec.speak(audio(piece))) == []
    played = play_out(codec, caller)
    assert played == sorted(played) and played[-1] == pytest.approx(len(reply) * 1000 / RATE)
    assert played[0] == pytest.approx(100)
    sound = caller.sound
    assert abs(len(sound) - 1_237 * 8) <= 8
    lag = max(
        range(40), key=lambda shift: float(np.dot(sound[1000 + shift : 9000 + shift].astype(float), tone(1_237, 8000)[1000:9000]))
    )
    there, said = sound[1000 + lag : 9000 + lag].astype(float), tone(1_237, 8000)[1000:9000].astype(float)
    assert np.corrcoef(there, said)[0, 1] > 0.99


@pytest.mark.parametrize("length", [1, 40, 400, 2_205, 2_206])
def test_even_the_shortest_reply_is_played_to_its_end(length: int) -> None:
    codec, caller = begun()
    deliver(caller, codec.speak(audio(tone(1000)[:length])))
    assert play_out(codec, caller)[-1] == pytest.approx(length * 1000 / RATE)


def test_a_reply_that_comes_slowly_is_played_without_an_end_in_between() -> None:
    codec, caller = begun()
    played = []
    for piece in np.array_split(tone(900), 9):
        deliver(caller, codec.speak(audio(piece)))
        played += play_out(codec, caller)
    assert played == sorted(played) and played[-1] == pytest.approx(900, abs=0.1)
    assert abs(len(caller.sound) - 7_200) <= 16


def test_an_interruption_clears_what_waits_and_the_marks_that_return_are_not_heard() -> None:
    codec, caller = begun()
    deliver(caller, codec.speak(audio(tone(1_000))))
    assert play_out(codec, caller, marks=3) == pytest.approx([100, 200, 300])
    returned = deliver(caller, codec.speak(Interrupt(t_ms=0, turn_id=1, heard_text="")))
    assert caller.cleared == 1 and len(returned) >= 6
    assert [codec.receive(mark) for mark in returned] == [[]] * len(returned)
    assert codec.speak(ReplyDone(t_ms=0, turn_id=1, text="", heard_text="", interrupted=True)) == []
    deliver(caller, codec.speak(audio(tone(300), turn_id=2)))
    assert play_out(codec, caller)[-1] == pytest.approx(300)


def test_a_reply_that_pauses_goes_on_from_the_piece_that_was_being_played() -> None:
    codec, caller = begun()
    reply = tone(1_000)
    deliver(caller, codec.speak(audio(reply[: RATE // 2])))
    assert play_out(codec, caller, marks=2) == pytest.approx([100, 200])
    returned = deliver(caller, codec.speak(Duck(t_ms=0, turn_id=1)))
    assert caller.cleared == 1 and [codec.receive(mark) for mark in returned] == [[]] * len(returned)
    assert codec.speak(audio(reply[RATE // 2 :])) == [] and codec.speak(Duck(t_ms=0, turn_id=1)) == []
    deliver(caller, codec.speak(Unduck(t_ms=0, turn_id=1)))
    played = play_out(codec, caller)
    assert played[0] == pytest.approx(300) and played[-1] == pytest.approx(1_000)
    assert abs(len(caller.sound) - 8_000) <= 8
    deliver(caller, codec.speak(Unduck(t_ms=0, turn_id=1)))
    assert not caller.queue


def test_a_reply_that_is_cut_off_while_it_pauses_is_gone() -> None:
    codec, caller = begun()
    deliver(caller, codec.speak(audio(tone(500))))
    deliver(caller, codec.speak(Duck(t_ms=0, turn_id=1)))
    assert codec.speak(Interrupt(t_ms=0, turn_id=1, heard_text="")) == []
    assert codec.speak(Unduck(t_ms=0, turn_id=1)) == []
    deliver(caller, codec.speak(audio(tone(300), turn_id=2)))
    assert play_out(codec, caller)[-1] == pytest.approx(300)


def test_two_replies_of_one_turn_are_counted_apart() -> None:
    codec, caller = begun()
    deliver(caller, codec.speak(audio(tone(400))))
    assert play_out(codec, caller)[-1] == pytest.approx(400)
    assert codec.speak(ReplyDone(t_ms=0, turn_id=1, text="", heard_text="", interrupted=False)) == []
    deliver(caller, codec.speak(audio(tone(200))))
    assert play_out(codec, caller)[-1] == pytest.approx(200)


@pytest.mark.parametrize(
    ("frame", "fault"),
    [
        ("{", "no JSON"),
        ("[1]", "no JSON object"),
        ("[" * 100_000, "no JSON"),
        (b"\x00", "binary"),
        ('{"event": 3}', "'event'"),
        ('{"event": "media", "streamSid": "MZ9", "media": {}}', "another stream"),
        (json.dumps({"event": "media", "streamSid": STREAM, "media": {"payload": "/w=", "timestamp": "1"}}), "base64"),
        (json.dumps({"event": "media", "streamSid": STREAM, "media": {"payload": "/w==", "timestamp": "one"}}), "timestamp"),
        (json.dumps({"event": "dtmf", "streamSid": STREAM, "dtmf": {"digit": "12"}}), "no key '12'"),
        (Caller().start(), "twice"),
    ],
)
def test_a_frame_that_is_not_understood_is_named_and_the_call_goes_on(frame: str | bytes, fault: str) -> None:
    codec, caller = begun()
    with pytest.raises(InputError, match=fault):
        codec.receive(frame)
    assert len(heard(codec.receive(caller.silence(20)[0]))) == 160


def test_nothing_is_heard_before_the_start_and_only_telephone_audio_begins_a_call() -> None:
    codec, caller = TwilioCodec(), Caller()
    with pytest.raises(InputError, match="before 'start'"):
        codec.receive(caller.silence(20)[0])
    wrong = caller.start().replace("x-mulaw", "x-alaw")
    with pytest.raises(InputError, match="expected audio/x-mulaw, 8000 Hz"):
        codec.receive(wrong)


def test_ten_thousand_mutated_frames_never_break_a_call() -> None:
    chance = random.Random(7)
    codec, caller = begun()
    frames = [caller.start(), *caller.silence(60), caller.press("1"), caller.frame("mark", {"name": "p1"}), CONNECTED]
    values = [None, True, -1, 1e999, "", "9" * 5000, [], {}, "\ud800", STREAM]
    refused = 0
    for _ in range(10_000):
        text = chance.choice(frames)
        if chance.random() < 0.5:
            message = json.loads(text)
            inside = [message, *(value for value in message.values() if isinstance(value, dict))]
            target = chance.choice(inside)
            target[chance.choice([*target, "extra"])] = chance.choice(values)
            text = json.dumps(message)
        else:
            at, length = chance.randrange(len(text)), chance.randrange(8)
            text = text[:at] + base64.b64encode(chance.randbytes(length)).decode() + text[at + length :]
        try:
            codec.receive(text)
        except InputError:
            refused += 1
        codec.speak(audio(tone(5)))
    assert 1_000 < refused < 9_900
    fresh, caller = begun()
    assert len(heard(fresh.receive(caller.silence(20)[0]))) == 160
