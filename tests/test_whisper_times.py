"""Token times are those of transformers' own pieces, in sessions too; without heads that follow the audio there are none."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.whisper.generation_whisper import _dynamic_time_warping

from following_whisper import HEAD, write_following
from small_pair import PlainWhisper, example_audio, write_whisper
from textpro.engine import SpeechDone
from textpro.models.errors import CheckpointError
from textpro.models.pair import load_full_whisper
from textpro.models.whisper_decoding import Transcribe
from textpro.models.whisper_full import FullSettings, FullWhisper, Transcribed
from textpro.models.whisper_times import published_heads, row_starts, token_ends
from textpro.streaming.full_recognizer import FullRecognizer
from textpro.streaming.guards import word_starts

HAPPY = example_audio("lost_keys_happy.wav")
HEADS = ((0, 1), (1, 0), (1, 1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("whisper")
    write_whisper(place)
    return place


@pytest.fixture(scope="module")
def speech(folder: Path) -> FullWhisper:
    return load_full_whisper(folder, FullSettings("en", alignment_heads=HEADS))


def transcribe(speech: FullWhisper, samples: np.ndarray, **wanted: bool) -> Transcribed:
    return speech.transcribe(Transcribe(object(), samples, **wanted))


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 9), columns=st.integers(1, 30), seed=st.integers(0, 1000), ties=st.booleans())
def test_the_path_is_that_of_transformers_warping(rows: int, columns: int, seed: int, ties: bool) -> None:
    cost = np.random.default_rng(seed).standard_normal((rows, columns))
    cost = np.round(cost) if ties else cost
    text, time = _dynamic_time_warping(cost)
    expected = time[np.pad(np.diff(text), (1, 0), constant_values=1).astype(bool)]
    np.testing.assert_array_equal(row_starts(cost), expected)


def test_ends_are_the_row_starts_of_transformers_behind_the_prompt(folder: Path, speech: FullWhisper) -> None:
    found = transcribe(speech, HAPPY, times=True)
    plain, prompt = PlainWhisper(folder).model, list(speech.prompt())
    plain.set_attn_implementation("eager")
    ids = torch.tensor([[*prompt, *found.tokens]])
    features = speech.extractor(HAPPY, sampling_rate=16_000, return_tensors="pt").input_features
    with torch.inference_mode():
        states = plain.model.encoder(features).last_hidden_state
        attention = plain.model.decoder(ids, encoder_hidden_states=states, output_attentions=True).cross_attentions

    class Output(SimpleNamespace):
        def __contains__(self, name: str) -> bool:
            return False

    output = Output(cross_attentions=(attention,), sequences=ids)
    frames = len(HAPPY) // 160
    seconds = plain._extract_token_timestamps(output, HEADS, num_frames=frames, num_input_ids=len(prompt) - 1)
    starts = np.round(seconds[0].double().numpy()[len(prompt) - 1 :] * 16_000)
    assert len(found.tokens) > 5 and found.ends is not None
    np.testing.assert_allclose(found.ends, starts[1 : 1 + len(found.tokens)], atol=321)
    assert (np.diff(found.ends) >= 0).all() and found.ends[-1] <= len(HAPPY)


def test_asking_for_times_changes_nothing_else(speech: FullWhisper) -> None:
    without, found = transcribe(speech, HAPPY), transcribe(speech, HAPPY, times=True)
    assert without.ends is None and found.tokens == without.tokens
    assert speech.model.config._attn_implementation != "eager"


def test_a_row_begins_where_its_attention_does() -> None:
    attention = np.zeros((3, 9))
    attention[0, :2], attention[1, 2:7], attention[2, 7:] = 1, 1, 1
    np.testing.assert_array_equal(row_starts(0.1 - attention), [0, 2, 7])


def test_a_checkpoint_without_heads_has_no_times_and_no_tokens_have_none(folder: Path) -> None:
    plain = load_full_whisper(folder)
    assert plain.alignment_heads == () and transcribe(plain, HAPPY, times=True).ends is None
    plain.model.generation_config.alignment_heads = [list(head) for head in HEADS]
    assert published_heads(plain.model) == HEADS
    assert token_ends(plain.model, HEADS, torch.zeros(1, 500, 32), (1,), (), 16_000).shape == (0,)
    with pytest.raises(CheckpointError, match=r"alignment head \(2, 0\): expected a layer below 2"):
        load_full_whisper(folder, FullSettings(alignment_heads=((2, 0),)))


def test_a_session_s_commits_end_where_their_words_do(tmp_path: Path) -> None:
    write_following(tmp_path)
    speech = load_full_whisper(tmp_path, FullSettings("en", alignment_heads=(HEAD,)))
    starts_word = word_starts(speech.tokenizer.convert_ids_to_tokens(list(range(len(speech.tokenizer)))))

    async def run(item: Transcribe) -> SpeechDone:
        return SpeechDone(speech.transcribe(item), 0.0)

    turn = FullRecognizer(run, speech.window_samples, prosody=False, text=speech.text, starts_word=starts_word)
    turn.feed(HAPPY)
    asyncio.run(turn.finish())
    found = transcribe(speech, HAPPY, times=True)
    assert turn.log.tokens == found.tokens and found.ends is not None
    word_ends = [commit.end_samples for commit in turn.log.commits]
    for index, token in enumerate(turn.log.tokens):
        last = next((at for at in range(index + 1, len(word_ends)) if starts_word[turn.log.tokens[at]]), len(word_ends)) - 1
        assert word_ends[index] == found.ends[last], f"token {token}"
    assert len(set(word_ends)) > 3 and turn.log.end_samples == found.ends[-1]
