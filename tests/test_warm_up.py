"""The warm-up of an engine: what it tells, that it changes no answer, and that closing ends it."""

from __future__ import annotations

import asyncio

import pytest
import torch

from requirements import require_cuda, require_module
from textpro.engine import Append, Decode, Engine
from textpro.engine.context import Context
from textpro.engine.graphs import StepGraphs, sizes
from textpro.engine.slab import Slab
from textpro.models.cuda_graphs import Forward
from textpro.models.errors import EngineError
from tiny_backbone import make_backbone, make_entries

BACKBONE, _ = make_backbone()
SLOT_LEN = 160
ROWS = (1, 4, 64)


def with_graphs(engine: Engine, slab: Slab, capture: object) -> None:
    """What an engine has on a GPU."""
    engine._graphs = StepGraphs(BACKBONE, slab, capture, ROWS)
    engine._lanes._replay = engine._graphs.run


async def replies(engine: Engine) -> tuple[list[list[int]], list[float]]:
    """Greedy tokens of three contexts at once and what their appends were asked."""
    contexts = [engine.open_context() for _ in range(3)]
    appended = await asyncio.gather(
        *(engine.run(Append(context, make_entries(9 + seed, seed), probe=(seed, 5))) for seed, context in enumerate(contexts))
    )

    async def read(context: Context) -> list[int]:
        return [token.id async for token in engine.stream(Decode(context, 12))]

    tokens = await asyncio.gather(*map(read, contexts))
    return tokens, [one for answer in appended for one in answer.probabilities.values()]


def test_a_warmed_up_engine_answers_as_one_without_graphs_and_told_how_far_it_was() -> None:
    async def main() -> None:
        async with Engine(BACKBONE, slot_len=SLOT_LEN) as cold, Engine(BACKBONE, slot_len=SLOT_LEN) as engine:
            replayed: list[int] = []

            def capture(forward: Forward) -> Forward:
                def replay() -> torch.Tensor:
                    replayed.append(1)
                    return forward()

                return replay

            with_graphs(engine, engine._residency._slab, capture)
            told: list[tuple[int, int]] = []
            await engine.warm_up(lambda done, total: told.append((done, total)))
            assert told == [(done, len(sizes(ROWS))) for done in range(1, len(sizes(ROWS)) + 1)]
            tokens, probabilities = await replies(engine)
            expected, wanted = await replies(cold)
            assert tokens == expected and probabilities == pytest.approx(wanted, abs=1e-5)
            assert len(replayed) == engine.stats().steps

    asyncio.run(main())


def test_without_a_gpu_there_is_nothing_to_warm_up() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")

    async def main() -> None:
        async with Engine(BACKBONE, slot_len=SLOT_LEN) as engine:
            await engine.warm_up(lambda done, total: pytest.fail("nothing is recorded"))

    asyncio.run(main())


def test_closing_the_engine_ends_the_warm_up() -> None:
    async def main() -> None:
        async with Engine(BACKBONE, slot_len=SLOT_LEN) as engine:
            with_graphs(engine, engine._residency._slab, lambda forward: forward)
            told: list[tuple[int, int]] = []

            def close_at_the_second(forward: Forward) -> Forward:
                if engine._graphs._replays:
                    engine._closed_because = "engine closed"
                return forward

            engine._graphs._capture = close_at_the_second
            with pytest.raises(EngineError, match="engine closed"):
                await engine.warm_up(lambda done, total: told.append((done, total)))
            assert len(engine._graphs._replays) == 2 < len(sizes(ROWS))

    asyncio.run(main())


def test_an_engine_on_cuda_warms_up_and_replies_as_without_graphs() -> None:
    require_cuda()
    require_module("triton")
    on_gpu = make_backbone()[0].moved(torch.device("cuda"), torch.float32)

    async def main() -> None:
        async with Engine(on_gpu, slots=6, slot_len=SLOT_LEN) as engine:
            eager = await replies(engine)
            told: list[tuple[int, int]] = []
            await engine.warm_up(lambda done, total: told.append((done, total)))
            assert told[-1] == (len(sizes()), len(sizes()))
            assert len(engine._graphs._replays) == len(sizes())
            tokens, probabilities = await replies(engine)
            assert tokens == eager[0] and probabilities == pytest.approx(eager[1], abs=1e-4)

    asyncio.run(main())
