"""The plain way to a turn's words, prosody and reply, beside which `verify` puts this project's: transformers' own modules and
`generate` over the whole utterance and the whole input. The weights are those that were loaded; nothing of the engine, of the
streaming code or of the packed attention is used, only the log-mel and the word-time rule that define the bundled model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..models.alignment import final_token_frames, spikes, word_end_frames
from ..models.backbone import ATTENTION_NAME
from ..models.checkpoint import Checkpoint
from ..models.fusion import Fusion
from ..models.whisper_full import FullWhisper
from ..models.whisperpro import prosody_visible
from ..streaming.clock import SAMPLE_RATE
from ..streaming.guards import is_noise, without_loop
from ..streaming.mel import HOP_SAMPLES, WINDOW_SAMPLES, log_mel, mel_filters

FloatArray = NDArray[np.float32]
PlainRow = int | FloatArray
"""A token, or the mean prosody vector [feature_dim] that its marker carries."""


@dataclass(frozen=True, slots=True, eq=False)
class PlainTurn:
    """A turn by plain transformers: the recognizer's tokens and their prosody vectors [n_tokens, feature_dim]."""

    tokens: tuple[int, ...]
    vectors: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class PlainReply:
    """Greedy reply tokens, and the scores [vocab] from which each was taken."""

    tokens: tuple[int, ...]
    scores: tuple[Tensor, ...]


def plain_turn(checkpoint: Checkpoint, samples: FloatArray) -> PlainTurn:
    """Recognize a whole turn, samples [n] at 16 kHz."""
    with torch.inference_mode():
        if isinstance(checkpoint.speech, FullWhisper):
            return _full_turn(checkpoint.speech, samples)
        return _chunked_turn(checkpoint, samples)


def plain_user_rows(ids: Sequence[int], vectors: FloatArray, fusion: Fusion) -> list[PlainRow]:
    """The user's words as the backbone has to read them: `ids` with a mean vector before each group."""
    if fusion.mode == "none" or not ids:
        return list(ids)
    size = len(ids) if fusion.mode == "global" else fusion.ratio
    groups = [ids[start : start + size] for start in range(0, len(ids), size)]
    if fusion.final_group:
        parts = [vectors[start : start + size] for start in range(0, len(ids), size)]
    else:
        enough = vectors if len(vectors) >= len(groups) else vectors[np.arange(len(groups)) * len(vectors) // len(groups)]
        parts = np.array_split(enough, len(groups))
    return [row for part, group in zip(parts, groups, strict=True) for row in (part.mean(0), *group)]


def plain_reply(checkpoint: Checkpoint, rows: Sequence[PlainRow], max_tokens: int) -> PlainReply:
    """Greedy `generate` on the embedded rows, to the end of the turn or `max_tokens`."""
    backbone = checkpoint.backbone
    with torch.inference_mode(), _transformers_attention(backbone.model) as model:
        embeds = torch.stack([_embedded(checkpoint, row) for row in rows])[None]
        out = model.generate(
            inputs_embeds=embeds,
            attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long, device=embeds.device),
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            repetition_penalty=1.0,
            max_new_tokens=max_tokens,
            eos_token_id=checkpoint.chat.turn_end_id,
            pad_token_id=checkpoint.chat.turn_end_id,
            output_logits=True,
            return_dict_in_generate=True,
        )
    return PlainReply(tuple(out.sequences[0].tolist()), tuple(scores[0].float() for scores in out.logits))


@contextmanager
def _transformers_attention(model: Any) -> Iterator[Any]:
    """The model with transformers' attention for as long as the engine does not need it."""
    model.set_attn_implementation("sdpa")
    try:
        yield model
    finally:
        model.set_attn_implementation(ATTENTION_NAME)


def _embedded(checkpoint: Checkpoint, row: PlainRow) -> Tensor:
    backbone = checkpoint.backbone
    if isinstance(row, int | np.integer):
        return backbone.embedding[int(row)]
    weights = backbone.projector
    assert weights is not None, "a model without a projector writes no vectors"
    vector = torch.tensor(row).to(weights.w1)
    return F.linear(F.gelu(F.linear(vector, weights.w1, weights.b1)), weights.w2, weights.b2)


