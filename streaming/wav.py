"""Sound files at the edge: reading any file that libsndfile reads as mono 16 kHz blocks through the same
conversion and resampling as live audio, and writing replies as 16-bit wav. A file is checked before the
first block is handed out; it is read block by block, so a two-hour file needs no more memory than a short
one."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from ..models.errors import AudioError
from .audio import AudioFrame, check_sample_rate, mono_from_array
from .clock import SAMPLE_RATE
from .resample import ResampleStream

MAX_DURATION_S = 2 * 60 * 60
BLOCK_MS = 20


@dataclass(frozen=True, slots=True)
class WavAudio:
    """An opened sound file: what it says of itself, and its samples."""

    frames: Iterator[AudioFrame]  # mono, 16 kHz, in order from sample 0; AudioError where the file breaks
    sample_rate: int  # Hz, of the file
    channels: int  # of the file
    duration_ms: int  # by the file's header


def read_wav(path: str | Path, block_ms: int = BLOCK_MS) -> WavAudio:
    """Open a sound file of any rate and channels.

    AudioError, one line, if it is missing, empty, broken, no sound file, longer than 2 h, or of a rate
    outside 4..384 kHz.
    """
    path = Path(path)
    if path.is_dir():
        raise AudioError(f"{path}: that is a folder; give the path of a sound file.")
    if not path.is_file():
        raise AudioError(f"{path}: no such file; give the path of a sound file.")
    if path.stat().st_size == 0:
        raise AudioError(f"{path}: the file is empty; expected a sound file.")
    file = _open(path)
    try:
        if file.frames <= 0:
            raise AudioError(f"{path}: the file holds no samples; record it again.")
        _check_file(path, file)
    except AudioError:
        file.close()
        raise
    duration_ms = file.frames * 1000 // file.samplerate
    return WavAudio(_blocks(path, file, block_ms), file.samplerate, file.channels, duration_ms)


def write_wav(path: str | Path, pcm: NDArray[np.int16], rate: int) -> None:
    """Write int16 mono [n] or [n, channels] at `rate` Hz as a 16-bit wav file.

    AudioError if it cannot be written.
    """
    if pcm.dtype != np.int16:
        raise AudioError(
            f"{path}: write_wav takes int16 samples, not {pcm.dtype}; convert with int16_from_mono."
        )
    check_sample_rate(rate)
    try:
        soundfile.write(path, pcm, rate, format="WAV", subtype="PCM_16")
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioError(
            f"{path}: cannot be written ({_one_line(error)}); check the folder and its rights."
        ) from error


def _open(path: Path) -> Any:
    try:
        return soundfile.SoundFile(path)
    except (soundfile.SoundFileError, OSError, TypeError, ValueError) as error:
        raise AudioError(
            f"{path}: not a sound file that can be read ({_one_line(error)}); expected WAV, FLAC, OGG, MP3 or AIFF, so convert "
            f"it, as by: ffmpeg -i {shlex.quote(str(path))} converted.wav"
        ) from error


def _check_file(path: Path, file: Any) -> None:
    try:
        check_sample_rate(file.samplerate)
    except AudioError as error:
        raise AudioError(f"{path}: {error}") from None
    if file.frames > MAX_DURATION_S * file.samplerate:
        raise AudioError(f"{path}: longer than {MAX_DURATION_S // 3600} h; cut the recording.")


def _blocks(path: Path, file: Any, block_ms: int) -> Iterator[AudioFrame]:
    resampler = ResampleStream(file.samplerate, SAMPLE_RATE)
    block_frames = max(1, file.samplerate * block_ms // 1000)
    start_samples = 0
    with file:
        while True:
            try:
                block = file.read(block_frames, dtype="float32", always_2d=True)
                samples = resampler.push(mono_from_array(block)) if len(block) else resampler.flush()
            except (soundfile.SoundFileError, AudioError) as error:
                raise AudioError(f"{path}: cannot be read to its end ({_one_line(error)}).") from error
            if len(samples):
                yield AudioFrame(samples, start_samples)
                start_samples += len(samples)
            if len(block) == 0:
                return


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
