"""The binding to espeak-ng: words get their times, broken frames are refused, nothing heavy is loaded."""

import asyncio
import contextlib
import io
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espeak_cases import LONG, PUZZLES, QUESTION, TONES, check_words
from textpro.models.errors import DeviceError, InputError
from textpro.streaming import espeak_frames, voice_frames, voice_process
from textpro.streaming.espeak import SAMPLE_RATE, EspeakProcess
from textpro.streaming.espeak_worker import (
    UNUSABLE_VARIANTS,
    Espeak,
    EspeakVoice,
    english_accents,
    variants,
)
from textpro.streaming.voice_frames import Frame, Kind
from textpro.streaming.word_times import WordEvent, WordTimer


@pytest.mark.usefixtures("espeak_library")
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
        while voice_frames.read_frame(stream) is not None:
            pass


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_broken_payloads_raise_errors_of_this_package(data: bytes) -> None:
    with contextlib.suppress(InputError):
        espeak_frames.unpack_speak(data)
    with contextlib.suppress(DeviceError):
        voice_frames.unpack_audio(data)


def test_a_header_that_claims_too_much_is_refused() -> None:
    with pytest.raises(DeviceError, match="broken message"):
        voice_frames.unpack_header(voice_frames.HEADER.pack(Kind.AUDIO, 1, 1 << 30))
    with pytest.raises(InputError, match="at most"):
        Frame(Kind.AUDIO, 1, bytes(voice_frames.MAX_PAYLOAD_BYTES + 1)).packed()


def test_the_worker_module_loads_neither_torch_nor_the_library() -> None:
    code = (
        "import sys, textpro.streaming.espeak_worker as w; "
        "sys.exit(bool({'torch', 'transformers', 'espeakng_loader'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voice_process.importlib.util, "find_spec", lambda name: None)

    async def speak() -> None:
        await EspeakProcess().start()

    with pytest.raises(DeviceError, match=r"pip install 'textpro-agent\[espeak\]'"):
        asyncio.run(speak())
