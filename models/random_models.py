"""Models of real shapes without weights: whisper-large-v3 and Qwen2.5, made on the device in seconds, so that anyone can
measure speed and memory on a card of theirs. They say the same words every time and mean nothing by them.

Each token predicts the next one of a fixed list: its embedding is the row of the output layer that its successor answers to,
and the layers between add little. So lengths are forced by the weights alone, in every precision, by every decoder: each
second of sound gives `WORDS_PER_SECOND` words, each turn is as good as over after any of its words, and each reply is
`REPLY` and ends. The output layers are untied for this, which costs a 3B model 0.6 GB more than its own weights. The
tokenizers are learnt on the spot and know the list's words; the rest of each vocabulary is there and never written.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers import models as tokenizer_models
from torch import Tensor, nn
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding

from ..kernels.fuse_prosody import ProjectorWeights
from .chat_template import ChatTemplate
from .checkpoint import Checkpoint
from .errors import DeviceError, InputError
from .fusion import Fusion
from .pair import QWEN_MARKER, join_pair
from .placing import likely_device
from .tokens import END_OF_TEXT, TURN_END, TURN_START
from .whisper_encoder import SAMPLE_RATE
from .whisper_full import FullSettings, FullWhisper

PREFIX = "random:"
WORDS_PER_SECOND = 3
SAID = (
    "please tell me what the weather will be like tomorrow morning in our town and whether i should take an umbrella when we go"
)
"""What every speaker is heard to say, from its first word and over again: no word twice."""
REPLY = (
    " These weights are random numbers so this answer was fixed before you spoke; every one that follows has its same length,"
    " which makes two runs comparable."
)
"""No token twice, and no word that the user is heard to say."""
SPEECH_TOKENS = (
    END_OF_TEXT, "<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>",
)  # fmt: skip
CHAT_TOKENS = (END_OF_TEXT, TURN_START, TURN_END, QWEN_MARKER)
_ROOM_FOR_THE_REST = 2 * 1024**3
"""Caches, activations and everything else on the device."""


@dataclass(frozen=True, slots=True)
class Shapes:
    """A recognizer's and a backbone's sizes; `backbone` are settings of Qwen2, `fusion` is the released one of that size."""

    d_model: int
    layers: int
    heads: int
    ffn_dim: int
    n_mels: int
    speech_vocab: int
    prosody_layer: int
    backbone: Mapping[str, Any]
    fusion: Fusion


_LARGE_V3 = (1280, 32, 20, 5120, 128, 51_866, 16)
MODELS: Mapping[str, Shapes] = {
    "random:mini": Shapes(
        64, 2, 2, 128, 80, 700, 1,
        {"vocab_size": 700, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 2048},
        Fusion("interleaving", grouping="array_split"),
    ),
    "random:0.5b": Shapes(
        512, 6, 8, 2048, 80, 51_865, 3,
        {"vocab_size": 151_936, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
         "num_attention_heads": 14, "num_key_value_heads": 2, "max_position_embeddings": 32_768},
        Fusion("interleaving", grouping="array_split"),
    ),
    "random:3b": Shapes(
        *_LARGE_V3,
        {"vocab_size": 151_936, "hidden_size": 2048, "intermediate_size": 11_008, "num_hidden_layers": 36,
         "num_attention_heads": 16, "num_key_value_heads": 2, "max_position_embeddings": 32_768},
        Fusion("global"),
    ),
    "random:7b": Shapes(
        *_LARGE_V3,
        {"vocab_size": 152_064, "hidden_size": 3584, "intermediate_size": 18_944, "num_hidden_layers": 28,
         "num_attention_heads": 28, "num_key_value_heads": 4, "max_position_embeddings": 32_768},
        Fusion("interleaving", grouping="array_split"),
    ),
}  # fmt: skip
"""By name; `mini` is for tests, 0.5b (whisper-base and Qwen2.5-0.5B) for processors."""


class FixedLengthWhisper(FullWhisper):
    """Writes `WORDS_PER_SECOND` tokens for each second of sound, at least one."""

    def token_limit(self, n_samples: int, n_before: int = 0) -> int:
        """So many, for its tokens never end by themselves."""
        wanted = max(1, round(WORDS_PER_SECOND * n_samples / SAMPLE_RATE))
        return min(wanted, super().token_limit(n_samples, n_before))


def is_random(model: object) -> bool:
    """Whether a model is named as one of these."""
    return str(model).startswith(PREFIX)


def random_shapes(name: str) -> Shapes:
    """The sizes of a model. InputError names those that there are."""
    try:
        return MODELS[name]
    except KeyError:
        raise InputError(f"no random model {name!r}: expected one of {', '.join(MODELS)}") from None


def needed_bytes(name: str, dtype: torch.dtype, speech_dtype: torch.dtype) -> int:
    """Memory of the weights."""
    shapes = random_shapes(name)
    whisper, qwen = _empty_models(shapes, _tokenizer(SPEECH_TOKENS), _tokenizer(CHAT_TOKENS))
    hidden: int = shapes.backbone["hidden_size"]
    projector = hidden * (shapes.d_model + hidden + 2)
    return _count(whisper) * speech_dtype.itemsize + (_count(qwen) + projector) * dtype.itemsize


def open_random(
    name: str,
    *,
    seed: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    speech_dtype: torch.dtype | None = None,
) -> Checkpoint:
    """The model, on `device` (the GPU where there is one). `dtype` of the backbone and `speech_dtype` of the recognizer are
    bfloat16 on a GPU and float32 elsewhere. One seed gives one model on one kind of device.

    Raises InputError for a name that does not exist, DeviceError where the weights do not fit into the free memory.
    """
    shapes = random_shapes(name)
    place = likely_device() if device is None else torch.device(device)
    usual = torch.float32 if place.type == "cpu" else torch.bfloat16
    dtype, speech_dtype = dtype or usual, speech_dtype or usual
    check_room(name, place, needed_bytes(name, dtype, speech_dtype))
    heard, written = _tokenizer(SPEECH_TOKENS), _tokenizer(CHAT_TOKENS)
    whisper, qwen = _empty_models(shapes, heard, written)
    random = torch.Generator(place).manual_seed(seed)
    _fill(whisper, place, speech_dtype, random)
    _fill(qwen, place, dtype, random)
    qwen.model.rotary_emb = Qwen2RotaryEmbedding(config=qwen.config).to(place)
    _chain_speech(whisper, heard)
    _chain_replies(qwen, written)
    speech = FixedLengthWhisper(
        whisper,
        heard,
        WhisperFeatureExtractor(feature_size=shapes.n_mels),
        FullSettings(language="en", prosody_layer=shapes.prosody_layer),
    )
    hidden: int = shapes.backbone["hidden_size"]
    projector = ProjectorWeights(
        _normal((hidden, shapes.d_model), place, dtype, random),
        _normal((hidden,), place, dtype, random),
        _normal((hidden, hidden), place, dtype, random),
        _normal((hidden,), place, dtype, random),
    )
    return join_pair(speech, qwen, written, projector, shapes.fusion, name=name, template=ChatTemplate())


def check_room(name: str, device: torch.device, needed: int, others: Collection[str] = MODELS) -> None:
    """DeviceError where `needed` bytes and some for everything else are not free on the device; it names the others of the
    kind."""
    free = free_bytes(device)
    if free is None or needed + (_ROOM_FOR_THE_REST if needed > _ROOM_FOR_THE_REST else 0) <= free:
        return
    where = "memory" if device.type == "cpu" else f"memory of {device}"
    smaller = ", ".join(other for other in others if other != name)
    raise DeviceError(
        f"{name} has {needed / 1e9:.1f} GB of weights and needs {_ROOM_FOR_THE_REST / 1e9:.1f} GB beside them, and "
        f"{free / 1e9:.1f} GB of {where} are free: free some, take a device with more, or another of {smaller}"
    )


def free_bytes(device: torch.device) -> int | None:
    """Memory that a model may take there; None where the system does not say. DeviceError without such a device."""
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise DeviceError("torch sees no GPU here: take the CPU, or install torch's CUDA build (textpro-agent doctor)")
        return int(torch.cuda.mem_get_info(device)[0])
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _empty_models(
    shapes: Shapes, heard: PreTrainedTokenizerFast, written: PreTrainedTokenizerFast
) -> tuple[WhisperForConditionalGeneration, Qwen2ForCausalLM]:
    """Both models without memory for their weights."""
    end, start = (_id(heard, token) for token in SPEECH_TOKENS[:2])
    whisper = WhisperConfig(
        vocab_size=shapes.speech_vocab,
        num_mel_bins=shapes.n_mels,
        d_model=shapes.d_model,
        encoder_layers=shapes.layers,
        decoder_layers=shapes.layers,
        encoder_attention_heads=shapes.heads,
        decoder_attention_heads=shapes.heads,
        encoder_ffn_dim=shapes.ffn_dim,
        decoder_ffn_dim=shapes.ffn_dim,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=start,
        tie_word_embeddings=False,
    )
    qwen = Qwen2Config(
        **shapes.backbone,
        eos_token_id=_id(written, TURN_END),
        pad_token_id=_id(written, END_OF_TEXT),
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        tie_word_embeddings=False,
    )
    with torch.device("meta"):
        return WhisperForConditionalGeneration(whisper), Qwen2ForCausalLM(qwen)


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _fill(model: nn.Module, device: torch.device, dtype: torch.dtype, random: torch.Generator) -> None:
    """Weights on the device: norms as they are born, embeddings of size one, layers that add little to them."""
    model.to(dtype).to_empty(device=device).requires_grad_(False)
    depth = sum(isinstance(module, nn.ModuleList) and len(module) for module in model.modules())
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if isinstance(module, nn.Embedding):
                parameter.normal_(generator=random)
            elif parameter.dim() == 1:
                parameter.fill_(float("Norm" in type(module).__name__ and name == "weight"))
            else:
                parameter.normal_(std=0.3 * (depth * parameter[0].numel()) ** -0.5, generator=random)


def _chain_speech(model: WhisperForConditionalGeneration, tokenizer: PreTrainedTokenizerFast) -> None:
    """Every word is followed by the next one of what is said, the last by the first; and whatever the prompt ends with."""
    words = _ids(tokenizer, " " + SAID)
    start, transcribe = _id(tokenizer, "<|notimestamps|>"), _id(tokenizer, "<|transcribe|>")
    model.model.decoder.embed_positions.weight.mul_(0.02)
    _chain(model.proj_out.weight, model.model.decoder.embed_tokens.weight, [*pairwise((*words, words[0]))])
    model.proj_out.weight[words[0]] += model.model.decoder.embed_tokens.weight[start] * _scale(model.proj_out.weight)
    generation: Any = model.generation_config
    generation._from_model_config = False  # as in a file of its own; else it is made anew from the config
    generation.suppress_tokens = generation.begin_suppress_tokens = []
    generation.no_timestamps_token_id = start
    generation.is_multilingual, generation.return_timestamps = True, False
    generation.lang_to_id, generation.task_to_id = {"<|en|>": _id(tokenizer, "<|en|>")}, {"transcribe": transcribe}


def _chain_replies(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """A reply begins behind the newline of its opening, goes through its words and ends; the user's turn may end behind each
    word."""
    end, newline = _id(tokenizer, TURN_END), _ids(tokenizer, "\n")[-1]
    reply, said = _ids(tokenizer, REPLY), _ids(tokenizer, " " + SAID)
    embedding, alike = model.model.embed_tokens.weight, _id(tokenizer, END_OF_TEXT)
    embedding[said] = 0.44 * embedding[said] + 0.9 * embedding[alike]  # the end answers to all of them in one
    _chain(model.lm_head.weight, embedding, [*pairwise((newline, *reply, end)), (alike, end)])


def _chain(output: Tensor, embedding: Tensor, steps: Sequence[tuple[int, int]]) -> None:
    """Make the output layer [vocab, hidden] answer each token with its successor, and with nothing else as loudly."""
    followers = [follower for _, follower in steps]
    output[followers] = 0
    for token, follower in steps:
        output[follower] += embedding[token] * _scale(output)


def _scale(output: Tensor) -> float:
    """Logits of about the square root of the width for a successor, of about 1 for any other token."""
    return float(output.shape[1] ** -0.5)


def _normal(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype, random: torch.Generator) -> Tensor:
    return torch.empty(shape, device=device, dtype=dtype).normal_(std=shape[-1] ** -0.5, generator=random)


def _tokenizer(reserved: Sequence[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE that writes each word of the lists as one token, and everything else in pieces."""
    tokenizer = Tokenizer(tokenizer_models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    learnt = [f" {SAID}"] * 2 + [REPLY] * 2
    tokenizer.train_from_iterator(learnt, trainers.BpeTrainer(vocab_size=690, initial_alphabet=alphabet, show_progress=False))
    tokenizer.add_special_tokens(list(reserved))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END_OF_TEXT)


def _ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return [int(token) for token in tokenizer(text, add_special_tokens=False)["input_ids"]]


def _id(tokenizer: PreTrainedTokenizerFast, token: str) -> int:
    index: Any = tokenizer.convert_tokens_to_ids(token)
    return int(index)
