"""Ears on random models: a listener that needs no engine's thread, for the chunked kind of recognizer and the full one."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from random_speech import CONFIG, STARTS_WORD, random_speech
from textpro.agent.listener import Listener, ListeningSettings
from textpro.engine import SpeechDone
from textpro.models.fusion import Fusion
from textpro.models.whisper_full import FullWhisper

PIECES = [("\u0120" if starts else "") + chr(97 + index % 26) for index, starts in enumerate(STARTS_WORD)]
CARRIED = 4


class Tokenizer:
    """Letters, of which two thirds begin words."""

    def __len__(self) -> int:
        return len(PIECES)

    def convert_ids_to_tokens(self, ids):
        return [PIECES[index] for index in ids]


class Engine:
    """Runs an item where it is asked."""

    def __init__(self, speech) -> None:
        self._speech = speech

    async def run(self, item, *urgency):
        with torch.inference_mode():
            (value,) = self._speech.run([item])
        if isinstance(value, Exception):
            raise value
        return SpeechDone(value, 0.001)


def speech_text(tokens) -> str:
    return "".join(PIECES[token] for token in tokens).replace("\u0120", " ")


def listener(fusion: Fusion | None = None, **options) -> Listener:
    """Of the chunked kind."""
    speech = SimpleNamespace(config=CONFIG, tone_probabilities=lambda vectors: np.full(4, 0.25, np.float32))
    checkpoint = SimpleNamespace(
        speech=speech, tokenizer=Tokenizer(), config={"carried_tokens": CARRIED}, fusion=fusion or Fusion(),
        speech_text=speech_text, heard_ids=tuple,
    )  # fmt: skip
    return Listener(Engine(random_speech()), checkpoint, True, ListeningSettings(**options))


def full_listener(speech: FullWhisper, fusion: Fusion, **options) -> Listener:
    """Of the full kind; the backbone reads its tokens."""
    checkpoint = SimpleNamespace(speech=speech, config={}, fusion=fusion, speech_text=speech.text, heard_ids=tuple)
    return Listener(Engine(speech), checkpoint, True, ListeningSettings(**options))
