"""Several processes that train one model, each on its own batches:
`torchrun --no-python --nproc-per-node 2 textpro-agent train ...`.

Gradients are averaged over the team before each step, so all hold the same weights; the first alone logs and saves. On
a CPU, one process with one thread on each core is far faster than one process with as many threads (docs/training.md).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed
from torch import nn

OTHER_BATCHES = 1_000_003
"""Added to the seed of the data for each further process."""


@dataclass(frozen=True, slots=True)
class Team:
    """Which of how many processes this is."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this one logs, measures and saves."""
        return self.rank == 0

    def data_seed(self, seed: int) -> int:
        """A seed of this process's own batches."""
        return seed + self.rank * OTHER_BATCHES

    def wait(self) -> None:
        """Until all others wait as well."""
        if self.size > 1:
            torch.distributed.barrier()

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Put the mean over the team into every `grad`; one that a batch did not touch counts as zero."""
        if self.size == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        torch.distributed.all_reduce(flat)
        flat /= self.size
        for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))


ALONE = Team()


def join_team() -> Team:
    """The team that torchrun started, or a team of one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")
    return Team(torch.distributed.get_rank(), torch.distributed.get_world_size())
