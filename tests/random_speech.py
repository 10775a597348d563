"""A chunked WhisperPro of random weights that says much, noise to say it about, and its offline way in transformers' layers,
which shares the loop guard with the streaming one and no more."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch

from textpro.models.alignment import final_token_frames, spikes, word_end_frames
from textpro.models.speech_stream import StreamingWhisperPro
from textpro.models.whisperpro import WhisperPro, WhisperProConfig, prosody_visible
from textpro.streaming.guards import without_loop
from textpro.streaming.mel import HOP_SAMPLES, WINDOW_SAMPLES, log_mel
from textpro.streaming.recognizer import Recognizer

CONFIG = WhisperProConfig(
    vocab_size=40, d_model=32, encoder_layers=2, decoder_layers=3, ffn_dim=48, block_frames=4, max_frames=64, max_tokens=30,
    max_prompt=6,
)  # fmt: skip
STARTS_WORD = [index % 3 != 0 for index in range(40)]


@cache
def random_speech() -> StreamingWhisperPro:
    torch.manual_seed(16)
    model = WhisperPro(CONFIG)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    with torch.no_grad():
        model.whisper.encoder.layer_norm.weight.fill_(1)  # a CTC head of many spikes and some blanks: words get times
        model.ctc.weight.mul_(4)
        model.ctc.bias[CONFIG.pad] = 4
        for layer in model.whisper.decoder.layers:  # drafts that often stay while audio comes
            layer.encoder_attn.out_proj.weight.mul_(0.3)
    return StreamingWhisperPro(model)


def recognizer(speech: StreamingWhisperPro | None = None, starts_word: Sequence[bool] = STARTS_WORD, **settings) -> Recognizer:
    speech = speech or random_speech()

    async def run(item):
        with torch.inference_mode():
            (result,) = speech.run([item])
        if isinstance(result, Exception):
            raise result
        return result

    return Recognizer(run, speech.config, starts_word, **settings)


def noise(seed: int, n: int) -> np.ndarray:
    """Noise whose level changes every 1,000 samples, [n]."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(n) * np.repeat(rng.random(n // 1000 + 1), 1000)[:n]).astype(np.float32)


def doubt(logs: Sequence[tuple[float, float]]) -> float:
    """Of log-probabilities of tokens, each beside that of the end in its place: what is compared with the logarithm of the
    threshold under which something was said."""
    return logs[0][1] - 0.2 * min(len(logs), 23) * float(np.mean([said for said, _ in logs]))


@torch.inference_mode()
def offline(
    samples: np.ndarray,
    prompt: tuple[int, ...] = (),
    speech: StreamingWhisperPro | None = None,
    starts_word: Sequence[bool] = STARTS_WORD,
) -> tuple[tuple[int, ...], np.ndarray]:
    """Tokens and vectors [n, dim] of decoding samples once, behind a prompt, with masks over the whole utterance."""
    model = (speech or random_speech()).model
    config = model.config
    mel = log_mel(np.pad(samples, (WINDOW_SAMPLES - HOP_SAMPLES, -len(samples) % HOP_SAMPLES)))
    if len(mel) % 2:
        mel = np.concatenate([mel, mel[-1:]])
    frames = torch.tensor([len(mel) // 2])
    if not int(frames):
        return (), np.zeros((0, config.d_model), np.float32)
    states = model.encode(torch.from_numpy(mel.T.copy())[None], frames)
    prefix = [config.start_of_previous, *prompt, config.start_of_transcript] if prompt else [config.start_of_transcript]
    text, logs = list[int](), list[tuple[float, float]]()
    for _ in range(min(config.max_tokens, int(12 * int(frames) * config.frame_samples / 16_000) + 8)):
        ids = torch.tensor([[*prefix, *text]])
        hidden = model.decode(ids, states, frames[:, None].expand(1, ids.shape[1]))
        scores = model.token_logits(hidden[0, -1]).log_softmax(-1)
        best = int(scores.argmax())
        if best == config.end_of_text:
            break
        text.append(best)
        logs.append((float(scores[best]), float(scores[config.end_of_text])))
    if logs and config.no_speech_threshold is not None and doubt(logs) >= np.log(config.no_speech_threshold):
        text = []
    text = list(without_loop(text))
    path = spikes(model.ctc(states)[0].argmax(-1).numpy(), config.pad)
    ends = word_end_frames(final_token_frames(path, text, int(frames)), [starts_word[token] for token in text])
    seen = prosody_visible(torch.tensor([[*[0] * len(prefix), *ends]]), frames, config.block_frames)
    vectors = model.decode(torch.tensor([[*prefix, *text]]), states, seen, config.prosody_layer)[0, len(prefix) :]
    return tuple(text), vectors.numpy()
