"""Conversations in virtual time: a simulated user and a client around real sessions of the real model.

The user's sound arrives in frames of 20 ms of virtual time, the replies play on the same time, and time stands still while
the engine or the voice is at work. One runtime serves all scenarios of a run, each in a session of its own.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..agent.relay import RelayedVoice, relayed_engine
from ..agent.runtime import Runtime
from ..agent.session import Session
from ..agent.tools import Tool, Toolbox
from ..models.errors import TextProError
from ..streaming.espeak_frames import EspeakVoice
from ..streaming.voices import VoiceSource
from .scenario import Say, Scenario, ScriptedTool
from .simulate_costs import COSTS, ChargedTime
from .simulate_replay import Recorded, Replay, read_recording, replay, said_in
from .simulate_rules import broken_rules
from .simulated_client import Client, Moment
from .simulated_steps import Failure, Steps
from .simulated_time import SimulatedTime
from .simulated_user import SpokenOnce, UserVoice

REST_MS = 6_000
"""Silence after the last step in which everything that is open must come to its end."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What became of a scenario. `user` and `agent` are what was said and heard, float32 [n] at 16 kHz; `engine_ms` what
    each kind of work took on this machine, in real time, the median, and `work` each piece: its size and milliseconds."""

    scenario: Scenario
    failures: tuple[str, ...]
    moments: tuple[Moment, ...]
    user: NDArray[np.float32]
    agent: NDArray[np.float32]
    wall_s: float
    engine_ms: dict[str, float]
    work: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether nothing was wrong."""
        return not self.failures

    @property
    def duration_ms(self) -> int:
        """Of the conversation, in virtual time."""
        return len(self.user) // 16


class Simulator:
    """A context manager, not async: it has an event loop of its own. `with Simulator() as simulator: simulator.run(scenario)`."""

    def __init__(self, model: str | Path = "tiny", threads: int | None = None) -> None:
        self.time = SimulatedTime()
        self._runtime = Runtime(model, speak=False, threads=threads)
        self._voices = VoiceSource(EspeakVoice())
        self._user_voice = UserVoice(self._voices)
        self._agent_voice = SpokenOnce(self._voices.synthesizer())
        self._runner = asyncio.Runner(loop_factory=self.time.new_event_loop)

    def __enter__(self) -> Self:
        self._runner.run(self._open())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._runner.run(self._close())
        finally:
            self._runner.close()

    def run(self, scenario: Scenario) -> Outcome:
        """Lead one conversation to its end. TextProError only for what is no fault of the session."""
        if scenario.kind == "replay":
            return self._lead_again(scenario)
        return self._runner.run(self._converse(scenario))

    def _lead_again(self, scenario: Scenario) -> Outcome:
        """The recording of a scenario; the events are told at the session's own times."""
        recorded = read_recording(scenario.recording_path)
        again = self.replay(recorded)
        failures: list[str] = [] if again.difference is None else [again.difference]
        counts = Counter(event["type"] for event in again.events)
        failures += [
            f"expected {n} x {name}, and {counts[name]} came" for name, n in scenario.totals.items() if counts[name] != n
        ]
        moments = tuple(Moment(event["t_ms"], event["type"], event) for event in again.events)
        said = said_in(recorded)
        return Outcome(scenario, tuple(failures), moments, said, np.zeros_like(said), again.wall_s, {})

    def replay(self, recorded: Recorded) -> Replay:
        """Lead a recorded session again. InputError if its settings are of another version."""
        return self._runner.run(replay(recorded, self._runtime, self.time))

    async def _open(self) -> None:
        with self.time.aside():
            await self._runtime.__aenter__()
            await self._voices.start()

    async def _close(self) -> None:
        with self.time.aside():
            await self._voices.close()
            await self._runtime.__aexit__()

    async def _converse(self, scenario: Scenario) -> Outcome:
        began, time, runtime = perf_counter(), self.time, self._runtime
        keeper = ChargedTime(time, COSTS[scenario.costs])
        speech = {}
        with time.aside():
            for index, step in enumerate(scenario.steps):
                if isinstance(step, Say):
                    speech[index] = await self._user_voice.say(step.say, step.voice or scenario.voice)
        client = Client(scenario.line, time)
        session = client.session = Session(
            relayed_engine(runtime.engine, keeper),
            runtime.checkpoint,
            RelayedVoice(self._agent_voice, keeper),
            scripted_tools(scenario.tools, lambda name: client.note("tool_run", name=name)),
            scenario.session_settings(),
        )
        steps = Steps(scenario, client, speech, lambda: _spelled(runtime, session))
        failures: list[str] = []
        async with session, client:
            try:
                await steps.run()
                await _come_to_rest(client)
                steps.check_totals()
            except Failure as failure:
                failures.append(str(failure))
            except TextProError as error:
                failures.append(f"{type(error).__name__}: {error}")
        failures += broken_rules(client.happened)
        if not failures and not client.is_idle:
            failures.append(f"at the end, after {REST_MS} ms of silence, a turn or a reply is still open")
        return Outcome(
            scenario,
            tuple(failures),
            tuple(client.moments),
            client.user_sound,
            client.agent_sound,
            perf_counter() - began,
            keeper.took_ms,
            keeper.took,
        )


async def _come_to_rest(client: Client) -> None:
    for _ in range(REST_MS // 20):
        if client.is_idle:
            return
        await client.tick()


def scripted_tools(tools: Sequence[ScriptedTool], ran: Callable[[str], None]) -> Toolbox:
    """The demo tools, of which those of the scenario behave as it says; `ran(name)` is told of each run."""
    scripted = {tool.name: tool for tool in tools}
    demo = Toolbox()
    for name in scripted:
        demo.get(name)  # InputError for one that there is not

    def made(name: str) -> Tool:
        tool, script = demo.get(name), scripted.get(name)

        async def run(*args: Any, **kwargs: Any) -> Any:
            ran(name)
            if script is None:
                return await tool.run((args, kwargs))
            await asyncio.sleep(script.takes_ms / 1000)
            if script.fails is not None:
                raise RuntimeError(script.fails)
            return script.result

        if script is None:
            return replace(tool, function=run)
        return replace(
            tool,
            function=run,
            confirm=script.confirm,
            filler=script.filler,
            time_limit_s=script.time_limit_s,
            cancel_on_interrupt=script.cancel_on_interrupt,
        )

    return Toolbox([made(name) for name in demo.names])


def _spelled(runtime: Runtime, session: Session) -> str:
    """The context as text; `<cut>` for the cut-off mark."""
    chat = runtime.checkpoint.chat
    words: list[str] = []
    run: list[int] = []
    for entry in session.entries:
        if entry.token_id == chat.cut_off_id:
            words += [chat.text(run), "<cut>"]
            run = []
        elif entry.vector is None and entry.token_id is not None:
            run.append(entry.token_id)
    return " ".join([*words, chat.text(run)])