def _full_turn(speech: FullWhisper, samples: FloatArray) -> PlainTurn:
    model: Any = speech.model
    features = speech.extractor(samples, sampling_rate=SAMPLE_RATE, return_tensors="pt")["input_features"]
    features = features.to(model.device, model.dtype)
    speaks_many = bool(getattr(model.generation_config, "lang_to_id", None))
    named = {"language": speech.settings.language, "task": "transcribe"} if speaks_many else {}
    out = model.generate(
        features,
        do_sample=False,
        num_beams=1,
        max_new_tokens=speech.token_limit(len(samples)),
        output_hidden_states=True,
        return_dict_in_generate=True,
        force_unique_generate_call=True,
        **named,
    )
    steps = len(out.decoder_hidden_states)
    ids, prompt = out.sequences[0, -steps:].tolist(), out.sequences[0, :-steps]
    ends = model.generation_config.eos_token_id
    if ids and ids[-1] in (ends if isinstance(ends, list) else [ends]):
        ids = ids[:-1]
    layer, vectors = speech.settings.prosody_layer, np.zeros((len(ids), 0), np.float32)
    if layer is not None and speech.settings.prosody_at == "predicts":
        states = [step[layer][0, -1].float().cpu() for step in out.decoder_hidden_states[: len(ids)]]
        vectors = torch.stack(states).numpy() if states else np.zeros((0, speech.feature_dim), np.float32)
    elif layer is not None:
        whole = torch.cat([prompt, prompt.new_tensor(ids)])[None]
        hidden = model(features, decoder_input_ids=whole, output_hidden_states=True).decoder_hidden_states[layer]
        vectors = hidden[0, len(prompt) :].float().cpu().numpy()
    reserved = set(speech.tokenizer.get_added_vocab().values())
    kept = np.array([token not in reserved for token in ids], bool)
    return PlainTurn(tuple(token for token in ids if token not in reserved), vectors[kept])


def _chunked_turn(checkpoint: Checkpoint, samples: FloatArray) -> PlainTurn:
    speech: Any = checkpoint.chunked.model
    config = speech.config
    samples = samples[: config.max_frames * config.frame_samples]
    padded = np.pad(samples, (WINDOW_SAMPLES - HOP_SAMPLES, -len(samples) % HOP_SAMPLES))
    mel = log_mel(padded, mel_filters(config.n_mels))
    if len(mel) % 2:
        mel = np.concatenate([mel, mel[-1:]])
    frames = torch.tensor([len(mel) // 2])
    states = speech.encode(torch.from_numpy(mel.T)[None], frames)
    tokens, probabilities, no_speech = [config.start_of_transcript], list[float](), 0.0
    while len(tokens) <= config.max_tokens:
        hidden = speech.decode(torch.tensor([tokens]), states, frames[:, None].expand(1, len(tokens)))
        following = speech.token_logits(hidden[0, -1]).softmax(-1)
        no_speech = float(following[config.end_of_text]) if not probabilities else no_speech
        best = int(following.argmax())
        if best == config.end_of_text:
            break
        probabilities.append(float(following[best]))
        tokens.append(best)
    if is_noise(no_speech, probabilities, config.no_speech_threshold):
        tokens = tokens[:1]
    text = list(without_loop(tokens[1:]))
    pieces = checkpoint.tokenizer.convert_ids_to_tokens(text)
    ends = final_token_frames(spikes(speech.ctc(states)[0].argmax(-1).numpy(), config.pad), text, int(frames))
    ends = word_end_frames(ends, [piece.startswith("\u0120") for piece in pieces])
    seen = prosody_visible(torch.tensor([[0, *ends]]), frames, config.block_frames)
    vectors = speech.decode(torch.tensor([tokens]), states, seen, config.prosody_layer)[0, 1:]
    return PlainTurn(tuple(text), vectors.numpy())
