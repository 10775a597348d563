"""Dialogues as rows of the backbone with what is learned at each row.

A sequence is made of the pieces of `ChatFormat` and the rows of `user_rows`, exactly as a session appends
them. "Learned at row r" means that the output of row r is compared: the assistant's tokens (at the row before
each), at the last token of every word of the user whether the turn ends there, and, where the user was heard,
what a teacher says that reads the typed words. The assistant's tokens are the same however the user's words
came in, so a heard sequence and its typed twin list them in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from ..models.chat import ChatFormat
from ..models.fusion import Fusion, Row, Vectors, user_rows
from .skills import TONES, Dialogue, Turn


@dataclass(frozen=True, slots=True, eq=False)
class UserTurn:
    """What reached the backbone of a user's words: typed tokens, or recognized ones with `vectors` [n,
    feature_dim].

    `complete` False: the audio was cut and the last words are missing, so the turn has not ended.
    """

    tokens: tuple[int, ...]
    vectors: Vectors | None = None
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Span:
    """One text of the assistant, its end included: the output of `row` is its first id."""

    turn: int
    row: int
    ids: tuple[int, ...]


@dataclass(slots=True)
class TrainingSequence:
    """Rows, and what is learned at which: `replies` (row, id, weight), `ends` (row, the turn ends here), `tones` (row
    at which an answer begins that depends on the tone of the heard turn, index into TONES).

    `distilled` are indices into `replies` at which a teacher may be asked.
    """

    rows: list[Row] = field(default_factory=list)
    replies: list[tuple[int, int, float]] = field(default_factory=list)
    distilled: list[int] = field(default_factory=list)
    ends: list[tuple[int, bool]] = field(default_factory=list)
    tones: list[tuple[int, int]] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)

    def read(self, ids: Sequence[int]) -> None:
        """Rows at which nothing is learned."""
        self.rows += [Row(token) for token in ids]

    def say(self, ids: Sequence[int], turn: int, n_learned: int, distil: bool) -> None:
        """Ids of the assistant, the first `n_learned` of which are learned."""
        first = len(self.rows) - 1
        if n_learned == len(ids):
            self.spans.append(Span(turn, first, tuple(ids)))
        if distil:
            self.distilled += range(len(self.replies), len(self.replies) + n_learned)
        self.replies += [(first + offset, token, 1.0) for offset, token in enumerate(ids[:n_learned])]
        self.read(ids)


def plain_text(ids: Sequence[int], weights: Sequence[float]) -> TrainingSequence:
    """Text without turns of which every token but the first is learned, with its weight."""
    sequence = TrainingSequence()
    sequence.read(ids)
    sequence.replies = [(row, ids[row + 1], weights[row + 1]) for row in range(len(ids) - 1)]
    return sequence


class Renderer:
    """Makes sequences of dialogues. Pieces of text that come again are tokenized once."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, chat: ChatFormat, fusion: Fusion) -> None:
        self.chat, self._fusion = chat, fusion
        pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        self._starts_word = [piece.startswith("\u0120") for piece in pieces]
        self._words = lru_cache(100_000)(chat.words)
        self._reply = lru_cache(100_000)(chat.reply)

    def typed(self, dialogue: Dialogue) -> list[UserTurn]:
        """The user's words as a keyboard gives them."""
        return [UserTurn(self._words(turn.user)) for turn in dialogue.turns]

    def twin(self, dialogue: Dialogue, said: Sequence[UserTurn]) -> TrainingSequence:
        """What the teacher reads: the same dialogue, as far as it was said, from typed words."""
        typed = [replace(words, complete=heard.complete) for words, heard in zip(self.typed(dialogue), said, strict=False)]
        return self.render(dialogue, typed)

    def render(
        self, dialogue: Dialogue, said: Sequence[UserTurn] | None = None, instructions: str | None = None
    ) -> TrainingSequence:
        """The dialogue up to the last of `said`, or up to the first that is not complete; None: typed."""
        sequence = TrainingSequence()
        if instructions is not None:
            sequence.read(self.chat.system(instructions))
        said = self.typed(dialogue) if said is None else said
        last = min(len(said), len(dialogue.turns)) - 1
        for index, (turn, user) in enumerate(zip(dialogue.turns, said, strict=False)):
            sequence.read(self.chat.user_open())
            self._listen(sequence, user)
            if not user.complete:
                break
            sequence.read(self.chat.reply_open())
            if turn.tone is not None and user.vectors is not None:
                sequence.tones.append((len(sequence.rows) - 1, TONES.index(turn.tone)))
            self._answer(sequence, turn, index, index == last)
        return sequence

    def _listen(self, sequence: TrainingSequence, user: UserTurn) -> None:
        token = 0
        group = self._fusion.final_group if user.vectors is not None else 1
        for row in user_rows(user.tokens, user.vectors, self._fusion):
            if row.vector is None:
                token += 1
                last = token == len(user.tokens)
                settled = group is not None and token % group == 0  # the marker before it averages no later word
                if last or (settled and self._starts_word[user.tokens[token]]):
                    sequence.ends.append((len(sequence.rows), last and user.complete))
            sequence.rows.append(row)

    def _answer(self, sequence: TrainingSequence, turn: Turn, index: int, last: bool) -> None:
        """The call and its result if there is one, then the reply. A reply that was cut off is learned as far
        as it was heard; the last one of the dialogue is learned whole, since nothing follows that could tell.
        """
        end, distil = self.chat.turn_end_id, turn.tone is None
        newline = self.chat.reply_close()[1:]
        if turn.call is not None:
            call = (*self.chat.call(turn.call.name, turn.call.arguments), end)
            sequence.say(call, index, len(call), distil)
            sequence.read((*newline, *self.chat.response(turn.result or {})))
        if turn.heard is None or last:
            reply = (*self._reply(turn.reply), end)
            sequence.say(reply, index, len(reply), distil)
        else:
            heard = self._reply(turn.heard)
            sequence.say((*heard, self.chat.cut_off_id, end), index, len(heard), distil)
        sequence.read(newline)


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences padded at their end, flat rows counted over the whole batch.

    ids [batch, length]; markers [m] rows with vectors [m, feature_dim]; replies [n] rows with ids and weights
    [n]; distilled [q] indices into replies; ends [k] rows with is_end [k] of 0 or 1; toned [t] rows with tone_ids [t].
    """

    ids: Tensor
    markers: Tensor
    vectors: Tensor
    replies: Tensor
    reply_ids: Tensor
    reply_weights: Tensor
    distilled: Tensor
    ends: Tensor
    is_end: Tensor
    toned: Tensor
    tone_ids: Tensor


def collate(sequences: Sequence[TrainingSequence], pad: int, width_step: int = 1) -> Batch:
    """Stack sequences, their length rounded up to a multiple of `width_step`; all `distilled` indices are
    kept."""
    length = -(-max(len(sequence.rows) for sequence in sequences) // width_step) * width_step
    ids = np.full((len(sequences), length), pad, np.int64)
    markers: list[int] = []
    vectors: list[NDArray[np.float32]] = []
    replies: list[tuple[int, int, float]] = []
    distilled: list[int] = []
    ends: list[tuple[int, bool]] = []
    tones: list[tuple[int, int]] = []
    for index, sequence in enumerate(sequences):
        first = index * length
        ids[index, : len(sequence.rows)] = [row.token_id for row in sequence.rows]
        for place, row in enumerate(sequence.rows):
            if row.vector is not None:
                markers.append(first + place)
                vectors.append(row.vector)
        distilled += [len(replies) + place for place in sequence.distilled]
        replies += [(first + row, token, weight) for row, token, weight in sequence.replies]
        ends += [(first + row, is_end) for row, is_end in sequence.ends]
        tones += [(first + row, tone) for row, tone in sequence.tones]
    return Batch(
        torch.from_numpy(ids),
        torch.tensor(markers, dtype=torch.long),
        torch.from_numpy(np.stack(vectors)) if vectors else torch.zeros(0, 0),
        torch.tensor([row for row, _, _ in replies], dtype=torch.long),
        torch.tensor([token for _, token, _ in replies], dtype=torch.long),
        torch.tensor([weight for _, _, weight in replies]),
        torch.tensor(distilled, dtype=torch.long),
        torch.tensor([row for row, _ in ends], dtype=torch.long),
        torch.tensor([float(is_end) for _, is_end in ends]),
        torch.tensor([row for row, _ in tones], dtype=torch.long),
        torch.tensor([tone for _, tone in tones], dtype=torch.long),
    )
