"""What `verify` says to a model and what comes back: sentences spoken by espeak-ng, recordings that are here, and each of them
played to a real session at real-time pace, with the times at which its events came.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import soxr
from numpy.typing import NDArray

from ..agent import events
from ..agent.runtime import Runtime
from ..agent.session import Session
from ..agent.session_settings import SessionSettings
from ..agent.tools import Toolbox
from ..engine import Entry
from ..models.presets import TINY_EXAMPLES
from ..streaming.clock import SAMPLE_RATE, SAMPLES_PER_MS
from ..streaming.espeak import EspeakProcess, EspeakSynthesizer
from ..streaming.wav import read_wav

FloatArray = NDArray[np.float32]
Kind = TypeVar("Kind", bound=events.Event)
EXAMPLES = Path(__file__).parents[1] / "examples" / "audio"
"""Recordings of a source tree; an installed package has none."""
EXAMPLE_TEXT = "i lost my keys"
BEFORE_MS, AFTER_MS, PIECE_MS, LONGEST_MS = 400, 1_000, 20, 120_000
ROOM = 1e-4
"""Amplitude of the noise around: no room is perfectly quiet."""
QUIET = 0.02
"""A sample this far below the loudest one is no speech."""


@dataclass(frozen=True, slots=True, eq=False)
class Sound:
    """An utterance, float32 [n] at 16 kHz with quiet around; `text` None where nobody wrote down what is said. `own`: a
    recording of the user's, of which no report tells more than figures."""

    label: str
    samples: FloatArray
    text: str | None
    own: bool = False

    @property
    def end_ms(self) -> float:
        """Where speech ends."""
        loud = np.flatnonzero(np.abs(self.samples) > QUIET * float(np.abs(self.samples).max(initial=1e-9)))
        return float(loud[-1] + 1 if len(loud) else len(self.samples)) / SAMPLES_PER_MS


@dataclass(frozen=True, slots=True, eq=False)
class Played:
    """A sound in a session of its own: its events with their seconds on the clock of `began`, when the first sample was
    spoken, and the rows of the context at the end."""

    sound: Sound
    began: float
    said: tuple[tuple[float, events.Event], ...]
    entries: tuple[Entry, ...]

    def last(self, kind: type[Kind]) -> Kind | None:
        """The last event of a kind."""
        return next((event for _, event in reversed(self.said) if isinstance(event, kind)), None)

    def ms_of_first(self, kind: type[events.Event]) -> float | None:
        """When the first event of a kind came, in milliseconds from the first sample."""
        return next(((at - self.began) * 1000 for at, event in self.said if isinstance(event, kind)), None)


def espeak_is_here() -> bool:
    """Whether the extra is installed."""
    return importlib.util.find_spec("espeakng_loader") is not None


async def synthesized(count: int) -> AsyncIterator[Sound]:
    """The first sentences that the bundled model knows, said by espeak-ng's plain voice. DeviceError where it does not
    speak."""
    async with EspeakProcess() as process:
        voice = EspeakSynthesizer(process)
        for text in TINY_EXAMPLES[:count]:
            pcm = [chunk.pcm async for chunk in voice.synthesize(text)]
            samples = np.concatenate(pcm).astype(np.float32) / np.float32(32768)
            yield Sound(f"espeak-ng: {text}", _in_a_room(_at_16_khz(samples, voice.sample_rate)), text)


def bundled() -> list[Sound]:
    """The example recordings, where they are."""
    return [Sound(f"example: {path.stem}", _in_a_room(_read(path)), EXAMPLE_TEXT) for path in sorted(EXAMPLES.glob("*.wav"))]


def recorded(paths: tuple[Path, ...]) -> list[Sound]:
    """Recordings of the user's; the words stand in a .txt file beside one, or nowhere. AudioError for what is no sound."""
    found = []
    for index, path in enumerate(paths, 1):
        words = path.with_suffix(".txt")
        text = words.read_text(encoding="utf-8").strip() if words.is_file() else None
        found.append(Sound(f"own recording {index}", _in_a_room(_read(path)), text, own=True))
    return found


async def play(runtime: Runtime, sound: Sound, max_tokens: int, realtime: bool) -> Played:
    """Say a sound to a session without tools and with the instructions of the checkpoint's template, then silence until
    the reply is over."""
    settings = SessionSettings(instructions=runtime.checkpoint.chat.default_system, max_reply_tokens=max_tokens)
    session = Session(runtime.engine, runtime.checkpoint, None, Toolbox([]), settings)
    said: list[tuple[float, events.Event]] = []
    loop = asyncio.get_running_loop()

    async def listen() -> None:
        async for event in session:
            if not isinstance(event, events.VoiceActivity):
                said.append((loop.time(), event))

    async with session:
        reader = asyncio.create_task(listen())
        began = loop.time()
        await _speak(session, sound.samples, said, began, realtime)
        await session.settled()
        await asyncio.sleep(0)
        entries = session.entries
    await reader
    return Played(sound, began, tuple(said), entries)


async def _speak(
    session: Session, samples: FloatArray, said: list[tuple[float, events.Event]], began: float, realtime: bool
) -> None:
    """Piece by piece until all of it is said and the turn is answered, dropped or failed."""
    loop, size = asyncio.get_running_loop(), PIECE_MS * SAMPLES_PER_MS
    ends = (events.Metrics, events.TurnDropped, events.Failed)
    for fed_ms in range(0, LONGEST_MS, PIECE_MS):
        at = fed_ms * SAMPLES_PER_MS
        piece = samples[at : at + size]
        if not len(piece) and any(isinstance(event, ends) for _, event in said):
            return
        if any(isinstance(event, events.Failed) for _, event in said):
            return
        if realtime:
            await asyncio.sleep(began + (fed_ms + PIECE_MS) / 1000 - loop.time())
        await session.send_audio(np.pad(piece, (0, size - len(piece))), SAMPLE_RATE)
        if not realtime:
            await session.settled()
            await asyncio.sleep(0)


def _read(path: Path) -> FloatArray:
    return np.concatenate([frame.samples for frame in read_wav(path).frames]).astype(np.float32)


def _at_16_khz(samples: FloatArray, rate: int) -> FloatArray:
    resampled: FloatArray = soxr.resample(samples, rate, SAMPLE_RATE).astype(np.float32)
    return resampled


def _in_a_room(samples: FloatArray) -> FloatArray:
    """With quiet, but not silence, before and after."""
    padded = np.pad(samples, (BEFORE_MS * SAMPLES_PER_MS, AFTER_MS * SAMPLES_PER_MS))
    noise = np.random.default_rng(0).standard_normal(len(padded)).astype(np.float32)
    return padded + np.float32(ROOM) * noise
