"""The streamed HTTP voice against a real local server: what it asks, what it hears, and what goes wrong on the way."""

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from espeak_cases import QUESTION, check_words
from speech_server import PIECE, Answer, SpeechServer, serving, speak, tone
from textpro.models.errors import DeviceError, InputError, TextProError
from textpro.streaming import http_voice
from textpro.streaming.espeak_frames import EspeakVoice
from textpro.streaming.http_voice import HttpEndpoint, HttpSynthesizer, HttpVoice
from textpro.streaming.synthesis import Manner, SpeechChunk
from textpro.streaming.voices import VoiceSource

Use = Callable[[HttpSynthesizer], Awaitable[None]]


def voice_of(server: SpeechServer, **settings: object) -> HttpVoice:
    return HttpVoice(server.url, "some-model", "some-voice", **settings)  # type: ignore[arg-type]


def with_voice(voice: HttpVoice, use: Use) -> None:
    async def run() -> None:
        async with HttpEndpoint(voice) as endpoint:
            await use(HttpSynthesizer(endpoint))

    asyncio.run(run())


async def say(synthesizer: HttpSynthesizer, text: str, **manner: float) -> list[SpeechChunk]:
    return [chunk async for chunk in synthesizer.synthesize(text, manner=Manner(**manner))]  # type: ignore[arg-type]


def pcm_of(chunks: list[SpeechChunk]) -> np.ndarray:
    return np.concatenate([chunk.pcm for chunk in chunks])


def error_of(voice: HttpVoice, text: str = QUESTION) -> str:
    """The one line that the voice fails with."""

    async def fail(synthesizer: HttpSynthesizer) -> None:
        with pytest.raises(DeviceError) as caught:
            await say(synthesizer, text)
        messages.append(str(caught.value))

    messages: list[str] = []
    with_voice(voice, fail)
    assert "\n" not in messages[0]
    return messages[0]


def test_the_audio_is_the_servers_and_each_word_has_a_time() -> None:
    async def check(synthesizer: HttpSynthesizer) -> None:
        chunks = await say(synthesizer, QUESTION)
        pcm = pcm_of(chunks)
        assert pcm.tobytes() == tone(PIECE * len(QUESTION.split()))
        check_words(QUESTION, [word for chunk in chunks for word in chunk.words], len(pcm))
        assert chunks[-1].words[-1].end_samples > 0.9 * len(pcm)

    with serving(speak) as server:
        with_voice(voice_of(server), check)
        assert server.requests[0][0] == "/v1/audio/speech"
        assert server.requests[0][2] == {
            "model": "some-model",
            "voice": "some-voice",
            "input": QUESTION,
            "response_format": "pcm",
            "stream": True,
        }
        assert "Authorization" not in server.requests[0][1]


def test_audio_is_heard_while_the_server_still_makes_the_rest() -> None:
    heard = threading.Event()

    def slow(answer: Answer) -> None:
        answer.begin()
        answer.piece(tone(PIECE))
        assert heard.wait(20)
        answer.piece(tone(PIECE))
        answer.end()

    async def check(synthesizer: HttpSynthesizer) -> None:
        speech = synthesizer.synthesize("hello there")
        first = await anext(speech)
        assert len(first.pcm) == PIECE
        heard.set()
        assert sum([len(chunk.pcm) async for chunk in speech]) == PIECE

    with serving(slow) as server:
        with_voice(voice_of(server, timeout_s=20), check)


def test_cancel_ends_the_iterator_at_once_and_closes_the_connection() -> None:
    def endless(answer: Answer) -> None:
        answer.begin()
        answer.piece(tone(PIECE))
        answer.wait_closed()

    async def silent_after_s(synthesizer: HttpSynthesizer) -> float:
        speech = synthesizer.synthesize(QUESTION)
        await anext(speech)
        waiting = asyncio.ensure_future(anext(speech, None))
        await asyncio.sleep(0)
        cancelled = time.perf_counter()
        synthesizer.cancel()
        assert await waiting is None
        return time.perf_counter() - cancelled

    async def check(synthesizer: HttpSynthesizer) -> None:
        assert min([await silent_after_s(synthesizer) for _ in range(3)]) < 0.05
        assert await asyncio.to_thread(server.closed.wait, 20)
        server.script[:] = [speak]
        assert len(pcm_of(await say(synthesizer, "and now"))) == 2 * PIECE

    with serving(endless) as server:
        with_voice(voice_of(server, timeout_s=20), check)


