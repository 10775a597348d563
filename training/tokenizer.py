"""The byte-level BPE that the bundled recognizer and backbone share, trained on the grammar itself."""

from __future__ import annotations

import json
import random
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from ..models.tokens import END_OF_TEXT, PAD, RESERVED
from .skills import sample_dialogue


def train_tokenizer(folder: Path, vocab_size: int = 1280, dialogues: int = 30_000) -> PreTrainedTokenizerFast:
    """Train on sampled dialogues and write a Hugging Face tokenizer into `folder`.

    Digits stay single; a space belongs to the word behind it, so a word is complete when the next token begins with one.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(RESERVED),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(dialogues), trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END_OF_TEXT, pad_token=PAD)
    fast.save_pretrained(folder)
    return fast


def _texts(dialogues: int) -> list[str]:
    rng = random.Random(0)
    texts = ["user\n", "assistant\n", "system\n"] * 2000
    for _ in range(dialogues):
        for turn in sample_dialogue(rng, "train").turns:
            texts += [" " + turn.user, turn.reply]
            if turn.call is not None:
                texts.append("\n" + json.dumps({"name": turn.call.name, "arguments": turn.call.arguments}) + "\n")
                texts.append("\n" + json.dumps(turn.result) + "\n")
    return texts
