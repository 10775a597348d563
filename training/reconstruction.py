"""The added decoder of WhisperPro: rebuilds the log-mel from text tokens and their final prosody vectors.

It keeps pitch, loudness, tempo and timbre in those vectors: what the words alone do not tell has to come through them.
Each frame gets the token spoken there, its prosody and how far into the token it lies; convolutions smooth over the
seams. Training only; left out of the checkpoint. WhisperPro: arXiv 2605.05927 (inputs of its decoder are not published).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ReconstructionDecoder(nn.Module):
    """`dim` is the recognizer's width, `outputs` the features of one encoder frame."""

    def __init__(self, dim: int, outputs: int, width: int = 160) -> None:
        super().__init__()
        self.text = nn.Linear(dim, width)
        self.prosody = nn.Linear(dim, width)
        self.silence = nn.Parameter(torch.zeros(width))
        self.place = nn.Linear(2, width)
        self.smooth = nn.Sequential(
            nn.GELU(), nn.Conv1d(width, width, 5, padding=2), nn.GELU(), nn.Conv1d(width, outputs, 3, padding=1)
        )

    def forward(self, embeddings: Tensor, prosody: Tensor, token_of_frame: Tensor) -> Tensor:
        """Features [batch, frames, outputs] from two [batch, n_tokens, dim] and the token of each frame [batch, frames]."""
        spoken = token_of_frame >= 0
        index = token_of_frame.clamp(min=0)[..., None]
        per_token = self.text(embeddings) + self.prosody(prosody)
        hidden = per_token.gather(1, index.expand(-1, -1, per_token.shape[-1]))
        hidden = torch.where(spoken[..., None], hidden, self.silence)
        hidden = hidden + self.place(_place(token_of_frame))
        return self.smooth(hidden.transpose(1, 2)).transpose(1, 2)


def _place(token_of_frame: Tensor) -> Tensor:
    """How many frames lie between a frame and its token's first and last one, scaled, [batch, frames, 2]."""
    frames = token_of_frame.shape[1]
    position = torch.arange(frames, device=token_of_frame.device).expand_as(token_of_frame)
    change = torch.ones_like(token_of_frame, dtype=torch.bool)
    change[:, 1:] = token_of_frame[:, 1:] != token_of_frame[:, :-1]
    first = torch.where(change, position, 0).cummax(1).values
    last_change = torch.ones_like(change)
    last_change[:, :-1] = change[:, 1:]
    last = torch.where(last_change, position, frames).flip(1).cummin(1).values.flip(1)
    return torch.stack([position - first, last - position], -1).float() / 8
