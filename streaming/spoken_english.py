"""How an English reader would say what is not written in letters: amounts of money, measures, times and dates,
ordinals, telephone and order numbers, sums. `readings` finds them in a text and says each in words; what it does not
know, addresses of the web among it, it leaves to the synthesizer. A pure function of the text; rules that begin at
the same character are tried in the order of `_RULES`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..models.text import ONES, digit_words, number_words

_SCALES = ("", "thousand", "million", "billion", "trillion")
_MOST_WORDED = 10 ** (3 * len(_SCALES)) - 1
_IRREGULAR_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
    "twelve": "twelfth",
}  # fmt: skip

_UNITS = {
    "km/h": "kilometer per hour", "m/s": "meter per second", "mph": "mile per hour", "km²": "square kilometer",
    "m²": "square meter", "m³": "cubic meter", "km": "kilometer", "cm": "centimeter", "mm": "millimeter", "m": "meter",
    "mi": "mile", "ft": "foot", "yd": "yard", "kg": "kilogram", "mg": "milligram", "g": "gram", "lbs": "pound",
    "lb": "pound", "oz": "ounce", "ml": "milliliter", "l": "liter", "L": "liter", "ms": "millisecond", "min": "minute",
    "mins": "minute", "h": "hour", "hrs": "hour", "hr": "hour", "sec": "second", "kHz": "kilohertz", "MHz": "megahertz",
    "GHz": "gigahertz", "Hz": "hertz", "kB": "kilobyte", "KB": "kilobyte", "MB": "megabyte", "GB": "gigabyte",
    "TB": "terabyte", "kWh": "kilowatt hour", "kW": "kilowatt", "MW": "megawatt", "W": "watt", "V": "volt",
    "°C": "degree Celsius", "°F": "degree Fahrenheit", "°": "degree", "%": "percent",
}  # fmt: skip
_CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "€": ("euro", "euros", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "¥": ("yen", "yen", "sen", "sen"),
    "₹": ("rupee", "rupees", "paisa", "paise"),
    "USD": ("US dollar", "US dollars", "cent", "cents"),
    "EUR": ("euro", "euros", "cent", "cents"),
    "GBP": ("British pound", "British pounds", "penny", "pence"),
    "CHF": ("Swiss franc", "Swiss francs", "centime", "centimes"),
}
_AMOUNT_SCALES = {"k": "thousand", "K": "thousand", "m": "million", "M": "million", "bn": "billion"}
_SIGNS = {"+": "plus", "-": "minus", "−": "minus", "=": "equals", "×": "times", "÷": "divided by", "&": "and"}
_FRACTIONS = {
    "1/2": "one half", "½": "one half", "1/3": "one third", "⅓": "one third", "2/3": "two thirds", "⅔": "two thirds",
    "1/4": "one quarter", "¼": "one quarter", "3/4": "three quarters", "¾": "three quarters",
}  # fmt: skip
_ABBREVIATIONS = {"e.g.": "for example", "i.e.": "that is", "approx.": "approximately", "vs.": "versus"}
_MONTHS = "January February March April May June July August September October November December".split()

_NUMBER = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?"
_UNIT = "|".join(re.escape(unit) for unit in sorted(_UNITS, key=len, reverse=True))
_YEAR = r"(?:1[1-9][0-9]{2}|20[0-9]{2})(?![\w/:%]|[.,][0-9])"
_MONTH = r"\b(?:January|February|March|April|May|June|July|August|September|October|November|December|" + (
    r"(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\b\.?)"
)
_NOT_WITHIN = r"(?<![\w.,:/])"
_ENDS = r"(?![\w/]|[.,:][0-9])"


@dataclass(frozen=True, slots=True)
class Reading:
    """`words` are to be said for the characters from `text_start` on."""

    text_start: int
    text_length: int
    words: str


def readings(text: str) -> Iterator[Reading]:
    """What in an English `text` is to be said otherwise than it is written, in order and without overlap."""
    position = 0
    while found := _first_match(text, position):
        match, say = found
        start, end = match.span("it") if "it" in match.re.groupindex else match.span()
        words = say(match)
        if words != match.string[start:end]:
            yield Reading(start, end - start, words)
        position = max(end, position + 1)


def integer_words(number: int) -> str:
    """The words of any integer that is not negative; from a thousand trillion on digit by digit."""
    if number > _MOST_WORDED:
        return digit_words(str(number))
    if number < 1000:
        return number_words(number)
    groups = []
    for scale in _SCALES:
        number, group = divmod(number, 1000)
        if group:
            groups.append(f"{number_words(group)} {scale}".rstrip())
    return " ".join(reversed(groups))


def decimal_words(number: str) -> str:
    """The words of a number such as 1,234.50, its decimals digit by digit."""
    whole, _, decimals = number.replace(",", "").partition(".")
    return integer_words(int(whole)) + (f" point {digit_words(decimals)}" if decimals else "")


def ordinal_words(number: int) -> str:
    """The words of a place in an order: 21 is 'twenty first'."""
    head, _, last = integer_words(number).rpartition(" ")
    regular = f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th"
    return f"{head} {_IRREGULAR_ORDINALS.get(last, regular)}".lstrip()


def year_words(year: int) -> str:
    """The words of a year of four digits: 1905 is 'nineteen oh five', 2024 'twenty twenty four'."""
    century, rest = divmod(year, 100)
    if century % 10 == 0 and rest < 10:
        return integer_words(year)
    return f"{number_words(century)} " + ("hundred" if rest == 0 else f"oh {ONES[rest]}" if rest < 10 else number_words(rest))


_Match = re.Match[str]


def _as_written(match: _Match) -> str:
    return match[0]


def _digits(match: _Match) -> str:
    number = match["it"] if "it" in match.re.groupindex else match[0]
    groups = re.findall("[0-9]+", number)
    return ("plus " if number.startswith("+") else "") + ", ".join(map(digit_words, groups))


def _hash(match: _Match) -> str:
    digits = match[0][1:]
    return "number " + (digit_words(digits) if len(digits) > 2 else integer_words(int(digits)))


def _date(match: _Match) -> str:
    return f"{_MONTHS[int(match['month']) - 1]} {ordinal_words(int(match['day']))}, {year_words(int(match['year']))}"


def _day(match: _Match) -> str:
    year = match["year"]
    return ordinal_words(int(match["day"])) + (f", {year_words(int(year))}" if year else "")


def _clock(match: _Match) -> str:
    hour, minute = int(match["hour"]), int(match["minute"] or 0)
    said = number_words(hour)
    if minute:
        said += f" {'oh ' if minute < 10 else ''}{number_words(minute)}"
    elif not match["half"]:
        said += " o'clock" if 1 <= hour <= 12 else " hundred"
    return f"{said} {match['half'].upper()} M" if match["half"] else said


def _money(match: _Match) -> str:
    one, many, small_one, small_many = _CURRENCIES[match["currency"]]
    whole, _, decimals = match["number"].replace(",", "").partition(".")
    scale = match["scale"] if "scale" in match.re.groupindex else None
    minus = "minus " if match["sign"] else ""
    if scale or len(decimals) not in (0, 2):
        scale_words = f" {_AMOUNT_SCALES.get(scale, scale)}" if scale else ""
        return f"{minus}{decimal_words(match['number'])}{scale_words} {many}"
    parts = []
    if int(whole) or not int(decimals or 0):
        parts.append(f"{integer_words(int(whole))} {one if int(whole) == 1 else many}")
    if int(decimals or 0):
        parts.append(f"{number_words(int(decimals))} {small_one if int(decimals) == 1 else small_many}")
    return minus + " and ".join(parts)


def _measure(match: _Match) -> str:
    sign = f"{_SIGNS[match['sign']]} " if match["sign"] else ""
    return f"{sign}{decimal_words(match['number'])}{_unit_words(match['unit'], match['number'])}"


def _range(match: _Match) -> str:
    first, last, unit = match["first"], match["last"], match["unit"]
    if float(first.replace(",", "")) >= float(last.replace(",", "")):
        return match[0]
    return f"{decimal_words(first)} to {decimal_words(last)}" + (_unit_words(unit, last) if unit else "")


def _unit_words(unit: str, number: str) -> str:
    name = _UNITS[unit]
    if number == "1" or name == "percent" or name.endswith("hertz"):
        return f" {name}"
    noun, *rest = ("feet",) if name == "foot" else re.split(r" (?=per |Celsius|Fahrenheit)", name, maxsplit=1)
    return " ".join(["", noun if noun == "feet" else f"{noun}s", *rest])


def _ordinal(match: _Match) -> str:
    return ordinal_words(int(match["number"].replace(",", "")))


def _number(match: _Match) -> str:
    return ("minus " if match["sign"] else "") + decimal_words(match["number"])


_RULES: tuple[tuple[re.Pattern[str], Callable[[_Match], str]], ...] = tuple(
    (re.compile(pattern), say)
    for pattern, say in (
        (r"(?:https?://|www\.)\S+|\S+@\S+\.\S+|\b[\w-]+(?:\.[\w-]+)*\.(?:com|org|net|io|dev|ai|eu)\b(?:/\S*)?", _as_written),
        (r"(?<![\w+])\+[0-9](?:[ ()./-]{0,2}[0-9]){6,14}(?!\w)", _digits),
        (r"(?<![\w.,-])(?:\([0-9]{3}\) ?|[0-9]{3}-)?[0-9]{3}-[0-9]{4}(?![\w-])", _digits),
        (
            r"(?i:\b(?:order|ticket|reference|booking|reservation|confirmation|tracking|account|invoice|customer|flight)"
            rf"(?:\s+(?:is|was|number|no\.?|id|code))*:?\s+)(?P<it>[0-9]{{4,}}){_ENDS}",
            _digits,
        ),
        (rf"(?i:\b(?:number|no\.|id|code|pin|extension)(?:\s+is)?:?\s+)(?P<it>[0-9]{{3,}}){_ENDS}", _digits),
        (rf"(?<!\w)#[0-9]+{_ENDS}", _hash),
        (rf"{_NOT_WITHIN}(?:0[0-9]+|[0-9]{{7,}}){_ENDS}", _digits),
        (
            r"(?<![\w/-])(?P<year>1[1-9][0-9]{2}|20[0-9]{2})-(?P<month>0[1-9]|1[0-2])"
            r"-(?P<day>0[1-9]|[12][0-9]|3[01])(?![\w-])",
            _date,
        ),
        (
            rf"{_NOT_WITHIN}(?P<hour>[01]?[0-9]|2[0-3]):(?P<minute>[0-5][0-9])(?![\w:])"
            r"(?:\s?(?P<half>[apAP])(?:\.?[mM]\b)(?:\.(?=\s+\S))?)?",
            _clock,
        ),
        (
            rf"{_NOT_WITHIN}(?P<hour>1[0-2]|[1-9])(?P<minute>)\s?(?P<half>[apAP])(?:\.?[mM]\b)(?:\.(?=\s+\S))?",
            _clock,
        ),
        (
            rf"(?:(?<!\S)(?P<sign>[-−]))?(?P<currency>[$€£¥₹])\s?(?P<number>{_NUMBER})"
            rf"(?:\s?(?P<scale>thousand|million|billion|trillion|bn|[kKmM])\b)?{_ENDS}",
            _money,
        ),
        (
            rf"{_NOT_WITHIN}(?:(?<!\S)(?P<sign>[-−]))?(?P<number>{_NUMBER})\s?(?P<currency>[€£]|USD|EUR|GBP|CHF)(?!\w)",
            _money,
        ),
        (
            rf"{_NOT_WITHIN}(?<!-)(?P<first>{_NUMBER})(?:-|\s?–\s?)(?P<last>{_NUMBER})(?:\s?(?P<unit>{_UNIT}))?"
            rf"(?![\w/-]|[.,:][0-9])",
            _range,
        ),
        (
            rf"{_NOT_WITHIN}(?:(?<!\S)(?P<sign>[-−+]))?(?P<number>{_NUMBER})\s?(?P<unit>{_UNIT})(?![\w/²³])",
            _measure,
        ),
        (rf"{_NOT_WITHIN}(?P<number>[0-9]{{1,3}}(?:,[0-9]{{3}})*|[0-9]{{1,6}})(?:st|nd|rd|th)\b", _ordinal),
        (rf"{_MONTH}\s(?P<it>(?P<day>3[01]|[12][0-9]|[1-9])(?!\w|[:.,][0-9])(?:,?\s(?P<year>{_YEAR}))?)", _day),
        (rf"(?:\b[Ii]n|\b[Ss]ince|\b[Yy]ear|{_MONTH})\s(?P<it>{_YEAR})", lambda match: year_words(int(match["it"]))),
        (
            rf"{_NOT_WITHIN}[0-9]+(?:\.[0-9]+){{2,}}{_ENDS}",
            lambda match: " point ".join(integer_words(int(part)) for part in match[0].split(".")),
        ),
        (
            r"(?<![\w/.,])(?:" + "|".join(map(re.escape, _FRACTIONS)) + r")(?![\w/])",
            lambda match: _FRACTIONS[match[0]],
        ),
        (rf"{_NOT_WITHIN}(?:(?<!\S)(?P<sign>[-−]))?(?P<number>{_NUMBER}){_ENDS}", _number),
        (r"(?<=\s)[+=×÷&−](?=\s)|(?<=[0-9]\s)-(?=\s[0-9])", lambda match: _SIGNS[match[0]]),
        (r"\b(?:e\.g\.|i\.e\.|approx\.(?=\s)|vs\.(?=\s))", lambda match: _ABBREVIATIONS[match[0]]),
    )
)


def _first_match(text: str, position: int) -> tuple[_Match, Callable[[_Match], str]] | None:
    found = [(match, say) for pattern, say in _RULES if (match := pattern.search(text, position))]
    return min(found, key=lambda pair: pair[0].start(), default=None)
