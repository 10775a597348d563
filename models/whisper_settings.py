"""What has been found out about a Whisper checkpoint and is kept beside it in `textpro_config.json`: the heads that follow the
audio and the shortest window of its encoder. `textpro-agent models align` and `models windows` write it; whatever else stands
in the file stays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .errors import CheckpointError
from .released_files import read_json
from .whisper_full import FullSettings

CONFIG = "textpro_config.json"
HEADS, WINDOW = "alignment_heads", "encoder_window_s"


def with_stored(folder: Path, settings: FullSettings | None = None) -> FullSettings:
    """`settings` completed by what the folder of a Whisper stores; what they say themselves stays. CheckpointError for values
    that cannot be."""
    settings, stored = settings or FullSettings(), read_json(folder / CONFIG)
    heads, window = stored.get(HEADS, []), stored.get(WINDOW)
    if not (isinstance(heads, list) and all(_is_pair(head) for head in heads)) or not (window is None or type(window) is int):
        raise CheckpointError(
            f"{folder / CONFIG} has {HEADS} {heads!r} and {WINDOW} {window!r}: expected pairs of a layer and a head, and whole "
            "seconds; take them out or find them anew with `textpro-agent models align` and `models windows`"
        )
    return replace(
        settings,
        alignment_heads=settings.alignment_heads or tuple((layer, head) for layer, head in heads),
        encoder_window_s=window if settings.encoder_window_s is None else settings.encoder_window_s,
    )


def store(folder: Path, values: Mapping[str, Any]) -> Path:
    """Write values beside what the folder's file holds already; returns the file. CheckpointError where it cannot be written."""
    file = folder / CONFIG
    text = json.dumps({**read_json(file), **values}, indent=2) + "\n"
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"{file} cannot be written ({error}): copy the folder to a place of your own") from error
    return file


def _is_pair(head: object) -> bool:
    return isinstance(head, list) and len(head) == 2 and all(type(number) is int for number in head)
