"""What keeps a recognizer's text sound: hypotheses that run away are cut, and no half character is ever shown.

A decoder that has lost the audio repeats itself or writes faster than anybody speaks, and one that hears many people at once
writes what it hardly believes. The rules are functions of the whole hypothesis, so streaming and offline apply them alike.
Byte-level tokens may end inside a character; scripts without spaces have no words to wait for, so there each character counts
as one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

MAX_TOKENS_PER_SECOND, TOKENS_AT_ONCE = 12, 8
"""Nobody speaks faster in these tokens; a hypothesis that does is a loop."""
LOOP_TOKENS, LOOP_REPEATS, LONGEST_UNIT = 12, 4, 16
"""A loop is a unit of at most so many tokens, at least so often in a row at the end, over at least so many tokens."""
DOUBT_SHARE, DOUBT_TOKENS = 0.2, 23
"""That nothing was said is compared with this share of the tokens, at their mean likelihood; of at most so many tokens."""
INCOMPLETE = "\ufffd"
_BYTES_OF_A_CHARACTER = 4
_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x2FDF),  # radicals
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x31F0, 0x31FF),
    (0x3400, 0x9FFF),  # Han
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)


def token_limit(seconds: float, most: int) -> int:
    """The most tokens that so much audio may hold, and never more than `most`."""
    return min(most, int(MAX_TOKENS_PER_SECOND * seconds) + TOKENS_AT_ONCE)


def is_noise(no_speech: float, probabilities: Sequence[float], threshold: float | None) -> bool:
    """Whether tokens of these probabilities are rather noise: `no_speech`, the probability that the text ends where it begins,
    is at least `threshold` times that of a share of the tokens, so that a short text is not doubted for one unclear word. None:
    never. (Whisper asks both numbers against thresholds of their own: Radford et al. 2022, section 4.5.)"""
    if threshold is None or not probabilities:
        return False
    mean_log = math.fsum(math.log(max(p, 1e-9)) for p in probabilities) / len(probabilities)
    compared = DOUBT_SHARE * min(len(probabilities), DOUBT_TOKENS)
    return math.log(max(no_speech, 1e-30)) >= math.log(threshold) + compared * mean_log


def without_loop(tokens: Sequence[int]) -> tuple[int, ...]:
    """The tokens with a loop at their end reduced to its unit said once."""
    length = len(tokens)
    for unit in range(1, min(LONGEST_UNIT, length // LOOP_REPEATS) + 1):
        start = length - unit
        while start > 0 and tokens[start - 1] == tokens[start - 1 + unit]:
            start -= 1
        if length - start >= max(LOOP_TOKENS, LOOP_REPEATS * unit):
            return tuple(tokens[: start + unit])
    return tuple(tokens)


def whole_characters(tokens: tuple[int, ...], text: Callable[[Sequence[int]], str]) -> tuple[int, ...]:
    """The tokens without those at their end that write only a part of a character; `text` spells tokens."""
    for dropped in range(min(_BYTES_OF_A_CHARACTER, len(tokens) + 1)):
        kept = tokens[: len(tokens) - dropped]
        if not text(kept).endswith(INCOMPLETE):
            return kept
    return tokens


def is_unspaced(character: str) -> bool:
    """Whether the character belongs to a script that puts no spaces between words."""
    return any(first <= ord(character) <= last for first, last in _UNSPACED)


def split_words(text: str) -> list[str]:
    """Words between spaces; each character of a script without spaces is one."""
    spaced = "".join(f" {character} " if is_unspaced(character) else character for character in text)
    return spaced.split()


def word_starts(pieces: Sequence[str]) -> list[bool]:
    """For each piece of a byte-level vocabulary whether a word, or a character of a script without spaces, begins with it.

    A first byte alone is judged by the characters it can begin.
    """
    return [_starts_word(piece) for piece in pieces]


def _starts_word(piece: str) -> bool:
    if piece.startswith(_SPACE):
        return True
    try:
        raw = bytes(_BYTE_OF[character] for character in piece)
    except KeyError:  # a reserved token
        return False
    text = raw.decode("utf-8", "ignore")
    if text and not _is_continuation(raw[0]):
        return is_unspaced(text[0])
    return bool(raw) and raw[0] in _UNSPACED_FIRST_BYTES


def _is_continuation(byte: int) -> bool:
    return 0x80 <= byte < 0xC0


def _byte_of_character() -> dict[str, int]:
    """The alphabet of byte-level vocabularies (GPT-2): printable bytes stand for themselves, the others are moved up."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + index): byte for index, byte in enumerate(moved)}


_BYTE_OF = _byte_of_character()
_SPACE = next(character for character, byte in _BYTE_OF.items() if byte == 0x20)
_UNSPACED_FIRST_BYTES = frozenset(range(0xE4, 0xEA)) | {0xE3, 0xF0}
"""Of Han and Kana; 0xE0 and 0xE1 begin spaced scripts too."""
