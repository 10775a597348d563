"""A Whisper folder says what `generate` says: ids, prompt, suppressed tokens, decoder states; nothing for no speech."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from small_pair import FEATURES, PLAIN_TOKENS, PlainWhisper, example_audio, write_whisper
from textpro.models.errors import CapacityError, CheckpointError, EngineError
from textpro.models.pair import load_full_whisper
from textpro.models.whisper_decoding import Transcribe
from textpro.models.whisper_full import FullSettings, FullWhisper, Transcribed

SAD, HAPPY = example_audio("lost_keys_sad.wav"), example_audio("lost_keys_happy.wav")
ENDS_ITSELF, CUT_BY_THE_LIMIT = HAPPY, SAD  # with the weights of `write_whisper`


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("whisper")
    write_whisper(place)
    return place


@pytest.fixture(scope="module")
def plain(folder) -> PlainWhisper:
    return PlainWhisper(folder)


def transcribe(speech: FullWhisper, samples: np.ndarray, prosody: bool = False) -> Transcribed:
    (result,) = speech.run([Transcribe(object(), samples, prosody)])
    if isinstance(result, Exception):
        raise result
    assert isinstance(result, Transcribed)
    return result


@pytest.mark.parametrize("language", ["en", "German", None])
def test_tokens_are_those_of_generate(folder, plain, language):
    speech = load_full_whisper(folder, FullSettings(language))
    stopped_by_the_limit = set()
    for samples in (SAD[:4_000], CUT_BY_THE_LIMIT, ENDS_ITSELF):
        limit = speech.token_limit(len(samples))
        expected, _ = plain.generate(samples, limit, language=language, task="transcribe")
        found = transcribe(speech, samples)
        assert list(found.tokens) == expected and expected
        assert found.vectors.shape == (len(expected), 0)
        assert speech.text(found.tokens) == plain.tokenizer.decode(expected, skip_special_tokens=True)
        stopped_by_the_limit.add(len(expected) == limit)
    if language == "en":
        assert stopped_by_the_limit == {True, False}, "else only one way to stop was compared"


def test_an_english_only_whisper_of_128_bins_has_no_language_in_its_prompt(tmp_path):
    write_whisper(tmp_path, n_mels=128, window_s=30, special=PLAIN_TOKENS)
    for language in (None, "en"):
        speech = load_full_whisper(tmp_path, FullSettings(language))
        expected, _ = PlainWhisper(tmp_path).generate(HAPPY, speech.token_limit(len(HAPPY)))
        assert list(transcribe(speech, HAPPY).tokens) == expected and expected
    with pytest.raises(CheckpointError, match="does not know the language 'de'"):
        load_full_whisper(tmp_path, FullSettings("de"))


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_prosody_vectors_are_the_states_that_generate_collects(folder, plain, layer):
    speech = load_full_whisper(folder, FullSettings("en", layer))
    for samples in (CUT_BY_THE_LIMIT, ENDS_ITSELF):
        limit = speech.token_limit(len(samples))
        ids, states = plain.generate(samples, limit, layer, language="en", task="transcribe")
        found = transcribe(speech, samples, prosody=True)
        assert list(found.tokens) == ids and states.shape == (len(ids), FEATURES)
        np.testing.assert_allclose(found.vectors, states, atol=1e-4)


def test_a_token_s_vector_can_be_the_state_that_reads_it(folder):
    vectors = {
        at: transcribe(load_full_whisper(folder, FullSettings("en", 1, at)), SAD, prosody=True).vectors
        for at in ("predicts", "reads")
    }
    np.testing.assert_allclose(vectors["reads"][:-1], vectors["predicts"][1:], atol=1e-5)
    assert np.abs(vectors["reads"] - vectors["predicts"]).max() > 0.1


def test_no_speech_says_nothing(folder, tmp_path):
    model = PlainWhisper(folder).model
    no_speech = model.generation_config.no_timestamps_token_id - 1
    with torch.no_grad():  # whatever is heard, no speech is likely and no word is
        norm = model.model.decoder.layer_norm
        norm.weight.zero_()
        norm.bias.copy_(400 * model.proj_out.weight[no_speech])
        model.proj_out.weight[: min(model.generation_config.lang_to_id.values())] *= 0.1
    place = Path(shutil.copytree(folder, tmp_path / "copy"))
    model.save_pretrained(place)
    assert transcribe(load_full_whisper(place), SAD).tokens == ()


def test_no_samples_give_no_tokens_and_too_many_are_refused(folder):
    speech = load_full_whisper(folder, FullSettings(prosody_layer=1))
    nothing = transcribe(speech, np.zeros(0, np.float32), prosody=True)
    assert nothing.tokens == () and nothing.vectors.shape == (0, FEATURES)
    with pytest.raises(CapacityError, match="160001 samples"):
        transcribe(speech, np.zeros(160_001, np.float32))
    with pytest.raises(EngineError, match="expected Transcribe"):
        speech.run([object()])


def test_a_wrong_item_fails_alone(folder):
    speech = load_full_whisper(folder)
    good, bad = speech.run([Transcribe(1, SAD[:8_000]), Transcribe(2, np.zeros(200_000, np.float32))])
    assert isinstance(good, Transcribed) and isinstance(bad, CapacityError)


@pytest.mark.parametrize(
    ("file", "values", "told"),
    [
        ("preprocessor_config.json", {"feature_size": 128}, "mel bins"),
        ("preprocessor_config.json", {"chunk_length": 30}, "frames"),
        ("config.json", {"decoder_ffn_dim": 40}, "wrong shape: .*fc1"),
        ("config.json", {"model_type": "evil"}, "no Whisper that transformers knows"),
    ],
)
def test_parts_that_do_not_fit_are_refused(folder, tmp_path, file, values, told):
    place = Path(shutil.copytree(folder, tmp_path / "copy"))
    (place / file).write_text(json.dumps({**json.loads((place / file).read_text()), **values}))
    with pytest.raises(CheckpointError, match=told):
        load_full_whisper(place)


@pytest.mark.parametrize("file", ["preprocessor_config.json", "config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(folder, tmp_path, file):
    place = Path(shutil.copytree(folder, tmp_path / "copy"))
    (place / file).unlink()
    with pytest.raises(CheckpointError, match=r"safetensors" if "safe" in file else file):
        load_full_whisper(place)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (FullSettings("xx"), "language 'xx': expected one of de, en"),
        (FullSettings(prosody_layer=3), "prosody_layer 3: expected 0 to 2"),
        (FullSettings(prosody_layer=1, prosody_at="hears"), "prosody_at 'hears'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(folder, settings, told):
    with pytest.raises(CheckpointError, match=told):
        load_full_whisper(folder, settings)
