"""What WhisperPro hears in a batch of whole utterances, exactly as greedy decoding would write it, in few
passes.

The CTC head's path is a draft; each pass of the decoder keeps the draft up to the first token that is not the
argmax, corrects that one and tries again, as a tick of the runtime does. Prosody then comes from one pass
under the mask of `prosody_visible` with word times by the CTC path.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from ..models.alignment import final_token_frames, spikes, word_end_frames
from ..models.whisperpro import WhisperPro, prosody_visible

FloatArray = NDArray[np.float32]
Heard = tuple[tuple[int, ...], FloatArray]


@torch.inference_mode()
def transcribe(
    model: WhisperPro, tokenizer: PreTrainedTokenizerFast, features: Sequence[FloatArray]
) -> list[Heard]:
    """Text tokens and their prosody vectors [n_tokens, d_model] for log-mels [2 * frames, n_mels] of
    utterances."""
    config = model.config
    lengths = torch.tensor([len(mel) // 2 for mel in features])
    stacked = torch.zeros(len(features), config.n_mels, 2 * int(lengths.max()))
    for row, mel in enumerate(features):
        stacked[row, :, : len(mel)] = torch.from_numpy(mel).T
    states = model.encode(stacked, lengths)
    best = model.ctc(states).argmax(-1).numpy()
    paths = [spikes(best[row, :length], config.pad) for row, length in enumerate(lengths.tolist())]
    texts = greedy(model, states, lengths, [[token for _, token in path] for path in paths])
    return _with_prosody(model, states, lengths, paths, texts, _starts_word(tokenizer))


def greedy(
    model: WhisperPro, states: Tensor, lengths: Tensor, drafts: Sequence[Sequence[int]]
) -> list[list[int]]:
    """Greedy text tokens from encoder states [batch, frames, dim]; drafts only save passes."""
    config = model.config
    texts = [list(draft[: config.max_tokens]) for draft in drafts]
    verified = [0] * len(texts)
    active = list(range(len(texts)))
    while active:
        rows = [[config.start_of_transcript, *texts[row]] for row in active]
        tokens = _padded(rows, config.end_of_text)
        visible = lengths[active][:, None].expand_as(tokens)
        hidden = model.decode(tokens, states[active][:, : int(lengths[active].max())], visible)
        best = model.token_logits(hidden).argmax(-1).tolist()
        going = []
        for row, choice in zip(active, best, strict=True):
            text, at = texts[row], verified[row]
            while at < len(text) and choice[at] == text[at]:
                at += 1
            if at >= config.max_tokens or choice[at] == config.end_of_text:
                texts[row] = text[:at]
                continue
            skipped = 2 if text[at + 1 : at + 2] == [choice[at]] else 1
            texts[row] = [*text[:at], choice[at], *text[at + skipped :]][: config.max_tokens]
            verified[row] = at + 1
            going.append(row)
        active = going
    return texts


def _with_prosody(
    model: WhisperPro,
    states: Tensor,
    lengths: Tensor,
    paths: Sequence[Sequence[tuple[int, int]]],
    texts: Sequence[Sequence[int]],
    starts_word: Sequence[bool],
) -> list[Heard]:
    config = model.config
    ends = []
    for path, text, length in zip(paths, texts, lengths.tolist(), strict=True):
        frames = final_token_frames(path, text, length)
        ends.append([0, *word_end_frames(frames, [starts_word[token] for token in text])])
    tokens = _padded([[config.start_of_transcript, *text] for text in texts], config.end_of_text)
    visible = prosody_visible(_padded(ends, 0), lengths, config.block_frames)
    vectors = model.decode(tokens, states, visible, config.prosody_layer).numpy()
    return [(tuple(text), vectors[row, 1 : len(text) + 1]) for row, text in enumerate(texts)]


def _padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])


@lru_cache(maxsize=4)
def _starts_word(tokenizer: PreTrainedTokenizerFast) -> tuple[bool, ...]:
    pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    return tuple(piece.startswith("\u0120") for piece in pieces)
