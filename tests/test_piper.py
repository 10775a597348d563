"""Piper in its worker: the real package, phonemizer and ONNX runtime with a network that only hums. No voice that a
person would listen to has run in these tests."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from espeak_cases import PUZZLES, QUESTION, check_words
from piper_stand_in import FRAMES, HOP, SAMPLE_RATE, write_voice
from requirements import require_module
from textpro.models.errors import DeviceError, InputError
from textpro.streaming import voice_process
from textpro.streaming.piper import PiperProcess, PiperSynthesizer, PiperVoice
from textpro.streaming.piper_worker import PhonemePlace, word_starts
from textpro.streaming.synthesis import Manner, SpeechChunk, WordTime


@pytest.fixture(scope="module")
def voice_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_module("piper")
    return write_voice(tmp_path_factory.mktemp("voice"))


@dataclass(frozen=True, slots=True)
class Speaking:
    """A worker that runs, and the event loop that it belongs to."""

    process: PiperProcess
    model: Path
    loop: asyncio.Runner


@pytest.fixture(scope="module")
def speaking(voice_file: Path) -> Iterator[Speaking]:
    with asyncio.Runner() as loop:
        process = PiperProcess(voice_file)
        loop.run(process.start())
        yield Speaking(process, voice_file, loop)
        loop.run(process.close())


async def say(voice: PiperSynthesizer, text: str, **manner: float) -> tuple[np.ndarray, list[WordTime]]:
    chunks: list[SpeechChunk] = [chunk async for chunk in voice.synthesize(text, manner=Manner(**manner))]  # type: ignore[arg-type]
    pcm = np.concatenate([chunk.pcm for chunk in chunks]) if chunks else np.zeros(0, np.int16)
    return pcm, [word for chunk in chunks for word in chunk.words]


def test_every_text_is_spoken_and_each_word_has_a_time(speaking: Speaking) -> None:
    async def check() -> None:
        voice = PiperSynthesizer(speaking.process, PiperVoice(speaking.model))
        assert voice.sample_rate == SAMPLE_RATE
        for text in PUZZLES:
            pcm, words = await say(voice, text)
            check_words(text, words, len(pcm))
            assert len(pcm) > 0 or not any(map(str.isalnum, text))

    speaking.loop.run(check())


def test_words_last_as_long_as_their_phonemes(speaking: Speaking) -> None:
    async def check() -> None:
        pcm, words = await say(PiperSynthesizer(speaking.process, PiperVoice(speaking.model)), "a strengths a")
        one, strengths, _ = (word.end_samples - word.start_samples for word in words)
        assert strengths > 3 * one
        assert len(pcm) % (FRAMES * HOP) == 0
        assert {word.start_samples % (FRAMES * HOP) for word in words} == {0}

    speaking.loop.run(check())


def test_a_manner_changes_the_length_and_the_loudness(speaking: Speaking) -> None:
    async def check() -> None:
        voice = PiperSynthesizer(speaking.process, PiperVoice(speaking.model, amplitude=0.8))
        plain, _ = await say(voice, QUESTION)
        slow, words = await say(voice, QUESTION, rate=0.5, amplitude=0.5)
        assert len(slow) == 2 * len(plain)
        assert abs(int(slow.max()) * 2 - int(plain.max())) <= 2
        check_words(QUESTION, words, len(slow))

    speaking.loop.run(check())


def test_cancel_ends_the_iterator_at_once_with_no_further_chunk(speaking: Speaking) -> None:
    async def silent_after_s(voice: PiperSynthesizer) -> float:
        count, cancelled = 0, 0.0
        async for _ in voice.synthesize("and so on " * 20):
            count += 1
            if count == 2:
                cancelled = time.perf_counter()
                voice.cancel()
        assert count == 2
        return time.perf_counter() - cancelled

    async def check() -> None:
        voice = PiperSynthesizer(speaking.process, PiperVoice(speaking.model))
        assert min([await silent_after_s(voice) for _ in range(3)]) < 0.05
        pcm, words = await say(voice, "and now")
        check_words("and now", words, len(pcm))

    speaking.loop.run(check())


def test_a_dead_worker_is_started_again(speaking: Speaking) -> None:
    async def check() -> None:
        assert speaking.process.pid is not None
        os.kill(speaking.process.pid, signal.SIGKILL)
        _, words = await say(PiperSynthesizer(speaking.process, PiperVoice(speaking.model)), QUESTION)
        assert [word.text for word in words] == QUESTION.split()
        assert speaking.process.restarts == 1

    speaking.loop.run(check())


def test_a_voice_of_several_speakers_that_tells_no_durations(tmp_path: Path) -> None:
    require_module("piper")
    model = write_voice(tmp_path, durations=False, speakers=3)

    async def check() -> None:
        async with PiperProcess(model) as process:
            with pytest.raises(InputError, match="no speaker 3; expected 0 to 2"):
                await say(PiperSynthesizer(process, PiperVoice(model, speaker=3)), "hello")
            with pytest.raises(InputError, match="split it into clauses"):
                await say(PiperSynthesizer(process, PiperVoice(model)), "x" * 2_001)
            pcm, words = await say(PiperSynthesizer(process, PiperVoice(model, speaker=2)), "a strengths a")
            check_words("a strengths a", words, len(pcm))
            one, strengths, _ = (word.end_samples - word.start_samples for word in words)
            assert strengths > 3 * one
            assert process.starts == 1

    asyncio.run(check())


def test_brackets_in_a_reply_are_no_phonemes(speaking: Speaking) -> None:
    async def check() -> None:
        bracketed, words = await say(PiperSynthesizer(speaking.process, PiperVoice(speaking.model)), "[[ strengths")
        plain, _ = await say(PiperSynthesizer(speaking.process, PiperVoice(speaking.model)), "strengths")
        assert len(bracketed) == len(plain)
        check_words("[[ strengths", words, len(bracketed))

    speaking.loop.run(check())


def test_files_that_are_no_voice_are_refused_in_one_line(tmp_path: Path) -> None:
    require_module("piper")
    model, config = tmp_path / "voice.onnx", tmp_path / "voice.onnx.json"
    with pytest.raises(InputError, match=r"no Piper voice at .*voice\.onnx: expected"):
        PiperProcess(model)
    model.write_bytes(b"no network")
    with pytest.raises(InputError, match=r"voice\.onnx\.json: expected"):
        PiperProcess(model)
    config.write_text("[]", encoding="utf-8")
    with pytest.raises(InputError, match=r"audio\.sample_rate"):
        PiperProcess(model)
    config.write_text(json.dumps({"audio": {"sample_rate": 22_050}, "espeak": {"voice": "en-us"}}), encoding="utf-8")
    with pytest.raises(DeviceError, match="Piper cannot load") as caught:
        asyncio.run(PiperProcess(model).start())
    assert "\n" not in str(caught.value)


def test_without_the_extra_the_error_says_what_to_install(voice_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voice_process.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DeviceError, match=r"pip install 'textpro-agent\[piper\]'"):
        asyncio.run(PiperProcess(voice_file).start())


def test_the_parents_side_loads_no_piper() -> None:
    code = (
        "import sys, textpro.streaming.piper, textpro.streaming.piper_worker; "
        "sys.exit(bool({'torch', 'piper', 'onnxruntime'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_words_begin_at_the_gaps_when_there_are_as_many_gaps_as_words() -> None:
    starts = list(word_starts([(0, 2), (3, 0), (5, 3)], [[*"ab cde."]]))
    assert starts == [(0, PhonemePlace(0, 0)), (5, PhonemePlace(0, 3))]


def test_a_word_that_runs_into_the_one_before_has_no_start_of_its_own() -> None:
    starts = list(word_starts([(0, 6), (7, 2), (10, 2), (14, 6)], [[*"abcdef ghij"], [*"klmnop"]]))
    assert starts == [(0, PhonemePlace(0, 0)), (7, PhonemePlace(0, 7)), (14, PhonemePlace(1, 0))]
