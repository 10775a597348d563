"""Writes the table of docs/performance.md from the CSVs of `benchmarks/results/`: one row for each promise or question, with its
command, and the figure or "not measured yet". `--check` changes nothing and fails where the page would change.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from measuring import RESULTS, Line, read
from run_all import KERNELS, read_kernels

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- figures: made by benchmarks/performance_page.py -->", "<!-- end of figures -->"
MISSING = "not measured yet"
TOTAL, BEHIND = "last sample to first token", "of it behind the silence"


@dataclass(frozen=True, slots=True)
class Wanted:
    """One row: where its figure is found, and how it is told; `aim` is what was promised."""

    what: str
    script: str
    case: str
    provider: str
    aim: str = ""
    tell: Callable[[Line], str] | None = None


def _median(one: Line) -> str:
    floor = f", floor {_number(one.floor)}" if one.floor is not None else ""
    note = f"; {one.note}" if one.note else ""
    return f"{_number(one.p50)} {one.unit} [{_number(one.p20)}, {_number(one.p80)}]{floor}{note}"


def _high(one: Line) -> str:
    return f"p95 {_number(one.p95)} {one.unit}, p50 {_number(one.p50)}"


def _count(one: Line) -> str:
    return f"{one.p50:.0f} ({one.note})"


def _plain(one: Line) -> str:
    return f"{_number(one.p50)} {one.unit}"


CPU = (
    Wanted("append, 16 sessions in one step", "appends", "S=16 L=512", "engine, packed", ">= 4x one by one"),
    Wanted("append, 64 sessions in one step", "appends", "S=64 L=512", "engine, packed"),
    Wanted("decode step, 1 context of 512", "decoding", "B=1 L=512", "engine"),
    Wanted("decode step, 16 contexts of 512", "decoding", "B=16 L=512", "engine"),
    Wanted("take back 32 tokens of 1,536 and append 6", "rollback", "L=1536", "engine: truncate, append"),
    Wanted("incremental append alone, utterance of 60 rows", "incremental", "history 512, utterance 60", "appended while spoken"),
    Wanted("last user sample to first reply token, speculation", "turn_end", TOTAL, "speculation"),
    Wanted("the same without speculation", "turn_end", TOTAL, "no speculation"),
    Wanted("the same, sequential", "turn_end", TOTAL, "sequential"),
    Wanted("behind the silence, speculation", "turn_end", BEHIND, "speculation", "sequential takes >= 3x"),
    Wanted("behind the silence, no speculation", "turn_end", BEHIND, "no speculation"),
    Wanted("eight callers, end of turn to first reply token", "callers", "N=8", BEHIND, "p95 <= 400 ms", _high),
    Wanted("callers with p95 of the whole under 500 ms", "callers", "p95 under 500 ms", "largest N", ">= 8", _count),
    Wanted("any Whisper (base), 4 sessions recognized again", "recognizing", "S=4, 5 s", "together, drafted"),
    Wanted("memory of each further session", "callers", "each further session", "resident memory", "", _plain),
)
GPU = (
    Wanted("fuse_prosody, 9 groups, in a graph", KERNELS, "R=9 H=3584 fwd", "ours_graph", "<= 2x the floor"),
    Wanted("the same, eager torch in a graph", KERNELS, "R=9 H=3584 fwd", "eager_graph", "slower than ours"),
    Wanted("the same, torch.compile", KERNELS, "R=9 H=3584 fwd", "compile", "slower than ours"),
    Wanted("fuse_prosody, 2,560 groups with gradients", KERNELS, "R=2560 H=3584 fwd+bwd", "ours"),
    Wanted("append, 16 sessions in one step", "appends", "S=16 L=512", "engine, packed"),
    Wanted("append, 64 sessions in one step", "appends", "S=64 L=512", "engine, packed"),
    Wanted("decode step, 1 context of 2,048", "decoding", "B=1 L=2048", "engine", ">= 70 % of the floor"),
    Wanted("decode step, 64 contexts of 2,048", "decoding", "B=64 L=2048", "engine", ">= 70 % of the floor"),
    Wanted("take back 32 tokens of 2,048 and append 6", "rollback", "L=2048", "engine: truncate, append"),
    Wanted("incremental append alone, utterance of 60 rows", "incremental", "history 512, utterance 60", "appended while spoken"),
    Wanted("encoder, window of 30 s, in a graph", "encoder", "30 s, B=1", "graphed"),
    Wanted("encoder, window of 5 s, in a graph", "encoder", "5 s, B=1", "graphed"),
    Wanted("16 sessions recognized again", "recognizing", "S=16, 5 s", "together, drafted"),
    Wanted("behind the silence, speculation", "turn_end", BEHIND, "speculation", "p50 <= 150 ms"),
    Wanted("behind the silence, sequential", "turn_end", BEHIND, "sequential"),
    Wanted("callers with p95 of the whole under 500 ms", "callers", "p95 under 500 ms", "largest N", ">= 64", _count),
)


def rows(wanted: Sequence[Wanted], device: str) -> Iterator[str]:
    """The table's lines, one for each wanted figure."""
    for one in wanted:
        found = [line for line in lines_of(one.script, device) if (line.case, line.provider) == (one.case, one.provider)]
        figure = (one.tell or _median)(found[0]) if found else MISSING
        command = f"`python benchmarks/{one.script}.py --device {device}`"
        yield f"| {one.what} | {one.aim} | {figure} | {command} |"


def lines_of(script: str, device: str) -> list[Line]:
    """The lines of a result that is kept; none where there is none."""
    file = RESULTS / f"{script}_{device}.csv"
    if not file.is_file():
        return []
    return read_kernels(file) if script == KERNELS else [one for one, _ in read(file)]


def machines(device: str) -> str:
    """On what the kept results were measured."""
    found = {name for file in RESULTS.glob(f"*_{device}.csv") if "benchmark" in _head(file) for _, name in read(file)}
    return ", ".join(sorted(found)) or MISSING


def figures() -> str:
    """Both tables."""
    head = "| what | promised | median [p20, p80] | command |\n|---|---|---|---|"
    parts = []
    for title, device, wanted in (("CPU, the bundled model", "cpu", CPU), ("GPU, random:7b in bfloat16", "cuda", GPU)):
        parts.append(f"### {title}\n\nMeasured on: {machines(device)}\n\n" + "\n".join((head, *rows(wanted, device))))
    return "\n\n".join(parts)


def _head(file: Path) -> list[str]:
    with file.open(encoding="utf-8") as source:
        return source.readline().strip().split(",")


def _number(value: float | None) -> str:
    if value is None:
        return MISSING
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 1 where --check finds the page stale."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--check", action="store_true", help="change nothing; exit status 1 where the page is stale")
    options = made.parse_args(arguments)
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    made_text = f"{before}{BEGIN}\n{figures()}\n\n{END}{after}"
    if options.check:
        return int(made_text != text)
    PAGE.write_text(made_text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
