"""What we play comes back through the microphone: it is silenced, and a user who speaks over it is not. Speech of espeak-ng
through random rooms; the reports of what was played come in uneven steps."""

from __future__ import annotations

import importlib
from time import process_time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echo_rooms import BEFORE, RATE, REPLY, Heard, Room, hear, led, loud_chunks, power_db, said
from requirements import require_module
from textpro.agent.session_settings import SessionSettings
from textpro.models.errors import DeviceError, InputError
from textpro.streaming.echo_canceller import EchoCanceller
from textpro.streaming.echo_guard import CHUNK, EchoGuard, EchoSettings
from textpro.streaming.echo_reference import EXPECTED_SAMPLES, PlayedSound
from textpro.streaming.vad import SpeechDetector, SpeechStart

ROOMS = [Room(), Room(0.57, 185, 5, -73, seed=4), Room(0.23, 360, -23, -71, True, seed=12)]


def guarded(heard: Heard, piece: int = 320, echo: EchoSettings | None = None) -> tuple[np.ndarray, EchoGuard]:
    played = PlayedSound()
    guard = EchoGuard(played, echo)
    sound = led(heard, played, guard.push, piece)
    return np.concatenate([sound, guard.flush()]), guard


def starts_ms(sound: np.ndarray) -> list[int]:
    return [event.at_samples // 16 for event in SpeechDetector().push(sound) if isinstance(event, SpeechStart)]


@pytest.mark.parametrize("room", ROOMS)
def test_an_echo_alone_opens_no_turn(room: Room) -> None:
    heard = hear(room, said(REPLY))
    sound, guard = guarded(heard)
    assert starts_ms(heard.mic), "without the guard it would"
    assert not starts_ms(sound)
    assert abs(guard.model.delay_ms - room.delay_ms) <= 40 and guard.model.fit > 0.6


@pytest.mark.parametrize("room", [*ROOMS, Room(0.19, 61, -9, seed=7)])
def test_the_first_sounds_of_the_next_reply_are_known_as_echo_although_they_are_reported_late(room: Room) -> None:
    played, sounds, gone = PlayedSound(), [], 0
    guard = EchoGuard(played)
    for reply in ("Hello and welcome. I can turn lights on and off.", "Twenty plus thirty is fifty."):
        heard = hear(room, said(reply))
        sounds.append(led(heard, played, guard.push, start=gone))
        played.stop()
        gone += len(heard.mic)
    assert not starts_ms(np.concatenate([*sounds, guard.flush()]))


@pytest.mark.parametrize("room", ROOMS)
def test_a_user_who_speaks_over_the_echo_is_heard(room: Room) -> None:
    heard = hear(room, said(REPLY), said("what is twenty plus thirty", "f2"), over_echo_db=4.0)
    sound, _ = guarded(heard)
    kept = loud_chunks(sound[heard.user_at], CHUNK, -90)
    speaks = loud_chunks(heard.user[heard.user_at], CHUNK, power_db(heard.user[heard.user_at]) - 15)
    assert (kept & speaks).sum() >= 0.6 * speaks.sum()
    first_ms = heard.user_at.start * 1000 // RATE
    assert any(first_ms - 200 <= at <= first_ms + 600 for at in starts_ms(sound))


@pytest.mark.parametrize("room", ROOMS)
def test_a_user_is_heard_from_the_first_second_of_our_voice_on(room: Room) -> None:
    heard = hear(room, said(REPLY), said("what is twenty plus thirty", "f2"), at_s=1.7, over_echo_db=4.0)
    first_ms = heard.user_at.start * 1000 // RATE
    assert any(first_ms - 200 <= at <= first_ms + 600 for at in starts_ms(guarded(heard)[0]))


def test_with_headphones_a_user_is_heard_within_the_first_second_although_no_echo_can_be_learned() -> None:
    heard = hear(Room(gain_db=-90), said(REPLY), said("what is twenty plus thirty", "f2"), at_s=1.9, over_echo_db=60)
    first_ms = heard.user_at.start * 1000 // RATE
    assert any(first_ms - 200 <= at <= first_ms + 400 for at in starts_ms(guarded(heard)[0]))


def test_without_an_echo_nothing_is_taken_from_a_user_once_that_is_known() -> None:
    heard = hear(Room(gain_db=-90), said(REPLY), said("what is twenty plus thirty", "f2"), over_echo_db=60)
    sound, _ = guarded(heard)
    speaks = heard.user[heard.user_at]
    assert power_db(sound[heard.user_at]) > power_db(speaks) - 0.5


def test_while_nothing_is_played_every_sample_passes_at_once_as_it_was() -> None:
    guard, sound = EchoGuard(PlayedSound()), said(REPLY)
    whole = len(sound) // CHUNK * CHUNK
    assert np.array_equal(guard.push(sound), sound[:whole])


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_decisions_do_not_depend_on_how_the_sound_was_cut(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sound = (0.1 * rng.standard_normal(RATE)).astype(np.float32)
    given_back = []
    for pieces in (1, int(rng.integers(2, 40))):
        played = PlayedSound()
        played.begin()
        played.add((sound * 32767).astype(np.int16), RATE)
        played.played(1000, RATE)
        guard = EchoGuard(played, EchoSettings(warm_up_ms=200))
        cuts = np.sort(rng.integers(0, len(sound), pieces - 1))
        given_back.append(np.concatenate([*map(guard.push, np.split(sound, cuts)), guard.flush()]))
    assert np.array_equal(*given_back)


@settings(max_examples=3, deadline=None)
@given(
    st.builds(
        Room, st.floats(0.1, 0.5), st.floats(0, 380), st.floats(-28, 3), st.floats(-75, -55), st.booleans(), st.integers(0, 999)
    )
)
def test_in_any_room_no_more_than_moments_of_the_echo_come_through(room: Room) -> None:
    heard = hear(room, said(REPLY))
    sound, _ = guarded(heard)
    echo = loud_chunks(heard.echo, CHUNK, room.noise_db + 10)
    leaked = loud_chunks(sound, CHUNK, -90)[: len(echo)] & echo
    assert leaked.sum() <= 0.1 * echo.sum()
    assert len(starts_ms(sound)) <= 1


def test_the_guard_takes_little_of_a_core() -> None:
    heard = hear(Room(), said(REPLY))
    began = process_time()
    guarded(heard)
    assert process_time() - began < 0.1 * len(heard.mic) / RATE, "about 1.5 %; the bound allows for a busy machine"


def test_what_is_played_lies_gapless_although_reports_are_uneven_and_behind_a_pause_where_it_really_was() -> None:
    ramp = (np.arange(1, RATE + 1) % 30_000).astype(np.int16)
    played = PlayedSound()
    played.begin()
    played.add(ramp, RATE)
    for total_ms, now_ms in ((20, 1_020), (35, 1_040), (80, 1_060), (100, 1_105)):
        played.played(total_ms, now_ms * 16)
    sound = np.round(played.read(1_000 * 16, 1_100 * 16) * 32768).astype(int)
    assert np.array_equal(sound, ramp[: 100 * 16])
    due = np.round(played.read(1_100 * 16, 1_100 * 16 + EXPECTED_SAMPLES) * 32768).astype(int)
    assert np.array_equal(due, ramp[100 * 16 :][:EXPECTED_SAMPLES]), "what is due next is expected"
    played.pause()
    assert not played.read(1_100 * 16, 1_500 * 16).any()
    played.played(120, 2_000 * 16)
    assert not played.read(1_100 * 16, 1_980 * 16).any()
    assert np.array_equal(np.round(played.read(1_980 * 16, 2_000 * 16) * 32768).astype(int), ramp[1_600:1_920])
    played.stop()
    assert not played.read(2_000 * 16, 2_500 * 16).any()


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InputError, match="expected one of off, guard, cancel"):
        EchoSettings(mode="on")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="max_delay_ms is 5000"):
        EchoSettings(max_delay_ms=5000)
    with pytest.raises(InputError, match="playback='acknowledged'"):
        SessionSettings(echo=EchoSettings("guard"))


