"""Small English phrases that turn-taking treats as such: "mm-hm" over a reply, and "wait a moment" at a turn's end.

A plain reading of the words, in whatever case and with whatever punctuation the recognizer writes them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

BACKCHANNELS = frozenset(
    "mm mmm mhm mmhm hm hmm uh huh uhuh uhhuh ah aha oh yeah yes yep yup ya ok okay right sure wow cool nice great exactly "
    "really true".split()
)
"""Words by which a listener says: go on."""
PHRASES = frozenset({"i see", "of course", "got it", "all right", "makes sense", "go on", "mm hm", "uh huh"})
FILLERS = frozenset("um uh er eh".split())
MAX_BACKCHANNEL_WORDS = 2

_SHORT_TIME = r"(moment|second|sec|minute|bit)"
_HOLD = re.compile(
    rf"(^|\b(no|oh|um|uh|please|and|but) )(wait|one {_SHORT_TIME}|moment)( please)?$"
    rf"|\b(wait|just|give me|hold on|hang on) (a|one) {_SHORT_TIME}( please)?$"
    r"|\b(hold on|hang on|let me think|let me see)( please)?$"
)


def words_of(text: str) -> list[str]:
    """The words in lower case, without punctuation; "mm-hm" is two."""
    return re.findall(r"[\w']+", text.lower().replace("\u2019", "'"))


def is_backchannel(words: Sequence[str]) -> bool:
    """Whether these words, of which there are some, only say: go on."""
    if not 0 < len(words) <= MAX_BACKCHANNEL_WORDS:
        return False
    return " ".join(words) in PHRASES or all(word in BACKCHANNELS for word in words)


def count_real(words: Sequence[str]) -> int:
    """How many of the words want the floor: no backchannels, no fillers."""
    if is_backchannel(words):
        return 0
    return sum(word not in BACKCHANNELS and word not in FILLERS for word in words)


def is_hold(text: str) -> bool:
    """Whether a turn that ends so far with `text` asks to be waited for: "wait a moment"."""
    return _HOLD.search(" ".join(words_of(text))) is not None
