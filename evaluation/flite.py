"""Voices that no training hears and that are not espeak's: CMU flite, called as a program where it is
installed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from ..models.errors import DeviceError
from ..streaming.clock import SAMPLE_RATE

PROGRAM = "flite"
FLITE_VOICES = ("slt", "awb", "rms", "kal16")
_TIME_LIMIT_S = 60


@cache
def flite_voices() -> tuple[str, ...]:
    """Those of `FLITE_VOICES` that this machine can speak with; none without the program."""
    if shutil.which(PROGRAM) is None:
        return ()
    listed = subprocess.run([PROGRAM, "-lv"], capture_output=True, text=True, timeout=_TIME_LIMIT_S, check=False)
    return tuple(voice for voice in FLITE_VOICES if voice in listed.stdout.split())


def speak(text: str, voice: str) -> NDArray[np.float32]:
    """`text` as float32 [n] at 16 kHz. DeviceError where flite fails."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "speech.wav"
        command = [PROGRAM, "-voice", voice, "-t", text, "-o", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIME_LIMIT_S, check=False)
        if done.returncode or not file.is_file():
            raise DeviceError(f"flite cannot say {text!r} as {voice} ({done.stderr.strip()}): try it by hand")
        samples, rate = soundfile.read(file, dtype="float32")
    resampled = soxr.resample(samples, rate, SAMPLE_RATE) if rate != SAMPLE_RATE else samples
    return np.asarray(resampled, np.float32)
