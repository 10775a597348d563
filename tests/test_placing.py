"""Where a model computes: what `Runtime(device=...)` makes of names."""

import pytest
import torch

from textpro.models import placing
from textpro.models.errors import InputError
from textpro.models.named import open_model
from textpro.models.placing import place_by_name
from textpro.models.random_models import FixedLengthWhisper, open_random


def test_the_bundled_model_stays_on_the_cpu_by_itself(monkeypatch):
    monkeypatch.setattr(placing, "likely_device", lambda: torch.device("cuda"))
    checkpoint = open_model("tiny")
    assert place_by_name(checkpoint, "auto") is checkpoint


def test_another_device_takes_the_backbone_there_in_bfloat16():
    moved = place_by_name(open_model("tiny"), "meta")
    assert (moved.backbone.device.type, moved.backbone.dtype) == ("meta", torch.bfloat16)


def test_a_name_that_is_no_device_is_refused_with_those_that_are():
    with pytest.raises(InputError, match="expected auto, cpu, cuda"):
        place_by_name(open_model("tiny"), "gpu please")


def test_a_full_recognizer_goes_along_with_all_that_it_computes_with():
    moved = place_by_name(open_random("random:mini", device="cpu"), "meta").speech
    assert isinstance(moved, FixedLengthWhisper)
    kept = [moved.model.device, moved._passes._device, moved._decoder._suppressed.device]
    assert {device.type for device in kept} == {"meta"}
