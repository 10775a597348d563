"""Where prosody stands between text tokens: the rows of a user's words as the backbone reads them.

Used wherever such rows are made (training, offline, streaming), so the layout is written down once. With
`fixed` grouping group g holds tokens and vectors g * ratio to g * ratio + ratio - 1, so a complete group
never changes when more words come; `array_split` spreads the vectors evenly over the text's groups (our
reading of the released models, arXiv 2605.05927), so no group is final before the turn ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .errors import CheckpointError, InputError
from .tokens import MARKER, RESERVED

Mode = Literal["interleaving", "global", "none"]
Grouping = Literal["fixed", "array_split"]
FloatArray = NDArray[np.float32]
Vectors = FloatArray | NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Fusion:
    """How a checkpoint mixes prosody with text: a marker before each `ratio` tokens, before all, or none."""

    mode: Mode = "interleaving"
    ratio: int = 5
    grouping: Grouping = "fixed"
    marker_id: int = RESERVED.index(MARKER)

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode) or self.grouping not in get_args(Grouping) or self.ratio < 1:
            raise CheckpointError(
                f"fusion {self.mode!r}, ratio {self.ratio}, grouping {self.grouping!r}: expected a mode of "
                f"{get_args(Mode)}, a ratio of at least 1 and a grouping of {get_args(Grouping)}"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], marker_id: int) -> Fusion:
        """Read the `fusion` entry of `textpro_config.json`."""
        unknown = set(values) - {"mode", "ratio", "grouping"}
        if unknown:
            raise CheckpointError(f"fusion holds unknown settings {sorted(unknown)}: expected mode, ratio, grouping")
        return cls(**values, marker_id=marker_id)

    def to_dict(self) -> dict[str, Any]:
        """The `fusion` entry of `textpro_config.json`; the marker is named there by its token."""
        return {name: value for name, value in asdict(self).items() if name != "marker_id"}

    @property
    def final_group(self) -> int | None:
        """Tokens after which a group is final while the turn goes on; None where none is before the turn's
        end."""
        return self.ratio if self.mode == "interleaving" and self.grouping == "fixed" else None


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One row of input: a text token, or the marker with its group's mean prosody vector [feature_dim]."""

    token_id: int
    vector: FloatArray | None = None


def user_rows(tokens: Sequence[int], vectors: Vectors | None, fusion: Fusion) -> list[Row]:
    """Rows for `tokens` and their prosody `vectors` [n_vectors, feature_dim]; None (typed text) means no
    markers.

    Equal numbers of tokens and vectors are needed for `fixed`; else at least one vector for each group. The
    last group may be incomplete. Raises InputError where the numbers do not fit.
    """
    if vectors is None or fusion.mode == "none" or not len(tokens):
        return [Row(int(token)) for token in tokens]
    size = len(tokens) if fusion.mode == "global" else fusion.ratio
    starts = range(0, len(tokens), size)
    rows: list[Row] = []
    for start, group in zip(starts, _grouped(vectors, len(tokens), len(starts), fusion), strict=True):
        rows.append(Row(fusion.marker_id, group.mean(0, dtype=np.float32)))
        rows += [Row(int(token)) for token in tokens[start : start + size]]
    return rows


def turn_vectors(segments: Sequence[Sequence[FloatArray]], fusion: Fusion) -> list[FloatArray]:
    """The prosody vectors [feature_dim] of a turn that was recognized in segments: all of them in order, for `global` the
    mean of each segment, so that the segments count equally in its one marker, as in the released 30Plus models."""
    if fusion.mode != "global":
        return [vector for segment in segments for vector in segment]
    return [np.mean(segment, axis=0, dtype=np.float32) for segment in segments if len(segment)]


def enough_vectors(vectors: FloatArray, n_tokens: int, fusion: Fusion) -> FloatArray:
    """`vectors` [n_vectors, feature_dim], repeated in their order where `array_split` would leave a group of the
    `n_tokens` text tokens without one: a recognizer of another tokenizer may write the words in fewer tokens."""
    n_groups = -(-n_tokens // fusion.ratio)
    if fusion.mode != "interleaving" or fusion.grouping == "fixed" or not 0 < len(vectors) < n_groups:
        return vectors
    return vectors[np.arange(n_groups) * len(vectors) // n_groups]


def _grouped(vectors: Vectors, n_tokens: int, n_groups: int, fusion: Fusion) -> Sequence[Vectors]:
    if fusion.mode == "interleaving" and fusion.grouping == "fixed":
        if len(vectors) != n_tokens:
            raise InputError(
                f"{len(vectors)} prosody vectors for {n_tokens} tokens: fixed grouping needs one for each; "
                "use array_split where recognizer and backbone have different tokenizers"
            )
        return [vectors[start : start + fusion.ratio] for start in range(0, n_tokens, fusion.ratio)]
    if len(vectors) < n_groups:
        raise InputError(f"{len(vectors)} prosody vectors for {n_groups} groups of tokens: expected one for each or more")
    groups: list[Any] = np.array_split(vectors, n_groups)
    return groups
