"""Whisper as it was trained: an encoder that sees a whole padded window, so every pass begins from the audio again.

Serves any Hugging Face Whisper checkpoint, and WhisperPro as released (arXiv 2605.05927), whose prosody vector of a token
is a decoder state at that token. Features, prompt, suppressed tokens and the no-speech rule are the checkpoint's own; the
decoding is greedy. Nothing is kept between passes: tokens and vectors depend on the given samples alone, so ticks cannot
change what the final pass says. What stands before the text is in `whisper_prompt.py`, word times in `whisper_times.py`,
windows in `whisper_encoder.py`. The counterpart for causal encoders is `speech_stream.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerFast, WhisperFeatureExtractor, WhisperForConditionalGeneration

from .cuda_graphs import Capture, CudaCapture
from .errors import CapacityError, CheckpointError, EngineError
from .whisper_decoding import GreedyDecoder, Row, Transcribe
from .whisper_encoder import SAMPLE_RATE, WINDOWS_S, window_samples
from .whisper_passes import MOST_ROWS, WhisperPasses
from .whisper_prompt import Prompt, start_of_previous
from .whisper_times import published_heads, token_ends

MAX_TOKENS_PER_SECOND, TOKENS_AT_ONCE = 25, 8
"""A hypothesis faster than this is a loop; Whisper's own room is 15 a second over a full window."""
MAX_PROMPT = 48
"""Tokens carried over a cut; more make loops likelier."""

ProsodyAt = Literal["predicts", "reads"]


@dataclass(frozen=True, slots=True)
class FullSettings:
    """`language` as a code or an English name, None: detected in each pass. `prosody_layer`: index into the decoder's
    `hidden_states` that holds prosody, None for a plain Whisper. A token's vector is the state at the position that
    `predicts` it (what `generate` collects) or at the one that `reads` it. `alignment_heads`: (layer, head) of those that
    follow the audio, none: as the generation settings say. `encoder_window_s`: the shortest window that the encoder may be
    given, None: the trained one always."""

    language: str | None = None
    prosody_layer: int | None = None
    prosody_at: ProsodyAt = "predicts"
    alignment_heads: tuple[tuple[int, int], ...] = ()
    encoder_window_s: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Transcribed:
    """Text tokens and their prosody vectors [n_tokens, feature_dim], of dimension 0 where there are none or none wanted.
    `language`: the token of the one that was written, and how probable it was; None for a checkpoint of English alone.
    `ends`: the sample of the segment in which each token ends, not decreasing; None where not wanted or not known."""

    tokens: tuple[int, ...]
    vectors: NDArray[np.float32]
    language: int | None = None
    language_probability: float = 0.0
    ends: NDArray[np.int64] | None = None


