"""espeak-ng: the binding in a process of its own, and the synthesizer that speaks through the worker
process."""

import asyncio
import contextlib
import importlib.util
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textpro.models.errors import CapacityError, DeviceError, InputError
from textpro.streaming import espeak, espeak_frames
from textpro.streaming.espeak import SAMPLE_RATE, EspeakProcess, EspeakSynthesizer
from textpro.streaming.espeak_frames import Frame, Kind
from textpro.streaming.espeak_worker import (
    UNUSABLE_VARIANTS,
    Espeak,
    EspeakVoice,
    english_accents,
    variants,
)
from textpro.streaming.synthesis import SpeechChunk, WordTime
from textpro.streaming.word_times import WordEvent, WordTimer

QUESTION = "what is twenty three plus forty eight"
LONG = "and so on " * 150
PUZZLES = [
    QUESTION,
    "a cup of the tea that I've had at the end of the day isn't o'clock",
    "the man is one of the people, and it's 3.14 or 1,000; Dr. Smith — yes! e.g. AT&T",
    "héllo  wörld\n\ttwenty-three naïve 你好 🙂 end",
    "\x0180s spoken \x0150p as text",
    "...",
    "—",
    "",
]
TONES = [(165, 50, 50, 100), (200, 80, 90, 140), (215, 35, 95, 190), (120, 25, 15, 55)]


