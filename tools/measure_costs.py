"""Measures what the engine's work costs on this machine and writes evaluation/measured_costs.py, the table `two_cores` of the
simulator's scenarios. Run it on an otherwise idle machine:

    taskset -c 0,1 python tools/measure_costs.py

The voice's work is made once in a simulation and then repeated, so only its first time counts.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import torch

from textpro.evaluation.scenario import read_scenario
from textpro.evaluation.simulate_costs import fitted
from textpro.evaluation.simulator import Simulator

ROOT = Path(__file__).resolve().parent.parent
SCENARIOS = ("question", "two_turns", "barge_in", "pause_in_sentence", "failing_tool", "greeting")
HEAD = "Milliseconds of work of the bundled model. Written by `tools/measure_costs.py`; measure again rather than edit."
LEFT_OUT = ("open", "close")
"""Kinds that only say that something ended."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--threads", type=int, default=2, help="threads of torch (2)")
    options.add_argument("--quantile", type=float, default=0.5, help="0.5: the median; lower where others use the machine")
    options.add_argument("--out", type=Path, default=ROOT / "evaluation" / "measured_costs.py")
    chosen = options.parse_args()
    took: dict[str, list[tuple[int, float]]] = {}
    with Simulator("tiny", chosen.threads) as simulator:
        simulator.run(read_scenario(ROOT / "tests" / "scenarios" / "question.yaml"))  # warms up
        for name in SCENARIOS:
            for kind, values in simulator.run(read_scenario(ROOT / "tests" / "scenarios" / f"{name}.yaml")).work.items():
                if kind not in LEFT_OUT and not kind.startswith("tool "):
                    took.setdefault(kind, []).extend(values)
    table = fitted(took, chosen.quantile)
    where = (
        f"{platform.machine()}, {chosen.threads} threads on {len(os.sched_getaffinity(0))} cores, torch {torch.__version__}, "
        f"quantile {chosen.quantile}, {datetime.now(UTC):%Y-%m-%d}, load {os.getloadavg()[0]:.1f}"
    )
    parts = {"MEASURED_ON": f'"{where}"', "FIXED_MS": _written(table.fixed_ms), "UNIT_MS": _written(table.unit_ms)}
    text = f'"""{HEAD}"""\n\n' + "\n\n".join(f"{name} = {value}" for name, value in parts.items()) + "\n"
    chosen.out.write_text(text, encoding="utf-8")
    for kind, values in sorted(took.items()):
        print(f"{kind:14} {len(values):5} pieces  {table.fixed_ms[kind]:8.3f} ms + {table.unit_ms.get(kind, 0.0):.3f} ms each")


def _written(table: Mapping[str, float]) -> str:
    return "".join(["{\n", *(f'    "{kind}": {ms},\n' for kind, ms in sorted(table.items())), "}"])


if __name__ == "__main__":
    main()
