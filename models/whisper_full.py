"""Whisper as it was trained: an encoder that sees a whole padded window, so every pass begins from the audio again.

Serves any Hugging Face Whisper checkpoint, and WhisperPro as released (arXiv 2605.05927), whose prosody vector of a token
is a decoder state at that token. Features, prompt, suppressed tokens and the no-speech rule are the checkpoint's own; the
decoding is greedy. Nothing is kept between passes: tokens and vectors depend on the given samples alone, so ticks cannot
change what the final pass says. What stands before the text is in `whisper_prompt.py`, word times in `whisper_times.py`,
windows in `whisper_encoder.py`. The counterpart for causal encoders is `speech_stream.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerFast, WhisperFeatureExtractor, WhisperForConditionalGeneration

from .errors import CapacityError, CheckpointError, EngineError
from .whisper_encoder import SAMPLE_RATE, WINDOWS_S, encode, window_samples
from .whisper_prompt import Prompt, first_of, ids_of, start_of_previous
from .whisper_times import published_heads, token_ends

MAX_TOKENS_PER_SECOND, TOKENS_AT_ONCE = 25, 8
"""A hypothesis faster than this is a loop; Whisper's own room is 15 a second over a full window."""
MAX_PROMPT = 48
"""Tokens carried over a cut; more make loops likelier."""
NO_SPEECH_ABOVE, UNSURE_BELOW = 0.6, -1.0
"""Whisper's rule: no words where no-speech is this probable and the mean log-probability of the words this low."""

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
class Transcribe:
    """Recognize all samples of a segment so far, float32 [n] at 16 kHz. `stream` stands for the segment, whose items keep
    their order. `prosody`: vectors are wanted too. `prompt` are tokens of what was said right before; the last
    `FullWhisper.max_prompt` of them count. `language`: its token, None: as the settings say, or found. `times`: so are the
    ends of the tokens, where the checkpoint can tell them."""

    stream: object
    samples: NDArray[np.float32]
    prosody: bool = False
    prompt: tuple[int, ...] = ()
    language: int | None = None
    times: bool = False


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
        self._ends = ids_of(first_of(generation, config, "eos_token_id"))
        self._suppressed = ids_of(getattr(generation, "suppress_tokens", None))
        self._begin_suppressed = ids_of(getattr(generation, "begin_suppress_tokens", None))
        self._start_of_previous = start_of_previous(generation, tokenizer)
        self.max_prompt = 0 if self._start_of_previous is None else MAX_PROMPT
        self.window_samples: int = extractor.n_samples
        self.alignment_heads = self.settings.alignment_heads or published_heads(model)
        self.feature_dim: int = config.d_model if self.settings.prosody_layer is not None else 0

    def text(self, tokens: Sequence[int]) -> str:
        """The words of tokens, as Whisper writes them."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def run(self, items: Sequence[Any]) -> list[object]:
        """One `Transcribed` for each item, an exception where it failed."""
        return [self._run(item) for item in items]

    def _run(self, item: object) -> object:
        if not isinstance(item, Transcribe):
            raise EngineError(f"{type(item).__name__} is no work for a full Whisper: expected Transcribe")
        try:
            return self.transcribe(item)
        except Exception as error:
            return error

    @torch.inference_mode()
    def transcribe(self, item: Transcribe) -> Transcribed:
        """See `Transcribe`. Raises CapacityError for more samples than the window holds."""
        n_samples = len(item.samples)
        if n_samples > self.window_samples:
            raise CapacityError(f"{n_samples} samples do not fit into the window of {self.window_samples}: cut the turn before")
        if not n_samples:
            return Transcribed((), np.zeros((0, self.feature_dim), np.float32))
        states = self.encode(item.samples)
        prompt, generated, language = self._decode(states, item)
        is_text = [token not in self._not_text for token in generated]
        vectors, ends = np.zeros((len(generated), 0), np.float32), None
        if item.prosody and self.settings.prosody_layer is not None:
            vectors = self._vectors(states, prompt, generated, self.settings.prosody_layer)
        if item.times and self.alignment_heads:
            ends = token_ends(self.model, self.alignment_heads, states, prompt, generated, n_samples)[np.array(is_text, bool)]
        tokens = tuple(token for token, kept in zip(generated, is_text, strict=True) if kept)
        return Transcribed(tokens, vectors[np.array(is_text, bool)], *language, ends)

    def language_id(self, language: str) -> int | None:
        """The token of a language by code or English name; None where the prompt has no place for it. CheckpointError for
        one that the checkpoint does not know."""
        return self._prompt.language_id(language)

    def token_limit(self, n_samples: int, n_before: int = 0) -> int:
        """The most tokens that are generated for so many samples behind `n_before` tokens before the prompt."""
        room = self.model.config.max_target_positions - self._prompt.length - n_before
        return min(room, MAX_TOKENS_PER_SECOND * n_samples // SAMPLE_RATE + TOKENS_AT_ONCE)

    def encode(self, samples: NDArray[np.float32]) -> Tensor:
        """Encoder states [1, frames, dim] of samples [n] at 16 kHz in their padded window, the shortest that is allowed."""
        window = self.window_samples
        if self.settings.encoder_window_s is not None:
            window = window_samples(len(samples), self.settings.encoder_window_s, window)
        padded = self.extractor(samples, sampling_rate=SAMPLE_RATE, return_tensors="pt", max_length=window)
        features = padded["input_features"].to(self.model.device, self.model.dtype)
        return encode(self.model.model.encoder, features)

    def prompt(self, language: int | None = None) -> tuple[int, ...]:
        """What stands before the text, for a language's token or the one that the settings name."""
        return (self._prompt.start, *self._prompt.behind_start(self._prompt.named(language)))

    def _previous(self, prompt: tuple[int, ...]) -> tuple[int, ...]:
        """What stands before the start of transcript: the marker of what came before, and its tokens."""
        if self._start_of_previous is None or not prompt:
            return ()
        return (self._start_of_previous, *prompt[-self.max_prompt :])

    def _decode(self, states: Tensor, item: Transcribe) -> tuple[tuple[int, ...], list[int], tuple[int | None, float]]:
        """The prompt, the tokens that greedy decoding puts behind it (end-of-text left out; none for no speech), and the
        language with its probability."""
        previous, n_samples = self._previous(item.prompt), len(item.samples)
        scores, cache = self._step((*previous, self._prompt.start), states, None)
        no_speech = self._prompt.no_speech_probability(scores)
        language = self._prompt.choose_language(scores, item.language)
        behind_start = self._prompt.behind_start(language[0])
        if behind_start:
            scores, cache = self._step(behind_start, states, cache)
        scores[self._begin_suppressed] = -torch.inf
        generated, logprobs, limit = list[int](), list[float](), self.token_limit(n_samples, len(previous))
        while True:
            scores[self._suppressed] = -torch.inf
            token = int(scores.argmax())
            logprobs.append(float(scores.log_softmax(-1)[token]))
            if token in self._ends or len(generated) == limit:
                break
            generated.append(token)
            if len(generated) < limit:
                scores, cache = self._step((token,), states, cache)
        if no_speech > NO_SPEECH_ABOVE and sum(logprobs) / len(logprobs) < UNSURE_BELOW:
            generated = []
        return (*previous, self._prompt.start, *behind_start), generated, language

    def _step(self, tokens: Sequence[int], states: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """Scores [vocab] behind `tokens` in fp32, and the cache that holds them."""
        ids = torch.tensor([tokens], device=states.device)
        output = self.model.model.decoder(input_ids=ids, encoder_hidden_states=states, past_key_values=cache, use_cache=True)
        return self.model.proj_out(output.last_hidden_state[0, -1]).float(), output.past_key_values

    def _vectors(self, states: Tensor, prompt: tuple[int, ...], generated: list[int], layer: int) -> NDArray[np.float32]:
        """Decoder states of the generated tokens, [n_tokens, dim], from one parallel pass."""
        ids = torch.tensor([[*prompt, *generated]], device=states.device)
        output = self.model.model.decoder(input_ids=ids, encoder_hidden_states=states, use_cache=False, output_hidden_states=True)
        first = len(prompt) - (self.settings.prosody_at == "predicts")
        hidden = output.hidden_states[layer][0, first : first + len(generated)]
        vectors: NDArray[np.float32] = hidden.float().cpu().numpy().copy()
        return vectors


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
