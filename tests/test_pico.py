"""The third synthesizer: its words get their times from a recognizer, by the likeliest path through what is known."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from requirements import require_module
from textpro.models.checkpoint import load_checkpoint
from textpro.models.named import model_folder
from textpro.training.pico import ctc_alignment, speak_corpus, word_times
from textpro.training.speech_corpus import Speech
from textpro.training.stored_speech import StoredSpeech

BLANK = 0


@pytest.fixture(scope="module")
def tiny():
    return load_checkpoint(model_folder("tiny"))


def test_words_of_espeak_are_found_where_espeak_says_they_end(tiny):
    """At the median within two of the encoder's frames of 40 ms, nine in ten within a quarter of a second."""
    speech, off = Speech(77), []
    for _ in range(15):
        spoken = speech.say()
        pcm = (np.clip(spoken.samples, -1, 1) * 32767).astype(np.int16)
        tokens = [tiny.tokenizer.encode(" " + word) for word in spoken.words]
        found = word_times(tiny.chunked.model, pcm, spoken.words, tokens)
        assert [word for word, _, _ in found] == list(spoken.words)
        assert all(start < end for _, start, end in found) and found[-1][2] == len(pcm)
        off += [end - true for (_, _, end), true in zip(found[:-1], spoken.ends, strict=False)]
    assert np.median(np.abs(off)) < 0.08 * 16_000
    assert np.percentile(np.abs(off), 90) < 0.25 * 16_000


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_no_other_path_through_the_tokens_is_likelier(data):
    """Against torch's own CTC: all paths together are as likely as it says, and the best of them is ours."""
    tokens = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    repeats = sum(one == other for one, other in pairwise(tokens))
    frames = data.draw(st.integers(len(tokens) + repeats, 7))
    scores = torch.randn(frames, 4, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 999)))).log_softmax(-1)
    best, total = -math.inf, 0.0
    for number in range(4**frames):
        path = [number // 4**frame % 4 for frame in range(frames)]
        begins = [frame for frame in range(frames) if path[frame] and (frame == 0 or path[frame] != path[frame - 1])]
        if [path[frame] for frame in begins] != tokens:
            continue
        likely = float(scores[range(frames), path].sum())
        total += math.exp(likely)
        if likely > best:
            best, expected = likely, begins
    loss = F.ctc_loss(scores[:, None], torch.tensor([tokens]), [frames], [len(tokens)], BLANK, reduction="sum")
    assert math.isclose(-math.log(total), float(loss), rel_tol=1e-4)
    assert ctc_alignment(scores.numpy(), tokens, BLANK) == expected


def test_too_few_frames_are_said():
    with pytest.raises(ValueError, match="3 tokens do not fit into 4 frames"):
        ctc_alignment(np.zeros((4, 2), np.float32), [1, 1, 1], BLANK)


def test_pico_speaks_sentences_whose_words_have_times(tmp_path):
    require_module("ttspico")
    speak_corpus(tmp_path, 8, 1, model_folder("tiny"), lambda done: None)
    stored = StoredSpeech.read(tmp_path)
    assert len(stored.utterances) == 8
    for pcm, words, starts, ends in stored.utterances:
        assert len(words) == len(starts) and list(ends) == sorted(ends) and ends[-1] == len(pcm)
        assert 0.1 * 16_000 < len(pcm) / len(words) < 1.5 * 16_000
