"""Sound on the wire of the Realtime protocol: base64 of 16-bit PCM or G.711, and the playback at the client, which is
estimated from when it was sent unless the client says what it has played.
"""

from __future__ import annotations

import base64
import binascii

import numpy as np
from numpy.typing import NDArray

from ...streaming.audio import int16_from_mono, mono_from_array
from ...streaming.resample import ResampleStream
from ..telephone.g711 import Law, decode, encode
from .config import AudioFormat
from .wire import ProtocolError

Pcm = NDArray[np.int16]
MAX_APPEND_BYTES = 15 * 1024 * 1024
LAWS: dict[str, Law] = {"audio/pcmu": "mulaw", "audio/pcma": "alaw"}


class SoundIn:
    """Decodes one stream of appended audio; half a sample waits for its other half."""

    def __init__(self, audio_format: AudioFormat) -> None:
        self.format = audio_format
        self._half = b""

    def decode(self, audio: str) -> Pcm:
        """base64 -> int16 [n] at the format's rate. ProtocolError for what is no base64."""
        try:
            data = base64.b64decode(audio, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ProtocolError("invalid_value", f"audio is no base64 ({error})", "audio") from None
        if len(data) > MAX_APPEND_BYTES:
            reason = f"audio has {len(data)} bytes: expected at most {MAX_APPEND_BYTES} in one append"
            raise ProtocolError("invalid_value", reason, "audio")
        if self.format.kind in LAWS:
            return decode(data, LAWS[self.format.kind])
        data = self._half + data
        whole = len(data) // 2 * 2
        self._half = data[whole:]
        return np.frombuffer(data[:whole], "<i2").astype(np.int16)


class SoundOut:
    """Encodes the sound of one item of a response."""

    def __init__(self, audio_format: AudioFormat) -> None:
        self._format = audio_format
        self._resampler: ResampleStream | None = None

    def encode(self, pcm: Pcm, rate: int) -> str:
        """int16 [n] at `rate` Hz -> base64 of the format; may be empty while the resampler holds sound back."""
        if self._resampler is None or self._resampler.input_rate != rate:
            self._resampler = ResampleStream(rate, self._format.rate)
        return self._bytes(int16_from_mono(self._resampler.push(mono_from_array(pcm))))

    def rest(self) -> str:
        """What was held back."""
        return "" if self._resampler is None else self._bytes(int16_from_mono(self._resampler.flush()))

    def _bytes(self, pcm: Pcm) -> str:
        law = LAWS.get(self._format.kind)
        return base64.b64encode(pcm.astype("<i2").tobytes() if law is None else encode(pcm, law)).decode()


class Playback:
    """How much of a reply the client has played, as far as can be told from when it was sent."""

    def __init__(self) -> None:
        self.sent_ms = 0.0
        self._ends_at_ms = 0.0

    def send(self, length_ms: float, now_ms: float) -> None:
        """More sound has been sent; it plays at once, or behind what still plays."""
        self.sent_ms += length_ms
        self._ends_at_ms = max(self._ends_at_ms, now_ms) + length_ms

    def played_ms(self, now_ms: float) -> float:
        """The estimate at `now_ms`."""
        return max(0.0, self.sent_ms - max(0.0, self._ends_at_ms - now_ms))

    def go_on(self, played_ms: float, now_ms: float) -> None:
        """It stood still; from now on the rest is played."""
        self._ends_at_ms = now_ms + self.sent_ms - played_ms

    def over_since_ms(self, now_ms: float) -> float:
        """How long ago all of it had been played; 0 while it plays."""
        return max(0.0, now_ms - self._ends_at_ms)
