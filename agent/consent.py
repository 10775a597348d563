"""Did the user say yes or no? A plain reading of short answers for calls that need a confirmation, in the ten languages of
`consent_words.py`; when in doubt neither, and the agent asks again. Nobody tells which language is spoken, so an answer is read
in all of them, and those that find something in it have to agree.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from enum import Enum, auto

from .consent_words import SPACED, UNSPACED, ConsentWords

SHORT_WORDS = 5
_SCRIPTS_WITHOUT_SPACES = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u1100-\u11ff]")
_ASKED_BACK = re.compile(r"\W*\w+\s*\?\W*")


class _Kind(Enum):
    """What a word or phrase of an answer does; in the order in which one that stands in two lists counts."""

    DOUBT = auto()
    NO = auto()
    YES = auto()
    AGREEING = auto()
    AROUND = auto()
    OTHER = auto()


class _Unclear(Enum):
    """A language that finds a doubt, or yes and no together; the answer is unclear whatever others find."""

    UNCLEAR = auto()


_Reading = bool | _Unclear | None
_UNCLEAR = _Unclear.UNCLEAR


def read_consent(text: str) -> bool | None:
    """True for yes, False for no, None where the words do not say it.

    "yes" counts at the beginning, words such as "sure" only if nothing else is said, a refusal at the beginning or in a
    short answer: "please don't". Yes and no together are unclear, and so is a single word that asks back.
    """
    text = unicodedata.normalize("NFKC", text).lower().replace("\u2019", "'")
    words = re.findall(r"[\w']+", text)
    if _ASKED_BACK.fullmatch(text):
        return None
    if _SCRIPTS_WITHOUT_SPACES.search(text):
        return _agreed(_read_unspaced(words, language) for language in UNSPACED.values())
    return _agreed(_read(_kinds(words, language, " "), len(words)) for language in SPACED.values())


def _agreed(readings: Iterable[_Reading]) -> bool | None:
    """What all languages that find something agree on."""
    found = {reading for reading in readings if reading is not None}
    one = found.pop() if len(found) == 1 else None
    return one if isinstance(one, bool) else None


def _read(kinds: Sequence[_Kind], n_words: int) -> _Reading:
    """An answer of these kinds of words."""
    if not kinds:
        return None
    says_no, says_yes = _Kind.NO in kinds, _Kind.YES in kinds or _Kind.AGREEING in kinds
    if _Kind.DOUBT in kinds or (says_no and says_yes):
        return _UNCLEAR
    if says_no:
        return False if kinds[0] is _Kind.NO or n_words <= SHORT_WORDS else None
    if kinds[0] is _Kind.YES:
        return True
    return True if says_yes and _Kind.OTHER not in kinds else None


def _read_unspaced(chunks: Sequence[str], language: ConsentWords) -> _Reading:
    """An answer in a script without spaces. `chunks` stand between spaces and marks. All of it has to be known words; or
    its first chunk, and then the rest must not hold the opposite anywhere."""
    whole = _kinds("".join(chunks), language, "")
    if _Kind.OTHER not in whole:
        return _read(whole, 1)
    first, rest = _kinds(chunks[0], language, ""), "".join(chunks[1:])
    if _Kind.OTHER in first or not rest:
        return _UNCLEAR if _holds(rest or chunks[0], language.doubt) else None
    reading = _read(first, 1)
    if reading is True:
        return _UNCLEAR if first[0] is not _Kind.YES or _holds(rest, language.no | language.doubt) else True
    if reading is False:
        agreeing = any(_read(_kinds(chunk, language, ""), 1) is True for chunk in chunks[1:])
        return _UNCLEAR if agreeing or _holds(rest, language.doubt) else False
    return reading


def _kinds(words: Sequence[str], language: ConsentWords, gap: str) -> list[_Kind]:
    """The kinds of the longest known phrases, one after the other; a word or character that is not known is OTHER, and
    fillers are left out. `words` are words with `gap` between them, or the characters of a text."""
    lists = (
        (language.doubt, _Kind.DOUBT), (language.no, _Kind.NO), (language.yes, _Kind.YES),
        (language.agreeing, _Kind.AGREEING), (language.around, _Kind.AROUND), (language.fillers, None),
    )  # fmt: skip
    known = {phrase: kind for phrases, kind in reversed(lists) for phrase in phrases}
    longest = max(len(phrase.split(gap)) if gap else len(phrase) for phrase in known)
    kinds: list[_Kind] = []
    at = 0
    while at < len(words):
        sizes = range(min(longest, len(words) - at), 0, -1)
        size = next((size for size in sizes if gap.join(words[at : at + size]) in known), 0)
        kind = known[gap.join(words[at : at + size])] if size else _Kind.OTHER
        if kind is not None:
            kinds.append(kind)
        at += size or 1
    return kinds


def _holds(text: str, words: Iterable[str]) -> bool:
    return any(word in text for word in words)
