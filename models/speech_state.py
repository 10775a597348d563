"""What the chunked WhisperPro has computed of one turn.

Nothing that is final is computed twice: encoder keys and values, encoder states, cross-attention keys and values and
prosody states are appended to buffers, and rolling back lowers a number. A block that is not complete yet is provisional:
the next Encode of the turn drops it and encodes it whole.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from .alignment import spikes
from .whisperpro import WhisperProConfig


class SpeechStream:
    """What has been computed of one turn. `frames` encoder frames are there, of which `final_frames` will not change."""

    def __init__(self, config: WhisperProConfig) -> None:
        self.config = config
        heads, dim = config.heads, config.d_model // config.heads
        positions = config.max_prompt + 2 + config.max_tokens + 2
        self.mel = torch.zeros(config.n_mels, 0)
        self.frames = self.final_frames = 0
        self.encoder_keys = torch.empty(config.encoder_layers, heads, config.max_frames, dim)
        self.encoder_values = torch.empty_like(self.encoder_keys)
        self.cross_keys = torch.empty(config.decoder_layers, heads, config.max_frames, dim)
        self.cross_values = torch.empty_like(self.cross_keys)
        self.ctc_best: NDArray[np.int64] = np.zeros(config.max_frames, np.int64)
        self.self_keys = torch.empty(config.decoder_layers, heads, positions, dim)
        self.self_values = torch.empty_like(self.self_keys)
        self.prosody_keys = torch.empty(config.prosody_layer, heads, positions, dim)
        self.prosody_values = torch.empty_like(self.prosody_keys)
        self.prosody_length = 0

    def path(self) -> list[tuple[int, int]]:
        """The CTC head's spikes so far: (frame, token id)."""
        return spikes(self.ctc_best[: self.frames], self.config.pad)

    def drop_provisional(self) -> None:
        """Forget the incomplete block; speech goes on and it will be encoded whole."""
        self.frames = self.final_frames
        self.mel = self.mel[:, : 2 * self.final_frames]

    def keep_prosody(self, positions: int) -> None:
        """Forget the prosody states from decoder position `positions` on."""
        self.prosody_length = min(self.prosody_length, positions)
