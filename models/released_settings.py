"""How a released checkpoint mixes prosody with text, from what its JSON files say, what a caller says, and what the paper
says where both are silent (arXiv 2605.05927). The names of the settings in the files are not known, so several spellings
are read; a wrong value would make the model silently worse, hence two sources that differ are refused, and every value
carries where it came from, for reports.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

from tokenizers import Tokenizer

from .errors import CheckpointError
from .fusion import Fusion, Grouping, Mode
from .released_files import read_json
from .whisper_full import ProsodyAt

CONFIG_FILES = ("textpro_config.json", "config.json")
TOKENIZER = "tokenizer.json"
MARKER_TOKEN, RATIO, LAYER = "<|repo_name|>", 5, 16
PAPER, OURS, OPTION = "the paper", "our reading of the paper", "option"

_SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "mode": ("fusion_mode", "fusion_type", "fusion_strategy", "prosody_fusion", "prosody_mode", "fusion", "mode"),
    "ratio": ("ratio", "text_ratio", "interleave_ratio", "interleaving_ratio", "tokens_per_group", "text_tokens_per_group",
              "group_size"),
    "grouping": ("grouping",),
    "marker_token": ("marker_token", "prosody_token", "prosody_marker", "prosody_placeholder", "placeholder_token"),
    "marker_id": ("marker_id", "marker_token_id", "prosody_token_id", "prosody_marker_id", "prosody_placeholder_id",
                  "placeholder_token_id"),
    "prosody_layer": ("prosody_layer", "feature_layer", "prosody_feature_layer", "decoder_layer_index"),
    "prosody_at": ("prosody_at",),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class FusionOptions:
    """What a caller knows about a checkpoint; None leaves it to the files, then to the paper.

    `prosody_layer` counts as `hidden_states` does: 0 are the embeddings, n the states after n decoder layers.
    """

    mode: Mode | None = None
    ratio: int | None = None
    grouping: Grouping | None = None
    marker_token: str | None = None
    marker_id: int | None = None
    prosody_layer: int | None = None
    prosody_at: ProsodyAt | None = None


@dataclass(frozen=True, slots=True)
class ReleasedSettings:
    """The settings in effect; `origins` says for each where it came from."""

    fusion: Fusion
    marker_token: str
    prosody_layer: int
    prosody_at: ProsodyAt
    origins: Mapping[str, str]


def read_settings(folder: Path, options: FusionOptions, decoder_layers: int) -> ReleasedSettings:
    """The settings of the checkpoint in `folder`, whose tokenizer has to know the marker.

    CheckpointError where sources differ, where nobody says the mode, and for values that cannot be.
    """
    found: dict[str, tuple[Any, str]] = {}
    for file in CONFIG_FILES:
        for name, value, place in _said(read_json(folder / file), file):
            _agree(found, name, value, place)
    for field in fields(options):
        if (value := getattr(options, field.name)) is not None:
            _agree(found, field.name, value, OPTION)
    if "mode" not in found:
        raise CheckpointError(
            f"{folder} does not say how prosody is fused: expected a fusion_mode in {CONFIG_FILES[0]}; say it as an option, "
            "interleaving or global"
        )
    found.setdefault("ratio", (RATIO, PAPER))
    found.setdefault("grouping", ("array_split", OURS))
    found.setdefault("prosody_layer", (LAYER, OURS))
    found.setdefault("prosody_at", ("predicts", OURS))
    marker_id, marker_token = _marker(folder, found)
    values = {name: value for name, (value, _) in found.items()}
    layer, at = values["prosody_layer"], values["prosody_at"]
    if not isinstance(layer, int) or not 0 < layer <= decoder_layers or at not in get_args(ProsodyAt):
        raise CheckpointError(
            f"prosody_layer {layer!r} ({found['prosody_layer'][1]}), prosody_at {at!r} ({found['prosody_at'][1]}): expected a "
            f"layer from 1 to {decoder_layers}, the decoder's number, and predicts or reads; give them as options"
        )
    fusion = Fusion(values["mode"], values["ratio"], values["grouping"], marker_id)
    return ReleasedSettings(fusion, marker_token, layer, at, {name: origin for name, (_, origin) in found.items()})


def open_tokenizer(folder: Path) -> Tokenizer:
    """The folder's `tokenizer.json`. CheckpointError where it is missing or broken."""
    file = folder / TOKENIZER
    if not file.is_file():
        raise CheckpointError(
            f"{file} is missing: expected the tokenizer as the release has it; a slow one becomes it by "
            "transformers' AutoTokenizer.from_pretrained(...).save_pretrained(...)"
        )
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises plain Exception
        raise CheckpointError(f"{file} is no tokenizer ({error}): fetch it again") from error


def _said(values: Mapping[str, Any], file: str) -> Iterator[tuple[str, Any, str]]:
    """Settings that a file states, at its top or one level down, as (setting, value, place)."""
    levels = {"": values, **{f"{key}.": value for key, value in values.items() if isinstance(value, dict)}}
    for head, level in levels.items():
        for name, spellings in _SPELLINGS.items():
            for spelling in spellings:
                value = level.get(spelling)
                if value is not None and not isinstance(value, dict):
                    setting = "marker_id" if name == "marker_token" and isinstance(value, int) else name
                    yield setting, _plain(setting, value), f"{head}{spelling} in {file}"


def _plain(setting: str, value: Any) -> Any:
    """The value in this project's words."""
    text = str(value).lower()
    if setting == "mode":
        named = {"interleav": "interleaving", "global": "global", "prepend": "global", "none": "none"}
        return next((mode for part, mode in named.items() if part in text), value)
    if setting in ("ratio", "prosody_layer", "marker_id"):
        digits = text.removesuffix(":1")
        return int(digits) if digits.isdecimal() else value
    return value


def _agree(found: dict[str, tuple[Any, str]], name: str, value: Any, place: str) -> None:
    known, where = found.setdefault(name, (value, place))
    if known != value:
        raise CheckpointError(f"{name} is {known!r} by {where} and {value!r} by {place}: expected the same; take one of them out")


def _marker(folder: Path, found: dict[str, tuple[Any, str]]) -> tuple[int, str]:
    """Id and text of the marker; what is not said follows from the tokenizer."""
    tokenizer = open_tokenizer(folder)
    if "marker_id" not in found:
        token, origin = found.setdefault("marker_token", (MARKER_TOKEN, PAPER))
        found["marker_id"] = (tokenizer.token_to_id(str(token)), f"the tokenizer, for {origin}")
    marker_id, place = found["marker_id"]
    token = tokenizer.id_to_token(marker_id) if isinstance(marker_id, int) and marker_id >= 0 else None
    said, origin = found.setdefault("marker_token", (token, f"the tokenizer, for {place}"))
    if token is None or token != said:
        raise CheckpointError(
            f"the prosody marker is {said!r} ({origin}) with id {marker_id!r} ({place}), and {folder / TOKENIZER} has "
            f"{token!r} there: expected one token of it; name it by marker_token or marker_id"
        )
    return marker_id, str(token)
