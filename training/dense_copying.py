"""Text that is nothing but repeating, to teach copying before conversation: random words, and then the same once more,
asked for in the next turn, just so, quoted, or as digits. Nothing but the words before can tell what follows, so that is
where the backbone learns to look."""

from __future__ import annotations

import random

from ..models.chat import ChatFormat
from .dense_arithmetic import Line
from .skills import sentences
from .skills.arithmetic import PAIRS
from .skills.dialogue import AGAIN_WAYS, SAID_WAYS
from .skills.numbers import NUMBER_WORDS, digit_words, sentence
from .skills.wordings import SPLITS

LEAST_WORDS, MOST_WORDS = 2, 8
KIND_SHARES = (0.4, 0.3, 0.2, 0.1)
VOCABULARY_SENTENCES = 3000
Exchange = tuple[tuple[int, ...], tuple[int, ...]]
"""What is read, and what is learned after it."""


class DenseCopying:
    """Draws exchanges of random words of the vocabulary."""

    def __init__(self, chat: ChatFormat, seed: int = 0) -> None:
        rng = random.Random(seed)
        said = (sentences(rng, SPLITS[0]) for _ in range(VOCABULARY_SENTENCES))
        words = {word for text in said for word in text.split()} | set(NUMBER_WORDS)
        self._words = sorted(words - set(PAIRS))  # no held-out sum by chance
        self._chat = chat

    def draw(self, rng: random.Random, length: int) -> Line:
        """Exactly `length` tokens and their weights: only what is repeated is learned. The last one may be cut."""
        ids: list[int] = []
        weights: list[float] = []
        while len(ids) < length:
            asked, answer = self._exchange(rng)
            after = self._chat.after_turn_end() if answer[-1] == self._chat.turn_end_id else ()
            ids += (*asked, *answer, *after)
            weights += [0.0] * len(asked) + [1.0] * len(answer) + [0.0] * len(after)
        return tuple(ids[:length]), tuple(weights[:length])

    def _exchange(self, rng: random.Random) -> Exchange:
        kinds = (self._asked_again, self._said_twice, self._quoted, self._digits)
        return rng.choices(kinds, KIND_SHARES)[0](rng)

    def _asked_again(self, rng: random.Random) -> Exchange:
        """A turn of each, then one of them is asked for."""
        chat = self._chat
        user, reply = self._draw_words(rng), sentence(self._draw_words(rng)) + "."
        heard = chat.cut_reply(reply.rstrip(".")) if rng.random() < 0.3 else chat.reply(reply)
        own = rng.random() < 0.5
        question = rng.choice((AGAIN_WAYS if own else SAID_WAYS).train)
        answer = f"I said: {reply}" if own else f"You said: {user}."
        first = (*chat.user_open(), *chat.words(user), *chat.reply_open(), *heard, *chat.reply_close())
        asked = (*chat.user_open(), *chat.words(question), *chat.reply_open())
        return (*first, *asked), (*chat.reply(answer), chat.turn_end_id)

    def _said_twice(self, rng: random.Random) -> Exchange:
        """The same words once more, outside of any turn."""
        words = self._chat.words(self._draw_words(rng))
        return (*words, *self._chat.reply(".")), (*words, *self._chat.reply("."))

    def _quoted(self, rng: random.Random) -> Exchange:
        """Words, then each of them as a JSON string, as tool calls have them."""
        words = rng.choices(self._words, k=rng.randint(1, 4))
        quoted = ",".join(f' "{word}"' for word in words)
        return (*self._chat.words(" ".join(words)), *self._chat.reply(":")), self._chat.reply(quoted + "\n")

    def _digits(self, rng: random.Random) -> Exchange:
        """Digits said one by one, then written; never four, for some of those are held out."""
        digits = "".join(rng.choices("0123456789", k=rng.choice((2, 3, 5, 6))))
        return (*self._chat.words(digit_words(digits)), *self._chat.reply(":")), self._chat.reply(f' "{digits}"\n')

    def _draw_words(self, rng: random.Random) -> str:
        return " ".join(rng.choices(self._words, k=rng.randint(LEAST_WORDS, MOST_WORDS)))
