"""A reply that is ducked stands still without a click, keeps its place and goes on from there."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from scripted_session import RecordingView, ScriptedSession
from textpro.agent.events import Audio, Duck, ReplyDone, Unduck
from textpro.serving.conversation import Conversation
from textpro.serving.local_audio.loudspeaker import FADE_MS, Loudspeaker
from textpro.serving.playback import ReplyPlayer

RATE = 16_000


def reply(samples: np.ndarray, turn_id: int = 1) -> Audio:
    return Audio(t_ms=0, turn_id=turn_id, pcm=samples.astype(np.int16), sample_rate=RATE, text="")


def speaker() -> tuple[Loudspeaker, list[int]]:
    told: list[int] = []
    loudspeaker = Loudspeaker(told.append, keep=True)
    loudspeaker.open(RATE)
    return loudspeaker, told


def pull(loudspeaker: Loudspeaker, ms: int, latency_ms: float = 40.0) -> np.ndarray:
    taken = []
    for _ in range(ms // 10):
        taken.append(loudspeaker.pull(RATE // 100, latency_ms))
        loudspeaker.advance(loudspeaker.newly_sounded_ms())
    return np.concatenate(taken)


def test_a_ducked_loudspeaker_is_silent_within_the_fade_and_goes_on_with_the_next_sample():
    loudspeaker, told = speaker()
    ramp = np.arange(1, 16_001)  # each sample says where it is from
    loudspeaker.add(reply(ramp))
    before = pull(loudspeaker, 200)
    loudspeaker.duck()
    ducked = pull(loudspeaker, 300)
    assert not ducked[RATE * FADE_MS // 1000 :].any() and abs(int(ducked[0])) > 0
    at = max(told)
    assert 200 <= at <= 200 + FADE_MS, "what the device had already taken has sounded, and no more"
    loudspeaker.unduck()
    after = pull(loudspeaker, 900)
    first = int(after[RATE * FADE_MS // 1000 + 5]) - RATE * FADE_MS // 1000 - 5
    assert abs(first - (int(before[-1]) + RATE * FADE_MS // 1000 + 1)) <= 2, "nothing is lost and nothing said twice"
    assert told[-1] == 1000 and loudspeaker.pending_ms == 0 and loudspeaker.gaps == 0


def test_the_fade_has_no_jump():
    loudspeaker, _ = speaker()
    loudspeaker.add(reply(np.full(RATE, 8000)))
    steady = pull(loudspeaker, 100)
    loudspeaker.duck()
    down = pull(loudspeaker, 50)
    loudspeaker.unduck()
    up = pull(loudspeaker, 50)
    steps = np.abs(np.diff(np.concatenate([steady[-100:], down, up]).astype(int)))
    assert steps.max() <= 8000 / (RATE * FADE_MS / 1000) * 2


def test_a_ducked_reply_that_is_cut_off_leaves_the_next_one_loud():
    loudspeaker, told = speaker()
    loudspeaker.add(reply(np.full(RATE, 8000)))
    pull(loudspeaker, 100)
    loudspeaker.duck()
    pull(loudspeaker, 50)
    loudspeaker.drop_unplayed()
    assert not pull(loudspeaker, 50).any()
    loudspeaker.add(reply(np.full(1600, 8000), turn_id=2))
    assert (pull(loudspeaker, 200) > 7000).sum() >= 1500
    assert told[-1] == 100


def test_a_player_without_sound_stands_still_while_it_is_ducked():
    told: list[int] = []
    player = ReplyPlayer(told.append, keep=False)
    player.add(reply(np.zeros(RATE)))
    player.advance(300)
    player.duck()
    player.advance(5_000)
    player.unduck()
    player.advance(100)
    assert told == [300, 400]


@pytest.mark.parametrize("other_turn", [1, 2])
def test_a_reply_after_one_that_is_over_is_played_from_its_beginning_whatever_its_turn(other_turn):
    told: list[int] = []

    async def run() -> None:
        session, view = ScriptedSession(), RecordingView()
        async with Conversation(session, view) as conversation:
            conversation.player = ReplyPlayer(told.append, keep=False)
            for turn_id in (1, other_turn):
                session.events.put_nowait(reply(np.zeros(RATE // 10), turn_id))
                await conversation.drained()
                conversation.play(100)
                session.events.put_nowait(ReplyDone(t_ms=0, turn_id=turn_id, text="", heard_text="", interrupted=False))
                await conversation.drained()

    asyncio.run(run())
    assert told == [100, 100]


def test_a_conversation_ducks_the_reply_that_the_event_means_and_no_other():
    async def run() -> None:
        session, view = ScriptedSession(), RecordingView()
        async with Conversation(session, view) as conversation:
            session.events.put_nowait(reply(np.zeros(RATE), 3))
            session.events.put_nowait(Duck(t_ms=0, turn_id=2))
            await conversation.drained()
            assert not conversation.player.is_ducked
            session.events.put_nowait(Duck(t_ms=0, turn_id=3))
            await conversation.drained()
            assert conversation.player.is_ducked
            session.events.put_nowait(Unduck(t_ms=0, turn_id=3))
            await conversation.drained()
            assert not conversation.player.is_ducked

    asyncio.run(run())
