"""The sequential way that streaming is compared with: the whole recorded turn through plain transformers,
step after step.

Encode, decode greedily with transformers' key-value cache, prosody of the tokens, `generate` on embeddings,
then the whole reply spoken. The same weights, word-time rule and voice as the agent; nothing of its engine
or its streaming code.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache, EncoderDecoderCache, PreTrainedModel

from textpro.kernels.fuse_prosody import ProjectorWeights
from textpro.models.alignment import final_token_frames, spikes, word_end_frames
from textpro.models.checkpoint import Checkpoint, load_checkpoint
from textpro.models.errors import InputError
from textpro.models.fusion import Row, enough_vectors, user_rows
from textpro.models.whisper_decoding import Transcribe
from textpro.models.whisper_full import FullWhisper
from textpro.models.whisperpro import prosody_visible
from textpro.streaming.mel import HOP_SAMPLES, WINDOW_SAMPLES, log_mel, mel_filters
from textpro.streaming.synthesis import Synthesizer

MAX_REPLY_TOKENS = 160


@dataclass(frozen=True, slots=True)
class Sequential:
    """What one turn gave, and the milliseconds of each step."""

    words: str
    reply: str
    recognize_ms: float
    generate_ms: float
    synthesize_ms: float

    @property
    def compute_ms(self) -> float:
        """From the recorded turn to the spoken reply."""
        return self.recognize_ms + self.generate_ms + self.synthesize_ms


class SequentialAgent:
    """A second, plain copy of a checkpoint. `backbone`: a model and its projector in place of the folder's, as plain
    transformers run it."""

    def __init__(
        self,
        folder: Path,
        synthesizer: Synthesizer | None = None,
        backbone: tuple[PreTrainedModel, ProjectorWeights | None] | None = None,
    ) -> None:
        checkpoint = load_checkpoint(folder)
        self._chat, self._fusion = checkpoint.chat, checkpoint.fusion
        self._speech = checkpoint.speech.model
        if backbone is None:
            plain = AutoModelForCausalLM.from_pretrained(folder / "backbone", dtype=torch.float32).eval()
            backbone = plain, checkpoint.backbone.projector
        self._backbone, self._projector = backbone
        tokenizer = checkpoint.tokenizer
        pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        self._starts_word = [piece.startswith("\u0120") for piece in pieces]
        self._synthesizer = synthesizer

    async def answer(self, turn: NDArray[np.float32]) -> Sequential:
        """Answer a recorded turn, float32 [n] at 16 kHz, aloud; needs a synthesizer."""
        assert self._synthesizer is not None
        began = perf_counter()
        tokens, vectors = self._recognize(turn)
        recognized = perf_counter()
        reply = self._chat.text(self._generate(tokens, vectors)).strip()
        generated = perf_counter()
        async for _ in self._synthesizer.synthesize(reply):
            pass
        spoken = perf_counter()
        times = [(after - before) * 1000 for before, after in ((began, recognized), (recognized, generated))]
        words = self._chat.text(tokens).strip()
        return Sequential(words, reply, times[0], times[1], (spoken - generated) * 1000)

    def first_token_ms(self, turn: NDArray[np.float32]) -> float:
        """Milliseconds from a recorded turn, float32 [n] at 16 kHz, to the first token of its reply."""
        began = perf_counter()
        self._generate(*self._recognize(turn), most=1)
        return (perf_counter() - began) * 1000

    @torch.inference_mode()
    def _recognize(self, turn: NDArray[np.float32]) -> tuple[list[int], NDArray[np.float32]]:
        """Tokens and their prosody vectors [n_tokens, dim]."""
        config = self._speech.config
        samples = turn[: config.max_frames * config.frame_samples]
        padded = np.pad(samples, (WINDOW_SAMPLES - HOP_SAMPLES, -len(samples) % (2 * HOP_SAMPLES)))
        mel = log_mel(padded, mel_filters(config.n_mels))
        frames = torch.tensor([len(mel) // 2])
        states = self._speech.encode(torch.from_numpy(mel.T)[None], frames)
        tokens = self._decode(states)
        path = spikes(self._speech.ctc(states)[0].argmax(-1).numpy(), config.pad)
        ends = final_token_frames(path, tokens, int(frames))
        ends = word_end_frames(ends, [self._starts_word[token] for token in tokens])
        seen = prosody_visible(torch.tensor([[0, *ends]]), frames, config.block_frames)
        given = torch.tensor([[config.start_of_transcript, *tokens]])
        vectors = self._speech.decode(given, states, seen, config.prosody_layer)[0, 1:]
        return tokens, vectors.numpy()

    def _decode(self, states: Tensor) -> list[int]:
        config, decoder = self._speech.config, self._speech.whisper.decoder
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        tokens: list[int] = []
        token = config.start_of_transcript
        while len(tokens) < config.max_tokens:
            given = torch.tensor([[token]])
            out = decoder(input_ids=given, encoder_hidden_states=states, past_key_values=cache, use_cache=True)
            token = int(self._speech.token_logits(out.last_hidden_state[0, -1]).argmax())
            if token == config.end_of_text:
                break
            tokens.append(token)
        return tokens

    @torch.inference_mode()
    def _generate(self, tokens: list[int], vectors: NDArray[np.float32], most: int = MAX_REPLY_TOKENS) -> list[int]:
        table = self._backbone.get_input_embeddings().weight
        rows = [table[list(self._chat.user_open())]]
        for row in user_rows(tokens, vectors if tokens else None, self._fusion):
            rows.append(table[row.token_id][None] if row.vector is None else self._project(row.vector)[None])
        rows.append(table[list(self._chat.reply_open())])
        embeds = torch.cat(rows)[None]
        out = self._backbone.generate(
            inputs_embeds=embeds,
            attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long, device=embeds.device),
            do_sample=False,
            max_new_tokens=most,
            eos_token_id=self._chat.turn_end_id,
            pad_token_id=self._chat.turn_end_id,
        )
        generated: list[int] = out[0].tolist()
        return generated

    def _project(self, vector: NDArray[np.float32]) -> Tensor:
        weights = self._projector
        hidden = torch.nn.functional.gelu(weights.w1 @ torch.from_numpy(vector).to(weights.w1) + weights.b1)
        return weights.w2 @ hidden + weights.b2


class FullSequentialAgent:
    """The same way with a full recognizer: the checkpoint's own modules, called once the turn is over, on the checkpoint's
    device. The backbone has to run plain transformers' attention meanwhile."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        if not isinstance(checkpoint.speech, FullWhisper):
            raise InputError("the recognizer is a chunked one: take SequentialAgent")
        self._checkpoint, self._speech = checkpoint, checkpoint.speech

    @torch.inference_mode()
    def first_token_ms(self, turn: NDArray[np.float32]) -> float:
        """Milliseconds from a recorded turn, float32 [n] at 16 kHz, to the first token of its reply."""
        checkpoint, chat, began = self._checkpoint, self._checkpoint.chat, perf_counter()
        heard = self._speech.transcribe(Transcribe(object(), turn, prosody=True))
        tokens = checkpoint.heard_ids(heard.tokens)
        vectors = enough_vectors(heard.vectors, len(tokens), checkpoint.fusion) if heard.vectors.size else None
        opening, reply = ([Row(token) for token in ids] for ids in (chat.user_open(), chat.reply_open()))
        embeds = checkpoint.backbone.embed([*opening, *user_rows(tokens, vectors, checkpoint.fusion), *reply])[None]
        seen = torch.ones(embeds.shape[:2], dtype=torch.long, device=embeds.device)
        out = checkpoint.backbone.model.generate(
            inputs_embeds=embeds, attention_mask=seen, do_sample=False, max_new_tokens=1, pad_token_id=chat.turn_end_id
        )
        int(out[0, -1])  # waits for the device
        return (perf_counter() - began) * 1000
