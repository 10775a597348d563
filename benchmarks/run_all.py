"""Runs the benchmarks one after the other, each in a process of its own, and prints one table of all their lines.

A benchmark that fails is named at the end and the others run; its exit status is that of this program. Results of a full run
go to `benchmarks/results/NAME_DEVICE.csv`, those of `--quick` to a folder that is thrown away, unless `--out` says otherwise.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from measuring import RESULTS, Line, read, table, wide_console

SCRIPTS = ("appends", "decoding", "rollback", "incremental", "encoder", "recognizing", "turn_end", "callers")
KERNELS = "prosody_kernels"
HERE = Path(__file__).parent


def command_of(name: str, options: argparse.Namespace, file: Path) -> list[str]:
    """How one benchmark is run."""
    command = [sys.executable, str(HERE / f"{name}.py"), "--device", options.device]
    if name == KERNELS:
        repeats = ["--repeats", "5", "--groups", "1", "9"] if options.quick else []
        return [*command, *repeats, "--out", str(file)]
    command += ["--csv", str(file)]
    if options.quick:
        command.append("--quick")
    if options.threads is not None:
        command += ["--threads", str(options.threads)]
    if name == "callers":
        command += ["--svg", str(file.with_suffix(".svg"))]
    return [*command, *(["--model", options.model] if options.model else [])]


def run(command: Sequence[str]) -> int:
    """Exit status of a process; its own table is not shown."""
    return subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode


def read_kernels(file: Path) -> list[Line]:
    """The CSV of `prosody_kernels.py`, which has more columns, as lines."""
    found = []
    with file.open(newline="", encoding="utf-8") as source:
        for row in csv.DictReader(source):
            p20, p50, p80 = (float(row[f"device_p{percent}_us"]) for percent in (20, 50, 80))
            floor = max(float(row["memory_floor_us"]), float(row["compute_floor_us"]))
            case = f"R={row['groups']} H={row['hidden']} {row['mode']}"
            note = f"{row['launches']} launches" if int(row["launches"]) >= 0 else ""
            floors = floor if floor >= 0 else None
            found.append(Line("fuse_prosody", case, row["provider"], "us", p20, p50, p80, p80, -1, floors, note))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 if all ran, 1 if one failed."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    made.add_argument("--model", help="in place of each benchmark's own choice")
    made.add_argument("--threads", type=int, help="CPU threads of torch")
    made.add_argument("--quick", action="store_true", help="few sizes and repeats, to see that everything runs")
    made.add_argument("--only", nargs="+", choices=[KERNELS, *SCRIPTS], metavar="NAME", help="these alone")
    made.add_argument("--out", type=Path, metavar="FOLDER", help="where the CSVs go")
    options = made.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.out or (Path(scratch) if options.quick else RESULTS)
        folder.mkdir(parents=True, exist_ok=True)
        lines, failed = list[Line](), list[str]()
        for name in options.only or (KERNELS, *SCRIPTS):
            file = folder / f"{name}_{options.device}.csv"
            file.unlink(missing_ok=True)
            began = time.perf_counter()
            status = run(command_of(name, options, file))
            print(f"{name}: {time.perf_counter() - began:.0f} s, exit status {status}", flush=True)
            if status or not file.is_file():
                failed.append(name)
            else:
                lines += read_kernels(file) if name == KERNELS else [one for one, _ in read(file)]
    wide_console().print(table(lines))
    if failed:
        print(f"failed: {', '.join(failed)}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
