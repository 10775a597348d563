"""From the last user sample to the first reply token: with speculation, without, and the sequential way.

One caller asks questions in real time. "speculation": a reply is drafted at the soft end, 100 ms of silence, and said when the
turn is over. "no speculation": it is begun when the turn is over. "sequential": the same turn as recorded, recognized offline
once it is over and answered by `generate`, with the same weights and plain transformers. All wait for the same silence
(`SILENCE_MS` in caller.py, and what the detector adds), which is the floor; what comes behind it is a line of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from caller import Answered, Caller, Script, questions, session_of, spoken_script
from measuring import RESULTS, Line, finish, is_full, line, load, parsed, parser, plain_attention, times
from sequential_way import FullSequentialAgent, SequentialAgent

from textpro.agent.runtime import Runtime
from textpro.models.checkpoint import Checkpoint
from textpro.models.named import BUNDLED, model_folder
from textpro.models.padded_models import is_padded

NAME = "turn end"
SHARE = 0.5


async def measure_sessions(checkpoint: Checkpoint, script: Script) -> tuple[list[Answered | None], list[Answered | None]]:
    """What came of the questions with speculation and without, one after the other."""
    async with Runtime(checkpoint, speak=False, slots=2) as runtime:
        found = []
        for drafts in (True, True, False):  # the first one warms up
            short = Script(script.samples[: script.questions[0][1] + 16_000], script.questions[:1])
            async with session_of(runtime, drafts=drafts, eager=True) as session:
                found.append(await Caller(session, script if found else short).call())
    return found[1], found[2]


def measure_sequential(
    options: argparse.Namespace, checkpoint: Checkpoint, script: Script, turns: Sequence[Answered | None]
) -> list[Answered | None]:
    """The same turns, recorded from their start to their end."""
    sounds = [None if turn is None else script.samples[turn.start : turn.end].astype(np.float32) for turn in turns]
    first = next(sound for sound in sounds if sound is not None)
    with plain_attention(checkpoint) as model:
        agent: FullSequentialAgent | SequentialAgent
        if is_full(checkpoint):
            agent = FullSequentialAgent(checkpoint)
        elif is_padded(options.model):
            agent = SequentialAgent(model_folder(BUNDLED), backbone=(model, checkpoint.backbone.projector))
        else:
            agent = SequentialAgent(model_folder(options.model))
        agent.first_token_ms(first)
        return [
            None if turn is None or sound is None else replace(turn, late_ms=agent.first_token_ms(sound))
            for turn, sound in zip(turns, sounds, strict=True)
        ]


def measure(options: argparse.Namespace) -> list[Line]:
    """Two lines for each way: the whole, and what comes behind the silence. None where no question was answered."""
    checkpoint = load(options)
    said = questions(options.questions)
    script = spoken_script(said, sum(one.last for one in said) / 16_000 / SHARE + 60, SHARE, 0)
    places = script.questions[: options.questions]
    script = Script(script.samples[: places[-1][1] + 24_000], places)
    speculative, plain = asyncio.run(measure_sessions(checkpoint, script))
    answered = [turn for turn in speculative if turn is not None]
    if not answered or not any(plain):
        return []
    ways = {
        "speculation": speculative,
        "no speculation": plain,
        "sequential": measure_sequential(options, checkpoint, script, speculative),
    }
    totals, behind = list[Line](), list[Line]()
    for name, turns in ways.items():
        known = [turn for turn in turns if turn is not None]
        floor = float(np.median([turn.silence_ms for turn in known]))
        missed = len(turns) - len(known)
        note = f"{missed} of {len(turns)} not answered" if missed else ""
        totals.append(line(NAME, "last sample to first token", name, [turn.total_ms for turn in known], floor=floor, note=note))
        behind.append(line(NAME, "of it behind the silence", name, [turn.late_ms for turn in known]))
    return [*_compared(totals), *_compared(behind)]


def _compared(lines: Sequence[Line]) -> list[Line]:
    slowest = lines[-1]
    return [
        replace(one, note=", ".join(filter(None, (f"sequential takes {times(slowest, one)}", one.note)))) if one.p50 > 0 else one
        for one in lines[:-1]
    ] + [slowest]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; exit status."""
    made = parser(__doc__, RESULTS / "turn_end.csv")
    made.add_argument("--questions", type=int, help="default 4")
    options = parsed(made, arguments)
    options.questions = options.questions or (1 if options.quick else 4)
    return finish(measure(options), options)


if __name__ == "__main__":
    sys.exit(main())
