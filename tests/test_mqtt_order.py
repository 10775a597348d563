"""Topics, packets, numbers and back-off without a broker: nothing is lost or said twice, whatever the connection does."""

from __future__ import annotations

import random
import ssl
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosquitto import certificates
from textpro.models.errors import AudioError, InputError
from textpro.serving.mqtt.bridge import Broker
from textpro.serving.mqtt.sequence import AudioIn, Backoff, Once, OutLog
from textpro.serving.mqtt.topics import (
    AudioPacket,
    Channel,
    Confirm,
    Hello,
    Topics,
    read_control,
    read_json,
)

PCM = st.integers(0, 400).map(lambda n: np.arange(n, dtype=np.int16))


def packet(first: int, length: int, seq: int = 1, rate: int = 16_000) -> AudioPacket:
    return AudioPacket(seq, 0, rate, first, np.arange(first, first + length).astype(np.int16))


@settings(deadline=None)
@given(seq=st.integers(0, 2**32 - 1), turn=st.integers(0, 2**32 - 1), first=st.integers(0, 2**64 - 1), pcm=PCM)
def test_an_audio_packet_survives_the_wire(seq: int, turn: int, first: int, pcm: np.ndarray) -> None:
    there = AudioPacket.from_bytes(AudioPacket(seq, turn, 22_050, first, pcm).to_bytes())
    assert (there.seq, there.turn_id, there.sample_rate, there.first_sample) == (seq, turn, 22_050, first)
    np.testing.assert_array_equal(there.pcm, pcm)


def test_an_audio_packet_is_laid_out_as_the_page_says() -> None:
    data = AudioPacket(1, 2, 16_000, 3, np.array([1, -2], np.int16)).to_bytes()
    assert data.hex() == "000000010000000200003e8000000000000000030100feff"


@pytest.mark.parametrize("size", [0, 19, 21, 20 + 256 * 1024 + 2])
def test_what_is_no_audio_packet_is_refused(size: int) -> None:
    with pytest.raises(AudioError, match=f"an audio packet of {size} bytes"):
        AudioPacket.from_bytes(bytes(size))


def test_topics_name_device_and_channel_both_ways() -> None:
    topics = Topics("house/ground")
    for channel in (Channel.HELLO, Channel.AUDIO_IN, Channel.TEXT, Channel.CONTROL, Channel.TOOL_RESULT):
        assert topics.read(topics.of("robot-1", channel)) == ("robot-1", channel)
    assert topics.of("robot-1", Channel.AUDIO_OUT) == "house/ground/robot-1/audio/out"
    for foreign in ("house/ground/status", "house/ground/robot-1/event", "house/x/text", "house/ground/a b/text", ""):
        assert topics.read(foreign) is None


@pytest.mark.parametrize("bad", ["", "a/", "a//b", "a/#", "+"])
def test_a_prefix_that_is_no_topic_is_refused(bad: str) -> None:
    with pytest.raises(InputError, match="is no topic"):
        Topics(bad)


@pytest.mark.parametrize("bad", ["", "a/b", "+", "a b", "x" * 65])
def test_a_device_name_is_one_plain_level(bad: str) -> None:
    with pytest.raises(InputError, match="a device cannot be called"):
        Topics().of(bad, Channel.TEXT)


def test_a_devices_messages_are_checked() -> None:
    hello = read_json(Hello, b'{"boot": "7", "tools": [{"name": "stop"}], "newer": 1}')
    assert (hello.boot, hello.tools[0].name, hello.tools[0].time_limit_s, hello.playback) == ("7", "stop", 10.0, "assumed")
    assert read_control(b'{"type": "confirm", "call_id": "c", "accepted": false}') == Confirm(
        type="confirm", call_id="c", accepted=False
    )
    for bad in (b"", b"[]", b'{"type": "played", "turn_id": 1, "total_ms": -1}', b"{" * 70_000):
        with pytest.raises(InputError, match="control message"):
            read_control(bad)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), messages=st.integers(1, 60))
