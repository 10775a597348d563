"""Our loop over the encoder's layers is the library's encoder at the trained length, and a Whisper of that length at a shorter
one; a window is used only where its measured word error rate allows it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperModel

from small_pair import PLAIN_TOKENS, example_audio, write_whisper
from textpro.evaluation.streaming_trace import Spoken
from textpro.evaluation.streaming_windows import WindowResult, measure_windows, shortest_allowed
from textpro.models.errors import CheckpointError
from textpro.models.pair import load_full_whisper
from textpro.models.whisper_decoding import Transcribe
from textpro.models.whisper_encoder import WINDOWS_S, encode, window_samples
from textpro.models.whisper_full import FullSettings, FullWhisper

HAPPY = example_audio("lost_keys_happy.wav")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Whisper of 30 s."""
    place = tmp_path_factory.mktemp("whisper")
    write_whisper(place, window_s=30, special=PLAIN_TOKENS)
    return place


@pytest.fixture(scope="module")
def speech(folder: Path) -> FullWhisper:
    return load_full_whisper(folder)


def with_window(speech: FullWhisper, seconds: int | None) -> FullWhisper:
    return FullWhisper(
        speech.model, speech.tokenizer, speech.extractor, replace(speech.settings, encoder_window_s=seconds)
    )  # fmt: skip


@pytest.mark.parametrize("activation", ["gelu", "relu"])
@torch.inference_mode()
def test_at_thirty_seconds_the_states_are_those_of_the_stock_encoder(activation: str) -> None:
    torch.manual_seed(4)
    config = WhisperConfig(
        vocab_size=50, num_mel_bins=80, d_model=32, encoder_layers=3, decoder_layers=1, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, activation_function=activation,
        pad_token_id=0, bos_token_id=0, eos_token_id=0, decoder_start_token_id=1,
    )  # fmt: skip
    encoder = WhisperModel(config).eval().encoder
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    features = torch.from_numpy(WhisperFeatureExtractor()(HAPPY, sampling_rate=16_000)["input_features"])
    assert features.shape[-1] == 3_000
    torch.testing.assert_close(encode(encoder, features), encoder(features).last_hidden_state, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("seconds", WINDOWS_S)
@torch.inference_mode()
def test_a_shorter_window_is_a_whisper_of_that_length(folder: Path, speech: FullWhisper, seconds: int) -> None:
    """The oracle is transformers' encoder of a model whose position table ends there."""
    weights = dict(speech.model.state_dict())
    table = "model.encoder.embed_positions.weight"
    weights[table] = weights[table][: 50 * seconds]
    config = WhisperConfig.from_pretrained(folder, max_source_positions=50 * seconds)
    short = WhisperForConditionalGeneration(config).eval()
    short.load_state_dict(weights)
    features = WhisperFeatureExtractor(chunk_length=seconds)(HAPPY, sampling_rate=16_000, return_tensors="pt").input_features
    expected = short.model.encoder(features).last_hidden_state
    found = with_window(speech, seconds).encode(HAPPY)
    assert found.shape == (1, 50 * seconds, 32)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_without_a_measured_window_the_trained_one_is_used(speech: FullWhisper) -> None:
    assert speech.settings.encoder_window_s is None and speech.encode(HAPPY).shape[1] == 1_500
    assert with_window(speech, 5).transcribe(Transcribe(object(), HAPPY)).tokens
    long = np.concatenate([HAPPY, HAPPY, HAPPY])
    assert 5 * 16_000 < len(long) < 15 * 16_000 and with_window(speech, 5).encode(long).shape[1] in (500, 750)


@given(n=st.integers(0, 480_000), shortest=st.sampled_from(WINDOWS_S), trained=st.sampled_from([160_000, 480_000]))
def test_the_window_holds_the_audio_and_is_the_least_that_is_allowed(n: int, shortest: int, trained: int) -> None:
    n = min(n, trained)
    window = window_samples(n, shortest, trained)
    assert n <= window <= trained and (window == trained or window >= shortest * 16_000)
    shorter = [one * 16_000 for one in WINDOWS_S if one >= shortest and one * 16_000 < window]
    assert all(one < n for one in shorter)


def test_a_window_that_there_is_not_is_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="encoder_window_s 7: expected one of"):
        load_full_whisper(folder, FullSettings(encoder_window_s=7))


def result(window_s: int, wer: float, trained: float = 0.10) -> WindowResult:
    return WindowResult(window_s, 10, wer, trained, 1.0, 2.0)


def test_a_window_is_allowed_when_it_and_every_longer_one_costs_at_most_half_a_point() -> None:
    assert shortest_allowed([result(15, 0.10), result(10, 0.104), result(5, 0.80)]) == 10
    assert shortest_allowed([result(5, 0.10), result(15, 0.2), result(10, 0.10)]) is None
    assert shortest_allowed([result(15, 0.05), result(10, 0.05), result(5, 0.105)]) == 5
    assert shortest_allowed([]) is None


def test_each_window_is_measured_on_what_fits_beside_the_trained_one(speech: FullWhisper) -> None:
    spoken = [Spoken(np.tile(HAPPY, times)[: 16_000 * seconds], ("lost", "keys"), (0, 1), (1, 2))
              for times, seconds in ((1, 3), (3, 7), (5, 12))]  # fmt: skip
    done = list[int]()
    results = measure_windows(speech, spoken, done.append)
    assert [(one.window_s, one.utterances) for one in results] == [(15, 3), (10, 2), (5, 1)]
    assert sum(done) == 4 * len(spoken) and all(one.wer > 0 and one.seconds > 0 for one in results)