def test_no_chunk_that_waits_is_yielded_after_cancel() -> None:
    async def check(synthesizer: HttpSynthesizer) -> None:
        speech = synthesizer.synthesize(QUESTION)
        await anext(speech)
        assert await asyncio.to_thread(all_sent.wait, 20)
        await asyncio.sleep(0)
        synthesizer.cancel()
        assert [chunk async for chunk in speech] == []

    def speak_and_tell(answer: Answer) -> None:
        speak(answer)
        all_sent.set()

    all_sent = threading.Event()
    with serving(speak_and_tell) as server:
        with_voice(voice_of(server), check)


def test_cancel_silences_texts_that_wait_for_their_turn() -> None:
    def endless(answer: Answer) -> None:
        answer.begin()
        answer.piece(tone(PIECE))
        answer.wait_closed()

    async def check(synthesizer: HttpSynthesizer) -> None:
        first = synthesizer.synthesize("one")
        await anext(first)
        second = asyncio.create_task(say(synthesizer, "two"))
        await asyncio.sleep(0)
        synthesizer.cancel()
        assert await anext(first, None) is None
        assert await second == []

    with serving(endless) as server:
        with_voice(voice_of(server, timeout_s=20), check)
        assert len(server.requests) == 1


def test_texts_asked_for_at_once_are_spoken_one_after_the_other() -> None:
    async def check(synthesizer: HttpSynthesizer) -> None:
        spoken = await asyncio.gather(*(say(synthesizer, "word " * count) for count in (3, 1, 2)))
        assert [len(pcm_of(chunks)) // PIECE for chunks in spoken] == [3, 1, 2]

    with serving(speak) as server:
        with_voice(voice_of(server), check)
        assert [str(fields["input"]).count("word") for _, _, fields in server.requests] == [3, 1, 2]


def test_the_key_comes_from_its_variable_and_never_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SPEECH_KEY", "very-secret")
    with serving(speak) as server:
        with_voice(voice_of(server, api_key_variable="MY_SPEECH_KEY"), lambda synthesizer: say(synthesizer, "hi"))
        assert server.requests[0][1]["Authorization"] == "Bearer very-secret"
    with serving(lambda answer: answer.refuse(401, "wrong key")) as server:
        message = error_of(voice_of(server, api_key_variable="MY_SPEECH_KEY"))
        assert "401" in message and "MY_SPEECH_KEY" in message and "very-secret" not in message


def test_what_cannot_be_used_is_refused_before_a_text_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_SPEECH_KEY", raising=False)
    with pytest.raises(InputError, match="MY_SPEECH_KEY"):
        HttpEndpoint(HttpVoice("http://localhost/v1", "m", "v", api_key_variable="MY_SPEECH_KEY"))
    with pytest.raises(InputError, match="no speech endpoint at 'localhost'"):
        HttpEndpoint(HttpVoice("localhost", "m", "v"))


@pytest.mark.parametrize(("status", "expected"), [(404, "check the base URL"), (400, "no such voice"), (500, "no such voice")])
def test_a_refusal_is_told_with_its_reason(status: int, expected: str) -> None:
    with serving(lambda answer: answer.refuse(status, "no such voice")) as server:
        message = error_of(voice_of(server))
        assert str(status) in message and expected in message
        assert len(server.requests) == 1


def test_a_server_that_sends_nothing_is_given_up_after_the_timeout() -> None:
    with serving(Answer.wait_closed) as server:
        assert "sent nothing for 0.2 s" in error_of(voice_of(server, timeout_s=0.2))


def test_a_server_that_stops_in_the_middle_is_given_up_after_the_timeout() -> None:
    def stall(answer: Answer) -> None:
        answer.begin()
        answer.piece(tone(PIECE))
        answer.wait_closed()

    with serving(stall) as server:
        assert "sent nothing for 0.2 s" in error_of(voice_of(server, timeout_s=0.2))


def test_no_server_is_told_with_the_address() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    assert f"{url}/audio/speech cannot be reached" in error_of(HttpVoice(url, "m", "v"))


def test_a_connection_that_is_cut_after_audio_ends_the_text_with_an_error() -> None:
    def cut(answer: Answer) -> None:
        answer.begin()
        answer.piece(tone(PIECE))
        answer.cut()

    with serving(cut) as server:
        assert "broke off" in error_of(voice_of(server))
        assert len(server.requests) == 1


def test_a_connection_that_is_cut_before_any_audio_is_tried_once_more() -> None:
    async def check(synthesizer: HttpSynthesizer) -> None:
        assert len(pcm_of(await say(synthesizer, "hello"))) == PIECE

    with serving(Answer.cut, speak) as server:
        with_voice(voice_of(server), check)
        assert len(server.requests) == 2
    with serving(Answer.cut) as server:
        assert "say it again" in error_of(voice_of(server))
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        ("audio/wav", b"RIFF" + bytes(100), "a WAV file"),
        ("audio/mpeg", b"ID3" + bytes(100), "an MP3 file"),
        ("text/html", b"<html>Hello</html>", "text/html"),
        ("application/json", b"{}", "application/json"),
        ("audio/pcm", b"", "expected int16"),
        ("audio/pcm", tone(100) + b"x", "expected int16"),
    ],
)
def test_an_answer_that_is_no_pcm_is_refused(kind: str, data: bytes, expected: str) -> None:
    def answer_so(answer: Answer) -> None:
        answer.begin(kind)
        if data:
            answer.piece(data)
        answer.end()

    with serving(answer_so) as server:
        assert expected in error_of(voice_of(server))


