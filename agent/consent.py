"""Did the user say yes or no? A plain reading of English words for calls that need a confirmation; when in doubt, neither."""

from __future__ import annotations

import re

SHORT_WORDS = 5
_YES = frozenset("yes yeah yep yup".split())
_NO = frozenset("no nope nah never don't dont stop not".split())
_AGREEING = _YES | frozenset("ok okay sure alright certainly absolutely definitely confirm confirmed affirmative".split())
_AROUND = frozenset("please thanks thank you go ahead do it that of course sounds good i am all right just".split())
_FILLERS = frozenset("um uh er ah oh hm hmm mhm well so".split())
_DOUBT = re.compile(r"\b(don't know|dont know|do not know|why not|not sure|no idea|not yet sure)\b")
_AGREEMENTS = re.compile(r"\b(go ahead|do it|do that|of course|please do|all right)\b")


def read_consent(text: str) -> bool | None:
    """True for yes, False for no, None where the words do not say it.

    "yes" counts at the beginning, words such as "sure" only if nothing else is said, a refusal at the beginning or in a
    short answer: "please don't". Yes and no together are unclear.
    """
    text = text.lower().replace("\u2019", "'")
    words = [word for word in re.findall(r"[\w']+", text) if word not in _FILLERS]
    if not words or _DOUBT.search(text):
        return None
    says_no, says_yes = bool(_NO & set(words)), bool(_AGREEING & set(words)) or bool(_AGREEMENTS.search(text))
    if says_no:
        return None if says_yes or not (words[0] in _NO or len(words) <= SHORT_WORDS) else False
    if words[0] in _YES:
        return True
    return True if says_yes and set(words) <= _AGREEING | _AROUND else None
