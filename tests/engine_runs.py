"""Helpers of the engine's tests: an engine over one shared random backbone, a scripted speech model, and
the oracle's view of a log."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import pytest

from textpro.engine import Decode, Engine, Entry, SpeechItem, Token
from tiny_backbone import VOCAB, make_backbone

BACKBONE, ORACLE = make_backbone()
EVERY_ID = tuple(range(VOCAB))


@dataclass(frozen=True, slots=True)
class Encode:
    """A speech item of the tests."""

    stream: object
    value: object


class ScriptedSpeech:
    """Doubles numbers, returns exceptions as they are, and waits while its gate is shut."""

    def __init__(self) -> None:
        self.batches: list[list[object]] = []
        self.threads: set[int] = set()
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def run(self, items: Sequence[SpeechItem]) -> Sequence[object]:
        self.entered.set()
        assert self.gate.wait(20)
        self.threads.add(threading.get_ident())
        values = [item.value for item in items]
        self.batches.append(values)
        if "crash" in values:
            raise RuntimeError("the model fell over")
        return [value if isinstance(value, Exception) else value * 2 for value in values]


def with_engine(body: Callable[[Engine], Awaitable[None]], **options: object) -> None:
    """Run `body` with an engine over the shared backbone, and close it."""

    async def main() -> None:
        async with Engine(BACKBONE, **{"slot_len": 128, **options}) as engine:
            await asyncio.wait_for(body(engine), 60)

    asyncio.run(main())


async def read(engine: Engine, decode: Decode) -> list[Token]:
    return [token async for token in engine.stream(decode)]


async def entered(speech: ScriptedSpeech) -> None:
    await asyncio.to_thread(speech.entered.wait, 20)


def probabilities(entries: Sequence[Entry]) -> dict[int, float]:
    return dict(enumerate(ORACLE.logits(entries)[-1].softmax(-1).tolist()))


def assert_probabilities(got: dict[int, float], entries: Sequence[Entry]) -> None:
    assert got == pytest.approx(probabilities(entries), abs=1e-5)