@pytest.fixture
def library() -> None:
    if importlib.util.find_spec("espeakng_loader") is None:
        reason = "espeakng_loader is missing; run: pip install 'textpro-agent[espeak]'"
        if os.environ.get("TEXTPRO_REQUIRE_ALL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)


def check_words(text: str, words: Sequence[WordTime], length_samples: int) -> None:
    assert [word.text for word in words] == text.split()
    assert all(text[word.text_start :][: word.text_length] == word.text for word in words)
    assert all(0 <= word.start_samples <= word.end_samples <= length_samples for word in words)
    assert all(left.end_samples <= right.start_samples for left, right in pairwise(words))


@pytest.mark.usefixtures("library")
class TestBinding:
    @pytest.mark.parametrize("text", PUZZLES)
    def test_each_whitespace_word_has_one_span_in_order(self, text: str) -> None:
        speech = Espeak().synthesize(text, EspeakVoice())
        check_words(text, speech.words, len(speech.pcm))

    def test_words_that_the_library_merges_each_get_some_time(self) -> None:
        speech = Espeak().synthesize("one of the people", EspeakVoice())
        assert all(word.end_samples - word.start_samples > SAMPLE_RATE // 50 for word in speech.words)

    def test_an_event_on_the_space_before_a_word_is_for_that_word(self) -> None:
        words = Espeak().synthesize("it is on. arms", EspeakVoice()).words
        assert words[3].start_samples - words[2].start_samples < SAMPLE_RATE // 8

    def test_a_word_before_a_pause_ends_with_its_sound(self) -> None:
        speech = Espeak().synthesize("It is on. Good night.", EspeakVoice())
        before, after = speech.words[2], speech.words[3]
        pause = speech.pcm[before.end_samples : after.start_samples].astype(int)
        assert len(pause) > SAMPLE_RATE // 10
        assert abs(pause).max() < 200
        tail = speech.pcm[speech.words[-1].end_samples :].astype(int)
        assert len(tail) > 0
        assert abs(tail).max() < 200

    def test_sound_starts_where_the_word_after_a_pause_starts(self) -> None:
        speech = Espeak().synthesize("no, arms", EspeakVoice())
        start = speech.words[1].start_samples
        head = speech.pcm[start : start + SAMPLE_RATE // 10].astype(int)
        assert abs(head).max() > 1_000

    def test_every_accent_and_variant_speaks_all_words_aloud(self) -> None:
        library = Espeak()
        voices = [EspeakVoice(name) for name in english_accents()]
        voices += [EspeakVoice("en-us", variant, *tone) for variant in variants() for tone in TONES[1:]]
        voices += [EspeakVoice("en-gb", variant) for variant in variants()]
        for voice in voices:
            speech = library.synthesize(QUESTION, voice)
            check_words(QUESTION, speech.words, len(speech.pcm))
            shortest = min(word.end_samples - word.start_samples for word in speech.words)
            assert shortest > SAMPLE_RATE // 40, voice
            assert speech.pcm.astype(float).std() > 300, voice

    def test_voices_are_many_and_the_unusable_ones_are_among_them(self) -> None:
        assert {"en-us", "en-gb", "en-gb-scotland", "en-029"} <= set(english_accents())
        assert {"f3", "m3", "klatt4"} <= set(variants())
        assert set(UNUSABLE_VARIANTS) <= set(variants())

    def test_tones_change_the_length_and_the_loudness(self) -> None:
        library = Espeak()
        voices = [EspeakVoice("en-us", None, *tone) for tone in TONES]
        plain, happy, angry, sad = (library.synthesize(QUESTION, voice) for voice in voices)
        assert len(angry.pcm) < len(happy.pcm) < len(plain.pcm) < len(sad.pcm)
        assert angry.pcm.astype(float).std() > plain.pcm.astype(float).std() > sad.pcm.astype(float).std()

    def test_length_and_word_times_do_not_depend_on_what_was_said_before(self) -> None:
        library = Espeak()
        first = library.synthesize(QUESTION, EspeakVoice())
        library.synthesize(LONG[:200], EspeakVoice("en-gb-scotland", "klatt4", 300, 90, 90, 150))
        again = library.synthesize(QUESTION, EspeakVoice())
        assert abs(len(first.pcm) - len(again.pcm)) < SAMPLE_RATE // 100
        for left, right in zip(first.words, again.words, strict=True):
            assert abs(left.start_samples - right.start_samples) < SAMPLE_RATE // 100

    def test_control_characters_do_not_command_the_library(self) -> None:
        library = Espeak()
        spoken = library.synthesize("hello \x01450S there my friend", EspeakVoice())
        plain = library.synthesize("hello 450S there my friend", EspeakVoice())
        assert abs(len(spoken.pcm) - len(plain.pcm)) < SAMPLE_RATE // 100

    def test_a_stop_from_the_callback_leaves_the_library_usable(self) -> None:
        library = Espeak()
        pieces: list[int] = []
        library.stream(LONG, EspeakVoice(), lambda pcm, _: pieces.append(len(pcm)) or len(pieces) < 3)
        assert len(pieces) <= 4
        speech = library.synthesize(QUESTION, EspeakVoice())
        check_words(QUESTION, speech.words, len(speech.pcm))
        assert len(speech.pcm) > SAMPLE_RATE

    def test_an_unknown_voice_is_refused_with_the_known_ones(self) -> None:
        with pytest.raises(InputError, match="en-us"):
            Espeak().synthesize("hello", EspeakVoice("tlh"))
        with pytest.raises(InputError, match="klatt"):
            Espeak().synthesize("hello", EspeakVoice("en-us", "../../etc/passwd"))

    def test_an_error_in_the_callback_is_raised(self) -> None:
        def fail(*_: object) -> bool:
            raise RuntimeError("from the callback")

        with pytest.raises(RuntimeError, match="from the callback"):
            Espeak().stream("hello", EspeakVoice(), fail)


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["one", "of", "the", "—", "3.14", "AT&T"]), max_size=8).map(" ".join),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 30_000)), max_size=8),
    st.lists(st.integers(0, 6_000), max_size=6),
)
def test_word_times_are_ordered_and_do_not_depend_on_how_the_audio_is_cut(
    text: str, raw_events: list[tuple[int, int]], sizes: list[int]
) -> None:
    events = [WordEvent(*event) for event in raw_events]
    length = sum(sizes)
    pcm = (np.sin(np.arange(length) / 9) * 3_000 * (np.arange(length) // 4_000 % 2)).astype(np.int16)
    whole = WordTimer(text, SAMPLE_RATE)
    words = whole.push(pcm, events) + whole.finish()
    check_words(text, words, length)
    cut = WordTimer(text, SAMPLE_RATE)
    pieces = [cut.push(pcm[:0], events)]
    edges = np.cumsum([0, *sizes])
    pieces += [cut.push(pcm[start:end], ()) for start, end in pairwise(edges)]
    assert sum(pieces, ()) + cut.finish() == words


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_broken_frames_raise_device_errors(data: bytes) -> None:
    stream = io.BytesIO(data)
    with contextlib.suppress(DeviceError):
        while espeak_frames.read_frame(stream) is not None:
            pass


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_broken_payloads_raise_errors_of_this_package(data: bytes) -> None:
    with contextlib.suppress(InputError):
        espeak_frames.unpack_speak(data)
    with contextlib.suppress(DeviceError):
        espeak_frames.unpack_audio(data)


def test_a_header_that_claims_too_much_is_refused() -> None:
    with pytest.raises(DeviceError, match="broken message"):
        espeak_frames.unpack_header(espeak_frames.HEADER.pack(Kind.AUDIO, 1, 1 << 30))
    with pytest.raises(InputError, match="at most"):
        Frame(Kind.AUDIO, 1, bytes(espeak_frames.MAX_PAYLOAD_BYTES + 1)).packed()


def test_the_worker_module_loads_neither_torch_nor_the_library() -> None:
    code = (
        "import sys, textpro.streaming.espeak_worker as w; "
        "sys.exit(bool({'torch', 'transformers', 'espeakng_loader'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(espeak.importlib.util, "find_spec", lambda name: None)

    async def speak() -> None:
        await EspeakProcess().start()

    with pytest.raises(DeviceError, match=r"pip install 'textpro-agent\[espeak\]'"):
        asyncio.run(speak())


async def say(voice: EspeakSynthesizer, text: str, style: EspeakVoice | None = None) -> list[SpeechChunk]:
    return [chunk async for chunk in voice.synthesize(text, style)]


def joined(chunks: list[SpeechChunk]) -> tuple[np.ndarray, list[WordTime]]:
    pcm = np.concatenate([chunk.pcm for chunk in chunks]) if chunks else np.zeros(0, np.int16)
    return pcm, [word for chunk in chunks for word in chunk.words]


@pytest.mark.usefixtures("library")
class TestSynthesizer:
    def test_chunks_join_to_the_speech_of_the_binding(self) -> None:
        async def check() -> None:
            async with EspeakProcess() as process:
                for text in PUZZLES:
                    pcm, words = joined(await say(EspeakSynthesizer(process), text))
                    check_words(text, words, len(pcm))
                    speech = Espeak().synthesize(text, EspeakVoice())
                    assert abs(len(pcm) - len(speech.pcm)) < SAMPLE_RATE // 20
                    for streamed, direct in zip(words, speech.words, strict=True):
                        assert abs(streamed.end_samples - direct.end_samples) < SAMPLE_RATE // 20

        asyncio.run(check())

    def test_words_come_with_the_audio_and_not_all_at_the_end(self) -> None:
        async def check() -> None:
            async with EspeakProcess() as process:
                chunks = await say(EspeakSynthesizer(process), QUESTION)
                heard = 0
                for chunk in chunks[:-2]:
                    heard += len(chunk.pcm)
                    assert all(word.end_samples <= heard for word in chunk.words)
                assert sum(len(chunk.words) for chunk in chunks[:-2]) >= len(QUESTION.split()) - 1

        asyncio.run(check())

    def test_first_audio_of_a_short_clause_comes_quickly(self) -> None:
        async def first_audio_s() -> float:
            async with EspeakProcess() as process:
                voice = EspeakSynthesizer(process)
                await say(voice, "warm up")
                times = []
                for _ in range(3):
                    asked = time.perf_counter()
                    speech = voice.synthesize("Twenty three plus forty eight,")
                    await anext(speech)
                    times.append(time.perf_counter() - asked)
                    await speech.aclose()
                return min(times)

        assert asyncio.run(first_audio_s()) < 0.15

    def test_a_style_is_for_one_utterance(self) -> None:
        async def check() -> None:
            async with EspeakProcess() as process:
                voice = EspeakSynthesizer(process, EspeakVoice(rate=160))
                slow, fast, slow_again = [
                    joined(await say(voice, QUESTION, style))[0]
                    for style in (None, EspeakVoice("en-gb", "f3", rate=260), None)
                ]
                assert len(fast) < 0.8 * len(slow)
                assert abs(len(slow) - len(slow_again)) < SAMPLE_RATE // 100

        asyncio.run(check())

    def test_cancel_ends_the_iterator_at_once_with_no_further_chunk(self) -> None:
        async def silent_after_s(process: EspeakProcess) -> float:
            voice = EspeakSynthesizer(process)
            count = 0
            async for _ in voice.synthesize(LONG):
                count += 1
                if count == 2:
                    cancelled = time.perf_counter()
                    voice.cancel()
            assert count == 2
            return time.perf_counter() - cancelled

        async def check() -> None:
            async with EspeakProcess() as process:
                assert min([await silent_after_s(process) for _ in range(3)]) < 0.05
                pcm, words = joined(await say(EspeakSynthesizer(process), "and now"))
                check_words("and now", words, len(pcm))

        asyncio.run(check())

    def test_cancel_of_one_session_leaves_the_others_speaking(self) -> None:
        async def check() -> None:
            async with EspeakProcess() as process:
                one, other = EspeakSynthesizer(process), EspeakSynthesizer(process)
                long_task = asyncio.create_task(say(one, LONG))
                short_task = asyncio.create_task(say(other, QUESTION))
                await asyncio.sleep(0)
                one.cancel()
                words = joined(await short_task)[1]
                assert [word.text for word in words] == QUESTION.split()
                assert len(joined(await long_task)[1]) < len(LONG.split())

        asyncio.run(check())

    def test_many_sessions_share_one_worker_and_get_their_own_words(self) -> None:
        async def check() -> None:
            async with EspeakProcess() as process:
                texts = [f"this is session {number} of twenty" for number in range(20)]
                spoken = await asyncio.gather(*(say(EspeakSynthesizer(process), text) for text in texts))
                for text, chunks in zip(texts, spoken, strict=True):
                    pcm, words = joined(chunks)
                    check_words(text, words, len(pcm))
                assert process.starts == 1

        asyncio.run(check())

    def test_a_dead_worker_is_started_again_and_counted(self) -> None:
        async def check() -> None:
            async with EspeakProcess() as process:
                voice = EspeakSynthesizer(process)
                await say(voice, "one")
                assert process.pid is not None
                os.kill(process.pid, signal.SIGKILL)
                assert [word.text for word in joined(await say(voice, QUESTION))[1]] == QUESTION.split()
                assert process.restarts == 1

        asyncio.run(check())

    def test_a_text_of_which_nothing_was_heard_is_spoken_by_the_next_worker(self) -> None:
        async def check() -> None:
            async with EspeakProcess() as process:
                assert process.pid is not None
                os.kill(process.pid, signal.SIGSTOP)
                waiting = asyncio.create_task(say(EspeakSynthesizer(process), QUESTION))
                await asyncio.sleep(0)
                os.kill(process.pid, signal.SIGKILL)
                assert len(joined(await waiting)[1]) == len(QUESTION.split())
                assert process.restarts == 1

        asyncio.run(check())

    def test_a_worker_that_dies_in_the_middle_of_a_text_ends_it_with_an_error(self) -> None:
        async def check() -> None:
            async with EspeakProcess() as process:
                speech = EspeakSynthesizer(process).synthesize(LONG)
                await anext(speech)
                assert process.pid is not None
                os.kill(process.pid, signal.SIGKILL)
                with pytest.raises(DeviceError, match="say it again"):
                    async for _ in speech:
                        pass

        asyncio.run(check())

    def test_bad_requests_are_refused_and_the_worker_lives_on(self) -> None:
        async def check() -> None:
            async with EspeakProcess() as process:
                voice = EspeakSynthesizer(process)
                with pytest.raises(InputError, match="no voice 'tlh'"):
                    await say(voice, "hello", EspeakVoice("tlh"))
                with pytest.raises(InputError, match="split it into clauses"):
                    await say(voice, "x" * 2_001)
                assert await say(voice, "hello")
                assert process.starts == 1

        asyncio.run(check())

    def test_too_many_waiting_texts_are_refused(self) -> None:
        async def check() -> None:
            async with EspeakProcess() as process:
                voice = EspeakSynthesizer(process)
                texts = ["hello there"] * (espeak.MAX_WAITING_TEXTS + 5)
                spoken = await asyncio.gather(*(say(voice, text) for text in texts), return_exceptions=True)
                refused = [result for result in spoken if isinstance(result, CapacityError)]
                assert len(refused) == 5
                assert await say(voice, "hello")

        asyncio.run(check())

    def test_close_leaves_no_process_and_refuses_more(self) -> None:
        async def check() -> None:
            process = EspeakProcess()
            await process.start()
            pid = process.pid
            assert pid is not None
            speech = EspeakSynthesizer(process).synthesize(LONG)
            await anext(speech)
            await process.close()
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
            with pytest.raises(DeviceError):
                async for _ in speech:
                    pass
            with pytest.raises(DeviceError, match="closed"):
                await say(EspeakSynthesizer(process), "hello")

        asyncio.run(check())

    def test_the_worker_ends_when_its_input_closes(self) -> None:
        command = [sys.executable, "-m", "textpro.streaming.espeak_worker"]
        done = subprocess.run(command, input=b"", capture_output=True, timeout=20, check=False)
        assert done.returncode == 0
        frame = espeak_frames.read_frame(io.BytesIO(done.stdout))
        assert frame == Frame(Kind.READY, SAMPLE_RATE)
