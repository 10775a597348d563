"""Several segments of a full Whisper at once, with drafts and through recorded passes, give what each gives alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from requirements import require_cuda
from small_pair import PlainWhisper, example_audio, write_whisper
from textpro.engine import Engine
from textpro.models import whisper_passes
from textpro.models.cuda_graphs import CudaCapture, Forward
from textpro.models.pair import load_full_whisper
from textpro.models.whisper_decoding import Transcribe
from textpro.models.whisper_full import FullSettings, FullWhisper, Transcribed
from textpro.models.whisper_passes import COLUMNS, MOST_ROWS, ROWS
from tiny_backbone import make_backbone

SAD, HAPPY = example_audio("lost_keys_sad.wav"), example_audio("lost_keys_happy.wav")
SEGMENTS = (SAD, HAPPY, SAD[:9_000], HAPPY[:20_000], SAD[12_000:])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("whisper")
    write_whisper(place)
    return place


@pytest.fixture(scope="module")
def speech(folder: Path) -> FullWhisper:
    return load_full_whisper(folder, FullSettings("en", prosody_layer=1))


def run(speech: FullWhisper, *items: Transcribe) -> list[Transcribed]:
    results = speech.run(items)
    assert all(isinstance(result, Transcribed) for result in results), results
    return results  # type: ignore[return-value]


def same(found: Transcribed, expected: Transcribed) -> None:
    assert found.tokens == expected.tokens
    np.testing.assert_allclose(found.vectors, expected.vectors, atol=1e-4)
    assert found.language == expected.language
    assert found.language_probability == pytest.approx(expected.language_probability, abs=1e-5)


def counted_reads(speech: FullWhisper, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of rows of each pass of the decoder from now on."""
    counts, read = [], speech._passes.read

    def counting(pieces, *rest):
        counts.append(len(pieces))
        return read(pieces, *rest)

    monkeypatch.setattr(speech._passes, "read", counting)
    return counts


def test_segments_share_their_passes_and_each_is_heard_as_alone(speech, monkeypatch):
    german, prompt = speech.language_id("de"), tuple(speech.tokenizer.encode("I lost my keys.", add_special_tokens=False))
    items = [Transcribe(number, samples, prosody=number % 2 == 0) for number, samples in enumerate(SEGMENTS)]
    items.append(Transcribe("prompted", SAD, prompt=prompt))
    items.append(Transcribe("another language", HAPPY, language=german, prosody=True))
    alone = [run(speech, item)[0] for item in items]
    counts = counted_reads(speech, monkeypatch)
    for found, expected in zip(run(speech, *items), alone, strict=True):
        same(found, expected)
    longest = max(len(one.tokens) for one in alone)
    assert set(counts) == {len(items)} and len(counts) <= longest + 2, "one pass for a token of each, and one for prosody"


def test_languages_are_found_in_one_batch_with_those_that_are_known(folder):
    speech = load_full_whisper(folder)
    items = [Transcribe(1, SAD), Transcribe(2, HAPPY, language=speech.language_id("de")), Transcribe(3, SAD[:9_000])]
    for found, item in zip(run(speech, *items), items, strict=True):
        same(found, run(speech, item)[0])


def test_more_segments_than_fit_into_a_pass_are_all_heard(speech):
    items = [Transcribe(number, SAD[: 4_000 + 500 * number]) for number in range(MOST_ROWS + 3)]
    alone = [run(speech, item)[0] for item in items[-4:]]
    assert [found.tokens for found in run(speech, *items)[-4:]] == [expected.tokens for expected in alone]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
def test_no_draft_changes_what_is_heard(speech, data):
    samples = data.draw(st.sampled_from(SEGMENTS))
    (expected,) = run(speech, Transcribe(0, samples, prosody=True))
    right = list(expected.tokens[: data.draw(st.integers(0, len(expected.tokens)))])
    wrong = data.draw(st.lists(st.integers(0, 200), max_size=12))
    (found,) = run(speech, Transcribe(0, samples, prosody=True, draft=(*right, *wrong)))
    same(found, expected)


def test_a_right_draft_takes_one_pass_and_a_wrong_end_one_more_for_each_token_behind_it(speech, monkeypatch):
    tokens = run(speech, Transcribe(0, HAPPY))[0].tokens
    counts = counted_reads(speech, monkeypatch)
    run(speech, Transcribe(0, HAPPY, draft=tokens))
    assert len(counts) == 1
    counts.clear()
    run(speech, Transcribe(0, HAPPY, draft=tokens[:-2]))
    assert len(counts) <= 3
    counts.clear()
    run(speech, Transcribe(0, HAPPY))
    assert len(counts) >= len(tokens)


def test_one_failing_segment_fails_alone_in_a_common_pass(speech, monkeypatch):
    previous = speech._previous

    def failing(prompt):
        if prompt == (666,):
            raise RuntimeError("no such prompt")
        return previous(prompt)

    monkeypatch.setattr(speech, "_previous", failing)
    good, bad, other = speech.run([Transcribe(1, SAD), Transcribe(2, SAD, prompt=(666,)), Transcribe(3, HAPPY)])
    assert isinstance(good, Transcribed) and isinstance(other, Transcribed) and isinstance(bad, RuntimeError)


