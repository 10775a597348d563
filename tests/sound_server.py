"""A sound system of a test's own: PulseAudio with a virtual microphone, into which sound files are played, and a
virtual loudspeaker, which is recorded, both the defaults of ALSA and so of PortAudio."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from requirements import absent, require_program

PATIENCE_S = 300.0
"""Long enough for a machine that is busy with other things; nothing waits this long where all is well."""
RECORDING_RATE = 16_000
NO_DEVICES = 'pcm.none { type empty slave.pcm "nothing" }\n'
"""ALSA's whole configuration; with an empty one PortAudio would abort."""
ALSA_DEFAULTS = "pcm.!default { type pulse }\nctl.!default { type pulse }\n"


def shortly_s() -> float:
    """Five seconds, or patience where others hold the processors."""
    return 5.0 if os.getloadavg()[0] <= 1.5 * (os.cpu_count() or 1) else PATIENCE_S


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Until it holds; AssertionError that says what was awaited if it never does."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.02)


def deaf_environment(folder: Path) -> dict[str, str]:
    """An environment without any audio device."""
    configuration = folder / "asound.conf"
    configuration.write_text(NO_DEVICES)
    unset = ("PULSE_SERVER", "PIPEWIRE_RUNTIME_DIR", "TEXTPRO_AUDIO__INPUT_DEVICE")
    kept = {name: value for name, value in os.environ.items() if name not in unset}
    return {**kept, "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder), "ALSA_CONFIG_PATH": str(configuration)}


class SoundServer:
    """A context manager; what needs sound runs with `environment`."""

    def __init__(self, folder: Path) -> None:
        self._program = require_program("pulseaudio")
        require_program("pactl")  # and with it paplay and parec
        if not list(Path("/usr/lib").glob("*/alsa-lib/libasound_module_pcm_pulse.so")):
            absent("needs ALSA's PulseAudio plugin (Debian package libasound2-plugins)")
        self._folder = folder
        self._socket = folder / "native"
        (folder / ".asoundrc").write_text(ALSA_DEFAULTS)
        folder.chmod(0o700)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ALSA_")},
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(folder),
            "PULSE_RUNTIME_PATH": str(folder / "pulse"),
            "PULSE_SERVER": f"unix:{self._socket}",
        }
        self._recorder: subprocess.Popen[bytes] | None = None
        self.recording = folder / "heard.raw"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it answers."""
        modules = (
            f"module-native-protocol-unix socket={self._socket} auth-anonymous=1",
            "module-null-sink sink_name=speaker norewinds=1",
            "module-null-sink sink_name=cable norewinds=1",
            "module-remap-source source_name=virtual_mic master=cable.monitor",
        )
        options = [option for module in modules for option in ("-L", module)]
        command = [self._program, "-n", "--daemonize=no", "--exit-idle-time=-1", *options]
        with open(self._folder / "pulseaudio.log", "ab") as log:
            self._server = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        wait_until(lambda: self._control("info") == 0, "an answer of PulseAudio")
        assert self._control("set-default-sink", "speaker") == 0
        assert self._control("set-default-source", "virtual_mic") == 0

    def stop(self) -> None:
        """End it as a crash would."""
        if self._recorder is not None:
            self._recorder.kill()
            self._recorder.wait()
            self._recorder = None
        self._server.kill()
        self._server.wait()
        self._socket.unlink(missing_ok=True)

    def play(self, file: Path) -> None:
        """Say a sound file into the microphone, to its end."""
        command = ["paplay", "--device=cable", str(file)]
        subprocess.run(command, env=self.environment, check=True, timeout=PATIENCE_S)

    def record(self) -> None:
        """Record the loudspeaker from now on."""
        raw = ["--raw", "--format=s16le", f"--rate={RECORDING_RATE}", "--channels=1", "--latency-msec=50"]
        command = ["parec", "--device=speaker.monitor", *raw, str(self.recording)]
        self._recorder = subprocess.Popen(command, env=self.environment)
        self.wait_recorded(100)

    def wait_recorded(self, ms: int) -> None:
        """Until so much more has been recorded."""
        enough = len(self.recorded()) + ms * RECORDING_RATE // 1000
        wait_until(lambda: len(self.recorded()) >= enough, "more of the recording")

    def recorded(self) -> NDArray[np.int16]:
        """What the loudspeaker gave so far, int16 [n] at 16 kHz."""
        data = self.recording.read_bytes() if self.recording.exists() else b""
        return np.frombuffer(data[: len(data) // 2 * 2], np.int16)

    def _control(self, *words: str) -> int:
        command = ["pactl", *words]
        quiet = subprocess.DEVNULL
        return subprocess.run(command, env=self.environment, stdout=quiet, stderr=quiet, timeout=PATIENCE_S).returncode
