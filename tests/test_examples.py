"""The examples do what their first lines say: each is run with the bundled model, as its user runs it."""

from __future__ import annotations

import asyncio
import importlib.util
import socket
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from conversation import spoken
from phone import CONNECTED, Caller
from textpro.streaming.audio import int16_from_mono
from textpro.streaming.resample import resample
from textpro.streaming.wav import write_wav

EXAMPLES = Path(__file__).parents[1] / "examples"
LIMIT_S = 240


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def by_phone(tone: str) -> np.ndarray:
    """A question about an order, int16 at 8 kHz."""
    samples = int16_from_mono(resample(spoken("where is order four seven one nine", tone), 16_000, 8_000))
    return samples[: len(samples) // 160 * 160].reshape(-1, 160)


async def call(line: ClientConnection, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The same question twice, calm and then angry, to the end of the call; what the desk has written down."""
    caller, lines = Caller(), list[str]()

    async def say(tone: str) -> None:
        for frame in by_phone(tone):
            await line.send(caller.media(frame))

    async def hear(is_over: Callable[[], bool]) -> None:
        while not is_over():
            try:
                async with asyncio.timeout(0.05):
                    answers = caller.take(str(await line.recv()))
            except TimeoutError:
                answers = caller.play()
            for answer in answers:
                await line.send(answer)
            lines.extend(capsys.readouterr().out.splitlines())

    await line.send(CONNECTED)
    await line.send(caller.start())
    await say("plain")
    await hear(lambda: any(text.startswith("agent:") for text in lines))
    await say("angry")
    with pytest.raises(ConnectionClosed):
        await hear(lambda: False)
    assert (line.close_code, line.close_reason) == (1000, "the agent left the call")
    assert np.abs(caller.sound).max() > 2_000
    return [*lines, *capsys.readouterr().out.splitlines()]


@pytest.mark.usefixtures("espeak_library")
def test_the_call_center_tells_where_an_order_is_and_hands_an_angry_caller_to_a_person(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TWILIO_AUTH_TOKEN", raising=False)
    desk = example("call_center")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    async def scenario() -> list[str]:
        serving = asyncio.create_task(desk.main("127.0.0.1", port, None))
        while "taking calls" not in capsys.readouterr().out:
            assert not serving.done(), serving
            await asyncio.sleep(0.05)
        try:
            async with connect(f"ws://127.0.0.1:{port}/twilio") as line:
                return await call(line, capsys)
        finally:
            serving.cancel()
            await asyncio.wait((serving,))

    lines = asyncio.run(asyncio.wait_for(scenario(), LIMIT_S))
    asked = "caller: where is order four seven one nine"
    plain, angry, handed = [text for text in lines if not text.startswith("agent:")]
    assert plain == asked
    assert angry.startswith("caller: where is order")  # a digit that is shouted over a telephone may be heard wrongly
    assert handed == "to a person: the caller sounds angry"
    assert "tuesday" in lines[1].lower()


@pytest.mark.usefixtures("espeak_library")
def test_the_agent_works_inside_a_program_that_goes_on_meanwhile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    question = tmp_path / "question.wav"
    write_wav(question, int16_from_mono(spoken("turn on the kitchen light")), 16_000)
    house = asyncio.run(asyncio.wait_for(example("embed").main(["turn on the bedroom light"], str(question)), LIMIT_S))
    out = capsys.readouterr().out
    assert house.lights == {"kitchen", "bedroom"}
    assert "you:   turn on the kitchen light" in out and out.count("agent:") == 2
    assert {0, 60, 120} == set(house.readings) and len(house.readings) > 10  # half a second of them
    assert float(out.split("; ")[-1].split()[0]) > 1


def test_an_example_says_how_it_is_started() -> None:
    for file in sorted(EXAMPLES.glob("*.py")):
        told = file.read_text(encoding="utf-8").split('"""')[1]
        assert "python examples/" in told or file.name == "minimal.py", file.name