def test_a_device_that_asks_again_gets_everything_once_and_in_order(seed: int, messages: int) -> None:
    chance = random.Random(seed)
    log, got, last = OutLog(), [], 0
    said = 0
    while len(got) < messages:
        if said < messages and chance.random() < 0.5:
            said += 1
            log.add("t", lambda seq: b"%d" % seq)
        rewinds, batch = log.rewinds, log.due(chance.randint(1, 8))
        arrive = [message for message in batch if chance.random() < 0.8]  # the others: the device was away
        for message in arrive:
            if message.seq == last + 1:
                got.append(int(message.payload))
                last = message.seq
            elif message.seq > last + 1:
                assert log.rewind(last)
                break
        if batch and chance.random() < 0.8:  # else the broker went before it confirmed
            log.sent(batch[-1], rewinds)
        if said == messages and log.is_sent and len(got) < messages:
            assert log.rewind(last)
    assert got == list(range(1, messages + 1))


def test_a_log_forgets_the_oldest_and_says_so_when_it_is_asked_for() -> None:
    log = OutLog(kept_bytes=1_000)
    for _ in range(30):
        log.add("t", lambda _: bytes(100))
    assert [said.seq for said in log.due(100)] == list(range(21, 31))
    log.sent(log.due(100)[-1], log.rewinds)
    assert log.is_sent and log.due(5) == []
    assert log.rewind(20) and not log.rewind(3)
    assert log.due(1)[0].seq == 21


def test_a_call_that_was_cancelled_is_not_said_later() -> None:
    log = OutLog()
    number = log.add("t", lambda _: b"move")
    log.add("t", lambda _: b"other")
    log.replace(number, b"cancelled")
    log.replace(99, b"never said")
    assert [said.payload for said in log.due(9)] == [b"cancelled", b"other"]


def test_lost_audio_becomes_silence_and_what_comes_twice_is_dropped() -> None:
    stream = AudioIn()
    pieces = [packet(0, 320, seq=0), packet(320, 320), packet(320, 320), packet(1_280, 320), packet(960, 320), packet(1_440, 320)]
    taken = np.concatenate([stream.take(piece) for piece in pieces])
    expected = np.arange(1_760, dtype=np.int16)
    expected[640:1_280] = 0
    np.testing.assert_array_equal(taken, expected)


def test_a_long_gap_is_shortened_and_a_new_stream_begins_anywhere() -> None:
    stream = AudioIn()
    stream.take(packet(0, 320, seq=0))
    assert len(stream.take(packet(10_000_000, 320))) == 32_000 + 320
    assert len(stream.take(packet(5_000, 320, seq=0))) == 320
    assert len(stream.take(packet(7, 160, rate=8_000))) == 160


def test_a_numbered_message_counts_once() -> None:
    once = Once()
    assert [once.is_new(seq) for seq in (1, 1, 2, None, None, 1, 5)] == [True, False, True, True, True, False, True]


def test_back_off_doubles_to_its_longest_and_starts_over_after_success() -> None:
    slow, quick = Backoff(0.5, 30, lambda: 0.0), Backoff(0.5, 30, lambda: 1.0)
    assert [slow.next_s() for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert [quick.next_s() for _ in range(3)] == [0.25, 0.5, 1]
    slow.reset()
    assert slow.next_s() == 0.5


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://localhost", Broker("localhost", 1883)),
        ("mqtt://user@host:1884/", Broker("host", 1884, user="user", password="p")),
        ("mqtts://a%40b:c@host", Broker("host", 8883, True, "a@b", "p")),
    ],
)
def test_a_broker_is_named_by_its_url(url: str, expected: Broker) -> None:
    assert Broker.from_url(url, "p" if "@" in url else None) == expected
    assert "secret" not in repr(Broker.from_url("mqtt://user:secret@host"))


@pytest.mark.parametrize("url", ["localhost", "http://host", "mqtt://", "mqtt://host:x", "mqtt://host/topic"])
def test_what_is_no_broker_is_refused(url: str) -> None:
    with pytest.raises(InputError, match=r"expected mqtt://host"):
        Broker.from_url(url)


def test_certificates_are_checked_before_anything_connects(tmp_path: Path) -> None:
    certificates(tmp_path)
    ca, key = tmp_path / "authority.crt", tmp_path / "server.key"
    context = Broker.from_url("mqtts://host", ca=ca, certificate=tmp_path / "server.crt", key=key).tls_context()
    assert context is not None and context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname
    assert Broker.from_url("mqtt://host").tls_context() is None
    with pytest.raises(InputError, match="a certificate or key cannot be used"):
        Broker.from_url("mqtts://host", ca=ca, certificate=ca, key=key).tls_context()
    with pytest.raises(InputError, match="give the broker as mqtts"):
        Broker.from_url("mqtt://host", ca=ca)
