"""How long until the agent speaks, what does it cost, and what would the sequential way take? One run, one
machine.

Questions are spoken by espeak-ng and fed to real sessions at real-time pace (`--fast`: as fast as they are
worked off). Both ways are timed from the last user sample to the first sample of the spoken reply; the
silence by which the turn rule decides that the turn is over is in both, and is shown by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sequential_way import Sequential, SequentialAgent
from streaming_way import (
    LONGEST_WAIT_MS,
    QUESTIONS,
    RATE,
    Cost,
    Question,
    Streamed,
    ask,
    measure_streaming,
)

from textpro.models.named import model_folder
from textpro.streaming.espeak import EspeakProcess, EspeakSynthesizer

PROMISED_FACTOR, PROMISED_AFTER_MS, PROMISED_GB = 0.25, 500.0, 0.9


async def measure_sequential(
    folder: Path, questions: Sequence[Question], streamed: Sequence[Streamed | None]
) -> list[Sequential | None]:
    """The same turns, recorded from their start to the decision that they are over."""
    async with EspeakProcess() as process:
        agent = SequentialAgent(folder, EspeakSynthesizer(process))
        await agent.answer(questions[0].samples)
        found: list[Sequential | None] = []
        for question, live in zip(questions, streamed, strict=True):
            if live is None:
                found.append(None)
                continue
            recorded = np.pad(question.samples, (0, LONGEST_WAIT_MS * RATE // 1000))
            turn = recorded[live.start_ms * RATE // 1000 : live.end_ms * RATE // 1000]
            found.append(await agent.answer(turn))
        return found


Pairs = list[tuple[Question, Streamed, Sequential]]


def report(pairs: Pairs, asked: int, cost: Cost, fast: bool) -> None:
    """The tables and what they compare, to stdout."""
    console = Console(highlight=False)
    console.print(f"{machine()}\nquestions: {asked}, at {'full speed' if fast else 'real-time pace'}")
    if len(pairs) < asked:
        console.print(f"{asked - len(pairs)} of {asked} questions gave no spoken reply and are left out.")
    if not pairs:
        return
    live, plain = [one for _, one, _ in pairs], [one for _, _, one in pairs]
    table = _table("milliseconds", "streaming p50", "p95", "sequential p50", "p95")
    waits = [one.silence_ms for one in live]
    totals = [one.decision_ms + one.after_ms for one in live]
    plain_totals = [wait + one.compute_ms for wait, one in zip(waits, plain, strict=True)]
    rows = (
        ("last user sample to first reply sample", totals, plain_totals),
        ("  of it until the end of turn is decided", [one.decision_ms for one in live], waits),
        ("  of it after the decision", [one.after_ms for one in live], [one.compute_ms for one in plain]),
    )
    for name, streamed, sequential in rows:
        table.add_row(name, *percentiles(streamed), *percentiles(sequential))
    console.print(table)
    console.print(_stages(live, plain))
    factor = sum(sum(one.stages_ms.values()) for one in live) / sum(one.end_ms - one.start_ms for one in live)
    after = float(np.percentile([one.after_ms for one in live], 95))
    promised = _table("figure", "measured", "promised")
    promised.add_row("real-time factor of a stream, all stages", f"{factor:.3f}", f"<= {PROMISED_FACTOR}")
    promised.add_row("CPU seconds for a second of audio, voice included", f"{cost.cpu_factor:.3f}", "")
    promised.add_row("first reply sample after the decision, p95", f"{after:.0f} ms", f"<= {PROMISED_AFTER_MS:.0f} ms")
    promised.add_row("resident memory, voice included", f"{cost.resident_mb:.0f} MB", f"<= {PROMISED_GB * 1000:.0f} MB")
    console.print(promised)
    same = sum(one.reply == other.reply for one, other in zip(live, plain, strict=True))
    console.print(explanation(fast, same, len(pairs)))


def explanation(fast: bool, same: int, count: int) -> str:
    """What the figures compare, and what they leave out."""
    pace = "At full speed the time to the decision is counted on the audio clock, without compute. " if fast else ""
    return (
        "Streaming recognizes and reads the turn while it is spoken, and speaks the reply clause by clause. "
        "Sequential takes the recorded turn, encodes and decodes it with plain transformers, calls generate "
        "and speaks the whole reply. Both wait for the same end of turn: the silence that the turn rule asks "
        "for is in the first two lines of both. "
        f"{pace}Replies were equal in {same} of {count}. Not measured: transport and sound card, several "
        "sessions at once, tool calls, human speech. The stages leave out the voice's own process, the CPU "
        "seconds and the memory do not."
    )


def _stages(live: list[Streamed], plain: list[Sequential]) -> Table:
    table = _table("stage, milliseconds a turn", "streaming p50", "p95", "sequential p50", "p95")
    for name in live[0].stages_ms:
        table.add_row(name, *percentiles([one.stages_ms.get(name, 0.0) for one in live]))
    for name in ("recognize", "generate", "synthesize"):
        table.add_row(name, "", "", *percentiles([getattr(one, f"{name}_ms") for one in plain]))
    return table


def percentiles(values: Sequence[float]) -> tuple[str, str]:
    """p50 and p95."""
    middle, high = np.percentile(values, [50, 95])
    return f"{middle:.1f}", f"{high:.1f}"


def write_csv(file: Path, pairs: Pairs) -> None:
    """One line for each question."""
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        stages = list(pairs[0][1].stages_ms) if pairs else []
        times = ("decision", "after", "total")
        steps = ("wait", "recognize", "generate", "synthesize", "total")
        writer.writerow(
            [
                "machine", "question", "understood", "turn_ms", *(f"streaming_{name}_ms" for name in times),
                "real_time_factor", *(f"{name}_ms" for name in stages),
                *(f"sequential_{name}_ms" for name in steps), "replies_equal",
            ]
        )  # fmt: skip
        for question, live, plain in pairs:
            measured = [live.end_ms - live.start_ms, live.decision_ms, live.after_ms]
            measured += [live.decision_ms + live.after_ms, live.factor]
            measured += [live.stages_ms.get(name, 0.0) for name in stages]
            measured += [live.silence_ms, plain.recognize_ms, plain.generate_ms, plain.synthesize_ms]
            measured.append(live.silence_ms + plain.compute_ms)
            rounded = [round(float(value), 3) for value in measured]
            writer.writerow([machine(), question.text, live.words, *rounded, int(live.reply == plain.reply)])


def machine() -> str:
    """Processor, cores and libraries."""
    name = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).is_file():
        models = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        name = models[0] if models else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{name}, {cores} cores, {platform.system()}, Python {platform.python_version()}, "
        f"torch {torch.__version__} with {torch.get_num_threads()} threads, "
        f"transformers {version('transformers')}"
    )


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    return table


def main() -> int:
    """Run both ways and print. Returns 1 where no question was answered aloud."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny", help="tiny, or a checkpoint folder")
    parser.add_argument("--questions", type=int, default=len(QUESTIONS))
    parser.add_argument("--threads", type=int, help="CPU threads of torch; without it torch's own choice")
    parser.add_argument("--fast", action="store_true", help="as fast as the machine works instead of real-time pace")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write one line for each question")
    chosen = parser.parse_args()
    folder, questions = model_folder(chosen.model), ask(chosen.questions)
    streamed, cost = asyncio.run(measure_streaming(folder, questions, chosen.fast, chosen.threads))
    plain = asyncio.run(measure_sequential(folder, questions, streamed))
    pairs = [
        (question, live, other)
        for question, live, other in zip(questions, streamed, plain, strict=True)
        if live is not None and other is not None
    ]
    report(pairs, len(questions), cost, chosen.fast)
    if chosen.csv is not None:
        write_csv(chosen.csv, pairs)
    return 0 if pairs else 1


if __name__ == "__main__":
    sys.exit(main())
