"""The file and text transports: pace, turns, silence, playback on the audio clock, replies written as
files."""

from __future__ import annotations

import asyncio
import json
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import soundfile

from scripted_session import REPLY_RATE, RecordingView, ScriptedSession
from textpro import Audio, Failed, Interrupt, ReplyDone, TurnStart, VoiceActivity
from textpro.models.errors import AudioError, EngineError, InputError
from textpro.serving.conversation import Conversation
from textpro.serving.local_audio.wav import (
    NO_SPEECH_MS,
    STUCK_MS,
    FastPace,
    RealTimePace,
    WavTransport,
    check_wavs,
    wav_frames,
)
from textpro.serving.playback import ReplyFiles, ReplyPlayer
from textpro.serving.terminal.json_lines import JsonLines
from textpro.serving.terminal.typed import TypedTransport


def write_tone(path: Path, seconds: float = 0.5, rate: int = 16_000, channels: int = 1, level: float = 0.3) -> Path:
    tone = level * np.sin(2 * np.pi * 220 * np.arange(int(seconds * rate)) / rate)
    soundfile.write(path, np.repeat(tone[:, None], channels, axis=1), rate)
    return path


def converse(session: ScriptedSession, files: list[Path], out: Path | None = None) -> RecordingView:
    """Run the files through the session at --fast pace."""
    view = RecordingView()

    async def run() -> None:
        async with Conversation(session, view, out) as conversation:
            await WavTransport(conversation, FastPace(conversation)).run(files)

    asyncio.run(run())
    return view


