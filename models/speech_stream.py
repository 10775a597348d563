"""WhisperPro piece by piece: the state of one turn and the four kinds of work on it (Encode, Verify, Extend, Prosody).

Nothing that is final is computed twice: encoder keys and values, encoder states, cross-attention keys and values and
prosody states are appended to buffers, and rolling back lowers a number. A block that is not complete yet is provisional:
the next Encode of the turn drops it and encodes it whole. `SpeechStream` is the state, `StreamingWhisperPro` the code;
what it computes equals `WhisperPro.encode` and `WhisperPro.decode` on the whole turn (tests: within 1e-4 in fp32).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from .alignment import spikes
from .errors import CapacityError, EngineError
from .whisperpro import WhisperPro, WhisperProConfig


class SpeechStream:
    """What has been computed of one turn. `frames` encoder frames are there, of which `final_frames` will not change."""

    def __init__(self, config: WhisperProConfig) -> None:
        self.config = config
        heads, dim = config.heads, config.d_model // config.heads
        positions = config.max_prompt + 2 + config.max_tokens + 2
        self.mel = torch.zeros(config.n_mels, 0)
        self.frames = self.final_frames = 0
        self.encoder_keys = torch.empty(config.encoder_layers, heads, config.max_frames, dim)
        self.encoder_values = torch.empty_like(self.encoder_keys)
        self.cross_keys = torch.empty(config.decoder_layers, heads, config.max_frames, dim)
        self.cross_values = torch.empty_like(self.cross_keys)
        self.ctc_best: NDArray[np.int64] = np.zeros(config.max_frames, np.int64)
        self.self_keys = torch.empty(config.decoder_layers, heads, positions, dim)
        self.self_values = torch.empty_like(self.self_keys)
        self.prosody_keys = torch.empty(config.prosody_layer, heads, positions, dim)
        self.prosody_values = torch.empty_like(self.prosody_keys)
        self.prosody_length = 0

    def path(self) -> list[tuple[int, int]]:
        """The CTC head's spikes so far: (frame, token id)."""
        return spikes(self.ctc_best[: self.frames], self.config.pad)

    def drop_provisional(self) -> None:
        """Forget the incomplete block; speech goes on and it will be encoded whole."""
        self.frames = self.final_frames
        self.mel = self.mel[:, : 2 * self.final_frames]

    def keep_prosody(self, positions: int) -> None:
        """Forget the prosody states from decoder position `positions` on."""
        self.prosody_length = min(self.prosody_length, positions)


@dataclass(frozen=True, slots=True)
class Encode:
    """Encode mel frames [frames, n_mels] that follow on the final ones; complete blocks become final. With a `tail`
    [0 or more, n_mels] of frames that may still change, what is left and the tail are encoded as a provisional block (an
    odd mel frame is doubled)."""

    stream: SpeechStream
    mel: NDArray[np.float32]
    tail: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Verify:
    """One parallel decoder pass over `prefix` (prompt and start of transcript) and `draft`."""

    stream: SpeechStream
    prefix: tuple[int, ...]
    draft: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Verified:
    """The first `agreed` draft tokens are the argmax given those before; then comes `next_token`."""

    agreed: int
    next_token: int


@dataclass(frozen=True, slots=True)
class Extend:
    """Decode greedily behind the verified tokens, from `next_token` on, up to `limit` text tokens or end-of-text.

    Must follow the Verify of the same tokens with no Encode between; `length` is their number, prefix included.
    """

    stream: SpeechStream
    length: int
    next_token: int
    limit: int


@dataclass(frozen=True, slots=True)
class Extended:
    """The tokens behind the verified ones; `ended` when end-of-text stopped the decoding, not the limit."""

    tokens: tuple[int, ...]
    ended: bool


@dataclass(frozen=True, slots=True)
class Prosody:
    """Final prosody states for `tokens` at decoder positions `start`..., with `visible` encoder frames each."""

    stream: SpeechStream
    start: int
    tokens: tuple[int, ...]
    visible: tuple[int, ...]


SpeechWork = Encode | Verify | Extend | Prosody


