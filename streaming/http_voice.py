"""Speech from an HTTP endpoint in the shape of `POST /v1/audio/speech`, which hosted services and many local servers
share: the text goes out as JSON, raw int16 mono at 24 kHz comes back while it is made. An `HttpEndpoint` holds the
connections for all sessions; each session has an `HttpSynthesizer` on it. Cancelling closes the connection of the
text that is being spoken. Such endpoints tell no word times: they are estimated by letters once the audio is
complete, so a text that is cut off before its audio has arrived counts as not heard."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Self

import httpx2
import numpy as np
from numpy.typing import NDArray

from ..models.errors import DeviceError, InputError
from .synthesis import AS_SET, Manner, SpeechChunk
from .voice_frames import check_length
from .word_times import WordEvent, WordTimer

SAMPLE_RATE = 24_000
_MAX_SPEECH_S = 300
_MAX_ERROR_CHARACTERS = 300
_SLOWEST, _FASTEST = 0.25, 4.0  # of the field `speed`
_AUDIBLE_LEVEL = 100
_FILE_HEADS = {b"RIFF": "a WAV file", b"OggS": "an Ogg file", b"fLaC": "a FLAC file", b"ID3": "an MP3 file"}
_ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class HttpVoice:
    """A voice of an endpoint: `base_url` ends before /audio/speech; `api_key_variable` names the environment variable
    that holds the key, None sends no key; `rate` and `amplitude` are factors; `more_fields` go into each request.
    A `language`, such as en, says that numbers and units are to be put into words for it; None leaves it to the endpoint.
    An answer may let wait for at most `timeout_s` at its start and between two pieces."""

    base_url: str
    model: str
    voice: str
    api_key_variable: str | None = None
    rate: float = 1.0
    amplitude: float = 1.0
    timeout_s: float = 10.0
    connect_timeout_s: float = 5.0
    language: str | None = None
    more_fields: Mapping[str, object] = field(default_factory=lambda: {"stream": True})


class _ConnectionLost(DeviceError):
    pass


class HttpEndpoint:
    """The connections to the endpoint of `voice`. Belongs to one event loop; `close` it there. Raises InputError for a
    URL or a key that cannot be used."""

    def __init__(self, voice: HttpVoice) -> None:
        self.voice = voice
        base = httpx2.URL(voice.base_url.rstrip("/"))
        if base.scheme not in ("http", "https") or not base.host:
            raise InputError(f"no speech endpoint at '{voice.base_url}'; expected such as http://localhost:8880/v1")
        self._url = f"{base}/audio/speech"
        headers = {}
        if voice.api_key_variable is not None:
            key = os.environ.get(voice.api_key_variable, "").strip()
            if not key or not key.isascii() or not key.isprintable():
                raise InputError(
                    f"the environment variable {voice.api_key_variable} holds no key for {base.host}; set it, or name another"
                )
            headers["Authorization"] = f"Bearer {key}"
        # Certificates take long to load and are of no use without TLS; redirects are not followed.
        self._client = httpx2.AsyncClient(
            headers=headers,
            timeout=httpx2.Timeout(voice.timeout_s, connect=voice.connect_timeout_s),
            verify=base.scheme == "https",
        )

    async def start(self) -> None:
        """Nothing to wait for: the first text opens the first connection."""

    async def close(self) -> None:
        """Close all connections. Texts that are being spoken end with DeviceError."""
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def fetch(self, text: str, rate: float, pieces: asyncio.Queue[bytes | DeviceError | None]) -> None:
        """Put the bytes of the speech of `text` into `pieces` as they come, then None, or what went wrong."""
        body = {
            **self.voice.more_fields,
            "model": self.voice.model,
            "input": text,
            "voice": self.voice.voice,
            "response_format": "pcm",
        }
        if rate != 1.0:
            body["speed"] = round(min(max(rate, _SLOWEST), _FASTEST), 3)
        try:
            async with self._client.stream("POST", self._url, json=body) as answer:
                await self._check(answer)
                n_bytes = 0
                async for piece in answer.aiter_bytes():
                    n_bytes += len(piece)
                    if n_bytes > _MAX_SPEECH_S * SAMPLE_RATE * 2:
                        raise DeviceError(
                            f"{self._url} sends more than {_MAX_SPEECH_S} s of speech for {len(text)} characters; expected int16"
                        )
                    pieces.put_nowait(piece)
            pieces.put_nowait(None)
        except DeviceError as error:
            pieces.put_nowait(error)
        except httpx2.TimeoutException as error:
            limit = self.voice.connect_timeout_s if isinstance(error, httpx2.ConnectTimeout) else self.voice.timeout_s
            pieces.put_nowait(DeviceError(f"{self._url} sent nothing for {limit:g} s; try again, or raise the timeout"))
        except httpx2.ConnectError as error:
            pieces.put_nowait(DeviceError(f"{self._url} cannot be reached ({error}); is the server running?"))
        except Exception as error:  # the client and what it stands on raise many kinds
            reason = str(error) or type(error).__name__
            pieces.put_nowait(_ConnectionLost(f"{self._url} broke off ({reason}); say it again"))

    async def _check(self, answer: httpx2.Response) -> None:
        kind = answer.headers.get("content-type", "").split(";")[0]
        refused = answer.status_code != 200
        if not refused and kind != "application/json" and not kind.startswith("text/"):
            return
        said = bytearray()
        async for piece in answer.aiter_bytes():
            said += piece
            if len(said) > 4 * _MAX_ERROR_CHARACTERS:
                break
        words = " ".join(said.decode(errors="replace").split())[:_MAX_ERROR_CHARACTERS]
        if not refused:
            raise DeviceError(f"{self._url} answered with {kind}, not with audio: {words}; expected raw int16")
        hint = ""
        if answer.status_code in (401, 403):
            hint = f"; check the key in {self.voice.api_key_variable or 'the environment and name its variable'}"
        elif answer.status_code == 404:
            hint = "; check the base URL, the model and the voice"
        raise DeviceError(f"{self._url} refused the text with status {answer.status_code}: {words or 'no reason'}{hint}")


class _Speech:
    """One text on its way: the bytes that came for it."""

    def __init__(self) -> None:
        self.pieces: asyncio.Queue[bytes | DeviceError | None] = asyncio.Queue()
        self.cancelled = False
        self.fetching: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        self.cancelled = True
        self.pieces.put_nowait(None)
        if self.fetching is not None:
            self.fetching.cancel()

    async def stop(self) -> None:
        """End the connection if it still runs, and wait for it."""
        if self.fetching is not None:
            self.fetching.cancel()
            await asyncio.wait([self.fetching])


class HttpSynthesizer:
    """One session's voice on a shared `HttpEndpoint`. Of a manner it takes rate and amplitude."""

    def __init__(self, endpoint: HttpEndpoint) -> None:
        self._endpoint = endpoint
        self._one_text = asyncio.Lock()
        self._speaking: set[_Speech] = set()

    @property
    def sample_rate(self) -> int:
        """Samples per second of every chunk: 24,000."""
        return SAMPLE_RATE

    async def synthesize(self, text: str, *, manner: Manner = AS_SET) -> AsyncGenerator[SpeechChunk, None]:
        """Speak `text`: chunks of pcm int16 [n] as they come, the words with the last. Raises InputError for a text of
        more than 2,000 characters, DeviceError, in one line, for everything that an endpoint can do wrong."""
        check_length(text)
        speech = _Speech()
        self._speaking.add(speech)
        try:
            async with self._one_text:
                for attempt in range(_ATTEMPTS):
                    heard = False
                    try:
                        async for chunk in self._attempt(text, manner, speech):
                            heard = True
                            yield chunk
                        return
                    except _ConnectionLost:
                        if heard or attempt + 1 == _ATTEMPTS:
                            raise
        finally:
            self._speaking.discard(speech)
            await speech.stop()

    def cancel(self) -> None:
        """Silence at once every text that was begun: its connection is closed and no further chunk is yielded."""
        for speech in self._speaking:
            speech.cancel()

    async def _attempt(self, text: str, manner: Manner, speech: _Speech) -> AsyncGenerator[SpeechChunk, None]:
        if speech.cancelled:
            return
        voice = self._endpoint.voice
        decoder = _Decoder(text, voice.amplitude * manner.amplitude)
        speech.fetching = asyncio.create_task(self._endpoint.fetch(text, voice.rate * manner.rate, speech.pieces))
        while (piece := await speech.pieces.get()) is not None and not speech.cancelled:
            if isinstance(piece, DeviceError):
                raise piece
            pcm = decoder.push(piece)
            if len(pcm):
                yield SpeechChunk(pcm)
            if speech.cancelled:
                return
        if not speech.cancelled:
            yield decoder.finish()