class FullWhisper:
    """The speech model of the engine. It takes the model over: eval mode, no gradients.

    Raises CheckpointError where the parts do not fit each other or a setting does not fit them.
    """

    def __init__(
        self,
        model: WhisperForConditionalGeneration,
        tokenizer: PreTrainedTokenizerFast,
        extractor: WhisperFeatureExtractor,
        settings: FullSettings | None = None,
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer, self.extractor = tokenizer, extractor
        self.settings = settings or FullSettings()
        config = model.config
        _check_parts(config, tokenizer, extractor, self.settings)
        self._not_text = frozenset(tokenizer.get_added_vocab().values())
        self._prompt = Prompt(model, self.settings.language)
        generation = model.generation_config
        self._passes, self._lock = WhisperPasses(self.model), threading.Lock()  # two engines may share one recognizer
        self._decoder = GreedyDecoder(self.model, self._passes, self._prompt)
        self._start_of_previous = start_of_previous(generation, tokenizer)
        self.max_prompt = 0 if self._start_of_previous is None else MAX_PROMPT
        self.window_samples: int = extractor.n_samples
        self.alignment_heads = self.settings.alignment_heads or published_heads(model)
        self.feature_dim: int = config.d_model if self.settings.prosody_layer is not None else 0

    def moved(self, device: torch.device) -> Self:
        """The same recognizer there. The model's modules are moved, so this one is used up."""
        self.model.to(device)
        return type(self)(self.model, self.tokenizer, self.extractor, self.settings)

    def text(self, tokens: Sequence[int]) -> str:
        """The words of tokens, as Whisper writes them."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def run(self, items: Sequence[Any]) -> list[object]:
        """One `Transcribed` for each item, an exception where it failed. Items whose windows are of one length share their
        passes."""
        results: dict[int, object] = {}
        groups: dict[int, list[int]] = {}
        for place, item in enumerate(items):
            if not isinstance(item, Transcribe):
                raise EngineError(f"{type(item).__name__} is no work for a full Whisper: expected Transcribe")
            n_samples, window = len(item.samples), self.window_samples
            if n_samples > window:
                told = f"{n_samples} samples do not fit into the window of {window}: cut the turn before"
                results[place] = CapacityError(told)
            elif n_samples:
                groups.setdefault(self._window(n_samples), []).append(place)
            else:
                results[place] = Transcribed((), np.zeros((0, self.feature_dim), np.float32))
        for places in groups.values():
            for first in range(0, len(places), MOST_ROWS):
                some = places[first : first + MOST_ROWS]
                results.update(zip(some, self._together([items[place] for place in some]), strict=True))
        return [results[place] for place in range(len(items))]

    def transcribe(self, item: Transcribe) -> Transcribed:
        """See `Transcribe`. Raises CapacityError for more samples than the window holds."""
        (result,) = self.run([item])
        if isinstance(result, Exception):
            raise result
        assert isinstance(result, Transcribed)
        return result

    def record(self, capture: Capture | None = None) -> Iterator[tuple[int, int]]:
        """Record the passes of common sizes as CUDA graphs, on a GPU, or by `capture`; see `WhisperPasses.record`."""
        if capture is None and self.model.device.type == "cuda":
            capture = CudaCapture(self.model.device)
        if capture is None:
            return iter(())
        shortest, lengths = self.settings.encoder_window_s, {self.window_samples}
        if shortest is not None:
            lengths |= {self._window(min(seconds * SAMPLE_RATE, self.window_samples)) for seconds in WINDOWS_S}
        return self._passes.record(capture, [samples // self.extractor.hop_length for samples in sorted(lengths)])

    def _together(self, items: Sequence[Transcribe]) -> list[Transcribed | Exception]:
        """The results of a common pass; where that fails, of each alone, so that only the guilty fail."""
        with self._lock:
            try:
                return list(self._transcribe(items))
            except Exception as error:
                failed = error.with_traceback(None)  # which would keep what the pass took
            finally:
                self._passes.close()
        return [failed] if len(items) == 1 else [result for item in items for result in self._together([item])]

    @torch.inference_mode()
    def _transcribe(self, items: Sequence[Transcribe]) -> list[Transcribed]:
        """Of items whose windows are of one length."""
        states = self._passes.encode(self._features([item.samples for item in items]))
        rows = [Row(item, self._previous(item.prompt), self._limit(item)) for item in items]
        self._passes.open(states)
        self._decoder.decode(rows)
        layer, results = self.settings.prosody_layer, []
        wanted = [layer is not None and row.item.prosody and bool(row.generated) for row in rows]
        vectors = self._vectors(rows, wanted, layer) if layer is not None and any(wanted) else None
        for place, row in enumerate(rows):
            is_text = np.array([token not in self._not_text for token in row.generated], bool)
            own = np.zeros((len(row.generated), self.feature_dim if row.item.prosody else 0), np.float32)
            if vectors is not None and wanted[place]:
                first = len(row.prompt) - (self.settings.prosody_at == "predicts")
                own = vectors[place, first : first + len(row.generated)]
            ends = None
            if row.item.times and self.alignment_heads:
                alone, n_samples = states[place : place + 1], len(row.item.samples)
                ends = token_ends(self.model, self.alignment_heads, alone, row.prompt, row.generated, n_samples)[is_text]
            tokens = tuple(token for token, kept in zip(row.generated, is_text, strict=True) if kept)
            results.append(Transcribed(tokens, own[is_text].copy(), row.language, row.language_probability, ends))
        return results

    def _vectors(self, rows: Sequence[Row], wanted: Sequence[bool], layer: int) -> NDArray[np.float32]:
        """Decoder states of all tokens of the wanted rows, [rows, positions, dim], from one parallel pass."""
        pieces = [(*row.prompt, *row.generated) if want else row.prompt[:1] for row, want in zip(rows, wanted, strict=True)]
        depth = None if layer == self.model.config.decoder_layers else layer
        states: NDArray[np.float32] = self._passes.read(pieces, [0] * len(rows), depth).float().cpu().numpy()
        return states

    def language_id(self, language: str) -> int | None:
        """The token of a language by code or English name; None where the prompt has no place for it. CheckpointError for
        one that the checkpoint does not know."""
        return self._prompt.language_id(language)

    def token_limit(self, n_samples: int, n_before: int = 0) -> int:
        """The most tokens that are generated for so many samples behind `n_before` tokens before the prompt."""
        room = self.model.config.max_target_positions - self._prompt.length - n_before
        return min(room, MAX_TOKENS_PER_SECOND * n_samples // SAMPLE_RATE + TOKENS_AT_ONCE)

    @torch.inference_mode()
    def encode(self, samples: NDArray[np.float32]) -> Tensor:
        """Encoder states [1, frames, dim] of samples [n] at 16 kHz in their padded window, the shortest that is allowed."""
        with self._lock:
            return self._passes.encode(self._features([samples]))

    def _window(self, n_samples: int) -> int:
        """Samples of the window that so many are padded to."""
        if self.settings.encoder_window_s is None:
            return self.window_samples
        return window_samples(n_samples, self.settings.encoder_window_s, self.window_samples)

    def _features(self, samples: Sequence[NDArray[np.float32]]) -> Tensor:
        """Log-mels [rows, n_mels, frames] of segments whose windows are of one length."""
        window, device = self._window(max(map(len, samples))), self.model.device
        padded = self.extractor(
            [*samples], sampling_rate=SAMPLE_RATE, return_tensors="pt", max_length=window, device=str(device)
        )
        return padded["input_features"].to(device, self.model.dtype)

    def _limit(self, item: Transcribe) -> int:
        return self.token_limit(len(item.samples), len(self._previous(item.prompt)))

    def prompt(self, language: int | None = None) -> tuple[int, ...]:
        """What stands before the text, for a language's token or the one that the settings name."""
        return (self._prompt.start, *self._prompt.behind_start(self._prompt.named(language)))

    def _previous(self, prompt: tuple[int, ...]) -> tuple[int, ...]:
        """What stands before the start of transcript: the marker of what came before, and its tokens."""
        if self._start_of_previous is None or not prompt:
            return ()
        return (self._start_of_previous, *prompt[-self.max_prompt :])


def _check_parts(
    config: Any, tokenizer: PreTrainedTokenizerFast, extractor: WhisperFeatureExtractor, settings: FullSettings
) -> None:
    found = (extractor.sampling_rate, extractor.feature_size, extractor.nb_max_frames)
    wanted = (SAMPLE_RATE, config.num_mel_bins, 2 * config.max_source_positions)
    if found != wanted:
        raise CheckpointError(
            f"preprocessor_config.json gives (rate, mel bins, frames) {found}, this Whisper reads {wanted}: "
            "put the files of one checkpoint together"
        )
    if len(tokenizer) > config.vocab_size:
        raise CheckpointError(
            f"the recognizer's tokenizer has {len(tokenizer)} tokens, its model {config.vocab_size}: put the files of one "
            "checkpoint together"
        )
    layer = settings.prosody_layer
    if layer is not None and not 0 <= layer <= config.decoder_layers:
        raise CheckpointError(f"prosody_layer {layer}: expected 0 to {config.decoder_layers}, the decoder's layers")
    if settings.encoder_window_s not in (None, *WINDOWS_S):
        raise CheckpointError(f"encoder_window_s {settings.encoder_window_s}: expected one of {WINDOWS_S}, or none")
    for layer, head in settings.alignment_heads:
        if not (0 <= layer < config.decoder_layers and 0 <= head < config.decoder_attention_heads):
            raise CheckpointError(
                f"alignment head ({layer}, {head}): expected a layer below {config.decoder_layers} and a head below "
                f"{config.decoder_attention_heads}; find them anew with `textpro-agent models align`"
            )
    if settings.prosody_at not in get_args(ProsodyAt):
        raise CheckpointError(f"prosody_at {settings.prosody_at!r}: expected one of {get_args(ProsodyAt)}")
