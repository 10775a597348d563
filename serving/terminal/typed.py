"""The text transport: typed lines as consecutive turns of one conversation. There is no audio time here; what
is spoken of a reply counts as played when it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ...models.errors import EngineError, InputError
from ..conversation import Conversation

STUCK_S = 60.0
"""Time without any event, while a reply is awaited, after which the session is taken for stuck."""


class TypedTransport:
    """Sends texts to a conversation that is entered."""

    def __init__(self, conversation: Conversation, stuck_s: float = STUCK_S) -> None:
        self._conversation = conversation
        self._stuck_s = stuck_s

    async def run(self, texts: Sequence[str]) -> None:
        """Each text is the user's next turn, sent when the reply to the one before is complete. EngineError
        when the session fails or gives no sign for a minute."""
        for text in texts:
            await self._say(text)

    async def _say(self, text: str) -> None:
        conversation = self._conversation
        done = conversation.replies_done
        await conversation.session.send_text(text)
        while True:
            conversation.news.clear()
            conversation.play_all()
            conversation.check()
            if conversation.replies_done > done and conversation.is_idle:
                return
            try:
                await asyncio.wait_for(conversation.news.wait(), self._stuck_s)
            except TimeoutError:
                raise EngineError(f"no reply to {text!r} came within {self._stuck_s:.0f} s; try again.") from None


def check_texts(texts: Sequence[str]) -> None:
    """InputError if one of the texts is blank."""
    if not all(text.strip() for text in texts):
        raise InputError("--text is empty; give the words of the turn, in quotes.")
