"""The offline way, by plain transformers: what a turn's tokens, prosody vectors, input rows and reply have to be.

Uses the checkpoint's weights in transformers' own layers with masks over the whole utterance, and `generate` on the whole
input; nothing of the streaming code but the log-mel of a piece of audio and the CTC word-time rule that defines the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from textpro.models.alignment import final_token_frames, spikes, word_end_frames
from textpro.models.checkpoint import load_checkpoint
from textpro.models.whisperpro import WhisperPro, prosody_visible
from textpro.streaming.guards import without_loop
from textpro.streaming.mel import HOP_SAMPLES, WINDOW_SAMPLES, log_mel


@dataclass(frozen=True)
class OfflineTurn:
    tokens: tuple[int, ...]
    vectors: NDArray[np.float32]  # [n_tokens, dim]


class Offline:
    """A second, plain copy of a checkpoint."""

    def __init__(self, folder: Path) -> None:
        checkpoint = load_checkpoint(folder)
        self.chat, self.fusion = checkpoint.chat, checkpoint.fusion
        self.speech: WhisperPro = checkpoint.speech.model
        self.projector = checkpoint.backbone.projector
        self.tokenizer: PreTrainedTokenizerFast = checkpoint.tokenizer
        self.model = AutoModelForCausalLM.from_pretrained(folder / "backbone", dtype=torch.float32)
        pieces = self.tokenizer.convert_ids_to_tokens(list(range(len(self.tokenizer))))
        self.starts_word = [piece.startswith("\u0120") for piece in pieces]

    @torch.inference_mode()
    def recognize(self, samples: NDArray[np.float32]) -> OfflineTurn:
        """Greedy decoding from scratch of samples [n] at 16 kHz, then the final prosody of each token."""
        config = self.speech.config
        padded = np.pad(samples, (WINDOW_SAMPLES - HOP_SAMPLES, -len(samples) % HOP_SAMPLES))
        mel = log_mel(padded)
        if len(mel) % 2:
            mel = np.concatenate([mel, mel[-1:]])
        frames = torch.tensor([len(mel) // 2])
        states = self.speech.encode(torch.from_numpy(mel.T)[None], frames)
        tokens, logs = [config.start_of_transcript], list[tuple[float, float]]()
        while len(tokens) <= config.max_tokens:
            visible = frames[:, None].expand(1, len(tokens))
            hidden = self.speech.decode(torch.tensor([tokens]), states, visible)
            scores = self.speech.token_logits(hidden[0, -1]).log_softmax(-1)
            best = int(scores.argmax())
            if best == config.end_of_text:
                break
            logs.append((float(scores[best]), float(scores[config.end_of_text])))
            tokens.append(best)
        if logs and config.no_speech_threshold:
            said, nothing = np.array(logs)[:, 0].mean(), logs[0][1]
            if nothing - 0.2 * min(len(logs), 23) * said >= np.log(config.no_speech_threshold):
                tokens = tokens[:1]
        text = list(without_loop(tokens[1:]))
        path = spikes(self.speech.ctc(states)[0].argmax(-1).numpy(), config.pad)
        ends = final_token_frames(path, text, int(frames))
        ends = word_end_frames(ends, [self.starts_word[token] for token in text])
        seen = prosody_visible(torch.tensor([[0, *ends]]), frames, config.block_frames)
        vectors = self.speech.decode(torch.tensor([tokens]), states, seen, config.prosody_layer)[0, 1:]
        return OfflineTurn(tuple(text), vectors.numpy())

    def embed_turn(self, turn: OfflineTurn) -> Tensor:
        """Rows of the user's words: a projected mean vector before each five tokens, [rows, hidden]."""
        table, rows = self.model.get_input_embeddings().weight, []
        for start in range(0, len(turn.tokens), 5):
            mean = torch.from_numpy(turn.vectors[start : start + 5].mean(0))
            weights = self.projector
            hidden = torch.nn.functional.gelu(weights.w1 @ mean + weights.b1)
            rows.append(weights.w2 @ hidden + weights.b2)
            rows += list(table[list(turn.tokens[start : start + 5])])
        return torch.stack(rows)

    @torch.inference_mode()
    def reply(self, turn: OfflineTurn, max_tokens: int) -> tuple[list[int], float]:
        """Greedy reply ids by `generate`, and the smallest gap between the best two scores on the way."""
        table = self.model.get_input_embeddings().weight
        before, after = list(self.chat.user_open()), list(self.chat.reply_open())
        embeds = torch.cat([table[before], self.embed_turn(turn), table[after]])[None]
        out = self.model.generate(
            inputs_embeds=embeds,
            attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long),
            do_sample=False,
            max_new_tokens=max_tokens,
            eos_token_id=self.chat.turn_end_id,
            pad_token_id=self.chat.turn_end_id,
            output_scores=True,
            return_dict_in_generate=True,
        )
        gaps = [float(scores[0].topk(2).values.diff().abs()) for scores in out.scores]
        return out.sequences[0].tolist(), min(gaps)
