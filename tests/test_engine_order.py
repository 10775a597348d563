"""Who is served first, and how ticks keep their distance under load: final passes before partial ones, old audio before new,
nobody for ever behind, and words that come at least every second."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType, SimpleNamespace

import numpy as np
import pytest

from engine_runs import Encode, ScriptedSpeech, entered, with_engine
from random_speech import CONFIG
from textpro.agent.listener import Listener, ListeningSettings
from textpro.engine import Append, Decode, Engine, SpeechDone, Urgency
from textpro.engine.pace import Pace
from textpro.models.fusion import Fusion
from textpro.models.speech_stream import Encode as EncodeMel
from tiny_backbone import make_entries

FINAL = Urgency(final=True)


@dataclass(frozen=True, slots=True)
class Verify(Encode):
    """A speech item of another kind."""


def order_of(
    *asked: tuple[str, int, Urgency], speech_batch: int = 32, kinds: Mapping[int, type[Encode]] = MappingProxyType({})
) -> list[list[object]]:
    """Batches in which work was done that came while the model was busy: (stream, value, urgency); `kinds` by value."""
    speech = ScriptedSpeech()
    speech.gate.clear()

    async def body(engine: Engine) -> None:
        first = asyncio.create_task(engine.run(Encode("busy", 0)))
        await entered(speech)
        rest = [
            asyncio.create_task(engine.run(kinds.get(value, Encode)(stream, value), urgency)) for stream, value, urgency in asked
        ]
        await asyncio.sleep(0)
        speech.gate.set()
        await asyncio.gather(first, *rest)

    with_engine(body, speech=speech, speech_batch=speech_batch)
    return speech.batches[1:]


def test_a_final_pass_goes_before_partial_work_that_came_first() -> None:
    assert order_of(("a", 1, Urgency()), ("b", 2, Urgency()), ("c", 3, FINAL)) == [[3], [1, 2]]


def test_final_passes_of_several_turns_share_a_batch() -> None:
    assert order_of(("a", 1, FINAL), ("b", 2, Urgency()), ("c", 3, FINAL)) == [[1, 3], [2]]


def test_the_items_of_a_turn_keep_their_order_when_its_end_is_urgent() -> None:
    assert order_of(("a", 1, Urgency()), ("b", 2, Urgency()), ("b", 3, FINAL)) == [[2], [3], [1]]


def test_work_on_the_oldest_audio_goes_first() -> None:
    asked = [("a", 1, Urgency()), ("b", 2, Urgency(late_samples=48_000)), ("c", 3, Urgency(late_samples=16_000))]
    assert order_of(*asked, speech_batch=1) == [[2], [3], [1]]
    assert order_of(*asked, speech_batch=2) == [[2, 3], [1]]


def test_partial_work_that_has_waited_long_waits_for_final_passes_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textpro.engine.speech.LONGEST_WAIT_S", -1.0)
    assert order_of(("a", 1, Urgency()), ("c", 2, FINAL)) == [[1, 2]]


def test_one_session_with_much_work_does_not_keep_another_waiting() -> None:
    asked = [("greedy", value, Urgency()) for value in range(1, 6)]
    assert order_of(*asked, ("modest", 9, Urgency()))[0] == [1, 9]


def test_a_batch_is_of_the_kind_of_its_most_urgent_work() -> None:
    asked = [("a", 1, Urgency()), ("b", 2, Urgency(late_samples=16_000)), ("c", 3, Urgency())]
    assert order_of(*asked, kinds={2: Verify}) == [[2], [1, 3]]


@pytest.mark.parametrize(("pause_s", "goes_on"), [(60.0, False), (0.0, True)])
def test_a_reply_pauses_while_a_final_pass_is_made(pause_s: float, goes_on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textpro.engine.engine.FOLLOW_UP_S", 5.0)
    monkeypatch.setattr("textpro.engine.engine.LONGEST_PAUSE_S", pause_s)

    async def body(engine: Engine) -> None:
        running, other = engine.open_context(), engine.open_context()
        await engine.run(Append(running, make_entries(4)))
        reply = engine.stream(Decode(running, 100))
        await anext(reply)
        await engine.run(Encode("turn", 0), FINAL)
        length = running.length
        for value in range(5):
            await engine.run(Encode("turn", value), FINAL)
        assert (running.length > length) == goes_on
        paused = running.length
        appended, _ = await asyncio.gather(engine.run(Append(other, make_entries(4))), engine.run(Encode("turn", 6), FINAL))
        assert appended.length == 4
        assert (running.length > paused) == goes_on
        reply.cancel()

    with_engine(body, speech=ScriptedSpeech())


def test_ticks_stretch_under_load_to_a_second_at_most_and_come_back() -> None:
    pace = Pace()
    at = pace._since
    distances = []
    for busy in (0.3, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.1, 0.1):
        pace.worked(at, at + busy)
        pace.worked(at + 0.6, at + 0.6)
        at += 0.6
        distances.append(pace.tick_ms)
    assert distances[0] == 320 and 320 < distances[1] < distances[2] < 1000
    assert distances[5:7] == [1000, 1000] and distances[-1] == 320
    assert pace.stretched_s == pytest.approx(6 * 0.6)


def test_what_a_session_costs_is_measured_by_new_audio_and_tokens() -> None:
    pace = Pace()
    assert pace.capacity(0.8) is None
    for _ in range(50):
        pace.spoke(0.05, 8_000)
        pace.spoke(0.05, 0)  # more work on the same audio
        pace.wrote(0.005, 1)
    assert pace.capacity(0.8) == int(0.8 / (0.4 * 0.2 + 4 * 0.005))
    for _ in range(200):
        pace.spoke(0.01, 8_000)
    assert pace.capacity(0.8) == int(0.8 / (0.4 * 0.02 + 4 * 0.005))
    pace.spoke(100.0, 8_000)
    assert pace.capacity(0.8) == 1


SPEECH = replace(CONFIG, block_frames=8, max_frames=128)


class Letters:
    """A tokenizer of single letters."""

    def __len__(self) -> int:
        return SPEECH.vocab_size

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [str(index) for index in ids]


class LoadedEngine:
    """Wants ticks `tick_ms` apart, and notes how urgent it was told that work is."""

    def __init__(self, tick_ms: int) -> None:
        self.tick_ms = tick_ms
        self.urgencies: list[Urgency] = []

    async def run(self, item: object, urgency: Urgency) -> SpeechDone:
        assert isinstance(item, EncodeMel)  # of a stream without frames: nothing else follows
        self.urgencies.append(urgency)
        item.stream.final_frames += len(item.mel) // 2 // SPEECH.block_frames * SPEECH.block_frames
        return SpeechDone(0, 0.0)


def ears_of(engine: LoadedEngine, longest_tick_ms: int) -> Listener:
    checkpoint = SimpleNamespace(
        speech=SimpleNamespace(config=SPEECH), tokenizer=Letters(), config={}, fusion=Fusion(),
        speech_text=lambda tokens: "", heard_ids=tuple,
    )  # fmt: skip
    return Listener(engine, checkpoint, True, ListeningSettings(longest_tick_ms=longest_tick_ms))


def ticks_of(ears: Listener, n_samples: int) -> list[int]:
    """Where a turn from 0 on ticked, in ms."""
    places = []

    async def play() -> None:
        for _ in range(n_samples // 512):
            for heard in ears.listen(np.zeros(512, np.float32)):
                if not ears.is_open:
                    ears.open(0)
                if ears.block_ready:
                    await ears.tick()
                    places.append(heard.now_samples // 16)
        await ears.finish()

    asyncio.run(play())
    return places


@pytest.mark.parametrize(("tick_ms", "distance"), [(320, 320), (640, 640), (1000, 960)])
def test_a_session_in_real_time_ticks_as_far_apart_as_the_engine_wants(tick_ms: int, distance: int) -> None:
    engine = LoadedEngine(tick_ms)
    ears = ears_of(engine, 1000)
    places = ticks_of(ears, 64_000)
    gaps = np.diff(places[1:])
    assert all(abs(gap - distance) <= 64 for gap in gaps), places
    assert (ears.skipped_ticks > 0) == (tick_ms > 320)


def test_a_session_that_is_not_in_real_time_never_stretches() -> None:
    ears = ears_of(LoadedEngine(1000), 0)
    assert len(ticks_of(ears, 64_000)) >= 11 and ears.skipped_ticks == 0


@pytest.mark.parametrize(("longest_tick_ms", "in_pause"), [(1000, False), (0, True)])
def test_in_real_time_no_tick_begins_in_a_pause_that_may_end_the_turn(
    longest_tick_ms: int, in_pause: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    voice = iter([0.9] * 9 + [0.1] * 9 + [0.9] * 9 + [0.1] * 20)  # chunks of 32 ms
    monkeypatch.setattr("textpro.streaming.vad.SpeechDetector._score", lambda self, chunk: next(voice))
    places = ticks_of(ears_of(LoadedEngine(320), longest_tick_ms), 46 * 512)
    assert any(288 < place <= 576 or 864 < place <= 1184 for place in places) == in_pause, places
    assert any(576 < place <= 864 for place in places) or in_pause
    assert any(place > 1184 for place in places)


def test_the_engine_is_told_what_is_final_and_how_much_audio_is_new() -> None:
    engine = LoadedEngine(320)
    ticks_of(ears_of(engine, 0), 32_000)
    assert [urgency.final for urgency in engine.urgencies] == [False] * (len(engine.urgencies) - 1) + [True]
    assert sum(urgency.audio_samples for urgency in engine.urgencies) == 32_000 // 512 * 512
    assert {urgency.late_samples for urgency in engine.urgencies} == {0}
