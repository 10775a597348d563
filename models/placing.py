"""A loaded checkpoint on another device. The recognizer keeps fp32 there, so that its words stay those of plain transformers to
the token; the backbone takes the precision that is asked for. The bundled, chunked recognizer computes on the CPU and stays.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from .checkpoint import Checkpoint
from .errors import DeviceError, InputError
from .whisper_full import FullWhisper

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def place(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> Checkpoint:
    """The checkpoint with its backbone and projector on `device` in `dtype`, and a full recognizer there in fp32. The modules
    are moved, so the given checkpoint is used up. DeviceError without such a device or room on it."""
    backbone, speech = checkpoint.backbone, checkpoint.speech
    try:
        if isinstance(speech, FullWhisper):
            speech = speech.moved(device)
        backbone = backbone.moved(device, dtype)
    except (RuntimeError, AssertionError) as error:  # torch's own for a device that is absent or full
        raise DeviceError(f"the model does not go to {device} ({error}): use the CPU, or free memory there") from error
    return replace(checkpoint, backbone=backbone, speech=speech)


def place_by_name(checkpoint: Checkpoint, device: str) -> Checkpoint:
    """The checkpoint on the device of that name ("cpu", "cuda", "cuda:1"), in bfloat16 on a GPU. "auto": on a GPU where torch
    sees one and the recognizer can use it (a full one). InputError for a name that is none, DeviceError as `place`."""
    if device == "auto":
        chosen = likely_device() if isinstance(checkpoint.speech, FullWhisper) else torch.device("cpu")
    else:
        try:
            chosen = torch.device(device)
        except RuntimeError as error:
            raise InputError(f"device {device!r} is none that torch knows: expected auto, cpu, cuda or cuda:1") from error
    if chosen == checkpoint.backbone.device:
        return checkpoint
    return place(checkpoint, chosen, torch.float32 if chosen.type == "cpu" else torch.bfloat16)


def likely_device() -> torch.device:
    """The GPU where torch sees one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
