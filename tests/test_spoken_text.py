"""Numbers and units in words, and the way back: every written word keeps a time of its own."""

import asyncio
from collections.abc import AsyncGenerator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espeak_cases import check_words
from textpro.models.text import number_words
from textpro.streaming.espeak_worker import Espeak, EspeakVoice
from textpro.streaming.spoken_english import integer_words, ordinal_words
from textpro.streaming.spoken_text import SpokenTextVoice, spoken_text
from textpro.streaming.synthesis import AS_SET, Manner, SpeechChunk, WordTime

WORD_SAMPLES = 1_000
WRITTEN = [
    "$5.20", "3 km", "10:30", "25 °C", "2nd", "50 %", "+49 171 1234567", "order 4719", "May 5, 2024", "5–10 kg",
    "1,000.", "(3.14)", "“$1!”", "–", "well", "don't", "https://a.com/3", "e.g.", "½", "2026-05-03", "a + b",
]  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=80),
    st.text(alphabet="0123456789 .,:-–/+$€%°Ckmh\n", max_size=40),
    st.lists(st.sampled_from(WRITTEN), max_size=12).map(" ".join),
)


class Metronome:
    """A voice that takes as long for each word and says them one by one."""

    sample_rate = 16_000

    def __init__(self) -> None:
        self.said: list[tuple[str, Manner]] = []
        self.cancelled = False

    async def synthesize(self, text: str, *, manner: Manner = AS_SET) -> AsyncGenerator[SpeechChunk, None]:
        self.said.append((text, manner))
        self.cancelled = False
        position = 0
        for number, word in enumerate(text.split()):
            position = text.index(word, position)
            time = WordTime(word, position, len(word), number * WORD_SAMPLES, (number + 1) * WORD_SAMPLES)
            position += len(word)
            if self.cancelled:
                return
            yield SpeechChunk(np.zeros(WORD_SAMPLES, np.int16), (time,))

    def cancel(self) -> None:
        self.cancelled = True


def say(text: str, language: str = "en-us") -> list[SpeechChunk]:
    async def run() -> list[SpeechChunk]:
        return [chunk async for chunk in SpokenTextVoice(Metronome(), language).synthesize(text)]

    try:  # nothing in it waits, so it needs no event loop
        run().send(None)
    except StopIteration as done:
        chunks: list[SpeechChunk] = done.value
        return chunks
    raise AssertionError("the voice waits for something")


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("It costs $5.20, ok?", "It costs five dollars and twenty cents, ok?"),
        ("$1 or $0.99 or £1.01", "one dollar or ninety nine cents or one pound and one penny"),
        ("$3.5 million, 20 €, -$7", "three point five million dollars, twenty euros, minus seven dollars"),
        ("3 km at 100 km/h", "three kilometers at one hundred kilometers per hour"),
        ("1 kg, 6 ft, 1,500 m", "one kilogram, six feet, one thousand five hundred meters"),
        ("5–10 km or 2-3 GB", "five to ten kilometers or two to three gigabytes"),
        ("25 °C, -5°C, 45°", "twenty five degrees Celsius, minus five degrees Celsius, forty five degrees"),
        ("50% or 3.5 %.", "fifty percent or three point five percent."),
        ("At 10:30.", "At ten thirty."),
        ("10:05 p.m. today, 7pm", "ten oh five P M today, seven P M"),
        ("We open at 9 a.m.", "We open at nine A M."),
        ("10:00, 19:00, 19:45", "ten o'clock, nineteen hundred, nineteen forty five"),
        ("the 2nd, 21st and 12th", "the second, twenty first and twelfth"),
        ("On May 5, 2024", "On May fifth, twenty twenty four"),
        ("2026-05-03", "May third, twenty twenty six"),
        ("in 1999, since 1905", "in nineteen ninety nine, since nineteen oh five"),
        ("Call +49 171 12", "Call plus four nine, one seven one, one two"),
        ("Call 555-0123.", "Call five five five, zero one two three."),
        ("Your order number is 4719.", "Your order number is four seven one nine."),
        ("order 12 pizzas", "order twelve pizzas"),
        ("PIN 0042, ticket #4719", "PIN zero zero four two, ticket number four seven one nine"),
        ("1,234,567 people", "one million two hundred thirty four thousand five hundred sixty seven people"),
        ("3.14, 1.2.3, -2.5", "three point one four, one point two point three, minus two point five"),
        ("23 + 48 = 71", "twenty three plus forty eight equals seventy one"),
        ("1/2 cup, e.g. of milk", "one half cup, for example of milk"),
        ("A 5-year plan", "A five-year plan"),
        ("me@a.com https://a.com/3 B12 5G 90s 1/2/2024", "me@a.com https://a.com/3 B12 5G 90s 1/2/2024"),
        ("Yes, I am here – now.", "Yes, I am here – now."),
    ],
)
def test_numbers_and_units_are_said_as_a_reader_would(written: str, spoken: str) -> None:
    assert spoken_text(written, "en-gb").text == spoken


