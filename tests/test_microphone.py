"""--mic: with PulseAudio as sound system a question is answered aloud, keys work, devices come back; and what
decides when the microphone is heard and how much of a reply has sounded, without any device."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from sound_server import PATIENCE_S, RECORDING_RATE, SoundServer, deaf_environment, shortly_s, wait_until
from textpro import Audio
from textpro.models.errors import DeviceError, InputError
from textpro.serving.hearing import HOLD_MS, Command, Hearing
from textpro.serving.local_audio.devices import AudioDevice, Way, choose, remembered
from textpro.serving.local_audio.loudspeaker import Loudspeaker
from textpro.serving.local_audio.sound_card import Capture

TESTS = Path(__file__).parent
QUESTION = TESTS.parent / "examples" / "audio" / "lost_keys_happy.wav"
REAL = "from textpro.cli import main; main()"
SCRIPTED = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
import numpy as np
from scripted_session import ScriptedSession
from textpro import cli, talk

class AnyRate(ScriptedSession):
    async def send_audio(self, pcm, sample_rate):
        assert pcm.dtype == np.int16
        seconds = len(pcm) / sample_rate
        picked = np.linspace(0, len(pcm) - 1, round(seconds * 16000)).astype(int) if len(pcm) else []
        await super().send_audio(pcm[picked].reshape(-1) / 32768, 16000) if len(picked) else None
    async def commit(self):
        self.open = False
    async def interrupt(self):
        pass

scripted = AnyRate(reply_ms=800)
talk.open_runtime = lambda settings: scripted
talk.open_session = lambda runtime, settings, live: runtime
cli.main()
"""


class Agent:
    """The command, with what it says collected as it comes."""

    def __init__(self, code: str, server: SoundServer, *options: str, stdin: int = subprocess.DEVNULL) -> None:
        command = [sys.executable, "-c", code, "--mic", "--json", *options]
        self.process = subprocess.Popen(
            command, env=server.environment, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.events: list[dict[str, Any]] = []
        self.notices: list[str] = []
        self._readers = [threading.Thread(target=self._read_events), threading.Thread(target=self._read_notices)]
        for reader in self._readers:
            reader.start()

    def _read_events(self) -> None:
        assert self.process.stdout is not None
        self.events.extend(json.loads(line) for line in self.process.stdout)

    def _read_notices(self) -> None:
        assert self.process.stderr is not None
        self.notices.extend(line.rstrip() for line in self.process.stderr)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in list(self.events) if event["type"] == kind]

    def wait_for(self, kind: str, count: int = 1) -> None:
        self._wait(lambda: len(self.of(kind)) >= count, f"event {kind}")

    def wait_for_notice(self, part: str) -> None:
        self._wait(lambda: any(part in notice for notice in list(self.notices)), f"notice {part!r}")

    def _wait(self, condition: Any, what: str) -> None:
        wait_until(lambda: condition() or self.process.poll() is not None, what)
        assert condition(), f"ended with {self.process.returncode} before {what}: {self.notices}"

    def ends(self, within_s: float) -> int:
        code = self.process.wait(within_s)
        for reader in self._readers:
            reader.join(PATIENCE_S)
        return code

    def kill(self) -> None:
        self.process.kill()
        self.ends(PATIENCE_S)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SoundServer]:
    with SoundServer(tmp_path) as running:
        yield running