class _Decoder:
    """Bytes of int16 in pieces of any size; the words are shared out over what sounds."""

    def __init__(self, text: str, amplitude: float) -> None:
        self._timer = WordTimer(text, SAMPLE_RATE)
        self._text, self._amplitude = text, amplitude
        self._rest = b""
        self._n_samples = 0
        self._began = False

    def push(self, piece: bytes) -> NDArray[np.int16]:
        data = self._rest + piece
        if not self._n_samples:
            self._refuse_files(data)
            if len(data) < 4:
                self._rest = data
                return np.zeros(0, np.int16)
        even = len(data) - len(data) % 2
        self._rest = data[even:]
        pcm = np.frombuffer(data[:even], "<i2").astype(np.int16)
        if self._amplitude != 1.0:
            pcm = np.clip(pcm * self._amplitude, -32_768, 32_767).astype(np.int16)
        self._timer.push(pcm, self._first_sound(pcm))
        self._n_samples += len(pcm)
        return pcm

    def finish(self) -> SpeechChunk:
        if len(self._rest) % 2 or (self._n_samples == 0 and any(map(str.isalnum, self._text))):
            raise _ConnectionLost(
                f"the speech endpoint sent {2 * self._n_samples + len(self._rest)} bytes; expected int16 samples; say it again"
            )
        pcm = np.frombuffer(self._rest, "<i2").astype(np.int16)
        return SpeechChunk(pcm, (*self._timer.push(pcm, ()), *self._timer.finish()))

    def _first_sound(self, pcm: NDArray[np.int16]) -> tuple[WordEvent, ...]:
        audible = np.flatnonzero(np.abs(pcm.astype(np.int32)) > _AUDIBLE_LEVEL)
        if self._began or not len(audible):
            return ()
        self._began = True
        return (WordEvent(0, self._n_samples + int(audible[0])),)

    def _refuse_files(self, data: bytes) -> None:
        for head, kind in _FILE_HEADS.items():
            if data.startswith(head):
                raise DeviceError(f"the speech endpoint sends {kind}; expected raw int16: is 'pcm' a format it knows?")
