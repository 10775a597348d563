"""What training runs share: a run that is started again goes on from its state, at the rates of its present settings."""

from pathlib import Path

import torch
from torch import nn

from textpro.training.runs import optimizers, resume, save


def test_a_run_goes_on_from_its_state_at_the_rates_of_its_settings(tmp_path: Path):
    model = nn.Linear(4, 4)
    muon, adam = optimizers([model.weight], [model.bias], 5e-3, 2e-3)
    model(torch.ones(4)).sum().backward()
    muon.step()
    adam.step()
    save(tmp_path, {"model": model, "muon": muon, "adam": adam}, 7)

    again = nn.Linear(4, 4)
    slower = optimizers([again.weight], [again.bias], 1e-3, 4e-4)
    assert resume(tmp_path, {"model": again, "muon": slower[0], "adam": slower[1]}) == 7
    assert torch.equal(again.weight, model.weight)
    assert [group["full_lr"] for one in slower for group in one.param_groups] == [1e-3, 4e-4]
    momenta = [one.state[parameter] for one, parameter in zip(slower, (again.weight, again.bias), strict=True)]
    assert momenta[0]["momentum_buffer"].any() and momenta[1]["exp_avg"].any()
