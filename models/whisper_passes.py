"""Passes of a full Whisper over several segments at once, by transformers' own modules: the encoder over windows of one
length, the decoder over pieces of any length at any position of each row.

What a row has read is kept as keys and values in buffers of a fixed shape, so a pass may overwrite what it read before (a
draft that was refused) and its shapes can be recorded as CUDA graphs: hundreds of launches are then one. A row sees its own
positions alone; the rounding of a pass may depend on how many rows it has, as in every batched product.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import WhisperForConditionalGeneration

from .backbone import upload
from .cuda_graphs import Capture, Forward
from .whisper_encoder import encode

ROWS = (1, 2, 4, 8, 16)
"""Segments of a recorded pass."""
MOST_ROWS = ROWS[-1]
"""Segments of any pass; more are decoded in several."""
COLUMNS = (1, 16, 48)
"""Tokens of a recorded pass over each segment: one more, a prompt with a short draft, with a longer one."""

_log = logging.getLogger(__name__)


class WhisperPasses:
    """The passes of one model. `open` begins with some segments, `read` goes on with their tokens; one group at a time."""

    def __init__(self, model: WhisperForConditionalGeneration) -> None:
        self._encoder, self._decoder = model.model.encoder, model.model.decoder
        config = model.config
        self._heads = config.decoder_attention_heads
        self._n_mels, self._positions = config.num_mel_bins, config.max_target_positions
        self._device, self._dtype = model.device, model.dtype
        if self._device.type == "cuda":  # cuDNN's attention plans anew, for tens of milliseconds, at each new shape
            torch.backends.cuda.enable_cudnn_sdp(False)
        self._buffers: _Buffers | None = None
        self._mels: dict[tuple[int, int], Tensor] = {}
        self._recorded: dict[tuple[object, ...], Forward] = {}
        self._now: _Buffers | None = None

    def record(self, capture: Capture, windows: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Record the passes of common sizes over windows of so many mel frames; how many are done, and of how many, after
        each. What cannot be recorded is said in the log and will run eagerly. Their buffers take at most a quarter of the
        memory that is free, by recording fewer rows."""
        if self._buffers is not None:  # by another engine's warm-up: the graphs serve both
            return
        sizes = [rows for rows in ROWS if self._buffer_bytes(rows, max(windows) // 2) <= _free_bytes(self._device) // 4]
        forwards: dict[tuple[object, ...], Forward] = {}
        try:
            if sizes:
                self._buffers = self._new_buffers(max(sizes), max(windows) // 2)
            for frames, rows in product(sorted(windows, reverse=True), reversed(sizes)):
                mel = torch.zeros(rows, self._n_mels, frames, dtype=self._dtype, device=self._device)
                self._mels[rows, frames] = mel
                forwards["encode", rows, frames] = partial(encode, self._encoder, mel)
                for columns in COLUMNS:
                    forwards["read", rows, columns, frames // 2] = self._reading(rows, columns, frames // 2)
        except RuntimeError as error:  # of which running out of memory is one
            self._buffers, self._mels, sizes = None, {}, []
            _log.warning("the recognizer has no memory for CUDA graphs: %s", error)
        if len(sizes) < len(ROWS):
            _log.warning("the recognizer's passes are recorded for %d rows at most, not %d", max(sizes, default=0), MOST_ROWS)
        for done, (key, forward) in enumerate(forwards.items() if sizes else (), start=1):
            try:
                self._recorded[key] = capture(forward)
            except Exception as error:  # whatever stops a recording, the same pass runs without one
                _log.warning("the pass %s will run without a CUDA graph: %s: %s", key, type(error).__name__, error)
            yield done, len(forwards)
        if not self._recorded:
            self._buffers, self._mels = None, {}

    def encode(self, features: Tensor) -> Tensor:
        """States [rows, frames / 2, dim] of log-mel `features` [rows, n_mels, frames], of windows of one length."""
        rows, frames = features.shape[0], features.shape[2]
        size = next((size for size in ROWS if ("encode", size, frames) in self._recorded and size >= rows), None)
        if size is None:
            return encode(self._encoder, features)
        self._mels[size, frames][:rows] = features
        return self._recorded["encode", size, frames]()[:rows].clone()

    def open(self, states: Tensor) -> None:
        """Begin with segments of these encoder states [rows, frames, dim], at position 0."""
        rows, frames = states.shape[:2]
        self.close()
        kept = self._buffers
        if kept is not None and rows <= kept.rows and any(key[0] == "read" and key[-1] == frames for key in self._recorded):
            kept.forget(rows)
            self._now = kept
        else:
            self._now = self._new_buffers(rows, frames)
        self._frames = frames
        for index, layer in enumerate(self._decoder.layers):
            attention = layer.encoder_attn
            for memory, project in ((self._now.cross_keys, attention.k_proj), (self._now.cross_values, attention.v_proj)):
                memory[index, :rows, :, :frames] = self._split(project(states)).transpose(1, 2)

    def close(self) -> None:
        """Give back what the segments took."""
        self._now = None

    def read(self, pieces: Sequence[Sequence[int]], starts: Sequence[int], depth: int | None = None) -> Tensor:
        """States [rows, columns, dim] of each row's tokens at its positions `start`..., as many columns as the longest piece
        has; past a shorter one they mean nothing. `depth` counts layers, None: all, and their norm."""
        rows, columns, graph = len(pieces), max(map(len, pieces)), None
        assert self._now is not None, "open comes first"
        if depth is None and self._now is self._buffers:
            graph = next(
                (key for key in self._sizes() if key in self._recorded and key[1] >= rows and key[2] >= columns), None
            )
        if graph is None:
            tokens, positions = (upload(values, self._device) for values in self._filled(pieces, starts, rows, columns))
            return self._read(tokens, positions, self._frames, max(map(_end, pieces, starts)), depth)
        _, height, width, _ = graph
        for buffer, values in zip(
            (self._now.tokens, self._now.places), self._filled(pieces, starts, height, width), strict=True
        ):
            buffer[: height * width] = upload(values, self._device).flatten()
        return self._recorded[graph]()[:rows, :columns].clone()

    def _sizes(self) -> Iterator[tuple[str, int, int, int]]:
        return (("read", rows, columns, self._frames) for columns in COLUMNS for rows in ROWS)

    def _filled(
        self, pieces: Sequence[Sequence[int]], starts: Sequence[int], rows: int, columns: int
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Tokens and positions [rows, columns]; what is nobody's goes to the last position, which nobody sees."""
        tokens = [[*piece, *[0] * (columns - len(piece))] for piece in pieces]
        positions = [
            [*range(start, start + len(piece)), *[self._positions] * (columns - len(piece))]
            for piece, start in zip(pieces, starts, strict=True)
        ]
        nobody = rows - len(pieces)
        return tokens + [[0] * columns] * nobody, positions + [[self._positions] * columns] * nobody

    def _reading(self, rows: int, columns: int, frames: int) -> Forward:
        """A pass over what lies in the buffers."""

        def forward() -> Tensor:
            assert self._buffers is not None
            self._now = self._buffers
            inputs = (self._buffers.tokens, self._buffers.places)
            tokens, positions = (buffer[: rows * columns].view(rows, columns) for buffer in inputs)
            return self._read(tokens, positions, frames, self._positions + 1, None)

        return forward

    def _read(self, tokens: Tensor, positions: Tensor, frames: int, width: int, depth: int | None) -> Tensor:
        """States of tokens at positions, both [rows, columns], that see the first `width` positions up to their own."""
        decoder, memory, rows = self._decoder, self._now, len(tokens)
        assert memory is not None
        row = torch.arange(rows, device=self._device)[:, None]
        places = decoder.embed_positions.weight[positions.clamp(max=self._positions - 1)]
        hidden = decoder.embed_tokens(tokens) + places
        seen = (torch.arange(width, device=self._device) <= positions[..., None])[:, None]
        for index, layer in enumerate(decoder.layers[:depth]):
            attention, normed = layer.self_attn, layer.self_attn_layer_norm(hidden)
            keys, values = memory.keys[index], memory.values[index]
            keys[row, positions] = self._split(attention.k_proj(normed))
            values[row, positions] = self._split(attention.v_proj(normed))
            seen_keys, seen_values = (part[:rows, :width].transpose(1, 2) for part in (keys, values))
            hidden = hidden + self._attend(attention, normed, seen_keys, seen_values, seen)
            attention, normed = layer.encoder_attn, layer.encoder_attn_layer_norm(hidden)
            heard_keys, heard_values = (
                part[index, :rows, :, :frames] for part in (memory.cross_keys, memory.cross_values)
            )
            hidden = hidden + self._attend(attention, normed, heard_keys, heard_values, None)
            hidden = hidden + layer.fc2(layer.activation_fn(layer.fc1(layer.final_layer_norm(hidden))))
        return decoder.layer_norm(hidden) if depth is None else hidden

    def _attend(self, attention: Any, normed: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """In the order of transformers: the query is scaled, not the product."""
        query = self._split(attention.q_proj(normed) * attention.scaling).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(query, keys, values, mask, scale=1.0)
        return attention.out_proj(mixed.transpose(1, 2).flatten(2))

    def _split(self, values: Tensor) -> Tensor:
        """[rows, n, dim] as [rows, n, heads, head_dim]."""
        return values.unflatten(2, (self._heads, -1))

    def _buffer_bytes(self, rows: int, frames: int) -> int:
        dim = self._decoder.config.d_model
        return 2 * len(self._decoder.layers) * rows * (self._positions + 1 + frames) * dim * self._dtype.itemsize

    def _new_buffers(self, rows: int, frames: int) -> _Buffers:
        return _Buffers(self._decoder, rows, self._heads, self._positions + 1, frames, self._dtype, self._device)


class _Buffers:
    """What some rows have read and heard. Zeros, for a mask does not hide what is no number."""

    def __init__(
        self, decoder: Any, rows: int, heads: int, positions: int, frames: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        layers, head_dim = len(decoder.layers), decoder.config.d_model // heads
        new: Callable[..., Tensor] = partial(torch.zeros, dtype=dtype, device=device)
        self.rows = rows
        self.keys, self.values = (new(layers, rows, positions, heads, head_dim) for _ in range(2))
        self.cross_keys, self.cross_values = (new(layers, rows, heads, frames, head_dim) for _ in range(2))
        self.tokens, self.places = (
            torch.zeros(rows * max(COLUMNS), dtype=torch.long, device=device) for _ in range(2)
        )

    def forget(self, rows: int) -> None:
        """What these rows have read: a later segment must not meet what is no number."""
        self.keys[:, :rows].zero_()
        self.values[:, :rows].zero_()


def _free_bytes(device: torch.device) -> int:
    """Memory of a GPU; on a CPU, where only tests record, no bound."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else sys.maxsize


def _end(piece: Sequence[int], start: int) -> int:
    return start + len(piece)
