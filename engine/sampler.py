"""From logits to tokens: greedy, temperature, top-p (nucleus sampling, Holtzman et al. 2020). There is no
generator to carry along and none to rewind: the random number of a draw is a function of the session's
seed and the token's position (Philox, a counter-based generator), read off the cumulative distribution. So
a reply that was rolled back and is sampled again from the same context comes out the same, on any device
and beside any neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..models.backbone import upload
from ..models.errors import InputError


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen: `temperature` 0 is greedy; `top_p` keeps the smallest set of tokens with that
    much mass."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature < float("inf"):
            raise InputError(f"temperature must be 0 (greedy) or more, got {self.temperature}")
        if not 0.0 < self.top_p <= 1.0:
            raise InputError(f"top_p must be above 0 and at most 1, got {self.top_p}")
        if not 0 <= self.seed < 2**64:
            raise InputError(f"seed must be within 0..2**64-1, got {self.seed}")


GREEDY = Sampling()


@dataclass(frozen=True, slots=True)
class Draw:
    """A chosen token and its log-probability in the model's own distribution (before temperature and top-p).

    `logprob` is NaN when the logits were not finite: the caller must not use the token.
    """

    token_id: int
    logprob: float


def uniform(seed: int, position: int) -> float:
    """The random number in [0, 1) that belongs to a position of a seeded session."""
    return float(np.random.Generator(np.random.Philox(key=seed, counter=position)).random())


def sample(logits: Tensor, samplings: Sequence[Sampling], positions: Sequence[int]) -> list[Draw]:
    """Choose one token a row. logits [rows, vocab]; `positions` are those the tokens will take in their
    logs. Waits for a GPU once, for the tokens."""
    logits = logits.float()
    chosen = logits.argmax(-1)
    drawn = [row for row, sampling in enumerate(samplings) if sampling.temperature > 0]
    if drawn:
        rows = upload(drawn, logits.device)
        settings = [
            (samplings[row].temperature, samplings[row].top_p, uniform(samplings[row].seed, positions[row])) for row in drawn
        ]
        temperatures, top_p, numbers = upload(settings, logits.device, torch.float64).split(1, dim=1)  # [drawn, 1] each
        chosen[rows] = _nucleus(logits[rows].double(), temperatures, top_p, numbers)
    logprobs = logits.gather(-1, chosen.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)
    pairs = torch.stack((chosen.double(), logprobs.double())).tolist()
    return [Draw(int(token), logprob) for token, logprob in zip(*pairs, strict=True)]


def _nucleus(logits: Tensor, temperatures: Tensor, top_p: Tensor, numbers: Tensor) -> Tensor:
    """Token ids [rows]: where `numbers` [rows, 1] falls in the cumulative mass of the most likely tokens
    up to `top_p`."""
    below_best = logits - logits.amax(-1, keepdim=True)  # so that a tiny temperature ends in greedy, not in infinities
    ordered, order = (below_best / temperatures).softmax(-1).sort(dim=-1, descending=True, stable=True)
    mass = ordered.cumsum(-1)
    kept = (mass - ordered < top_p).sum(-1, keepdim=True).clamp_min(1)
    target = numbers * mass.gather(-1, kept - 1)
    place = torch.minimum((mass <= target).sum(-1, keepdim=True), kept - 1)
    return order.gather(-1, place).squeeze(-1)
