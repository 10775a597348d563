"""Words of numbers, and typed text brought into the form in which the bundled models know speech. The
recognizer writes lower case words without punctuation and numbers as words; text from a keyboard comes with
digits, signs and capitals, so it passes through `normalize_typed` before it becomes tokens. Nothing here
depends on a model; the corpora use the same number words."""

import re
import unicodedata

ONES = tuple(
    (
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
        " sixteen seventeen eighteen nineteen"
    ).split()
)
TENS = tuple("zero ten twenty thirty forty fifty sixty seventy eighty ninety".split())
MOST_WORDED = 999

_SAME_SIGN = str.maketrans(
    {"\u2019": "'", "\u2018": "'", "\u02bc": "'", "`": "'", "\u2212": "-", "\u2013": "-", "\u2014": " "}
)
_HALF_OF_DAY = re.compile(r"\b(1[0-2]|0?[1-9])(?::([0-5]\d))? ?([ap])\.? ?m\b\.?")
_CLOCK = re.compile(r"\b([01]?\d|2[0-3]):([0-5]\d)\b")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")
_SIGNS = (
    (re.compile(r"(?<=\d)\s*-\s*(?=\d)"), " minus "),
    (re.compile(r"(?<=\d)\s*[x\u00d7]\s*(?=\d)"), " times "),
    (re.compile(r"(?<=\d)\s*[/\u00f7]\s*(?=\d)"), " divided by "),
    (re.compile(r"(?<=\d)\.(?=\d)"), " point "),
    (re.compile(r"%"), " percent "),
    (re.compile(r"\+"), " plus "),
    (re.compile(r"\*"), " times "),
    (re.compile(r"[^\w' ]|_"), " "),
    (re.compile(r"(?<!\w)'|'(?!\w)"), " "),
    (re.compile(r"(?<=\d)(?=[^\W\d])|(?<=[^\W\d])(?=\d)"), " "),
)
_ORDER = re.compile(r"\b(orders?(?: (?:number|no|nr|is|id))* )([0-9]+)")
_NUMBER = re.compile(r"[0-9]+")


def number_words(number: int) -> str:
    """The English words of an integer in 0..999: 23 is 'twenty three', 105 is 'one hundred five'."""
    if not 0 <= number <= MOST_WORDED:
        raise ValueError(f"no words for {number}: 0..{MOST_WORDED} are known, say others digit by digit")
    if number < len(ONES):
        return ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return TENS[tens] if ones == 0 else f"{TENS[tens]} {ONES[ones]}"
    hundreds, rest = divmod(number, 100)
    return f"{ONES[hundreds]} hundred" + (f" {number_words(rest)}" if rest else "")


def digit_words(digits: str) -> str:
    """Each decimal digit as its own word: '4719' is 'four seven one nine'."""
    return " ".join(ONES[int(digit)] for digit in digits)


def clock_words(hour: int, minute: int) -> str:
    """A time of day: (7, 0) is "seven o'clock", (7, 5) is 'seven oh five', (10, 30) is 'ten thirty'."""
    if minute == 0:
        return f"{number_words(hour)} o'clock"
    return f"{number_words(hour)} {'oh ' if minute < 10 else ''}{number_words(minute)}"


def normalize_typed(text: str) -> str:
    """Typed text as the words a recognizer would have written: lower case, NFKC, apostrophes only in words.

    Numbers become words ('23' is 'twenty three'); those of four and more digits, and those after 'order',
    are said digit by digit. '10:30' is 'ten thirty', '7 pm' and '19:00' are "seven (o'clock) in the evening".
    '+', '*', and between numbers '-', 'x' and '/', become words. Idempotent.
    """
    text = unicodedata.normalize("NFKC", text).lower().translate(_SAME_SIGN)
    text = _THOUSANDS.sub("", " ".join(text.split()))
    text = _HALF_OF_DAY.sub(_said_half, text)
    text = _CLOCK.sub(_said_clock, text)
    for sign, words in _SIGNS:
        text = sign.sub(words, text)
    text = _ORDER.sub(lambda match: match[1] + digit_words(match[2]), " ".join(text.split()))
    return " ".join(_NUMBER.sub(lambda match: _said_number(match[0]), text).split())


def part_of_day(hour: int) -> str:
    """How the hour 0..23 is told apart from the same hour of the other half of the day."""
    return "in the morning" if hour < 12 else "in the afternoon" if hour < 18 else "in the evening"


def _said_half(match: re.Match[str]) -> str:
    hour, late = int(match[1]), match[3] == "p"
    said = clock_words(hour, int(match[2])) if match[2] else number_words(hour)
    return f" {said} {part_of_day(hour % 12 + 12 * late)} "


def _said_clock(match: re.Match[str]) -> str:
    hour, minute = int(match[1]), int(match[2])
    if 1 <= hour <= 12:
        return f" {clock_words(hour, minute)} "
    return f" {clock_words((hour - 1) % 12 + 1, minute)} {part_of_day(hour)} "


def _said_number(digits: str) -> str:
    return digit_words(digits) if len(digits) > 3 else number_words(int(digits))
