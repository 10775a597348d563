"""When was a token said? Word times from the CTC head's greedy path, decided causally.

The greedy path of a block-causal encoder is a list of spikes that only grows. A token takes the first spike of its id
among the next `LOOK_AHEAD` spikes; when those are there and none fits, it takes the time of the first of them without
using it up. So a decided time depends on nothing later than the spikes that decided it, and streaming and offline agree.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LOOK_AHEAD = 3
PENDING = -1


def spikes(best: NDArray[np.int64], blank: int) -> list[tuple[int, int]]:
    """(frame, id) wherever the greedy path `best` [frames] begins another token."""
    before = np.concatenate([[blank], best[:-1]]) if len(best) else best
    return [(int(frame), int(best[frame])) for frame in np.flatnonzero((best != blank) & (best != before))]


def token_frames(path: Sequence[tuple[int, int]], tokens: Sequence[int]) -> list[int]:
    """The frame of each token, or PENDING from the first token on that the spikes do not decide yet, [n_tokens]."""
    frames: list[int] = []
    at = 0
    for token in tokens:
        window = path[at : at + LOOK_AHEAD]
        found = next((index for index, (_, spike) in enumerate(window) if spike == token), None)
        if found is not None:
            frames.append(window[found][0])
            at += found + 1
        elif len(window) == LOOK_AHEAD:
            frames.append(window[0][0])
        else:
            break
    return frames + [PENDING] * (len(tokens) - len(frames))


def final_token_frames(path: Sequence[tuple[int, int]], tokens: Sequence[int], n_frames: int) -> list[int]:
    """As `token_frames` once the audio has ended: what is undecided lies at the next spike or at the end, [n_tokens]."""
    frames: list[int] = []
    at = 0
    for token in tokens:
        window = path[at : at + LOOK_AHEAD]
        found = next((index for index, (_, spike) in enumerate(window) if spike == token), None)
        if found is not None:
            frames.append(window[found][0])
            at += found + 1
        else:
            frames.append(window[0][0] if window else max(n_frames - 1, 0))
    return frames


def word_end_frames(frames: Sequence[int], starts_word: Sequence[bool]) -> list[int]:
    """For each token the frame of the last token of its word, [n_tokens]; `starts_word` marks first tokens of words."""
    ends = list(frames)
    for index in range(len(ends) - 2, -1, -1):
        if not starts_word[index + 1]:
            ends[index] = ends[index + 1]
    return ends
