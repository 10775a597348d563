"""WhisperPro, chunked: Whisper's layers under a block-causal mask, a CTC head, and prosody that is final.

The parameters live in `transformers.WhisperModel`, so any Whisper tool reads them. What differs from stock Whisper is
what may look where: convolutions see only the past, an encoder frame sees its own block and the blocks before it, and
the prosody of a token comes from a pass through the first `prosody_layer` decoder layers in which the token's
cross-attention ends one block after the block its word ends in. So whatever has been computed for a block or a token
never changes when more audio comes. This file holds the whole-utterance form, used in training and offline;
`speech_stream.py` computes the same piece by piece. WhisperPro: arXiv 2605.05927.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import WhisperConfig, WhisperModel

TONES = ("plain", "happy", "sad", "angry")


@dataclass(frozen=True, slots=True)
class WhisperProConfig:
    """Sizes of a chunked WhisperPro. One encoder frame is two mel frames (40 ms at the bundled hop of 20 ms)."""

    vocab_size: int
    d_model: int = 192
    encoder_layers: int = 4
    decoder_layers: int = 3
    heads: int = 4
    ffn_dim: int = 768
    n_mels: int = 80
    hop_ms: int = 20
    block_frames: int = 8  # encoder frames in a block: 320 ms
    max_frames: int = 384  # encoder frames in the window: 15.36 s
    max_tokens: int = 96  # text tokens in a turn
    max_prompt: int = 48  # tokens carried over from a cut
    prosody_layer: int = 2  # decoder layers that the prosody of a token has passed
    no_speech_threshold: float | None = None  # how likely, beside the tokens, saying nothing must be to be taken (guards.py)
    end_of_text: int = 0
    pad: int = 1
    start_of_transcript: int = 2
    start_of_previous: int = 3
    kind: str = "chunked"

    def to_dict(self) -> dict[str, object]:
        """What `config.json` holds."""
        return asdict(self)

    @property
    def frame_samples(self) -> int:
        """16 kHz samples of one encoder frame."""
        return 2 * self.hop_ms * 16

    @property
    def block_samples(self) -> int:
        """16 kHz samples of one block."""
        return self.block_frames * self.frame_samples

    def whisper(self) -> WhisperConfig:
        """The configuration of the Whisper model that holds the parameters."""
        return WhisperConfig(
            vocab_size=self.vocab_size,
            num_mel_bins=self.n_mels,
            d_model=self.d_model,
            encoder_layers=self.encoder_layers,
            decoder_layers=self.decoder_layers,
            encoder_attention_heads=self.heads,
            decoder_attention_heads=self.heads,
            encoder_ffn_dim=self.ffn_dim,
            decoder_ffn_dim=self.ffn_dim,
            max_source_positions=self.max_frames,
            max_target_positions=self.max_prompt + 2 + self.max_tokens + 2,
            pad_token_id=self.pad,
            bos_token_id=self.start_of_transcript,
            eos_token_id=self.end_of_text,
            decoder_start_token_id=self.start_of_transcript,
            suppress_tokens=None,
            begin_suppress_tokens=None,
            dropout=0.0,
        )


class WhisperPro(nn.Module):
    """Recognizer and prosody encoder. `tone` reads a coarse label off the mean prosody vector."""

    def __init__(self, config: WhisperProConfig) -> None:
        super().__init__()
        self.config = config
        self.whisper = WhisperModel(config.whisper())
        self.ctc = nn.Linear(config.d_model, config.vocab_size)  # `pad` is the blank
        self.tone = nn.Linear(config.d_model, len(TONES))

    def initialize(self) -> None:
        """Weights for training from scratch: wider than Whisper's own 0.02, which at this size starves the attention."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
            elif isinstance(module, nn.Conv1d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.normal_(self.whisper.decoder.embed_tokens.weight, std=self.config.d_model**-0.5)

    def stem(self, mel: Tensor) -> Tensor:
        """Causal convolutions: mel [batch, n_mels, 2 * frames] to [batch, frames, dim], without positions."""
        encoder = self.whisper.encoder
        hidden = F.gelu(F.conv1d(F.pad(mel, (2, 0)), encoder.conv1.weight, encoder.conv1.bias))
        hidden = F.gelu(F.conv1d(F.pad(hidden, (1, 0)), encoder.conv2.weight, encoder.conv2.bias, stride=2))
        return hidden.transpose(1, 2)

    def encode(self, mel: Tensor, lengths: Tensor) -> Tensor:
        """Encoder states [batch, frames, dim] of mel [batch, n_mels, 2 * frames]; `lengths` in encoder frames, [batch]."""
        encoder = self.whisper.encoder
        hidden = self.stem(mel)
        frames = hidden.shape[1]
        hidden = hidden + encoder.embed_positions.weight[:frames]
        mask = block_causal_mask(frames, self.config.block_frames, lengths)
        for layer in encoder.layers:
            hidden = _hidden(layer(hidden, attention_mask=mask))
        return encoder.layer_norm(hidden)

    def decode(self, tokens: Tensor, states: Tensor, visible: Tensor, layers: int | None = None) -> Tensor:
        """Decoder states [batch, n_tokens, dim] with teacher-forced tokens [batch, n_tokens].

        `states` are the encoder's, [batch, frames, dim]; `visible` says how many of its frames each position may see,
        [batch, n_tokens]. With `layers`, the states after that many layers, without the final norm.
        """
        decoder = self.whisper.decoder
        length = tokens.shape[1]
        hidden = decoder.embed_tokens(tokens) + decoder.embed_positions.weight[:length]
        causal = torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril()[None, None]
        cross = (torch.arange(states.shape[1], device=tokens.device) < visible[..., None])[:, None]
        for layer in decoder.layers[:layers]:
            hidden = _hidden(
                layer(
                    hidden,
                    attention_mask=causal,
                    encoder_hidden_states=states,
                    encoder_attention_mask=cross,
                    use_cache=False,
                )
            )
        return decoder.layer_norm(hidden) if layers is None else hidden

    def token_logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next token, [..., vocab]; the output matrix is the embedding, as in Whisper."""
        return F.linear(hidden, self.whisper.decoder.embed_tokens.weight)


def block_causal_mask(frames: int, block_frames: int, lengths: Tensor) -> Tensor:
    """[batch, 1, frames, frames], True where a frame may look: its own block and the ones before, inside the length."""
    block = torch.arange(frames, device=lengths.device) // block_frames
    causal = block[:, None] >= block[None, :]
    inside = torch.arange(frames, device=lengths.device)[None, :] < lengths[:, None].clamp(min=1)
    return (causal[None] & inside[:, None, :])[:, None]


def prosody_visible(word_end_frames: Tensor, lengths: Tensor, block_frames: int) -> Tensor:
    """Encoder frames that a token's prosody may see, [batch, n_tokens]: to one block after its word's last block.

    `word_end_frames` is the encoder frame in which the token's word ends, [batch, n_tokens]; `lengths` [batch].
    """
    visible = (word_end_frames // block_frames + 2) * block_frames
    return torch.minimum(visible, lengths[:, None]).clamp(min=1)


def _hidden(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    """Layers of some transformers releases give a tuple."""
    return output if isinstance(output, Tensor) else output[0]