def cancelled(heard: Heard) -> np.ndarray:
    require_module("livekit.rtc")
    played = PlayedSound()
    sound = led(heard, played, EchoCanceller(played).push)
    return np.pad(sound, (0, len(heard.mic) - len(sound)))


@pytest.mark.parametrize("room", ROOMS[:2])
def test_the_canceller_takes_the_echo_out(room: Room) -> None:
    heard = hear(room, said(REPLY))
    late = slice(BEFORE + 3 * RATE, BEFORE + 6 * RATE)
    enhancement_db = power_db(heard.mic[late]) - power_db(cancelled(heard)[late])
    assert enhancement_db >= 20


def test_the_canceller_keeps_a_user_who_speaks_over_the_echo() -> None:
    heard = hear(Room(), said(REPLY), said("what is twenty plus thirty", "f2"), over_echo_db=3.0)
    sound, user = cancelled(heard)[heard.user_at], heard.user[heard.user_at]
    assert abs(power_db(sound) - power_db(user)) < 4
    n = len(user) - 400
    alike = max(np.corrcoef(user[:n], sound[lag : lag + n])[0, 1] for lag in range(0, 400, 4))
    assert alike > 0.35, "the canceller shapes the voice, and it is the user's"


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def absent(name: str) -> object:
        if name.startswith("livekit"):
            raise ImportError("No module named 'livekit'")
        return real(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(DeviceError, match=r"textpro-agent\[aec\]"):
        EchoCanceller(PlayedSound())
