"""A checkpoint of random weights, small enough to be written and read in a test."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from textpro.kernels.fuse_prosody import ProjectorWeights
from textpro.models.checkpoint import save_checkpoint
from textpro.models.tokens import END_OF_TEXT, PAD, RESERVED
from textpro.models.whisperpro import WhisperPro, WhisperProConfig

FEATURES, HIDDEN = 32, 24


def small_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE without merges: one token for a byte, behind the reserved ones."""
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*RESERVED, *bytes_])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(RESERVED))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END_OF_TEXT, pad_token=PAD)


def small_speech(vocab_size: int) -> WhisperPro:
    torch.manual_seed(1)
    return WhisperPro(
        WhisperProConfig(
            vocab_size,
            FEATURES,
            encoder_layers=1,
            decoder_layers=2,
            heads=2,
            ffn_dim=16,
            n_mels=8,
            max_frames=32,
            max_tokens=8,
            max_prompt=4,
            prosody_layer=1,
        )
    )


def small_backbone(vocab_size: int) -> Qwen2ForCausalLM:
    torch.manual_seed(2)
    config = Qwen2Config(
        vocab_size=vocab_size,
        hidden_size=HIDDEN,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=True,
    )
    return Qwen2ForCausalLM(config)


def small_projector() -> ProjectorWeights:
    torch.manual_seed(3)
    return ProjectorWeights(torch.randn(HIDDEN, FEATURES), torch.randn(HIDDEN), torch.randn(HIDDEN, HIDDEN), torch.randn(HIDDEN))


def write_small_checkpoint(folder: Path) -> None:
    """The whole folder."""
    tokenizer = small_tokenizer()
    save_checkpoint(
        folder,
        name="small",
        speech=small_speech(len(tokenizer)),
        backbone=small_backbone(len(tokenizer)),
        projector=small_projector(),
        tokenizer=tokenizer,
        card="A small random model.\n",
    )
