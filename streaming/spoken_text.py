"""A voice that says numbers and units well: it stands in front of any other `Synthesizer`, hands it the text in
words, and maps the times of the spoken words back to the words as they are written, so that whoever cuts the reply
at the last heard word never sees the spoken form. Every whitespace word of the written text gets exactly one time;
written words that became one phrase share the time of that phrase."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from .spoken_english import readings
from .synthesis import AS_SET, Manner, SpeechChunk, Synthesizer, WordTime

_WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class _Phrase:
    """Written words, as (place, word), that are said together, by `n_spoken` words."""

    written: tuple[tuple[int, str], ...]
    n_spoken: int


@dataclass(frozen=True, slots=True)
class SpokenText:
    """`text` is what is said for `written`; `phrases` tie the words of both together, in order."""

    written: str
    text: str
    phrases: tuple[_Phrase, ...]


def spoken_text(written: str, language: str) -> SpokenText:
    """How to say `written` in `language` (a tag such as en-us). Languages other than English are left as they are."""
    text, origins = "", []
    position = 0
    found = readings(written) if language.lower().split("-")[0] == "en" else ()
    for reading in found:
        end = reading.text_start + reading.text_length
        text += written[position : reading.text_start] + reading.words
        origins += [(place, place + 1) for place in range(position, reading.text_start)]
        origins += [(reading.text_start, end)] * len(reading.words)
        position = end
    text += written[position:]
    origins += [(place, place + 1) for place in range(position, len(written))]
    return SpokenText(written, text, tuple(_phrases(written, text, origins)))


def _phrases(written: str, text: str, origins: Sequence[tuple[int, int]]) -> list[_Phrase]:
    """Written and spoken words that overlap, directly or through another word, are one phrase."""
    # Every spoken word comes from a stretch of the written text; so sort both into stretches that do not overlap.
    spans = [(match.start(), match.end(), match.group(), 0) for match in _WORD.finditer(written)]
    spans += [(origins[match.start()][0], origins[match.end() - 1][1], "", 1) for match in _WORD.finditer(text)]
    phrases: list[_Phrase] = []
    words: list[tuple[int, str]] = []
    n_spoken = reach = 0
    for start, end, word, spoken in sorted(spans, key=lambda span: span[:2]):
        if (words or n_spoken) and start >= reach:
            phrases.append(_Phrase(tuple(words), n_spoken))
            words, n_spoken = [], 0
        if not spoken:
            words.append((start, word))
        n_spoken += spoken
        reach = max(reach, end)
    if words or n_spoken:
        phrases.append(_Phrase(tuple(words), n_spoken))
    return phrases


class SpokenTextVoice:
    """`voice` with numbers and units said in words, in a language of `spoken_text`."""

    def __init__(self, voice: Synthesizer, language: str = "en") -> None:
        self._voice, self._language = voice, language

    @property
    def sample_rate(self) -> int:
        """Samples per second of every chunk."""
        return self._voice.sample_rate

    async def synthesize(self, text: str, *, manner: Manner = AS_SET) -> AsyncGenerator[SpeechChunk, None]:
        """Speak `text`; chunks of the voice behind, with the times of the words of `text`. Raises what it raises."""
        said = spoken_text(text, self._language)
        waiting: list[WordTime] = []
        next_phrase = 0
        async with aclosing(self._voice.synthesize(said.text, manner=manner)) as chunks:
            async for chunk in chunks:
                waiting += chunk.words
                words: list[WordTime] = []
                while next_phrase < len(said.phrases) and len(waiting) >= said.phrases[next_phrase].n_spoken:
                    phrase = said.phrases[next_phrase]
                    words += _written_times(phrase, waiting[: phrase.n_spoken])
                    del waiting[: phrase.n_spoken]
                    next_phrase += 1
                yield SpeechChunk(chunk.pcm, tuple(words))

    def cancel(self) -> None:
        """Silence at once, as the voice behind does it."""
        self._voice.cancel()


def _written_times(phrase: _Phrase, spoken: Sequence[WordTime]) -> list[WordTime]:
    words = phrase.written
    if len(words) == len(spoken):
        bounds = [(time.start_samples, time.end_samples) for time in spoken]
    else:
        begin, end = spoken[0].start_samples, spoken[-1].end_samples
        ends = [begin + (end - begin) * (index + 1) // len(words) for index in range(len(words))]
        bounds = list(zip([begin, *ends[:-1]], ends, strict=True))
    return [WordTime(word, start, len(word), *bound) for (start, word), bound in zip(words, bounds, strict=True)]
