"""When each token of a full Whisper was spoken: cross-attention and dynamic time warping as transformers does it for
`return_token_timestamps`, in one parallel pass over tokens that are known already. Only for checkpoints whose generation settings
name `alignment_heads`, as the published ones of OpenAI do. The warping is the library's and runs in plain Python: 20 tokens over
4 s take some 20 ms, 60 over 10 s a few hundred; call it where nobody waits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import WhisperForConditionalGeneration

SAMPLE_RATE = 16_000
MEL_FRAME_SAMPLES = 160


@dataclass(frozen=True, slots=True)
class _Attended:
    """What the library's function reads of the outputs of `generate`: one step with all rows."""

    cross_attentions: tuple[tuple[Tensor, ...]]
    sequences: Tensor

    def __contains__(self, name: str) -> bool:
        return False  # no beams


def knows_times(model: WhisperForConditionalGeneration) -> bool:
    """Whether the checkpoint says which heads follow the audio."""
    return bool(getattr(model.generation_config, "alignment_heads", None))


@torch.inference_mode()
def token_ends(
    model: WhisperForConditionalGeneration, states: Tensor, prompt: Sequence[int], tokens: Sequence[int], n_samples: int
) -> NDArray[np.int64]:
    """Where each of `tokens`, generated behind `prompt`, ends, in samples of the window; not decreasing, the last one at the
    end of the audio. `states` [1, frames, dim] of the encoder, of which `n_samples` at 16 kHz are audio. Ask `knows_times`
    before."""
    if not tokens:
        return np.zeros(0, np.int64)
    ids = torch.tensor([[*prompt, *tokens]], device=states.device)
    with _eager(model):
        out: Any = model.model.decoder(input_ids=ids, encoder_hidden_states=states, use_cache=False, output_attentions=True)
    generation: Any = model.generation_config
    attended = _Attended((tuple(layer.float() for layer in out.cross_attentions),), ids)
    extract: Any = model._extract_token_timestamps
    frames = max(2, n_samples // MEL_FRAME_SAMPLES)
    seconds = extract(attended, generation.alignment_heads, num_frames=frames, num_input_ids=len(prompt))[0, len(prompt) :]
    starts = np.round(seconds.double().cpu().numpy() * SAMPLE_RATE).astype(np.int64)
    ends = np.append(starts[1 : len(tokens)], n_samples)
    return np.minimum(np.maximum.accumulate(ends), n_samples)


@contextmanager
def _eager(model: WhisperForConditionalGeneration) -> Iterator[None]:
    """The attention that gives its weights away, for a moment."""
    known = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(known)