class FakeTime:
    """A clock that only sleep moves, plus what each frame's own work takes."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.sleeps: list[float] = []

    def now(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now_s += seconds


def test_real_time_pace_makes_up_for_late_frames_and_does_not_drift() -> None:
    time = FakeTime()

    async def run() -> None:
        pace = RealTimePace(time.now, time.sleep)
        await pace.frame_sent()
        for frame in range(1, 500):
            time.now_s += 0.2 if frame == 100 else 0.003
            await pace.frame_sent()

    asyncio.run(run())
    assert time.now_s == pytest.approx(100.0 + 500 * 0.020)
    assert min(time.sleeps) == 0.0


def test_files_are_consecutive_turns_and_the_next_waits_until_the_reply_is_played(tmp_path: Path) -> None:
    session = ScriptedSession()
    files = [write_tone(tmp_path / "a.wav"), write_tone(tmp_path / "b.wav")]
    view = converse(session, files)
    turn = ["turn_start", "turn_end", "prosody", "reply_delta", *["audio"] * 3, "reply_done", "metrics"]
    assert view.types() == turn * 2
    done = next(event for event in view.events if isinstance(event, ReplyDone))
    begins = [event for event in view.events if isinstance(event, TurnStart)]
    assert begins[1].t_ms >= done.t_ms


def test_frames_are_20_ms_of_mono_16_khz_whatever_the_file_is(tmp_path: Path) -> None:
    file = write_tone(tmp_path / "stereo.wav", seconds=0.51, rate=48_000, channels=2)
    frames = list(wav_frames(file))
    assert {(frame.shape, frame.dtype.name) for frame in frames} == {((320,), "float32")}
    assert len(frames) == 26
    assert np.abs(np.concatenate(frames)[:8000]).max() == pytest.approx(0.3, abs=0.02)


def test_playback_advances_with_the_audio_time_sent_and_never_past_what_arrived(tmp_path: Path) -> None:
    session = ScriptedSession(reply_ms=500)
    converse(session, [write_tone(tmp_path / "a.wav")])
    assert session.played_ms == [*range(20, 501, 20)]


def test_a_silent_file_is_named_and_the_next_one_follows(tmp_path: Path) -> None:
    session = ScriptedSession()
    silent, spoken = write_tone(tmp_path / "silent.wav", level=0.0), write_tone(tmp_path / "a.wav")
    view = converse(session, [silent, spoken])
    assert view.notices == [f"no speech was found in {silent}"]
    assert "reply_done" in view.types()
    first = next(event for event in view.events if isinstance(event, TurnStart))
    assert first.t_ms >= 500 + NO_SPEECH_MS


def test_a_file_of_which_only_a_dropped_turn_came_held_no_speech(tmp_path: Path) -> None:
    cough = write_tone(tmp_path / "cough.wav")
    view = converse(ScriptedSession(replies=(None,)), [cough])
    assert view.notices == [f"no speech was found in {cough}"]


def test_a_session_that_gives_no_sign_is_an_error_and_not_an_endless_wait(tmp_path: Path) -> None:
    session = ScriptedSession(silence_ms=10 * STUCK_MS)
    with pytest.raises(EngineError, match=r"a\.wav: nothing has come of it for 30 s"):
        converse(session, [write_tone(tmp_path / "a.wav")])


def test_a_session_that_fails_ends_the_run_with_its_reason(tmp_path: Path) -> None:
    session = ScriptedSession()
    session.say(Failed, reason="the engine is gone")
    with pytest.raises(EngineError, match="the session ended: the engine is gone"):
        converse(session, [write_tone(tmp_path / "a.wav")])


def test_what_the_view_raises_ends_the_run(tmp_path: Path) -> None:
    class ClosedPipe(StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    async def run() -> None:
        async with Conversation(ScriptedSession(), JsonLines(ClosedPipe(), print)) as conversation:
            await WavTransport(conversation, FastPace(conversation)).run([write_tone(tmp_path / "a.wav")])

    with pytest.raises(BrokenPipeError):
        asyncio.run(run())


def test_replies_go_into_a_folder_by_number(tmp_path: Path) -> None:
    files = [write_tone(tmp_path / "a.wav"), write_tone(tmp_path / "b.wav")]
    view = converse(ScriptedSession(), files, tmp_path / "replies")
    for number in (1, 2):
        pcm, rate = soundfile.read(tmp_path / "replies" / f"reply_{number}.wav", dtype="int16")
        assert rate == REPLY_RATE and len(pcm) == REPLY_RATE // 2 and set(pcm) == {number}
    assert len(view.notices) == 2


def test_with_a_wav_name_the_first_reply_gets_it_and_later_ones_a_number(tmp_path: Path) -> None:
    files = [write_tone(tmp_path / "a.wav"), write_tone(tmp_path / "b.wav")]
    converse(ScriptedSession(), files, tmp_path / "new" / "reply.wav")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["reply.wav", "reply_2.wav"]


def test_a_place_where_no_reply_can_be_written_is_refused(tmp_path: Path) -> None:
    file = write_tone(tmp_path / "a.wav")
    with pytest.raises(InputError, match="no reply can be written there"):
        ReplyFiles(file / "replies")


def test_only_the_heard_part_of_an_interrupted_reply_is_written(tmp_path: Path) -> None:
    class Interrupted(ScriptedSession):
        def played(self, total_ms: int) -> None:
            self.played_ms.append(total_ms)
            if total_ms == 200:
                self.say(Interrupt, heard_text="Ye")
                self.say(ReplyDone, text="Yes.", heard_text="Ye", interrupted=True)

    session = Interrupted()
    converse(session, [write_tone(tmp_path / "a.wav")], tmp_path / "reply.wav")
    assert soundfile.info(tmp_path / "reply.wav").frames == REPLY_RATE // 5
    assert max(session.played_ms) == 200


def test_the_player_tells_each_reply_from_its_beginning() -> None:
    told: list[int] = []
    player = ReplyPlayer(told.append, keep=False)
    for turn_id in (1, 2):
        player.add(Audio(t_ms=0, turn_id=turn_id, pcm=np.zeros(1000, np.int16), sample_rate=16_000, text=""))
        while player.pending_ms:
            player.advance(20)
    assert told == [20, 40, 60, 63] * 2


def test_typed_turns_follow_one_another(tmp_path: Path) -> None:
    session, view = ScriptedSession(), RecordingView()

    async def run() -> None:
        async with Conversation(session, view, tmp_path) as conversation:
            await TypedTransport(conversation).run(["hello", "and now"])

    asyncio.run(run())
    assert session.texts == ["hello", "and now"]
    assert view.types().count("reply_done") == 2
    assert (tmp_path / "reply_2.wav").is_file()


def test_a_typed_turn_without_any_answer_is_an_error() -> None:
    class Mute(ScriptedSession):
        async def send_text(self, text: str) -> None:
            pass

    async def run() -> None:
        async with Conversation(Mute(), RecordingView()) as conversation:
            await TypedTransport(conversation, stuck_s=0.01).run(["hello"])

    with pytest.raises(EngineError, match="no reply to 'hello' came"):
        asyncio.run(run())


def test_missing_empty_and_broken_files_are_refused_in_one_line(tmp_path: Path) -> None:
    empty, broken = tmp_path / "empty.wav", tmp_path / "broken.wav"
    empty.touch()
    broken.write_bytes(b"RIFF and then nothing of use")
    for file in (tmp_path / "none.wav", empty, broken):
        with pytest.raises(AudioError) as caught:
            check_wavs([file])
        assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_json_lines_are_one_event_each_with_little_voice_activity_and_no_samples(tmp_path: Path) -> None:
    stream, notices = StringIO(), []

    async def run() -> None:
        view = JsonLines(stream, notices.append)
        async with Conversation(ScriptedSession(), view, tmp_path) as conversation:
            await WavTransport(conversation, FastPace(conversation)).run([write_tone(tmp_path / "a.wav")])

    asyncio.run(run())
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert all({"type", "t_ms", "turn_id", "revision"} <= line.keys() for line in lines)
    audio = [line for line in lines if line["type"] == "audio"]
    assert [line["samples"] for line in audio] == [3675] * 3
    assert [line["offset_samples"] for line in audio] == [0, 3675, 7350]
    assert not any("pcm" in line for line in audio)
    activity = [line["t_ms"] for line in lines if line["type"] == "voice_activity"]
    assert min(np.diff(activity)) >= 100 and len(activity) > 10
    assert notices == [f"reply written to {tmp_path / 'reply_1.wav'}"]


def test_json_lines_keep_other_scripts_readable() -> None:
    stream = StringIO()
    JsonLines(stream, print).show(Failed(t_ms=5, reason="schlüssel 鍵"))
    JsonLines(stream, print).show(VoiceActivity(t_ms=5, probability=0.5, speaking=True))
    assert "schlüssel 鍵" in stream.getvalue().splitlines()[0]