def check_recorded(speech: FullWhisper, recorded: FullWhisper, capture: object, tolerance: float) -> None:
    with torch.inference_mode():
        told = list(recorded.record(capture))
    windows = 1 if recorded.settings.encoder_window_s is None else 2
    assert told[-1] == (len(told), len(told)) and len(told) == windows * len(ROWS) * (1 + len(COLUMNS))
    for count in (1, 3, 5, 2, MOST_ROWS + 1):
        drafts = [(3,) * (number % 3) for number in range(count)]
        items = [Transcribe(n, SEGMENTS[n % 5], prosody=n == 0, draft=draft) for n, draft in enumerate(drafts)]
        for found, expected in zip(run(recorded, *items), run(speech, *items), strict=True):
            assert found.tokens == expected.tokens
            np.testing.assert_allclose(found.vectors, expected.vectors, atol=tolerance)


@pytest.mark.parametrize("window", [None, 5])
def test_recorded_passes_give_what_passes_without_give(folder, window):
    settings_ = FullSettings("en", 1, encoder_window_s=window)
    calls: list[Forward] = []

    def plain(forward: Forward) -> Forward:
        calls.append(forward)
        return forward

    check_recorded(load_full_whisper(folder, settings_), load_full_whisper(folder, settings_), plain, 1e-4)
    assert calls


def test_what_is_no_number_in_one_segment_is_not_in_the_next(folder):
    speech, recorded = (load_full_whisper(folder, FullSettings("en")) for _ in range(2))
    with torch.inference_mode():
        list(recorded.record(lambda forward: forward))
    recorded.run([Transcribe(1, np.full(30_000, np.nan, np.float32))])
    for number in range(3):
        (found,) = run(recorded, Transcribe(number, SEGMENTS[2]))
        assert found.tokens == run(speech, Transcribe(number, SEGMENTS[2]))[0].tokens


def test_a_second_engine_records_nothing_anew(folder):
    recorded = load_full_whisper(folder, FullSettings("en"))
    with torch.inference_mode():
        assert list(recorded.record(lambda forward: forward)) and not list(recorded.record(lambda forward: forward))
    assert recorded.encode(SAD).shape[0] == 1, "outside of inference mode as well"


def test_without_memory_for_the_buffers_there_are_fewer_rows_or_no_graphs(folder, caplog, monkeypatch):
    expected = run(load_full_whisper(folder, FullSettings("en")), Transcribe(1, SAD), Transcribe(2, HAPPY), Transcribe(3, SAD))
    for rows in ((1, 2), ()):
        recorded = load_full_whisper(folder, FullSettings("en"))
        free = 4 * len(rows) * recorded._passes._buffer_bytes(1, 500)  # a window of 10 s has 500 frames
        monkeypatch.setattr(whisper_passes, "_free_bytes", lambda device, free=free: free)
        with torch.inference_mode():
            told = list(recorded.record(lambda forward: forward))
        assert len(told) == len(rows) * (1 + len(COLUMNS))
        assert f"recorded for {max(rows, default=0)} rows at most" in caplog.text
        found = run(recorded, Transcribe(1, SAD), Transcribe(2, HAPPY), Transcribe(3, SAD))
        assert [one.tokens for one in found] == [one.tokens for one in expected]


def test_a_pass_that_cannot_be_recorded_runs_without(folder, caplog):
    def refusing(forward: Forward) -> Forward:
        raise RuntimeError("out of memory")

    speech, recorded = (load_full_whisper(folder, FullSettings("en")) for _ in range(2))
    with torch.inference_mode():
        list(recorded.record(refusing))
    assert "will run without a CUDA graph: RuntimeError: out of memory" in caplog.text
    assert run(recorded, Transcribe(1, SAD))[0].tokens == run(speech, Transcribe(1, SAD))[0].tokens


def test_without_a_gpu_nothing_is_recorded(speech):
    assert list(speech.record()) == []


def test_warming_an_engine_up_records_its_recognizer(folder):
    backbone, _ = make_backbone()
    speech, told = load_full_whisper(folder, FullSettings("en")), list[tuple[int, int]]()
    plainly = speech.record
    speech.record = lambda: plainly(lambda forward: forward)  # type: ignore[method-assign]

    async def warm_up() -> None:
        async with Engine(backbone, speech, slots=1, slot_len=16) as engine:
            await engine.warm_up(lambda done, total: told.append((done, total)))

    asyncio.run(warm_up())
    assert told and told[-1][0] == told[-1][1] == len(ROWS) * (1 + len(COLUMNS))


def test_recorded_passes_on_a_gpu_give_what_passes_without_give(folder):
    require_cuda()
    settings_ = FullSettings("en", 1)
    speech, recorded = (load_full_whisper(folder, settings_) for _ in range(2))
    on_gpu = [FullWhisper(one.model.cuda(), one.tokenizer, one.extractor, settings_) for one in (speech, recorded)]
    check_recorded(*on_gpu, CudaCapture(torch.device("cuda")), 1e-3)


def test_a_shared_and_drafted_segment_is_what_generate_of_transformers_says(folder, speech):
    samples = SEGMENTS[1]
    expected, _ = PlainWhisper(folder).generate(samples, speech.token_limit(len(samples)), language="en", task="transcribe")
    items = [Transcribe(0, samples, draft=tuple(expected[:3])), Transcribe(1, SAD)]
    assert list(run(speech, *items)[0].tokens) == expected
