"""The benchmarks from end to end, at their smallest: each runs, compares with its baseline, and writes rows that make sense."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
import torch

from requirements import require_module
from textpro.models.random_models import open_random
from tree import ROOT

MINI = ("--device", "cpu", "--model", "random:mini", "--quick")
PROVIDERS = {
    "appends": {"engine, packed", "engine, one by one", "transformers, one by one"},
    "decoding": {"engine", "generate"},
    "rollback": {
        "engine: truncate, append", "engine: truncate alone", "transformers: crop, append", "transformers: prefill again",
    },
    "incremental": {"appended while spoken", "utterance at the end", "all at the end"},
    "encoder": {"eager"},
    "recognizing": {"together, drafted", "together", "one by one", "transformers"},
}  # fmt: skip
SMALLER = {"appends": ("--length", "24", "--rounds", "2"), "decoding": ("--batches", "1", "6", "--lengths", "12")}


@pytest.fixture(autouse=True)
def _usual_gradients() -> None:
    """The scripts switch gradients off for their process."""
    yield
    torch.set_grad_enabled(True)


@pytest.fixture(scope="module")
def script():
    """A benchmark's module, found as its script finds its neighbours."""
    sys.path.append(str(ROOT / "benchmarks"))
    yield importlib.import_module
    sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture
def short_question(script, monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers say one word."""
    require_module("espeakng_loader")
    monkeypatch.setattr(script("streaming_way"), "QUESTIONS", (("hello", "plain"),))


def rows_of(module: ModuleType, script, arguments: tuple[str, ...], folder: Path) -> list:
    assert module.main([*arguments, "--csv", str(folder / "rows.csv")]) == 0
    found = script("measuring").read(folder / "rows.csv")
    assert found and all(device for _, device in found)
    for one, _ in found:
        assert one.p20 <= one.p50 <= one.p80 <= one.p95 and one.count >= 1, one
    return [one for one, _ in found]


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_benchmark_measures_each_way_in_each_case(script, name: str, tmp_path: Path) -> None:
    lines = rows_of(script(name), script, (*MINI, *SMALLER.get(name, ())), tmp_path)
    cases = {one.case for one in lines}
    assert {(one.case, one.provider) for one in lines} == {(case, way) for case in cases for way in PROVIDERS[name]}
    assert all(one.p50 > 0 and one.unit == "ms" for one in lines)
    if name in ("decoding", "encoder", "recognizing"):
        assert all(one.floor is not None and one.floor > 0 for one in lines)


def test_the_three_ways_to_a_first_token_wait_for_the_same_silence(script, short_question: None, tmp_path: Path) -> None:
    lines = rows_of(script("turn_end"), script, MINI, tmp_path)
    totals = {one.provider: one for one in lines if one.case == "last sample to first token"}
    behind = {one.provider: one for one in lines if one.case == "of it behind the silence"}
    assert set(totals) == set(behind) == {"speculation", "no speculation", "sequential"}
    silence_ms = script("caller").SILENCE_MS
    for way, one in totals.items():
        assert one.floor is not None and silence_ms <= one.floor < silence_ms + 200
        assert one.p50 == pytest.approx(one.floor + behind[way].p50, abs=0.1)
    assert behind["no speculation"].p50 > 0 and behind["sequential"].p50 > 0


def test_callers_are_counted_and_drawn(script, short_question: None, tmp_path: Path) -> None:
    picture = tmp_path / "callers.svg"
    arguments = (*MINI, "--callers", "2", "--seconds", "2", "--bound-ms", "60000", "--svg", str(picture))
    lines = rows_of(script("callers"), script, arguments, tmp_path)
    (held,) = (one for one in lines if one.provider == "largest N")
    assert held.p50 == 2 and held.unit == "callers"
    (first, _) = (one for one in lines if one.case == "N=2")
    assert first.p50 > script("caller").SILENCE_MS and "0 of 2 not answered" in first.note
    ElementTree.parse(picture)


def test_a_script_of_a_caller_speaks_its_share_of_the_time(script) -> None:
    caller = script("caller")
    question = caller.Question("what", torch.ones(24_000).numpy(), 22_399)
    made = caller.spoken_script([question], 20, 0.4, 8_000)
    spoken = len(made.questions) * (question.last - caller.LEAD_SAMPLES)
    assert 0.35 < spoken / (len(made.samples) - 8_000) <= 0.41 and len(made.samples) <= 20 * 16_000
    assert all(made.samples[last] == 1 and not made.samples[last + 1] for _, last in made.questions)


def test_the_floor_of_a_step_counts_the_weights_and_the_cache(script) -> None:
    measuring, mini = script("measuring"), open_random("random:mini", device="cpu")
    sizes = {name: one.numel() for name, one in mini.backbone.model.named_parameters()}
    assert measuring.weight_bytes(mini) == 4 * (sum(sizes.values()) - sizes["model.embed_tokens.weight"])
    assert measuring.cache_bytes(mini) == 2 * 2 * 2 * 32 * 4  # keys and values, layers, kv heads, width of a head, float32


def test_a_gpu_that_is_not_there_is_named(script, capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(SystemExit) as ended:
        script("appends").main(["--device", "cuda"])
    assert ended.value.code == 2 and "there is no CUDA device here" in capsys.readouterr().err


def test_all_of_them_run_by_one_command_and_end_in_one_table(
    script, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    everything = script("run_all")

    def here(command: list[str]) -> int:
        """The script's own `main` in this process, which has torch already."""
        return int(script(Path(command[1]).stem).main(command[2:]))

    monkeypatch.setattr(everything, "run", here)
    options = ["--device", "cpu", "--quick", "--only", "encoder", "prosody_kernels", "--out", str(tmp_path)]
    assert everything.main(options) == 0
    shown = capsys.readouterr().out.rpartition("benchmark  ")[2]
    assert "eager" in shown and "definition" in shown and "failed" not in shown
    assert {file.name for file in tmp_path.iterdir()} == {"encoder_cpu.csv", "prosody_kernels_cpu.csv"}


def test_the_page_of_figures_is_that_of_the_kept_results(script) -> None:
    page = script("performance_page")
    assert page.main(["--check"]) == 0
    known = {(one.case, one.provider) for one in (*page.CPU, *page.GPU)}
    assert len(known) > 20 and all((ROOT / "benchmarks" / f"{one.script}.py").is_file() for one in (*page.CPU, *page.GPU))
