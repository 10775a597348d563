"""The two streams of a conversation on a machine's own devices: microphone blocks of 20 ms go into a bounded
`Capture`, the `Loudspeaker` gives blocks of 10 ms. PortAudio's threads call in here and never wait. Both streams are
opened and closed together, because devices that appeared are seen only after PortAudio was started anew.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...models.errors import DeviceError
from .devices import AudioDevice, Way, audio_devices, choose, look_again, quiet_stderr, remembered, sound_library
from .loudspeaker import Loudspeaker

INPUT_BLOCK_MS = 20
OUTPUT_BLOCK_MS = 10
OUTPUT_LATENCY_S = 0.03
"""Asked of the device: with one block it stays below the 50 ms within which a cut-off reply is silent."""
MAX_LATENCY_MS = 1000
"""Some drivers report nonsense for when a block will sound; beyond this the stream's own figure is used."""
CAPTURE_LIMIT_MS = 5_000
SILENT_S = 1.0
"""A stream that does not ask for blocks so long is taken for lost."""
WAKING_S = 5.0
"""The same while a device wakes up: Bluetooth and suspended sinks take their time."""

Block = NDArray[np.int16]


class Capture:
    """Microphone blocks on their way to the event loop: at most 5 s; what comes when it is full is lost and counted.
    `push` is called by the device's thread."""

    def __init__(self, wake: Callable[[], object], limit_ms: int = CAPTURE_LIMIT_MS) -> None:
        self._wake = wake
        self._limit_ms = limit_ms
        self._lock = threading.Lock()
        self._blocks: deque[Block] = deque()
        self._waiting_ms = self._lost_ms = 0.0

    def push(self, block: Block, sample_rate: int) -> None:
        """A block [n] or [n, channels] at `sample_rate` Hz, which nobody else changes afterwards."""
        ms = len(block) * 1000 / sample_rate
        with self._lock:
            if self._waiting_ms + ms > self._limit_ms:
                self._lost_ms += ms
                return
            self._blocks.append(block)
            self._waiting_ms += ms
            first = len(self._blocks) == 1
        if first:
            self._wake()

    def take(self) -> list[Block]:
        """All that waits, in order."""
        with self._lock:
            blocks = list(self._blocks)
            self._blocks.clear()
            self._waiting_ms = 0.0
        return blocks

    def take_lost_ms(self) -> int:
        """How much was lost since the last call."""
        with self._lock:
            lost, self._lost_ms = self._lost_ms, 0.0
        return round(lost)


@dataclass(frozen=True, slots=True)
class _Format:
    device: AudioDevice
    rate: int
    channels: int


