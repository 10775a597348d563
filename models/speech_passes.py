"""Passes of the chunked WhisperPro over pieces of several streams at once, packed end to end as rows.

Everything that has weights runs once for all rows; each piece attends by itself, over the keys and values of its own
stream, which it extends. So a stream's results do not depend on who is beside it, but for the rounding of fp32 (tests:
within 1e-5). A pass that fails leaves nothing behind: what it wrote lies past every stream's marks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import CapacityError
from .speech_state import SpeechStream
from .whisperpro import WhisperPro


@dataclass(frozen=True, slots=True)
class DecoderPiece:
    """Tokens at decoder positions `start`... of a stream, which see `visible` encoder frames each."""

    stream: SpeechStream
    start: int
    tokens: tuple[int, ...]
    visible: tuple[int, ...]

    @property
    def end(self) -> int:
        """The position behind the last token."""
        return self.start + len(self.tokens)


def encode_pass(model: WhisperPro, ends: Sequence[tuple[SpeechStream, int]]) -> None:
    """Encode frames `stream.frames` to `end` of each stream, all of one block, on top of its cached ones."""
    whisper: Any = model.whisper  # its layers are declared as plain modules
    streams = [stream for stream, _ in ends]
    spans = [(stream.frames, end) for stream, end in ends]
    rows = _rows([end - start for start, end in spans])
    positions = torch.cat([torch.arange(start, end) for start, end in spans])
    hidden = _stem(model, [(stream.mel, start, end) for stream, (start, end) in zip(streams, spans, strict=True)])
    hidden = hidden + whisper.encoder.embed_positions.weight[positions]
    for index, layer in enumerate(whisper.encoder.layers):
        normed = layer.self_attn_layer_norm(hidden)
        keys, values = _keys_values(layer.self_attn, normed)
        caches = [(stream.encoder_keys[index], stream.encoder_values[index]) for stream in streams]
        _write(caches, spans, rows, keys, values)
        seen = [(k[:, :end], v[:, :end], None) for (k, v), (_, end) in zip(caches, spans, strict=True)]
        hidden = hidden + _attend(layer.self_attn, normed, rows, seen)
        hidden = hidden + layer.fc2(F.gelu(layer.fc1(layer.final_layer_norm(hidden))))
    states = whisper.encoder.layer_norm(hidden)
    for index, layer in enumerate(whisper.decoder.layers):
        keys, values = _keys_values(layer.encoder_attn, states)
        _write([(stream.cross_keys[index], stream.cross_values[index]) for stream in streams], spans, rows, keys, values)
    best = model.ctc(states).argmax(-1).numpy()
    for stream, (start, end), (first, last) in zip(streams, spans, rows, strict=True):
        stream.ctc_best[start:end] = best[first:last]
        stream.frames = end


def decode_pass(
    model: WhisperPro, pieces: Sequence[DecoderPiece], memory: Callable[[SpeechStream], tuple[Tensor, Tensor]]
) -> list[Tensor]:
    """States [n_tokens, dim] of each piece, after as many layers as the keys have that `memory` gives of a stream, [layers,
    heads, positions, head_dim] with the values; both are written from `start` on. CapacityError without room in them."""
    decoder: Any = model.whisper.decoder  # its layers are declared as plain modules
    memories = [memory(piece.stream) for piece in pieces]
    depth, room = memories[0][0].shape[0], memories[0][0].shape[2]
    if (longest := max(piece.end for piece in pieces)) > room:
        raise CapacityError(f"{longest} decoder positions do not fit into {room}: cut the turn before")
    rows = _rows([len(piece.tokens) for piece in pieces])
    spans = [(piece.start, piece.end) for piece in pieces]
    tokens = torch.tensor([token for piece in pieces for token in piece.tokens])
    positions = torch.tensor([position for start, end in spans for position in range(start, end)])
    hidden = decoder.embed_tokens(tokens) + decoder.embed_positions.weight[positions]
    causal = [_causal(piece) for piece in pieces]
    crossed = [(max(piece.visible), _seen_frames(piece.visible)) for piece in pieces]
    for index, layer in enumerate(decoder.layers[:depth]):
        normed = layer.self_attn_layer_norm(hidden)
        keys, values = _keys_values(layer.self_attn, normed)
        caches = [(k[index], v[index]) for k, v in memories]
        _write(caches, spans, rows, keys, values)
        seen = [(k[:, :end], v[:, :end], mask) for (k, v), (_, end), mask in zip(caches, spans, causal, strict=True)]
        hidden = hidden + _attend(layer.self_attn, normed, rows, seen)
        normed = layer.encoder_attn_layer_norm(hidden)
        seen = [
            (piece.stream.cross_keys[index][:, :widest], piece.stream.cross_values[index][:, :widest], mask)
            for piece, (widest, mask) in zip(pieces, crossed, strict=True)
        ]
        hidden = hidden + _attend(layer.encoder_attn, normed, rows, seen)
        hidden = hidden + layer.fc2(F.gelu(layer.fc1(layer.final_layer_norm(hidden))))
    return [hidden[first:last] for first, last in rows]


def _rows(counts: Sequence[int]) -> list[tuple[int, int]]:
    """First row and the one behind the last, of pieces of so many rows laid end to end."""
    ends = list(accumulate(counts))
    return [(end - count, end) for count, end in zip(counts, ends, strict=True)]


def _causal(piece: DecoderPiece) -> Tensor | None:
    """[n_tokens, end], True where a token may look; None for a token that sees all."""
    count = len(piece.tokens)
    return None if count == 1 else torch.ones(count, piece.end, dtype=torch.bool).tril(piece.start)


def _seen_frames(visible: Sequence[int]) -> Tensor | None:
    """[n_tokens, widest], True where a token may look; None where all see the same."""
    widest = max(visible)
    return None if min(visible) == widest else torch.arange(widest) < torch.tensor(visible)[:, None]


def _stem(model: WhisperPro, pieces: Sequence[tuple[Tensor, int, int]]) -> Tensor:
    """Frames start..end of `WhisperPro.stem` for each (mel [n_mels, ...], start, end), packed [rows, dim], from the mel they
    depend on. Padding behind a piece changes nothing, since no convolution looks ahead."""
    encoder: Any = model.whisper.encoder
    longest = max(end - start for _, start, end in pieces)
    mel = pieces[0][0].new_zeros(len(pieces), pieces[0][0].shape[0], 2 * longest + 3)
    for row, (source, start, end) in zip(mel, pieces, strict=True):
        first = max(2 * start - 3, 0)
        row[:, first - (2 * start - 3) : 2 * (end - start) + 3] = source[:, first : 2 * end]
    hidden = F.gelu(F.conv1d(mel, encoder.conv1.weight, encoder.conv1.bias))
    for row, (_, start, _) in zip(hidden, pieces, strict=True):
        if start == 0:  # the second convolution sees nothing before the first frame
            row[:, 0] = 0
    hidden = F.gelu(F.conv1d(hidden, encoder.conv2.weight, encoder.conv2.bias, stride=2))
    return torch.cat([row[:, : end - start].T for row, (_, start, end) in zip(hidden, pieces, strict=True)])


def _keys_values(attention: Any, states: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values [heads, rows, head_dim] of states [rows, dim]."""
    shape = (states.shape[0], attention.num_heads, attention.head_dim)
    return attention.k_proj(states).view(shape).transpose(0, 1), attention.v_proj(states).view(shape).transpose(0, 1)