def test_a_server_that_never_ends_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_voice, "_MAX_SPEECH_S", 0.3)
    with serving(speak) as server:
        assert "more than 0.3 s" in error_of(voice_of(server))


def test_a_manner_changes_speed_and_loudness_and_nothing_else() -> None:
    async def check(synthesizer: HttpSynthesizer) -> None:
        plain = pcm_of(await say(synthesizer, QUESTION))
        soft = pcm_of(await say(synthesizer, QUESTION, rate=0.9, amplitude=0.5, pitch=-5, range=-5))
        assert np.abs(soft - plain / 2).max() <= 1
        loud = pcm_of(await say(synthesizer, QUESTION, amplitude=100))
        assert loud.max() == 32_767 and loud.min() == -32_768

    with serving(speak) as server:
        with_voice(voice_of(server), check)
        assert [fields.get("speed") for _, _, fields in server.requests] == [None, 0.9, None]


def test_a_text_that_is_too_long_is_refused() -> None:
    async def check(synthesizer: HttpSynthesizer) -> None:
        with pytest.raises(TextProError, match="split it into clauses"):
            await say(synthesizer, "x" * 2_001)

    with serving(speak) as server:
        with_voice(voice_of(server), check)
        assert not server.requests


@pytest.mark.parametrize(("language", "sent"), [(None, "It costs $5."), ("en", "It costs five dollars.")])
def test_numbers_are_put_into_words_only_for_an_endpoint_with_a_language(language: str | None, sent: str) -> None:
    async def check(voice: HttpVoice) -> None:
        source = VoiceSource(voice)
        await source.start()
        words = [word.text async for chunk in source.synthesizer().synthesize("It costs $5.") for word in chunk.words]
        assert words == ["It", "costs", "$5."]
        await source.close()

    with serving(speak) as server:
        asyncio.run(check(voice_of(server, language=language)))
        assert server.requests[0][2]["input"] == sent


def test_a_session_cannot_speak_with_another_kind_of_voice_than_its_runtime() -> None:
    source = VoiceSource(HttpVoice("http://localhost/v1", "m", "v"))
    with pytest.raises(InputError, match="EspeakVoice here: expected a voice of the HttpVoice"):
        source.synthesizer(EspeakVoice())