class StreamingWhisperPro:
    """The speech model of the engine. Owns no state of a turn; every item brings its stream."""

    def __init__(self, model: WhisperPro) -> None:
        self.model = model.eval().requires_grad_(False)
        self.config = model.config

    def open_stream(self) -> SpeechStream:
        """The state of a new turn."""
        return SpeechStream(self.config)

    def run(self, items: Sequence[Any]) -> list[object]:
        """One result for each item, an exception where it failed. Items of one call belong to different streams."""
        return [self._run(item) for item in items]

    def _run(self, item: object) -> object:
        try:
            match item:
                case Encode():
                    return self.encode(item)
                case Verify():
                    return self.verify(item)
                case Extend():
                    return self.extend(item)
                case Prosody():
                    return self.prosody(item)
        except Exception as error:
            return error
        raise EngineError(f"{type(item).__name__} is no work for WhisperPro: expected Encode, Verify, Extend or Prosody")

    def encode(self, item: Encode) -> int:
        """Returns the number of final frames."""
        stream, config = item.stream, self.config
        stream.drop_provisional()
        stream.mel = torch.cat([stream.mel, torch.from_numpy(item.mel).T], 1)
        complete = stream.mel.shape[1] // 2
        if item.tail is not None:
            stream.mel = torch.cat([stream.mel, torch.from_numpy(item.tail).T], 1)
            if stream.mel.shape[1] % 2:
                stream.mel = torch.cat([stream.mel, stream.mel[:, -1:]], 1)
        available = stream.mel.shape[1] // 2
        if available > config.max_frames:
            raise CapacityError(
                f"{available} encoder frames do not fit into the window of {config.max_frames}: cut the turn before"
            )
        while stream.final_frames + config.block_frames <= complete:
            self._encode_frames(stream, stream.final_frames + config.block_frames)
            stream.final_frames = stream.frames
        while item.tail is not None and stream.frames < available:
            block_end = (stream.frames // config.block_frames + 1) * config.block_frames
            self._encode_frames(stream, min(block_end, available))
        return stream.final_frames

    def _encode_frames(self, stream: SpeechStream, end: int) -> None:
        """Encode frames `stream.frames` to `end`, all of one block, on top of the cached ones."""
        start = stream.frames
        whisper: Any = self.model.whisper  # its layers are declared as plain modules
        hidden = self._stem(stream.mel, start, end) + whisper.encoder.embed_positions.weight[start:end]
        for index, layer in enumerate(whisper.encoder.layers):
            normed = layer.self_attn_layer_norm(hidden)
            keys, values = stream.encoder_keys[index], stream.encoder_values[index]
            keys[:, start:end], values[:, start:end] = _keys_values(layer.self_attn, normed)
            hidden = hidden + _attend(layer.self_attn, normed, keys[:, :end], values[:, :end])
            hidden = hidden + layer.fc2(F.gelu(layer.fc1(layer.final_layer_norm(hidden))))
        states = whisper.encoder.layer_norm(hidden)
        for index, layer in enumerate(whisper.decoder.layers):
            keys, values = stream.cross_keys[index], stream.cross_values[index]
            keys[:, start:end], values[:, start:end] = _keys_values(layer.encoder_attn, states)
        stream.ctc_best[start:end] = self.model.ctc(states).argmax(-1).numpy()
        stream.frames = end

    def _stem(self, mel: Tensor, start: int, end: int) -> Tensor:
        """Frames start..end of `WhisperPro.stem`, [frames, dim], from the mel they depend on."""
        if start == 0:
            return self.model.stem(mel[None, :, : 2 * end])[0]
        encoder: Any = self.model.whisper.encoder
        piece = mel[None, :, 2 * start - 3 : 2 * end]
        hidden = F.gelu(F.conv1d(piece, encoder.conv1.weight, encoder.conv1.bias))
        return F.gelu(F.conv1d(hidden, encoder.conv2.weight, encoder.conv2.bias, stride=2))[0].T

    def verify(self, item: Verify) -> Verified:
        """See `Verify`."""
        stream, tokens = item.stream, (*item.prefix, *item.draft)
        visible = [stream.frames] * len(tokens)
        hidden = self._decode(stream, 0, tokens, visible, stream.self_keys, stream.self_values)
        scores = self.model.token_logits(self.model.whisper.decoder.layer_norm(hidden[len(item.prefix) - 1 :]))
        best = scores.argmax(-1).tolist()
        agreed = 0
        while agreed < len(item.draft) and best[agreed] == item.draft[agreed]:
            agreed += 1
        return Verified(agreed, best[agreed])

    def extend(self, item: Extend) -> Extended:
        """See `Extend`."""
        stream, token, tokens = item.stream, item.next_token, list[int]()
        while token != self.config.end_of_text:
            if len(tokens) >= item.limit:
                return Extended(tuple(tokens), False)
            position = item.length + len(tokens)
            hidden = self._decode(
                stream, position, (token,), [stream.frames], stream.self_keys, stream.self_values
            )
            tokens.append(token)
            token = int(self.model.token_logits(self.model.whisper.decoder.layer_norm(hidden[-1])).argmax())
        return Extended(tuple(tokens), True)

    def prosody(self, item: Prosody) -> NDArray[np.float32]:
        """Vectors [n_tokens, dim] of the tokens; their states stay for the tokens behind them."""
        stream = item.stream
        if item.start > stream.prosody_length:
            raise EngineError(f"prosody of position {item.start} asked for, but {stream.prosody_length} are there")
        hidden = self._decode(
            stream, item.start, item.tokens, item.visible, stream.prosody_keys, stream.prosody_values
        )
        stream.prosody_length = item.start + len(item.tokens)
        vectors: NDArray[np.float32] = hidden.float().numpy().copy()
        return vectors

    def tone_probabilities(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities of the tones, [4], from the mean of token vectors [n_tokens, dim]."""
        with torch.inference_mode():
            mean = torch.from_numpy(vectors.mean(0, dtype=np.float32))
            probabilities: NDArray[np.float32] = self.model.tone(mean).softmax(-1).numpy()
        return probabilities

    def _decode(
        self,
        stream: SpeechStream,
        start: int,
        tokens: Sequence[int],
        visible: Sequence[int],
        self_keys: Tensor,
        self_values: Tensor,
    ) -> Tensor:
        """States [n_tokens, dim] after as many layers as `self_keys` has, caching keys and values from `start` on."""
        n, end = len(tokens), start + len(tokens)
        decoder: Any = self.model.whisper.decoder  # its layers are declared as plain modules
        if end > self_keys.shape[2]:
            raise CapacityError(f"{end} decoder positions do not fit into {self_keys.shape[2]}: cut the turn before")
        hidden = decoder.embed_tokens(torch.tensor(tokens)) + decoder.embed_positions.weight[start:end]
        causal = None if n == 1 else torch.ones(n, end, dtype=torch.bool).tril(start)
        widest = max(visible)
        cross = None
        if min(visible) < widest:
            cross = torch.arange(widest) < torch.tensor(visible)[:, None]
        for index, layer in enumerate(decoder.layers[: len(self_keys)]):
            normed = layer.self_attn_layer_norm(hidden)
            keys, values = self_keys[index], self_values[index]
            keys[:, start:end], values[:, start:end] = _keys_values(layer.self_attn, normed)
            hidden = hidden + _attend(layer.self_attn, normed, keys[:, :end], values[:, :end], causal)
            normed = layer.encoder_attn_layer_norm(hidden)
            keys, values = stream.cross_keys[index], stream.cross_values[index]
            hidden = hidden + _attend(layer.encoder_attn, normed, keys[:, :widest], values[:, :widest], cross)
            hidden = hidden + layer.fc2(F.gelu(layer.fc1(layer.final_layer_norm(hidden))))
        return hidden


def _keys_values(attention: Any, states: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values [heads, n, head_dim] of states [n, dim]."""
    shape = (states.shape[0], attention.num_heads, attention.head_dim)
    return attention.k_proj(states).view(shape).transpose(0, 1), attention.v_proj(states).view(shape).transpose(0, 1)


def _attend(attention: Any, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Whisper's attention of queries [n, dim] over keys and values [heads, m, head_dim]; mask [n, m] is True where seen."""
    n = queries.shape[0]
    query = (attention.q_proj(queries) * attention.scaling).view(n, attention.num_heads, attention.head_dim)
    out = F.scaled_dot_product_attention(query.transpose(0, 1), keys, values, attn_mask=mask, scale=1.0)
    result: Tensor = attention.out_proj(out.transpose(0, 1).reshape(n, -1))
    return result
