"""What a scenario's steps do: the user acts, then the scenario looks at what has come of it.

Expectations go through the moments in order: each begins behind the one that the last expectation was met by.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from ..models.errors import TextProError
from ..streaming.clock import ms_to_samples
from .scenario import Absent, Expect, Memory, Noise, Press, Say, Scenario, Silence, Type
from .simulated_client import FRAME_MS, Client, Moment
from .simulated_user import noise

REPLY_WAIT_MS = 6_000
"""How long an act at a point of the reply waits for that point."""


class Failure(TextProError):
    """An expectation was not met."""


class Steps:
    """One scenario's. `speech` has the sound of each step that speaks; `context` spells what the model remembers."""

    def __init__(
        self, scenario: Scenario, client: Client, speech: Mapping[int, NDArray[np.float32]], context: Callable[[], str]
    ) -> None:
        self._scenario, self._client, self._speech, self._context = scenario, client, speech, context
        self._cursor = 0
        self._marks = {"act": 0, "speech_start": 0, "speech_end": 0, "step": 0, "sound_start": 0}
        self._place = ""

    async def run(self) -> None:
        """All steps in order. Failure at the first that is not met."""
        for index, step in enumerate(self._scenario.steps):
            line = self._scenario.lines[index] if index < len(self._scenario.lines) else 0
            self._place = f"{self._scenario.path}:{line}: step {index + 1}"
            self._marks["step"] = self._client.now_ms
            seen = len(self._client.moments)
            match step:
                case Say() | Noise():
                    await self._sound(self._speech[index] if isinstance(step, Say) else noise(step), step.at_reply_ms)
                case Type():
                    await self._client.session.send_text(step.type)
                    self._marks["act"] = self._client.now_ms
                    await self._client.tick()
                case Press():
                    await self._press(step)
                case Silence():
                    await self._silence(step.silence)
                case Expect():
                    await self._expect(step)
                case Absent():
                    await self._silence(step.for_ms)
                case Memory():
                    self._remember(step)
            if not isinstance(step, Memory):
                self._check_absent(step.absent, seen)

    def check_totals(self) -> None:
        """Failure where an event came more or less often than it should by now."""
        for name, count in self._scenario.totals.items():
            came = sum(moment.type == name for moment in self._client.moments)
            if came != count:
                raise Failure(f"{self._scenario.path}: totals: expected {count} x {name}, and {came} came")

    async def _sound(self, samples: NDArray[np.float32], at_reply_ms: int | None) -> None:
        await self._wait_for_reply(at_reply_ms)
        self._marks["speech_start"] = self._client.now_ms
        size = ms_to_samples(FRAME_MS)
        padded = np.pad(samples, (0, -len(samples) % size))
        for start in range(0, len(padded), size):
            await self._client.tick(padded[start : start + size])
        self._marks["speech_end"] = self._marks["act"] = self._client.now_ms

    async def _press(self, step: Press) -> None:
        await self._wait_for_reply(step.at_reply_ms)
        session = self._client.session
        match step.press:
            case "commit":
                await session.commit()
            case "interrupt":
                await session.interrupt()
            case "accept" | "refuse":
                asked = [moment for moment in self._client.moments if moment.type == "confirmation_request"]
                if not asked:
                    raise Failure(f"{self._place}: press: no call waits for a decision")
                await session.confirm(str(asked[-1].values["call_id"]), step.press == "accept")
        self._marks["act"] = self._client.now_ms
        await self._client.tick()

    async def _wait_for_reply(self, at_ms: int | None) -> None:
        if at_ms is None:
            return
        for _ in range(REPLY_WAIT_MS // FRAME_MS):
            if self._client.ear.is_hearing and self._client.ear.heard_ms >= at_ms:
                return
            await self._client.tick()
        raise Failure(f"{self._place}: {at_ms} ms of a reply were not heard within {REPLY_WAIT_MS} ms")

    async def _silence(self, duration_ms: int) -> None:
        for _ in range(-(-duration_ms // FRAME_MS)):
            await self._client.tick()

    async def _expect(self, step: Expect) -> None:
        client = self._client
        since = self._marks[step.since]
        if step.since == "sound_start":
            since = max((moment.at_ms for moment in client.moments if moment.type == "sound_start"), default=since)
        while (found := self._next(step.expect)) is None:
            if client.now_ms - since >= step.within_ms:
                recent = [moment.type for moment in client.moments if moment.type not in _QUIET][-8:]
                raise Failure(
                    f"{self._place}: expected {step.expect} within {step.within_ms} ms; last: {', '.join(recent) or 'nothing'}"
                )
            await client.tick()
        late_ms = found.at_ms - since
        if late_ms > step.within_ms:
            raise Failure(f"{self._place}: expected {step.expect} within {step.within_ms} ms, and it came after {late_ms} ms")
        if step.after_ms and late_ms < step.after_ms:
            raise Failure(f"{self._place}: expected {step.expect} after {step.after_ms} ms, and it came after {late_ms} ms")
        self._check(step, found)

    def _next(self, name: str) -> Moment | None:
        """The next moment of that name, taken."""
        for index in range(self._cursor, len(self._client.moments)):
            if self._client.moments[index].type == name:
                self._cursor = index + 1
                return self._client.moments[index]
        return None

    def _check(self, step: Expect, found: Moment) -> None:
        said = str(found.values.get("text", found.values.get("question", "")))
        heard = str(found.values.get("heard_text", ""))
        wanted: list[tuple[str, object, object]] = []
        if step.text is not None:
            wanted.append(("text", plain(step.text), plain(said)))
        if step.heard_text is not None:
            wanted.append(("heard", plain(step.heard_text), plain(heard)))
        if step.tool is not None:
            wanted.append(("tool", step.tool, found.values.get("name")))
        if step.arguments is not None:
            wanted.append(("arguments", step.arguments, found.values.get("arguments")))
        wanted += [(name, value, found.values.get(name)) for name, value in step.fields.items()]
        for name, value, got in wanted:
            if value != got:
                raise Failure(f"{self._place}: {step.expect}: expected {name} {value!r}, got {got!r}")
        for words in step.contains:
            if plain(words) not in plain(said):
                raise Failure(f"{self._place}: {step.expect}: expected {words!r} in {said!r}")
        for words in step.lacks:
            if plain(words) in plain(said):
                raise Failure(f"{self._place}: {step.expect}: did not expect {words!r} in {said!r}")
        if step.heard is not None:
            share = "nothing" if not plain(heard) else "all" if plain(heard) == plain(said) else "part"
            if "text" not in found.values and share == "all":
                share = "part"
            if share != step.heard:
                raise Failure(f"{self._place}: {step.expect}: expected {step.heard} to be heard, got {heard!r} of {said!r}")

    def _remember(self, step: Memory) -> None:
        context, at = plain(self._context()), 0
        for words in step.words:
            found = context.find(plain(words), at if step.memory == "holds" else 0)
            if step.memory == "holds":
                if found < 0:
                    raise Failure(f"{self._place}: expected {words!r} in the context, which ends {context[-200:]!r}")
                at = found + len(plain(words))
            elif found >= 0:
                raise Failure(f"{self._place}: did not expect {words!r} in the context, which ends {context[-200:]!r}")

    def _check_absent(self, names: list[str], seen: int) -> None:
        for moment in self._client.moments[seen:]:
            if moment.type in names:
                said = moment.values.get("text") or moment.values.get("heard_text") or ""
                raise Failure(f"{self._place}: did not expect {moment.type}, and it came at {moment.at_ms} ms {said!r}")


_QUIET = ("voice_activity", "update", "audio", "reply_delta", "metrics", "prosody", "tokens_committed")


def plain(text: str) -> str:
    """Lower case, without punctuation but the cut-off mark, single spaces."""
    return " ".join(re.findall(r"<cut>|[\w']+", text.lower()))
