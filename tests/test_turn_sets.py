"""Sets of user turns: pauses cut into whole sentences, the shares of their lengths, and sets in eot-bench's layout."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import numpy as np
import pytest
import soundfile

from requirements import require_module
from textpro.evaluation import turn_sets, turn_voices
from textpro.evaluation.turn_files import read_turns
from textpro.evaluation.turn_sets import SURVIVAL, Silence, SpokenTurn, count_by_source, draw_turns, pause_lengths, with_pauses
from textpro.evaluation.turn_voices import HeldOutVoices, Sentence, word_ends
from textpro.models.errors import DeviceError, InputError

RATE = 16_000


def sentence() -> Sentence:
    """Three words of 200, 300 and 200 ms, with 50 ms of quiet behind the first and none behind the second."""
    rng = np.random.default_rng(0)
    loud = [0.3 * rng.standard_normal(RATE * ms // 1000).astype(np.float32) for ms in (200, 300, 200)]
    quiet = np.zeros(RATE // 20, np.float32)
    return Sentence(
        np.concatenate([loud[0], quiet, loud[1], loud[2]]), ("one", "two", "three"), (3_200, 8_800, 12_000), "made up"
    )


def test_the_shares_of_long_pauses_are_those_that_silence_alone_gets_in_eot_bench() -> None:
    lengths = pause_lengths(1_000, random.Random(1))
    assert min(lengths) >= 200
    for ms, share in SURVIVAL:
        assert np.mean([length > ms for length in lengths]) == pytest.approx(share, abs=0.002)


def test_a_pause_is_exactly_as_long_as_wanted_and_takes_up_the_quiet_that_was_there() -> None:
    turn = with_pauses(sentence(), {0: 500, 1: 300.5})
    lead, first, second, end = 4_800, 3_200, 4_800, 3_200
    assert [silence.ms for silence in turn.silences] == [500.0, 300.5, 800.0]
    assert turn.silences[0].start_samples == lead + first
    assert turn.silences[1].start_samples == pytest.approx(lead + first + 8_000 + second, abs=480)
    assert turn.silences[-1].end_samples == len(turn.samples) == lead + first + 8_000 + second + 4_808 + end + 12_800


def test_nothing_of_the_sentence_is_lost_and_its_silences_are_quiet() -> None:
    plain, turn = sentence().samples, with_pauses(sentence(), {1: 400})
    for silence in turn.silences:
        assert np.abs(turn.samples[silence.start_samples : silence.end_samples]).max() < 0.01
    cut = turn.silences[0].start_samples - 4_800
    spoken = np.concatenate([turn.samples[4_800 : 4_800 + cut], turn.samples[turn.silences[0].end_samples :][: len(plain) - cut]])
    assert np.mean(np.abs(spoken - plain) > 0.01) < 0.02  # the ramps at the cut


def test_words_are_over_before_the_silence_behind_them() -> None:
    turn = with_pauses(sentence(), {0: 500, 1: 300})
    assert [turn.said_until(silence.start_samples) for silence in turn.silences] == ["one", "one two", "one two three"]
    assert SpokenTurn("x", turn.samples, turn.silences).said_until(5_000) is None


def test_word_ends_are_counted_off_and_refused_where_the_counts_differ() -> None:
    phones = [("pau", 0.2), ("t", 0.25), ("er", 0.4), ("n", 0.5), ("pau", 0.6), ("ih", 0.7), ("t", 0.8), ("pau", 1.0)]
    assert word_ends([3, 2], phones) == [0.5, 0.8]
    assert word_ends([3, 1], phones) is None
    assert word_ends([5, 0], phones) is None


def test_a_seed_gives_the_same_turns_and_a_dialogue_its_history(monkeypatch: pytest.MonkeyPatch) -> None:
    require_module("espeakng_loader")
    monkeypatch.setattr(turn_sets, "flite_voices", lambda: ())
    turns = draw_turns(6, 3)
    again = draw_turns(6, 3)
    for turn, same in zip(turns, again, strict=True):  # the waveform flutters on from what espeak-ng said before
        assert (turn.id, turn.source, turn.history) == (same.id, same.source, same.history)
        assert [word.text for word in turn.words] == [word.text for word in same.words]
        assert [silence.ms for silence in turn.silences] == [silence.ms for silence in same.silences]
        starts = [[silence.start_samples for silence in one.silences] for one in (turn, same)]
        assert starts[0] == pytest.approx(starts[1], abs=16 * 60)
    assert len({turn.id for turn in turns}) == 6
    for turn in turns:
        assert turn.is_synthetic
        assert [message.role for message in turn.history] == ["user", "assistant"] * (len(turn.history) // 2)
        ends = [word.end_samples for word in turn.words]
        assert ends == sorted(ends)
        assert ends[-1] <= turn.silences[-1].start_samples
    second = next(turn for turn in turns if turn.history)
    first = turns[turns.index(second) - 1]
    assert second.history[0].text == " ".join(word.text for word in first.words)


def test_half_of_the_dialogues_are_said_by_flite_where_it_is_installed(flite: str) -> None:
    require_module("espeakng_loader")
    assert set(count_by_source(draw_turns(6, 1))) == {"espeak", "flite"}


def test_the_words_of_flite_end_inside_its_sound(flite: str) -> None:
    require_module("espeakng_loader")
    said = HeldOutVoices(0).by_flite("turn on the light in the kitchen")
    assert said is not None
    assert list(said.ends_samples) == sorted(set(said.ends_samples))
    assert 0 < said.ends_samples[0] < said.ends_samples[-1] <= len(said.samples)


def test_without_flite_its_half_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    require_module("espeakng_loader")
    monkeypatch.setattr(turn_voices, "flite_voices", lambda: ())
    with pytest.raises(DeviceError, match="flite is not installed"):
        HeldOutVoices(0).by_flite("hello there")


def row(name: str = "a", **changes: object) -> dict[str, object]:
    spans = [{"start": 0.5, "end": 0.75}, {"start": 1.0, "end": 1.6}]
    words = [{"word": "turn", "start": 0.1, "end": 0.45}, {"word": "left", "start": 0.8, "end": 1.0}]
    messages = [{"role": "assistant", "content": "Where to?"}]
    values = {"id": name, "language": "en", "silence_spans": spans, "words": words, "messages": messages, "other": 1}
    return {**values, **changes}


def wav(seconds: float = 1.2, rate: int = 8_000) -> bytes:
    out = io.BytesIO()
    samples = np.stack([np.full(int(seconds * rate), level, np.float32) for level in (0.2, 0.4)], 1)
    soundfile.write(out, samples, rate, format="WAV")
    return out.getvalue()


def write_folder(folder: Path, *rows: dict[str, object]) -> Path:
    for index, values in enumerate(rows):
        (folder / f"{index}.wav").write_bytes(wav())
        values["file_name"] = f"{index}.wav"
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps(values) for values in rows))
    return folder


def check_turn(turn: SpokenTurn) -> None:
    assert turn.silences == (Silence(8_000, 12_000), Silence(16_000, 25_600))
    assert len(turn.samples) == 25_600  # mono at 16 kHz, silent to the end of the last span
    assert turn.samples[4_000] == pytest.approx(0.3, abs=0.01)
    assert turn.said_until(8_000) == "turn"
    assert (turn.history[0].text, turn.source, turn.is_synthetic) == ("Where to?", "recorded", False)


def test_sound_files_with_their_metadata_are_read_in_eot_benchs_layout(tmp_path: Path) -> None:
    write_folder(tmp_path, row(), row("b", language="de"), row("c", words=None, messages=None))
    first, third = read_turns(tmp_path)
    check_turn(first)
    assert (third.id, third.words, third.history) == ("c", (), ())
    assert [turn.id for turn in read_turns(tmp_path, limit=1)] == ["a"]
    assert [turn.id for turn in read_turns(tmp_path, language="de")] == ["b"]


def test_parquet_files_with_the_sound_inside_are_read_too(tmp_path: Path) -> None:
    require_module("pyarrow")
    import pyarrow
    import pyarrow.parquet

    rows = [{**row(), "audio": {"bytes": wav(), "path": "a.wav"}}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "validation-00000-of-00001.parquet")
    (turn,) = read_turns(tmp_path)
    check_turn(turn)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"silence_spans": []}, "silence_spans"),
        ({"silence_spans": [{"start": 2.0, "end": 2.5}, {"start": 1.0, "end": 1.5}]}, "order of time"),
        ({"silence_spans": [{"start": 1.0, "end": 1.0}]}, "order of time"),
        ({"language": "fr"}, "no turns with language"),
        ({"id": None}, "id"),
    ],
)
def test_a_row_that_is_not_as_described_is_refused_by_name(tmp_path: Path, changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        read_turns(write_folder(tmp_path, row(**changes)))


def test_a_folder_without_a_set_and_sound_that_is_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="eot-bench's layout"):
        read_turns(tmp_path)
    write_folder(tmp_path, row())
    (tmp_path / "0.wav").write_bytes(b"no sound")
    with pytest.raises(InputError, match="turn a cannot be read"):
        read_turns(tmp_path)