def test_other_languages_are_left_as_they_are() -> None:
    assert spoken_text("3 km, $5.20", "de").text == "3 km, $5.20"


@given(st.integers(0, 999))
def test_small_numbers_are_those_of_the_bundled_models(number: int) -> None:
    assert integer_words(number) == number_words(number)


def test_number_words_of_every_size() -> None:
    assert integer_words(1_000_001) == "one million one"
    assert integer_words(10**15) == "one" + " zero" * 15
    assert [ordinal_words(number) for number in (1, 5, 9, 20, 42, 100)] == [
        "first", "fifth", "ninth", "twentieth", "forty second", "one hundredth",
    ]  # fmt: skip


@settings(deadline=None)
@given(TEXTS)
def test_every_written_word_has_one_time_in_order(text: str) -> None:
    chunks = say(text)
    check_words(text, [word for chunk in chunks for word in chunk.words], sum(len(chunk.pcm) for chunk in chunks))


@settings(deadline=None)
@given(TEXTS)
def test_words_of_a_chunk_have_been_said_by_its_end(text: str) -> None:
    length = 0
    for chunk in say(text):
        length += len(chunk.pcm)
        assert all(word.end_samples <= length for word in chunk.words)


@settings(deadline=None)
@given(TEXTS)
def test_what_is_said_has_words_only_for_what_was_written(text: str) -> None:
    said = spoken_text(text, "en")
    written = [place for phrase in said.phrases for place in phrase.written]
    assert [word for _, word in written] == text.split()
    assert all(left[0] < right[0] for left, right in pairwise(written))
    assert sum(phrase.n_spoken for phrase in said.phrases) == len(said.text.split())
    assert all(phrase.n_spoken and phrase.written for phrase in said.phrases)


def test_a_written_word_lasts_as_long_as_all_its_spoken_words() -> None:
    words = [word for chunk in say("pay $5.20 for 3 km now") for word in chunk.words]
    spans = [(word.text, word.start_samples // WORD_SAMPLES, word.end_samples // WORD_SAMPLES) for word in words]
    assert spans == [("pay", 0, 1), ("$5.20", 1, 6), ("for", 6, 7), ("3", 7, 8), ("km", 8, 9), ("now", 9, 10)]


def test_a_written_word_is_not_given_out_before_its_last_spoken_word() -> None:
    given = [[word.text for word in chunk.words] for chunk in say("pay $5.20 now")]
    assert given == [["pay"], [], [], [], [], ["$5.20"], ["now"]]


def test_manner_and_cancel_reach_the_voice_behind() -> None:
    async def run() -> None:
        behind = Metronome()
        voice = SpokenTextVoice(behind, "en")
        manner = Manner(rate=0.9)
        count = 0
        async for _ in voice.synthesize("one 2 three", manner=manner):
            count += 1
            voice.cancel()
        assert count == 1
        assert behind.said == [("one two three", manner)]
        assert voice.sample_rate == behind.sample_rate

    asyncio.run(run())


@pytest.mark.usefixtures("espeak_library")
@pytest.mark.parametrize(("written", "least_words"), [("$5.20", 5), ("+49 171 1234567", 13), ("order 471983", 7), ("3 km/h", 4)])
def test_espeak_takes_as_long_as_for_the_words(written: str, least_words: int) -> None:
    said = spoken_text(written, "en-us").text
    assert len(said.split()) >= least_words
    speech = Espeak().synthesize(said, EspeakVoice())
    check_words(said, speech.words, len(speech.pcm))
    assert min(word.end_samples - word.start_samples for word in speech.words) > 0