class SoundCard:
    """Microphone and loudspeaker, chosen as `choose` does. Without a loudspeaker (`None`) nothing is played."""

    def __init__(
        self,
        capture: Capture,
        loudspeaker: Loudspeaker | None,
        input_device: str | None = None,
        output_device: str | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._capture, self._loudspeaker = capture, loudspeaker
        self._wanted = {Way.INPUT: input_device, Way.OUTPUT: output_device}
        self._now_s = now_s
        self._streams: list[Any] = []
        self._using = threading.Lock()
        self._opened_s = 0.0
        self._called_s: dict[Way, float] = {}
        self.names = ""
        """What is open, for people."""
        self.input_rate = 0
        self.overflows = 0
        """How often the system lost microphone audio before it came here."""
        self.underflows = 0
        """How often the loudspeaker ran dry because its thread came too late."""

    def open(self) -> None:
        """Open and start both streams. DeviceError or InputError with one clear line."""
        with self._using:
            self._open()

    def open_again(self) -> None:
        """Look for the devices anew and open them. DeviceError or InputError if that is not possible yet."""
        with self._using, quiet_stderr():
            self._close()
            look_again()
            self._open()

    def close(self) -> None:
        """Silence, at once. What a vanished device says to that does not matter."""
        with self._using:
            self._close()

    def lost(self) -> str | None:
        """Why the devices are taken for lost, or None while they work."""
        now_s = self._now_s()
        patience_s = SILENT_S if now_s - self._opened_s > WAKING_S else WAKING_S
        for way, called_s in self._called_s.items():
            if now_s - called_s > patience_s:
                return f"the {way.value} gives no sign"
        if not all(stream.active for stream in self._streams):
            return "its stream ended"
        return None

    def _open(self) -> None:
        library = sound_library()
        devices = audio_devices()
        heard = _format(devices, Way.INPUT, self._wanted[Way.INPUT])
        names = f"microphone: {heard.device.name} at {heard.rate} Hz"
        opened = {Way.INPUT: heard.device}
        try:
            with quiet_stderr():
                self._streams.append(self._input_stream(library, heard))
                if self._loudspeaker is not None:
                    spoken = _format(devices, Way.OUTPUT, self._wanted[Way.OUTPUT])
                    opened[Way.OUTPUT] = spoken.device
                    names += f", loudspeaker: {spoken.device.name} at {spoken.rate} Hz"
                    self._streams.append(self._output_stream(library, spoken, self._loudspeaker))
                self._opened_s = self._now_s()
                self._called_s = {way: self._opened_s for way, _ in zip(Way, self._streams, strict=False)}
                for stream in self._streams:
                    stream.start()
        except library.PortAudioError as error:
            self._close()
            raise DeviceError(f"{names}: cannot be opened ({error}); another program may hold it.") from None
        except BaseException:
            self._close()
            raise
        self.names, self.input_rate = names, heard.rate
        for way, device in opened.items():
            if self._wanted[way] is not None:  # an index may mean another device when the list is made anew
                self._wanted[way] = remembered(devices, way, device)

    def _close(self) -> None:
        for stream in self._streams:
            stream.abort(ignore_errors=True)
            stream.close(ignore_errors=True)
        self._streams.clear()
        self._called_s.clear()

    def _input_stream(self, library: Any, wanted: _Format) -> Any:
        def heard(block: Block, _frames: int, _time: Any, status: Any) -> None:
            self._called_s[Way.INPUT] = self._now_s()
            self.overflows += bool(status.input_overflow)
            self._capture.push(block.copy(), wanted.rate)

        return library.InputStream(
            samplerate=wanted.rate,
            blocksize=wanted.rate * INPUT_BLOCK_MS // 1000,
            device=wanted.device.index,
            channels=wanted.channels,
            dtype="int16",
            latency="low",
            callback=heard,
        )

    def _output_stream(self, library: Any, wanted: _Format, loudspeaker: Loudspeaker) -> Any:
        def spoken(block: Block, frames: int, times: Any, status: Any) -> None:
            self._called_s[Way.OUTPUT] = self._now_s()
            self.underflows += bool(status.output_underflow)
            ahead_ms = (times.outputBufferDacTime - times.currentTime) * 1000
            if not 0 < ahead_ms <= MAX_LATENCY_MS:
                ahead_ms = stream.latency * 1000
            block[:] = loudspeaker.pull(frames, ahead_ms)[:, None]

        loudspeaker.open(wanted.rate)
        stream = library.OutputStream(
            samplerate=wanted.rate,
            blocksize=wanted.rate * OUTPUT_BLOCK_MS // 1000,
            device=wanted.device.index,
            channels=wanted.channels,
            dtype="int16",
            latency=OUTPUT_LATENCY_S,
            callback=spoken,
        )
        return stream


def check_devices(input_device: str | None, output_device: str | None, ways: tuple[Way, ...] = tuple(Way)) -> None:
    """DeviceError or InputError, one line, if these devices cannot be had; nothing is opened."""
    devices = audio_devices()
    for way in ways:
        _format(devices, way, input_device if way is Way.INPUT else output_device)


def _format(devices: tuple[AudioDevice, ...], way: Way, wanted: str | None) -> _Format:
    """The rate and channels in which this device can be used: mono if it can, its own rate if it can."""
    library = sound_library()
    device = choose(devices, way, wanted)
    check = library.check_input_settings if way is Way.INPUT else library.check_output_settings
    reason = "no rate fits"
    with quiet_stderr():
        for channels in (1, 2):
            for rate in dict.fromkeys((device.sample_rate, 48_000, 44_100, 16_000)):
                try:
                    check(device=device.index, channels=channels, dtype="int16", samplerate=rate)
                except library.PortAudioError as error:
                    reason = str(error)
                else:
                    return _Format(device, rate, channels)
    raise DeviceError(f"the {way.value} {device.name} cannot be used ({reason}); another program may hold it.")
