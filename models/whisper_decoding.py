"""Greedy decoding of a full Whisper over several segments at once, each behind its own prompt. A draft, such as what the last
tick found, is read in the same pass as the prompt and kept as far as it is what greedy decoding says (Leviathan et al., ICML
2023, with a draft that costs nothing). So it saves passes and changes no token, but where two scores are nearer to each other
than the rounding of a pass, which in 16 bits is not rare: recognizers are kept in fp32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import WhisperForConditionalGeneration

from .backbone import upload
from .whisper_passes import WhisperPasses
from .whisper_prompt import Prompt, first_of, ids_of

NO_SPEECH_ABOVE, UNSURE_BELOW = 0.6, -1.0
"""Whisper's rule: no words where no-speech is this probable and the mean log-probability of the words this low."""


@dataclass(frozen=True, slots=True, eq=False)
class Transcribe:
    """Recognize all samples of a segment so far, float32 [n] at 16 kHz. `stream` stands for the segment, whose items keep
    their order. `prosody`: vectors are wanted too. `prompt` are tokens of what was said right before; the last
    `FullWhisper.max_prompt` of them count. `language`: its token, None: as the settings say, or found. `times`: so are the
    ends of the tokens, where the checkpoint can tell them. `draft`: a guess of the tokens, which saves time where it is right."""

    stream: object
    samples: NDArray[np.float32]
    prosody: bool = False
    prompt: tuple[int, ...] = ()
    language: int | None = None
    times: bool = False
    draft: tuple[int, ...] = ()


@dataclass(slots=True, eq=False)
class Row:
    """A segment while it is decoded: what stands before the text, the tokens of text, at most `limit` (end-of-text left out;
    none for no speech), and the language with its probability. It `reads` some tokens next, from position `at` on, of which
    the last are a draft; nothing once it is done."""

    item: Transcribe
    previous: tuple[int, ...]
    limit: int
    prompt: tuple[int, ...] = ()
    generated: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    language: int | None = None
    language_probability: float = 0.0
    no_speech: float = 0.0
    reads: tuple[int, ...] = ()
    at: int = 0
    draft: tuple[int, ...] = ()

    def take(self, best: Sequence[int], logprobs: Sequence[float], ends: Sequence[int]) -> None:
        """What follows on the last token that is known and on each of the draft behind it, as far as the draft is right."""
        draft, self.reads, self.draft = self.draft, (), ()
        for index, (token, logprob) in enumerate(zip(best, logprobs, strict=True)):
            self.logprobs.append(logprob)
            if token in ends or len(self.generated) == self.limit:
                return
            self.generated.append(token)
            if draft[index : index + 1] != (token,):
                break
        self.reads, self.at = (self.generated[-1],), len(self.prompt) + len(self.generated) - 1


class GreedyDecoder:
    """Decodes the rows that `passes` was opened with."""

    def __init__(self, model: WhisperForConditionalGeneration, passes: WhisperPasses, prompt: Prompt) -> None:
        self._model, self._passes, self._prompt = model, passes, prompt
        generation = model.generation_config
        self._ends = ids_of(first_of(generation, model.config, "eos_token_id"))
        self._suppressed, self._begin_suppressed = (
            upload(ids_of(getattr(generation, name, None)), model.device) for name in ("suppress_tokens", "begin_suppress_tokens")
        )

    def decode(self, rows: Sequence[Row]) -> None:
        """Fill in the rows; row n is the segment n of the passes. Where all languages are known, the first pass reads the
        whole prompts and the drafts, else only up to the start of transcript, behind which a language is found."""
        known = all(self._prompt.is_known(row.item.language) for row in rows)
        for row in rows:
            row.prompt = row.reads = (*row.previous, self._prompt.start)
            if known:
                self._read_draft(row, self._prompt.named(row.item.language))
        states = self._read(rows)
        at_start = states[range(len(rows)), [len(row.previous) for row in rows]]
        for row, scores in zip(rows, self._scores(at_start), strict=True):
            row.no_speech = self._prompt.no_speech_probability(scores)
            row.language, row.language_probability = self._prompt.choose_language(scores, row.item.language)
        if not known:
            for row in rows:
                row.reads, row.at = (), len(row.prompt)
                self._read_draft(row, row.language)
            states = self._read(rows)
        self._take(rows, states)
        while going := [row for row in rows if row.reads]:
            self._take(going, self._read(rows)[[rows.index(row) for row in going]])
        for row in rows:
            if row.no_speech > NO_SPEECH_ABOVE and sum(row.logprobs) / len(row.logprobs) < UNSURE_BELOW:
                row.generated.clear()

    def _read_draft(self, row: Row, language: int | None) -> None:
        """Let it read the rest of its prompt too, and its draft."""
        behind, row.draft = self._prompt.behind_start(language), row.item.draft[: row.limit]
        row.prompt = (*row.prompt, *behind)
        row.reads = (*row.reads, *behind, *row.draft)

    def _read(self, rows: Sequence[Row]) -> Tensor:
        return self._passes.read([row.reads for row in rows], [row.at for row in rows])

    def _take(self, rows: Sequence[Row], states: Tensor) -> None:
        """Give rows what follows in their `states` [rows, columns, dim], in one copy."""
        counts = [1 + len(row.draft) for row in rows]
        places = [
            (index, column)
            for index, row in enumerate(rows)
            for column in range(len(row.reads) - counts[index], len(row.reads))
        ]
        of_row, of_column = zip(*places, strict=True)
        scores = self._scores(states[of_row, of_column])
        ends = [*accumulate(counts)]
        begins = [end - count for end, count, row in zip(ends, counts, rows, strict=True) if not row.generated]
        for begin in begins:
            scores[begin].index_fill_(0, self._begin_suppressed, -torch.inf)
        scores.index_fill_(1, self._suppressed, -torch.inf)
        likeliest = scores.log_softmax(-1).max(-1)
        best, logprobs = torch.stack([likeliest.indices.double(), likeliest.values.double()]).tolist()
        for row, end, count in zip(rows, ends, counts, strict=True):
            row.take([int(token) for token in best[end - count : end]], logprobs[end - count : end], self._ends)

    def _scores(self, states: Tensor) -> Tensor:
        """[n, vocab] in fp32 behind states [n, dim]."""
        scores: Tensor = self._model.proj_out(states).float()
        return scores
