"""What the recognizer hears for the corpus: greedy text in few passes, final prosody, shards that are made
once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from small_checkpoint import small_tokenizer
from textpro.models.alignment import final_token_frames, spikes, word_end_frames
from textpro.models.whisperpro import WhisperPro, WhisperProConfig, prosody_visible
from textpro.training import slm_data
from textpro.training.slm_data import Recognition, read_shards, recognize_corpus
from textpro.training.transcribe import greedy, transcribe

TOKENIZER = small_tokenizer()


@pytest.fixture(scope="module")
def model() -> WhisperPro:
    torch.manual_seed(5)
    config = WhisperProConfig(len(TOKENIZER), 32, 1, 2, 2, 32, max_tokens=10, prosody_layer=1)
    model = WhisperPro(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.25)
    return model.eval().requires_grad_(False)


def features(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(count)
    sizes = rng.integers(3, 40, count)
    return [rng.standard_normal((2 * size, 80)).astype(np.float32) for size in sizes]


def one_by_one(model: WhisperPro, mel: np.ndarray) -> tuple[list[int], torch.Tensor]:
    """Greedy text token by token and prosody, for one utterance without padding."""
    config, frames = model.config, len(mel) // 2
    states = model.encode(torch.from_numpy(mel.T)[None], torch.tensor([frames]))
    tokens = [config.start_of_transcript]
    while len(tokens) <= config.max_tokens:
        visible = torch.full((1, len(tokens)), frames)
        scores = model.token_logits(model.decode(torch.tensor([tokens]), states, visible))[0, -1]
        if int(scores.argmax()) == config.end_of_text:
            break
        tokens.append(int(scores.argmax()))
    path = spikes(model.ctc(states)[0].argmax(-1).numpy(), config.pad)
    starts = [piece.startswith("\u0120") for piece in TOKENIZER.convert_ids_to_tokens(tokens[1:])]
    ends = [0, *word_end_frames(final_token_frames(path, tokens[1:], frames), starts)]
    visible = prosody_visible(torch.tensor([ends]), torch.tensor([frames]), config.block_frames)
    return tokens[1:], model.decode(torch.tensor([tokens]), states, visible, config.prosody_layer)[0, 1:]


def test_a_batch_is_heard_as_each_utterance_alone(model):
    mels = features(9)
    for mel, (tokens, vectors) in zip(mels, transcribe(model, TOKENIZER, mels), strict=True):
        text, prosody = one_by_one(model, mel)
        assert list(tokens) == text
        np.testing.assert_allclose(vectors, prosody.numpy(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("draft", [[], [7], [40] * 10, list(range(30, 60))])
def test_no_draft_changes_the_text(model, draft):
    mel = features(1)[0]
    text, _ = one_by_one(model, mel)
    frames = torch.tensor([len(mel) // 2])
    states = model.encode(torch.from_numpy(mel.T)[None], frames)
    for start in (draft, text, text[1:], [*text, 50], [*text[:2], 44, *text[2:]]):
        assert greedy(model, states, frames, [start]) == [text]


def test_shards_hold_what_was_heard_and_are_made_once(model, tmp_path, monkeypatch):
    monkeypatch.setattr(slm_data, "trained_whisperpro", lambda _: model)
    run, corpus = tmp_path / "run", tmp_path / "corpus"
    TOKENIZER.save_pretrained(run)
    monkeypatch.setattr(slm_data, "CUT_SHARE", 1.0)
    recognize_corpus(corpus, 5, Recognition(run, shard_dialogues=3, worker=1, workers=2))
    assert [file.name for file in corpus.glob("*.npz")] == ["train-0001.npz"]
    recognize_corpus(corpus, 5, Recognition(run, shard_dialogues=3))
    assert sorted(file.name for file in corpus.glob("*.npz")) == ["train-0000.npz", "train-0001.npz"]
    made = [file.stat().st_mtime_ns for file in sorted(corpus.glob("*.npz"))]
    recognize_corpus(corpus, 5, Recognition(run, shard_dialogues=3))
    assert made == [file.stat().st_mtime_ns for file in sorted(corpus.glob("*.npz"))]
    items = read_shards(corpus, "train")
    assert 0 < len(items) <= 5
    for item in items:
        users = [*item.said, *(cut for cut in item.cuts if cut is not None)]
        assert all(user.vectors.shape == (len(user.tokens), 32) and user.tokens for user in users)
        assert all(user.complete for user in item.said)
        assert not any(cut.complete for cut in item.cuts if cut is not None)
    assert any(cut is not None for item in items for cut in item.cuts)
    assert _lines(corpus / "train-0.csv") == 2


def _lines(file: Path) -> int:
    return len(file.read_text().splitlines())
