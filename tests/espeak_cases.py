"""What the tests of the espeak binding and of the synthesizer share: texts, a check of word times."""

from collections.abc import Sequence
from itertools import pairwise

from textpro.streaming.synthesis import WordTime

QUESTION = "what is twenty three plus forty eight"
LONG = "and so on " * 150
PUZZLES = [
    QUESTION,
    "a cup of the tea that I've had at the end of the day isn't o'clock",
    "the man is one of the people, and it's 3.14 or 1,000; Dr. Smith — yes! e.g. AT&T",
    "héllo  wörld\n\ttwenty-three naïve 你好 🙂 end",
    "\x0180s spoken \x0150p as text",
    "...",
    "—",
    "",
]
TONES = [(165, 50, 50, 100), (200, 80, 90, 140), (215, 35, 95, 190), (120, 25, 15, 55)]


def check_words(text: str, words: Sequence[WordTime], length_samples: int) -> None:
    assert [word.text for word in words] == text.split()
    assert all(text[word.text_start :][: word.text_length] == word.text for word in words)
    assert all(0 <= word.start_samples <= word.end_samples <= length_samples for word in words)
    assert all(left.end_samples <= right.start_samples for left, right in pairwise(words))
