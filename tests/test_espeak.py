"""The synthesizer: speech through the worker process, with word times, cancelled at once, restarted when it dies."""

import asyncio
import io
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from espeak_cases import LONG, PUZZLES, QUESTION, check_words
from textpro.models.errors import CapacityError, DeviceError, InputError
from textpro.streaming import voice_frames, voice_process
from textpro.streaming.espeak import SAMPLE_RATE, EspeakProcess, EspeakSynthesizer, in_manner
from textpro.streaming.espeak_worker import (
    Espeak,
    EspeakVoice,
)
from textpro.streaming.synthesis import Manner, SpeechChunk, WordTime
from textpro.streaming.voice_frames import Frame, Kind


async def say(voice: EspeakSynthesizer, text: str, style: EspeakVoice | None = None) -> list[SpeechChunk]:
    return [chunk async for chunk in voice.synthesize(text, style)]


def joined(chunks: list[SpeechChunk]) -> tuple[np.ndarray, list[WordTime]]:
    pcm = np.concatenate([chunk.pcm for chunk in chunks]) if chunks else np.zeros(0, np.int16)
    return pcm, [word for chunk in chunks for word in chunk.words]


@pytest.mark.usefixtures("espeak_library")
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
                    joined(await say(voice, QUESTION, style))[0] for style in (None, EspeakVoice("en-gb", "f3", rate=260), None)
                ]
                assert len(fast) < 0.8 * len(slow)
                assert abs(len(slow) - len(slow_again)) < SAMPLE_RATE // 100

        asyncio.run(check())

    def test_a_manner_changes_the_voice_of_one_utterance(self) -> None:
        async def check() -> None:
            async with EspeakProcess() as process:
                voice = EspeakSynthesizer(process)
                plain, soft = [
                    joined([chunk async for chunk in voice.synthesize(QUESTION, manner=manner)])[0].astype(float)
                    for manner in (Manner(), Manner(rate=0.9, pitch=-5, range=-12, amplitude=0.7))
                ]
                assert len(soft) > 1.05 * len(plain)
                assert soft.std() < 0.9 * plain.std()
                assert voice.voice == EspeakVoice()

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
                texts = ["hello there"] * (voice_process.MAX_WAITING_TEXTS + 5)
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
        frame = voice_frames.read_frame(io.BytesIO(done.stdout))
        assert frame == Frame(Kind.READY, SAMPLE_RATE)


def test_a_manner_stays_within_what_espeak_takes() -> None:
    changed = in_manner(EspeakVoice(rate=400, pitch=98, range=3, amplitude=290), Manner(1.5, 9, -9, 2.0))
    assert (changed.rate, changed.pitch, changed.range, changed.amplitude) == (450, 100, 0, 300)
