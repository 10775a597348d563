"""A random Whisper and a random Qwen2 with tokenizers of their own, as folders a hub would hold, and plain oracles."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from textpro.agent.runtime import Runtime
from textpro.models.checkpoint import Checkpoint

AUDIO = Path(__file__).parents[1] / "examples" / "audio"
TEXT = "I lost my keys. The weather is fine, and the lights are on; what is twenty plus thirty? Turn them off, please! " * 3
OTHER_TEXT = "Where did you see them last? Lights, timers and alarms are quite easy to set. The answer is fifty, is it not? " * 3
SPEECH_TOKENS = (
    "<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>",
    "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>",
)  # fmt: skip
CHAT_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|repo_name|>")
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HIDDEN, FEATURES = 48, 32
PLAIN_TOKENS = ("<|endoftext|>", "<|startoftranscript|>", "<|nospeech|>", "<|notimestamps|>")
"""Of an English-only Whisper."""


def trained_tokenizer(text: str, size: int, special: tuple[str, ...]) -> PreTrainedTokenizerFast:
    """A byte-level BPE learnt on the spot, its special tokens behind the text tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator([text], trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False))
    tokenizer.add_special_tokens(list(special))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")


def write_whisper(folder: Path, *, seed: int = 1, n_mels: int = 80, window_s: int = 10, special=SPEECH_TOKENS) -> None:
    """A Whisper of random weights that writes plain characters."""
    tokenizer = trained_tokenizer(TEXT, 330, special)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in special}
    torch.manual_seed(seed)
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=len(tokenizer) + 3, num_mel_bins=n_mels, d_model=FEATURES, encoder_layers=2, decoder_layers=2,
            encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=48, decoder_ffn_dim=48,
            max_source_positions=window_s * 50, max_target_positions=160, pad_token_id=ids["<|endoftext|>"],
            bos_token_id=ids["<|endoftext|>"], eos_token_id=ids["<|endoftext|>"],
            decoder_start_token_id=ids["<|startoftranscript|>"],
        )
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.3)
        model.model.decoder.embed_tokens.weight.mul_(0.15)  # else each token predicts itself
    generation = model.generation_config
    generation._from_model_config = False  # as in a file of its own; else it is made anew from config.json
    text = [index for index in range(min(ids.values())) if re.fullmatch(" ?[a-z]+", tokenizer.decode([index]))]
    ends = ids["<|endoftext|>"]
    generation.suppress_tokens = sorted(set(range(len(tokenizer) + 3)) - {*text, ends})
    generation.begin_suppress_tokens = [tokenizer.convert_tokens_to_ids("\u0120"), ends]
    generation.no_timestamps_token_id = ids["<|notimestamps|>"]
    generation.return_timestamps = False
    generation.max_length = 160
    generation.is_multilingual = "<|en|>" in ids
    if generation.is_multilingual:
        generation.lang_to_id = {token: ids[token] for token in ("<|en|>", "<|de|>")}
        generation.task_to_id = {task: ids[f"<|{task}|>"] for task in ("transcribe", "translate")}
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=n_mels, chunk_length=window_s).save_pretrained(folder)


def write_qwen(folder: Path, *, template: str | None = CHATML, special: tuple[str, ...] = CHAT_TOKENS) -> None:
    """A Qwen2 of random weights with a chat template."""
    tokenizer = trained_tokenizer(OTHER_TEXT, 300, special)
    tokenizer.chat_template = template
    torch.manual_seed(2)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer) + 5, hidden_size=HIDDEN, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=768, tie_word_embeddings=False,
        )
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4.0)
        model.lm_head.weight.mul_(4.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def projector_tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    shapes = {"w1": (HIDDEN, FEATURES), "b1": (HIDDEN,), "w2": (HIDDEN, HIDDEN), "b2": (HIDDEN,)}
    return {name: torch.randn(shape) * 0.2 for name, shape in shapes.items()}


def example_audio(name: str, before_ms: int = 300, after_ms: int = 1000) -> np.ndarray:
    """A bundled recording at 16 kHz in a quiet room."""
    samples, rate = soundfile.read(AUDIO / name, dtype="float32")
    padded = np.pad(soxr.resample(samples, rate, 16_000), (before_ms * 16, after_ms * 16))
    return padded + np.random.default_rng(0).standard_normal(len(padded)).astype(np.float32) * np.float32(1e-4)


def runtime_with(checkpoint: Checkpoint) -> Runtime:
    """A text-only runtime of a checkpoint that is loaded already."""
    return Runtime(checkpoint, speak=False, context_length=768)


@dataclass
class PlainWhisper:
    """The oracle: transformers' own `generate` and what it collects."""

    folder: Path

    def __post_init__(self) -> None:
        self.model = WhisperForConditionalGeneration.from_pretrained(self.folder, dtype=torch.float32)
        self.extractor = WhisperFeatureExtractor.from_pretrained(self.folder)
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(self.folder)

    def generate(self, samples: np.ndarray, limit: int, layer: int = 0, **options) -> tuple[list[int], np.ndarray]:
        """Greedy text ids and the states that predict them, [n, dim]."""
        features = self.extractor(samples, sampling_rate=16_000, return_tensors="pt").input_features
        out = self.model.generate(
            features, do_sample=False, max_new_tokens=limit, output_hidden_states=True, return_dict_in_generate=True,
            force_unique_generate_call=True, **options,
        )  # fmt: skip
        states = [step[layer][0, -1].numpy() for step in out.decoder_hidden_states]
        ids = out.sequences[0, -len(states) :].tolist()
        if ids[-1] == self.model.generation_config.eos_token_id:
            ids, states = ids[:-1], states[:-1]
        return ids, np.stack(states) if states else np.zeros((0, FEATURES), np.float32)
