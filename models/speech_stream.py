"""WhisperPro piece by piece: the four kinds of work on a turn (Encode, Verify, Extend, Prosody) and the model that does it.

What has been computed of a turn is in its `SpeechStream`; work on several turns runs in common passes (`speech_passes.py`).
What is computed equals `WhisperPro.encode` and `WhisperPro.decode` on the whole turn (tests: within 1e-4 in fp32).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .errors import CapacityError, EngineError
from .speech_passes import DecoderPiece, decode_pass, encode_pass
from .speech_state import SpeechStream as SpeechStream
from .whisperpro import WhisperPro

One = TypeVar("One")
Other = TypeVar("Other")


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
    """The first `agreed` draft tokens are the argmax given those before, then comes `next_token`; `probabilities` of them all.
    `no_speech` is the probability that the text ends behind the prefix."""

    agreed: int
    next_token: int
    probabilities: tuple[float, ...]
    no_speech: float


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
    """The tokens behind the verified ones; `ended` when end-of-text stopped the decoding, not the limit. `probabilities` are
    those of what follows on each token."""

    tokens: tuple[int, ...]
    ended: bool
    probabilities: tuple[float, ...]


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
        """One result for each item, an exception where it failed. Items of one call belong to different streams; those of a
        kind run together."""
        kinds: dict[type, Callable[[Sequence[Any]], Sequence[object]]] = {
            Encode: self._encode,
            Verify: self._verify,
            Extend: self._extend,
            Prosody: self._prosody,
        }
        unknown = "is no work for WhisperPro: expected Encode, Verify, Extend or Prosody"
        results: list[object] = [EngineError(f"{type(item).__name__} {unknown}") for item in items]
        for kind, work in kinds.items():
            places = [place for place, item in enumerate(items) if type(item) is kind]
            for place, result in zip(places, _together(work, [items[place] for place in places]), strict=True):
                results[place] = result
        return results

    def encode(self, item: Encode) -> int:
        """Returns the number of final frames."""
        return _only(self._encode([item]))

    def verify(self, item: Verify) -> Verified:
        """See `Verify`."""
        return _only(self._verify([item]))

    def extend(self, item: Extend) -> Extended:
        """See `Extend`."""
        return _only(self._extend([item]))

    def prosody(self, item: Prosody) -> NDArray[np.float32]:
        """Vectors [n_tokens, dim] of the tokens; their states stay for the tokens behind them."""
        return _only(self._prosody([item]))

    def _encode(self, items: Sequence[Encode]) -> list[int | Exception]:
        """Block by block, each stream's next one in a common pass."""
        plans = [self._take_in(item) for item in items]
        failed: dict[int, Exception] = {place: plan for place, plan in enumerate(plans) if isinstance(plan, Exception)}
        block = self.config.block_frames
        while True:
            due: dict[int, tuple[SpeechStream, int]] = {}
            for place, (item, plan) in enumerate(zip(items, plans, strict=True)):
                if place in failed or isinstance(plan, Exception):
                    continue
                stream, (complete, available) = item.stream, plan
                block_end = (stream.frames // block + 1) * block
                if block_end <= complete:
                    due[place] = stream, block_end
                elif item.tail is not None and stream.frames < available:
                    due[place] = stream, min(block_end, available)
            if not due:
                break
            for (place, (stream, end)), error in zip(due.items(), _together(self._encode_to, [*due.values()]), strict=True):
                plan = plans[place]
                if isinstance(error, Exception):
                    failed[place] = error
                elif not isinstance(plan, Exception) and end % block == 0 and end <= plan[0]:
                    stream.final_frames = end
        return [failed.get(place) or item.stream.final_frames for place, item in enumerate(items)]

    def _take_in(self, item: Encode) -> tuple[int, int] | Exception:
        """Add the item's mel to its stream's; gives the frames that will stay and those that there are in all."""
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
            return CapacityError(
                f"{available} encoder frames do not fit into the window of {config.max_frames}: cut the turn before"
            )
        return complete, available

    def _encode_to(self, due: Sequence[tuple[SpeechStream, int]]) -> list[None]:
        encode_pass(self.model, due)
        return [None] * len(due)

    def _verify(self, items: Sequence[Verify]) -> list[Verified]:
        pieces = []
        for item in items:
            tokens = (*item.prefix, *item.draft)
            pieces.append(DecoderPiece(item.stream, 0, tokens, (item.stream.frames,) * len(tokens)))
        states = decode_pass(self.model, pieces, _text_memory)
        checked = [hidden[len(item.prefix) - 1 :] for item, hidden in zip(items, states, strict=True)]
        results = []
        probabilities = self._logits(torch.cat(checked)).softmax(-1).split([len(hidden) for hidden in checked])
        for item, following in zip(items, probabilities, strict=True):
            likeliest = following.max(-1)
            own, agreed = likeliest.indices.tolist(), 0
            while agreed < len(item.draft) and own[agreed] == item.draft[agreed]:
                agreed += 1
            no_speech = float(following[0, self.config.end_of_text])
            results.append(Verified(agreed, own[agreed], tuple(likeliest.values[: agreed + 1].tolist()), no_speech))
        return results

    def _extend(self, items: Sequence[Extend]) -> list[Extended | Exception]:
        """Token by token, each stream's next one in a common pass."""
        tokens: list[list[int]] = [[] for _ in items]
        probabilities: list[list[float]] = [[] for _ in items]
        following = [item.next_token for item in items]
        failed: dict[int, Exception] = {}
        while True:
            going = [
                place
                for place, item in enumerate(items)
                if place not in failed and following[place] != self.config.end_of_text and len(tokens[place]) < item.limit
            ]
            if not going:
                break
            pieces = [
                DecoderPiece(
                    items[place].stream,
                    items[place].length + len(tokens[place]),
                    (following[place],),
                    (items[place].stream.frames,),
                )
                for place in going
            ]
            for place, found in zip(going, _together(self._next_tokens, pieces), strict=True):
                if isinstance(found, Exception):
                    failed[place] = found
                else:
                    tokens[place].append(following[place])
                    following[place], probability = found
                    probabilities[place].append(probability)
        end = self.config.end_of_text
        return [
            failed.get(place) or Extended(tuple(tokens[place]), following[place] == end, tuple(probabilities[place]))
            for place in range(len(items))
        ]

    def _next_tokens(self, pieces: Sequence[DecoderPiece]) -> list[tuple[int, float]]:
        """The likeliest token behind each piece, and its probability."""
        last = torch.cat([hidden[-1:] for hidden in decode_pass(self.model, pieces, _text_memory)])
        likeliest = self._logits(last).softmax(-1).max(-1)
        return list(zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True))

    def _logits(self, states: Tensor) -> Tensor:
        """Of the next tokens, [n, vocabulary], from states [n, dim]."""
        return self.model.token_logits(self.model.whisper.decoder.layer_norm(states))

    def _prosody(self, items: Sequence[Prosody]) -> list[NDArray[np.float32]]:
        pieces = []
        for item in items:
            if item.start > item.stream.prosody_length:
                raise EngineError(f"prosody of position {item.start} asked for, but {item.stream.prosody_length} are there")
            pieces.append(DecoderPiece(item.stream, item.start, item.tokens, item.visible))
        states = decode_pass(self.model, pieces, _prosody_memory)
        for piece in pieces:
            piece.stream.prosody_length = piece.end
        return [hidden.float().numpy().copy() for hidden in states]

    def tone_probabilities(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities of the tones, [4], from the mean of token vectors [n_tokens, dim]."""
        with torch.inference_mode():
            mean = torch.from_numpy(vectors.mean(0, dtype=np.float32))
            probabilities: NDArray[np.float32] = self.model.tone(mean).softmax(-1).numpy()
        return probabilities


def _text_memory(stream: SpeechStream) -> tuple[Tensor, Tensor]:
    return stream.self_keys, stream.self_values


def _prosody_memory(stream: SpeechStream) -> tuple[Tensor, Tensor]:
    return stream.prosody_keys, stream.prosody_values


def _together(work: Callable[[Sequence[One]], Sequence[Other]], items: Sequence[One]) -> list[Other | Exception]:
    """The results of doing the work on all items at once; where that fails, on each alone, so that only the guilty fail."""
    if not items:
        return []
    try:
        return list(work(items))
    except Exception as error:
        if len(items) == 1:
            return [error]
        return [result for item in items for result in _together(work, [item])]


def _only(results: Sequence[One | Exception]) -> One:
    """The result of the one item, or its error raised."""
    (result,) = results
    if isinstance(result, Exception):
        raise result
    return result
