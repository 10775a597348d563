"""Text that is nothing but repeating, to teach copying before conversation: somebody says random words, the next turn
asks for them, and they come again. Nothing but the words before can tell what follows, so that is where it learns to look."""

from __future__ import annotations

import random

from ..models.chat import ChatFormat
from .dense_arithmetic import SHARES, Line
from .skills import sentences
from .skills.dialogue import AGAIN_WAYS, SAID_WAYS
from .skills.numbers import NUMBER_WORDS, sentence
from .skills.wordings import SPLITS

LEAST_WORDS, MOST_WORDS = 2, 8
VOCABULARY_SENTENCES = 3000
Exchange = tuple[tuple[int, ...], tuple[int, ...]]
"""What is read, and what is learned after it."""


class DenseCopying:
    """Two turns each: random words of the user and of the assistant, of which one or the other is asked for."""

    def __init__(self, chat: ChatFormat, seed: int = 0) -> None:
        rng = random.Random(seed)
        said = (sentences(rng, SPLITS[0]) for _ in range(VOCABULARY_SENTENCES))
        words = {word for text in said for word in text.split()} | set(NUMBER_WORDS)
        self._words = sorted(words - set(SHARES))  # no held-out sum by chance
        self._chat = chat

    def draw(self, rng: random.Random, length: int) -> Line:
        """Exactly `length` tokens and their weights: only what is repeated is learned. The last one may be cut."""
        ids: list[int] = []
        weights: list[float] = []
        while len(ids) < length:
            asked, answer = self._exchange(rng)
            after = self._chat.after_turn_end()
            ids += (*asked, *answer, *after)
            weights += [0.0] * len(asked) + [1.0] * len(answer) + [0.0] * len(after)
        return tuple(ids[:length]), tuple(weights[:length])

    def _exchange(self, rng: random.Random) -> Exchange:
        chat = self._chat
        user, reply = self._draw_words(rng), sentence(self._draw_words(rng)) + "."
        cut = rng.random() < 0.3
        heard = chat.cut_reply(reply.rstrip(".")) if cut else chat.reply(reply)
        own = rng.random() < 0.5
        question = rng.choice((AGAIN_WAYS if own else SAID_WAYS).train)
        answer = f"I said: {reply}" if own else f"You said: {user}."
        first = (*chat.user_open(), *chat.words(user), *chat.reply_open(), *heard, *chat.reply_close())
        asked = (*chat.user_open(), *chat.words(question), *chat.reply_open())
        return (*first, *asked), (*chat.reply(answer), chat.turn_end_id)

    def _draw_words(self, rng: random.Random) -> str:
        return " ".join(rng.choices(self._words, k=rng.randint(LEAST_WORDS, MOST_WORDS)))
