"""Training with several processes: the same weights everywhere, from the mean of all gradients."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

from textpro.training.team import ALONE, OTHER_BATCHES, Team

MEMBER = """
import sys, torch
from pathlib import Path
from textpro.training.team import join_team
team = join_team()
torch.set_num_threads(1)
torch.manual_seed(1)
model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
unused = torch.nn.Parameter(torch.ones(2))
torch.manual_seed(team.data_seed(5))
inputs = torch.randn(6, 3)
model(inputs).square().mean().backward()
if team.is_first:
    unused.grad = torch.full((2,), 3.0)
team.average_gradients([*model.parameters(), unused])
team.wait()
torch.save([p.grad for p in [*model.parameters(), unused]], Path(sys.argv[1]) / f"{team.rank}.pt")
"""


def test_every_process_gets_the_gradient_of_all_batches_together(tmp_path: Path):
    member = tmp_path / "member.py"
    member.write_text(MEMBER)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(member), str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    batches = []
    for rank in (0, 1):
        torch.manual_seed(5 + rank * OTHER_BATCHES)
        batches.append(torch.randn(6, 3))
    model(torch.cat(batches)).square().mean().backward()
    expected = [*(parameter.grad for parameter in model.parameters()), torch.full((2,), 1.5)]
    for one, other, both in zip(first, second, expected, strict=True):
        assert torch.equal(one, other)
        torch.testing.assert_close(one, both)


def test_a_process_alone_changes_nothing():
    parameter = nn.Parameter(torch.ones(2))
    ALONE.average_gradients([parameter])
    ALONE.wait()
    assert parameter.grad is None and ALONE.is_first and ALONE.data_seed(7) == 7
    assert not Team(1, 2).is_first