def _write(
    caches: Sequence[tuple[Tensor, Tensor]],
    spans: Sequence[tuple[int, int]],
    rows: Sequence[tuple[int, int]],
    keys: Tensor,
    values: Tensor,
) -> None:
    """Put each piece's rows of keys and values into its cache."""
    for (cached_keys, cached_values), (start, end), (first, last) in zip(caches, spans, rows, strict=True):
        cached_keys[:, start:end] = keys[:, first:last]
        cached_values[:, start:end] = values[:, first:last]


def _attend(
    attention: Any,
    queries: Tensor,
    rows: Sequence[tuple[int, int]],
    seen: Sequence[tuple[Tensor, Tensor, Tensor | None]],
) -> Tensor:
    """Whisper's attention of packed queries [rows, dim]; each piece has its keys and values [heads, m, head_dim] and a mask
    [n, m], True where seen, or None for all."""
    count = queries.shape[0]
    query = (attention.q_proj(queries) * attention.scaling).view(count, attention.num_heads, attention.head_dim)
    query = query.transpose(0, 1)
    parts = [
        F.scaled_dot_product_attention(query[:, first:last], keys, values, attn_mask=mask, scale=1.0)
        for (first, last), (keys, values, mask) in zip(rows, seen, strict=True)
    ]
    packed = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
    result: Tensor = attention.out_proj(packed.transpose(0, 1).reshape(count, -1))
    return result
