"""The second synthesizer: its words and times are kept, a run goes on, and training draws from it."""

import random

import numpy as np
import pytest

from requirements import require_program
from textpro.models.errors import InputError
from textpro.training import festival
from textpro.training.festival import speak_corpus
from textpro.training.speech_corpus import Speech
from textpro.training.stored_speech import StoredSpeech


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    require_program("festival")
    folder = tmp_path_factory.mktemp("festival")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(festival, "SHARD", 12)
        speak_corpus(folder, 20, 1, lambda done: None)
    return folder


def test_sentences_come_with_the_times_of_their_words(corpus):
    stored = StoredSpeech.read(corpus)
    assert len(stored.utterances) > 12
    for pcm, words, starts, ends in stored.utterances:
        assert len(words) == len(starts) == len(ends)
        assert all(0 <= start < end <= len(pcm) for start, end in zip(starts, ends, strict=True))
        assert list(ends) == sorted(ends)
        inside = np.abs(pcm[starts[0] : ends[-1]].astype(float)).mean()
        assert inside > 5 * np.abs(pcm[: max(starts[0] - 800, 1)].astype(float)).mean()


def test_a_second_run_speaks_only_what_is_missing(corpus, monkeypatch):
    monkeypatch.setattr(festival, "SHARD", 12)
    before = {path: path.stat().st_mtime_ns for path in corpus.iterdir()}
    speak_corpus(corpus, 20, 1, lambda done: None)
    assert {path: path.stat().st_mtime_ns for path in corpus.iterdir()} == before


def test_a_longer_utterance_keeps_its_words_in_place(corpus):
    stored = StoredSpeech.read(corpus)
    plain, slow = stored.draw(random.Random(3), 1.0), stored.draw(random.Random(3), 1.2)
    assert slow.words == plain.words
    assert len(slow.samples) == pytest.approx(1.2 * len(plain.samples), rel=0.01)
    assert slow.ends[-1] == pytest.approx(1.2 * plain.ends[-1], abs=2)


def test_training_draws_a_share_of_its_sentences_from_it(corpus):
    stored = StoredSpeech.read(corpus)
    speech = Speech(5, stored=[stored])
    texts = {words for _, words, _, _ in stored.utterances}
    drawn = [speech.one() for _ in range(150)]
    share = sum(one.words in texts and one.tone is None for one in drawn) / len(drawn)
    assert 0.08 < share < 0.3


def test_an_empty_folder_says_what_to_run(tmp_path):
    with pytest.raises(InputError, match="train festival"):
        StoredSpeech.read(tmp_path)
