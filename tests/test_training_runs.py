"""What training runs share: a run that is started again goes on from its state, at the rates of its present settings."""

from pathlib import Path

import pytest
import torch
from torch import nn

from textpro.models.errors import InputError
from textpro.training.runs import average, optimizers, resume, save


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


def test_the_mean_of_two_runs_has_the_mean_of_their_weights_and_is_a_run_itself(tmp_path: Path):
    models = [nn.Linear(3, 2) for _ in range(2)]
    for name, model in zip("ab", models, strict=True):
        (tmp_path / name).mkdir()
        save(tmp_path / name, {"model": model}, 5)
    average([(tmp_path / "a", 3.0), (tmp_path / "b", 1.0)], tmp_path / "mean")
    mean = nn.Linear(3, 2)
    assert resume(tmp_path / "mean", {"model": mean}) == 5
    first, second = (model.weight for model in models)
    torch.testing.assert_close(mean.weight, 0.75 * first + 0.25 * second)


def test_an_average_of_different_models_or_of_one_is_refused(tmp_path: Path):
    for name, size in (("a", 2), ("b", 3)):
        (tmp_path / name).mkdir()
        save(tmp_path / name, {"model": nn.Linear(3, size)}, 5)
    with pytest.raises(InputError, match="differ in names or shapes"):
        average([(tmp_path / "a", 1.0), (tmp_path / "b", 1.0)], tmp_path / "mean")
    with pytest.raises(InputError, match="two runs or more"):
        average([(tmp_path / "a", 1.0)], tmp_path / "mean")
    with pytest.raises(InputError, match="above 0"):
        average([(tmp_path / "a", float("nan")), (tmp_path / "b", 1.0)], tmp_path / "mean")
    with pytest.raises(InputError, match=r"holds no checkpoint\.pt"):
        average([(tmp_path / "a", 1.0), (tmp_path / "c", 1.0)], tmp_path / "mean")
    with pytest.raises(InputError, match="is a run already"):
        average([(tmp_path / "a", 1.0), (tmp_path / "a", 1.0)], tmp_path / "a")
    assert not (tmp_path / "mean").exists()