def loud_ms(pcm: np.ndarray, rate: int) -> int:
    """How many milliseconds are not silence, in steps of 20 ms."""
    step = rate // 50
    windows = pcm[: len(pcm) // step * step].reshape(-1, step)
    return 20 * int((np.abs(windows.astype(int)).max(axis=1) > 300).sum())


def energy(pcm: np.ndarray, rate: int) -> float:
    """The sum of squares, whatever the rate."""
    return float((pcm.astype(float) ** 2).sum() / rate)


def test_a_question_into_the_microphone_is_answered_through_the_loudspeaker(
    server: SoundServer, tmp_path: Path, espeak_library: None
) -> None:
    agent = Agent(REAL, server, "--out", str(tmp_path / "reply.wav"))
    try:
        agent.wait_for("voice_activity")
        server.record()
        server.play(QUESTION)
        agent.wait_for("reply_done")
        agent.wait_for_notice("reply written")
        server.wait_recorded(500)
        recorded = server.recorded()
        agent.process.send_signal(signal.SIGINT)
        assert agent.ends(within_s=shortly_s()) == 0
    finally:
        agent.kill()
    assert agent.of("turn_end")[0]["text"].strip()
    assert not agent.of("reply_done")[0]["interrupted"]
    audio = agent.of("audio")
    told_ms = sum(event["samples"] for event in audio) * 1000 / audio[0]["sample_rate"]
    reply, rate = soundfile.read(tmp_path / "reply.wav", dtype="int16")
    assert len(reply) * 1000 / rate == pytest.approx(told_ms, abs=2)
    assert loud_ms(reply, rate) > 200
    # A busy machine lets the loudspeaker run dry now and then, which stretches the sound but hardly changes its energy.
    assert 0.8 <= loud_ms(recorded, RECORDING_RATE) / loud_ms(reply, rate) <= 2
    assert energy(recorded, RECORDING_RATE) == pytest.approx(energy(reply, rate), rel=0.3)
    assert not any("Traceback" in notice for notice in agent.notices)


def test_devices_that_vanish_are_found_again_and_the_conversation_goes_on(server: SoundServer) -> None:
    agent = Agent(SCRIPTED, server)
    try:
        agent.wait_for("voice_activity")
        server.play(QUESTION)
        agent.wait_for("reply_done")
        server.stop()
        agent.wait_for_notice("the audio devices are gone")
        server.start()
        agent.wait_for_notice("found again")
        found = next(notice for notice in agent.notices if "found again" in notice)
        assert int(found.rpartition("; ")[2].split()[0]) > 0
        server.record()
        before = len(agent.of("reply_done"))
        server.play(QUESTION)
        agent.wait_for("reply_done", before + 1)
        server.wait_recorded(300)
        agent.process.send_signal(signal.SIGTERM)
        assert agent.ends(within_s=shortly_s()) == 0
    finally:
        agent.kill()


def test_keys_mute_and_end_and_the_terminal_is_given_back(server: SoundServer) -> None:
    terminal, inside = pty.openpty()
    before = termios.tcgetattr(inside)
    foreground = f"import os, fcntl, termios\nos.setsid()\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\n{SCRIPTED}"
    agent = Agent(foreground, server, "--push-to-talk", stdin=inside)
    try:
        agent.wait_for_notice("keys: space talk")
        assert not termios.tcgetattr(inside)[3] & termios.ICANON
        os.write(terminal, b"m")
        agent.wait_for_notice("microphone muted")
        os.write(terminal, b"m")
        agent.wait_for_notice("microphone heard again")
        quiet = len(agent.of("voice_activity"))
        server.play(QUESTION)
        agent.wait_for("voice_activity", quiet + 5)
        assert not agent.of("turn_start")
        os.write(terminal, b" ")
        agent.wait_for_notice("talking: the microphone is heard")
        server.play(QUESTION)
        agent.wait_for("turn_start")
        os.write(terminal, b"q")
        assert agent.ends(within_s=shortly_s()) == 0
        assert termios.tcgetattr(inside) == before
    finally:
        agent.kill()
        os.close(terminal)
        os.close(inside)


def test_the_devices_are_listed_with_their_defaults(server: SoundServer) -> None:
    command = [sys.executable, "-c", REAL, "--list-devices"]
    table = subprocess.run(command, env=server.environment, capture_output=True, text=True, check=True).stdout
    assert any("default" in line and "microphone, loudspeaker" in line for line in table.splitlines()[1:])
    lines = subprocess.run([*command, "--json"], env=server.environment, capture_output=True, text=True, check=True).stdout
    devices = [json.loads(line) for line in lines.splitlines()]
    assert any(device["is_default_input"] and device["inputs"] > 0 for device in devices)


@pytest.mark.parametrize("options", [("--mic", "--json"), ("--list-devices",)])
def test_without_devices_one_line_says_what_to_check(tmp_path: Path, options: tuple[str, ...]) -> None:
    result = subprocess.run(
        [sys.executable, "-c", REAL, *options], env=deaf_environment(tmp_path), capture_output=True, text=True
    )
    assert result.returncode == 2 and not result.stdout
    (line,) = result.stderr.splitlines()
    assert "there is no microphone or loudspeaker" in line or "libportaudio2" in line


def test_without_portaudio_one_line_names_the_package(tmp_path: Path) -> None:
    absent = "import sys, ctypes.util\nctypes.util.find_library = lambda name: None\nsys.modules['_sounddevice_data'] = None\n"
    environment = deaf_environment(tmp_path)
    result = subprocess.run([sys.executable, "-c", absent + REAL, "--mic"], env=environment, capture_output=True, text=True)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "libportaudio2" in line and "brew install portaudio" in line


def test_push_to_talk_without_a_terminal_is_refused(server: SoundServer) -> None:
    command = [sys.executable, "-c", SCRIPTED, "--mic", "--push-to-talk"]
    result = subprocess.run(command, env=server.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert result.returncode == 2 and "needs its key" in result.stderr


@pytest.mark.parametrize("options", [("--half-duplex",), ("--input-device", "1"), ("--mic", "--fast"), ("--mic", "--text", "a")])
def test_options_of_the_microphone_belong_to_it_alone(options: tuple[str, ...]) -> None:
    result = subprocess.run([sys.executable, "-c", REAL, "--list-devices", *options], capture_output=True, text=True)
    assert result.returncode == 2 and "Invalid value" in result.stderr


def device(index: int, name: str, inputs: int = 1, outputs: int = 0, system: str = "A", default: bool = False) -> AudioDevice:
    return AudioDevice(index, name, system, inputs, outputs, default and inputs > 0, default and outputs > 0, 48_000)


DEVICES = (
    device(0, "Built-in Microphone", default=True),
    device(1, "USB Headset Mono"),
    device(2, "USB Headset Stereo"),
    device(3, "USB Headset Mono", system="B"),
    device(4, "Built-in Speaker", inputs=0, outputs=2, default=True),
)


@pytest.mark.parametrize(("wanted", "index"), [(None, 0), ("2", 2), ("built", 0), ("headset mono", 1), ("stereo", 2)])
def test_a_device_is_found_by_index_or_part_of_its_name(wanted: str | None, index: int) -> None:
    assert choose(DEVICES, Way.INPUT, wanted).index == index


@pytest.mark.parametrize(
    ("wanted", "message"),
    [("headset", r"several fit, 1 \(.*2 \("), ("4", "no such microphone; expected one of 0 "), ("xyz", "expected one of 0 ")],
)
def test_an_ambiguous_or_unknown_device_is_refused_with_those_that_fit(wanted: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose(DEVICES, Way.INPUT, wanted)


def test_a_device_is_looked_for_by_name_later_unless_it_shares_the_name() -> None:
    assert remembered(DEVICES, Way.INPUT, DEVICES[2]) == "USB Headset Stereo"
    assert remembered(DEVICES, Way.INPUT, DEVICES[3]) == "3"


def test_no_device_of_a_direction_is_an_error_of_its_own() -> None:
    with pytest.raises(DeviceError, match="there is no loudspeaker"):
        choose(DEVICES[:2], Way.OUTPUT)
    with pytest.raises(DeviceError, match=r"no default microphone; choose one with --input-device: 1 \("):
        choose(DEVICES[1:], Way.INPUT)


def test_a_muted_microphone_is_not_heard_until_the_key_is_pressed_again() -> None:
    hearing = Hearing()
    assert hearing.hears(0, agent_sounds=True)
    assert hearing.press("m").notice == "microphone muted" and not hearing.hears(20, False)
    assert hearing.press("m").notice == "microphone heard again" and hearing.hears(40, False)
    assert hearing.press("q").command is Command.QUIT
    assert hearing.press(" ").command is hearing.press("x").command is None


def test_push_to_talk_hears_between_two_presses_and_the_second_ends_the_turn() -> None:
    hearing = Hearing(push_to_talk=True)
    assert not hearing.hears(0, False)
    assert hearing.press(" ").command is Command.INTERRUPT and hearing.hears(20, True)
    assert hearing.press(" ").command is Command.COMMIT and not hearing.hears(40, False)


def test_half_duplex_is_deaf_while_the_agent_sounds_and_a_little_longer() -> None:
    hearing = Hearing(half_duplex=True)
    heard = [hearing.hears(at, agent_sounds=100 <= at < 300) for at in range(0, 1000, 20)]
    assert heard == [not 100 <= at < 280 + HOLD_MS for at in range(0, 1000, 20)]


def reply(samples: int, turn_id: int = 1, rate: int = 16_000) -> Audio:
    pcm = np.full(samples, 8000, np.int16)
    return Audio(t_ms=0, turn_id=turn_id, pcm=pcm, sample_rate=rate, text="")


def speaker(output_rate: int = 16_000) -> tuple[Loudspeaker, list[int]]:
    told: list[int] = []
    loudspeaker = Loudspeaker(told.append, keep=True)
    loudspeaker.open(output_rate)
    return loudspeaker, told


def pull(loudspeaker: Loudspeaker, blocks: int, rate: int = 16_000, latency_ms: float = 40.0) -> np.ndarray:
    """So many blocks of 10 ms as a device takes them; after each the session is told."""
    taken = []
    for _ in range(blocks):
        taken.append(loudspeaker.pull(rate // 100, latency_ms))
        loudspeaker.advance(loudspeaker.newly_sounded_ms())
    return np.concatenate(taken)


def test_played_is_what_has_sounded_not_what_the_device_has_taken() -> None:
    loudspeaker, told = speaker()
    pull(loudspeaker, 5)
    loudspeaker.add(reply(1600))
    pull(loudspeaker, 5)
    assert told == [] or max(told) == 0
    pull(loudspeaker, 5)
    assert max(told) == 50  # when the 15th block is taken, 14 less 40 ms have sounded, 5 of them before the reply
    pull(loudspeaker, 10)
    assert max(told) == 100 and loudspeaker.pending_ms == 0


@pytest.mark.parametrize("rates", [(22_050, 48_000), (22_050, 16_000), (16_000, 44_100)])
def test_a_reply_at_another_rate_sounds_whole_and_is_told_to_its_last_millisecond(rates: tuple[int, int]) -> None:
    source, output = rates
    loudspeaker, told = speaker(output)
    for _ in range(3):
        loudspeaker.add(reply(source // 6, rate=source))
    sound = pull(loudspeaker, 70, output)
    assert told == sorted(told) and told[-1] == -(-(source // 6 * 3) * 1000 // source)
    assert (np.abs(sound) > 4000).sum() == pytest.approx(output // 2, abs=output // 400)


def test_a_cut_off_reply_is_silent_from_the_next_block_on_and_tells_only_what_sounded() -> None:
    loudspeaker, told = speaker(48_000)
    loudspeaker.add(reply(16_000))
    pull(loudspeaker, 30, 48_000)
    loudspeaker.drop_unplayed()
    assert not pull(loudspeaker, 30, 48_000).any()
    assert 200 <= max(told) <= 260
    heard = loudspeaker.take_heard()
    assert heard is not None and len(heard[0]) == max(told) * 16
    loudspeaker.add(reply(160, turn_id=2))
    pull(loudspeaker, 10, 48_000)
    assert told[-1] == 10


def test_a_reply_that_waits_for_its_next_audio_is_counted_as_a_gap() -> None:
    loudspeaker, told = speaker()
    loudspeaker.add(reply(160))
    pull(loudspeaker, 11)
    loudspeaker.add(reply(160))
    pull(loudspeaker, 11)
    assert (loudspeaker.gaps, loudspeaker.gap_ms) == (1, 100)
    assert told[-1] == 20


def test_another_device_at_another_rate_goes_on_where_the_last_one_ended() -> None:
    loudspeaker, told = speaker(48_000)
    loudspeaker.add(reply(16_000))
    pull(loudspeaker, 50, 48_000)
    loudspeaker.open(44_100)
    sound = pull(loudspeaker, 80, 44_100)
    assert told[-1] == 1000 and loudspeaker.pending_ms == 0
    assert (np.abs(sound) > 4000).sum() == pytest.approx(22_050, abs=2000)


def test_microphone_audio_beyond_the_limit_is_lost_and_counted() -> None:
    wakes: list[None] = []
    capture = Capture(lambda: wakes.append(None), limit_ms=100)
    for level in range(8):
        capture.push(np.full(320, level, np.int16), 16_000)
    assert [int(block[0]) for block in capture.take()] == [0, 1, 2, 3, 4]
    assert (capture.take_lost_ms(), capture.take_lost_ms(), len(wakes)) == (60, 0, 1)
    capture.push(np.zeros(320, np.int16), 16_000)
    assert len(capture.take()) == 1 and len(wakes) == 2
