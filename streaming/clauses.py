"""Cuts a reply into clauses while it is being written, so that speech starts with its first words. The first
clause is short: it may end at any comma, or after some words; later ones end at sentence ends, at commas once
they are long enough, and at a word once they are too long. Numbers, times, addresses of the web, abbreviations
and initials are never cut. Scripts without spaces are cut at their own marks, at the spaces that separate
phrases in them, and between two characters only when a clause is too long. A cut is made only when the first
character of what follows is known, and depends on nothing later, so clauses do not depend on how the text
arrives. Joined they are the text, character for character."""

from __future__ import annotations

import re

_SENTENCE_ENDS = ".!?…؟।॥។။።։"
_PAUSES = ",;:،؛–—"
_WIDE_SENTENCE_ENDS = "。！？｡"
_WIDE_PAUSES = "，、；：､"
_CLOSERS = "\"'”’»)]}」』）】》〉"
_STRAIGHT_QUOTES = "\"'"
_MARKS = _SENTENCE_ENDS + _PAUSES + _WIDE_SENTENCE_ENDS + _WIDE_PAUSES
_WIDE_CHARACTER_LETTERS = 3
"""About as many letters as take as long to say as one character of Chinese or Japanese."""
_PHRASE_SPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
"""Thai, Lao, Burmese and Khmer put spaces between phrases, not between words."""

_ABBREVIATIONS = frozenset(
    "dr mr mrs ms prof st sr jr rev hon gen col capt lt sgt mt ft vs etc approx est dept inc ltd corp "
    "univ ave blvd rd jan feb apr aug sep sept oct nov dec a.m p.m e.g i.e u.s u.k ph.d mx messrs gov sen rep fr "
    "bzw usw evtl inkl nr hr".split()
)
_ABBREVIATIONS_BEFORE_NUMBERS = frozenset("no nos vol fig ch p pp ca cf min max sec".split())
_INITIALS = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]")
_NUMBER_WORDS = frozenset(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred "
    "thousand million billion point minus".split()
)
_LEADING_WORDS = frozenset(
    "a an the and or but of to in on at for with by from as is are was i you he she it we they my your "
    "his her its our their this that".split()
)


class ClauseSplitter:
    """One reply's text in, clauses out. `first_words`: the first clause is cut after that many words at the
    latest where a cut is fit; `pause_characters`: a later clause ends at a comma from that length on;
    `long_characters`: at a word from that length on. No clause is longer than `most_characters`, whatever is
    in it."""

    def __init__(
        self,
        first_words: int = 6,
        pause_characters: int = 40,
        long_characters: int = 160,
        most_characters: int = 1_000,
    ) -> None:
        self._first_words = first_words
        self._pause_characters = pause_characters
        self._long_characters = long_characters
        self._most_characters = most_characters
        self._text = ""
        self._is_first = True
        self._scanned = 0
        self._words = 0

    def push(self, text_delta: str) -> list[str]:
        """Takes the next piece of text; returns the clauses that are complete with it."""
        self._text += text_delta
        clauses = []
        while (end := self._next_cut()) is not None:
            clauses.append(self._take(end))
        return clauses

    def flush(self) -> list[str]:
        """What is left at the end of the reply, if anything; the next push begins a new reply."""
        clauses = [self._take(len(self._text))] if self._text else []
        self._is_first = True
        return clauses

    def _take(self, end: int) -> str:
        clause, self._text = self._text[:end], self._text[end:]
        self._is_first = False
        self._scanned = 0
        self._words = 0
        return clause

    def _next_cut(self) -> int | None:
        for position in range(max(1, self._scanned), len(self._text)):
            if self._text[position - 1].isspace() and not self._text[position].isspace():
                self._words += bool(self._last_word(position))
            if position >= self._most_characters or self._may_cut(position):
                return position
        self._scanned = len(self._text)
        return None

    def _may_cut(self, position: int) -> bool:
        before, after = self._text[position - 1], self._text[position]
        opens_quote = before.isspace() and after in _STRAIGHT_QUOTES
        if after.isspace() or after in _MARKS or (after in _CLOSERS and not opens_quote):
            return False
        if before.isspace():
            return self._may_cut_at_space(position)
        mark = self._text[:position].rstrip(_CLOSERS)[-1:]
        if mark and mark in _WIDE_SENTENCE_ENDS + _WIDE_PAUSES:
            return self._may_cut_at_mark(mark, position)
        too_long = position >= self._long_characters // _WIDE_CHARACTER_LETTERS
        return too_long and _is_ideograph(before) and _is_ideograph(after) and not _is_one_word(before, after)

    def _may_cut_at_space(self, position: int) -> bool:
        head = self._text[:position].rstrip()
        if not _speakable(head) or (head[-1].isdigit() and self._text[position].isdigit()):
            return False
        mark = head.rstrip(_CLOSERS)[-1:]
        if mark and mark in _MARKS:
            return self._may_cut_at_mark(mark, position)
        if "\n" in self._text[len(head) : position]:
            return True
        if _PHRASE_SPACED.fullmatch(head[-1]) and _PHRASE_SPACED.fullmatch(self._text[position]):
            return self._may_pause(head)
        return self._may_cut_at_word(head, position)

    def _may_cut_at_mark(self, mark: str, position: int) -> bool:
        head = self._text[:position].rstrip().rstrip(_CLOSERS)
        unmarked = head.rstrip(_MARKS)
        after = self._text[position]
        if not _speakable(head) or (unmarked[-1:].isdigit() and after.isdigit()):
            return False
        if mark in _SENTENCE_ENDS + _WIDE_SENTENCE_ENDS:
            if head.endswith(("…", "..")) and after.islower():
                return self._may_pause(head)
            return mark != "." or not (after.islower() or _is_abbreviation(unmarked, after))
        return self._may_pause(head)

    def _may_pause(self, head: str) -> bool:
        return self._is_first or len(head) >= self._pause_characters

    def _may_cut_at_word(self, head: str, position: int) -> bool:
        too_long = position >= self._long_characters
        if not too_long and not (self._is_first and self._words >= self._first_words):
            return False
        word = self._last_word(len(head)).lower()
        if self._text[position].isdigit() or word[-1:].isdigit():
            return False
        last_part = word.rpartition("-")[2]
        return last_part not in _NUMBER_WORDS and word not in _LEADING_WORDS

    def _last_word(self, position: int) -> str:
        head = self._text[:position].split()
        word = head[-1] if head else ""
        return word if _speakable(word) else ""


def _speakable(text: str) -> bool:
    return any(map(str.isalnum, text))


def _is_abbreviation(text_before_period: str, after: str) -> bool:
    words = text_before_period.split()
    word = words[-1].lstrip("\"'“‘«([{")
    if word.lower() in _ABBREVIATIONS or _INITIALS.fullmatch(word) is not None:
        return True
    if after.isdigit() and word.lower() in _ABBREVIATIONS_BEFORE_NUMBERS:
        return True
    stands_alone = len(words) == 1
    return stands_alone and word.isdigit()


def _is_ideograph(character: str) -> bool:
    return "\u3040" <= character <= "\u9fff" or "\U00020000" <= character <= "\U0003134f"


def _is_one_word(before: str, after: str) -> bool:
    """Between two signs of katakana, where foreign words are written out."""
    return "\u30a1" <= before <= "\u30ff" and "\u30a1" <= after <= "\u30ff"
