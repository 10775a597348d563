"""WebRTC's echo canceller (AEC3), as LiveKit's Python package brings it: the echo of what is played is subtracted, which
keeps a user who speaks over it understandable. Optional: the extra `aec`.

It takes both sides in frames of 10 ms and finds the delay itself; what is played comes first, by `AHEAD_SAMPLES`, so that a
report that comes late does no harm.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from ..models.errors import DeviceError
from .audio import Samples, int16_from_mono, mono_from_array
from .clock import SAMPLE_RATE, ms_to_samples
from .echo_reference import PlayedSound

FRAME = ms_to_samples(10)
AHEAD_SAMPLES = ms_to_samples(90)


class EchoCanceller:
    """Of one session. DeviceError if the extra is not installed."""

    def __init__(self, played: PlayedSound) -> None:
        library = _library()
        self._frame_of = library.AudioFrame
        self._module = library.AudioProcessingModule(echo_cancellation=True)
        self._played = played
        self._rest: Samples = np.zeros(0, np.float32)
        self._at = 0

    def push(self, samples: Samples) -> Samples:
        """float32 [n] at 16 kHz -> [m], the whole frames of it without the echo."""
        joined = np.concatenate([self._rest, samples])
        whole = len(joined) - len(joined) % FRAME
        self._rest = joined[whole:]
        near = int16_from_mono(joined[:whole])
        start = self._at + AHEAD_SAMPLES
        far = int16_from_mono(self._played.read(start, start + whole))
        self._at += whole
        given = [np.zeros(0, np.int16)]
        for at in range(0, whole, FRAME):
            self._module.process_reverse_stream(self._frame(far[at : at + FRAME]))
            frame = self._frame(near[at : at + FRAME])
            self._module.set_stream_delay_ms(AHEAD_SAMPLES * 1000 // SAMPLE_RATE)
            self._module.process_stream(frame)
            given.append(np.frombuffer(frame.data, np.int16))
        return mono_from_array(np.concatenate(given))

    def _frame(self, pcm: Any) -> Any:
        return self._frame_of(bytearray(pcm.tobytes()), SAMPLE_RATE, 1, FRAME)


def check_installed() -> None:
    """DeviceError, one line, if the extra is not installed."""
    _library()


def _library() -> Any:
    try:
        return importlib.import_module("livekit.rtc")
    except (ImportError, OSError) as error:
        raise DeviceError(
            f"echo cancellation needs the package livekit, which cannot be imported ({error}); "
            "install it with: pip install 'textpro-agent[aec]'"
        ) from error
