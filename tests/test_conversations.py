"""The bundled model on real audio, through the whole path: questions, tools, follow-ups, tones, noise, formats, interruption."""

import asyncio
import contextlib
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
import soxr

from conversation import converse, spoken
from textpro.agent.events import (
    Audio,
    Event,
    Failed,
    Interrupt,
    ReplyDone,
    ToolCall,
    ToolResult,
    TurnEnd,
    TurnResumed,
    TurnStart,
)
from textpro.agent.runtime import Runtime
from textpro.agent.session import Session
from textpro.models.errors import AudioError, CapacityError, InputError, TextProError
from textpro.models.named import model_folder
from textpro.training.augment import colored_noise

MODEL = Path(os.environ.get("TEXTPRO_TEST_MODEL") or model_folder("tiny"))


def run(talk: Callable[[Runtime], Awaitable[None]], speak: bool = False) -> None:
    """Run a conversation with a runtime of its own."""

    async def main() -> None:
        async with Runtime(MODEL, speak=speak) as runtime:
            await talk(runtime)

    asyncio.run(main())


def one(events: list[Event], kind: type) -> Event:
    found = [event for event in events if isinstance(event, kind)]
    assert len(found) == 1, [event.to_json() for event in events if not isinstance(event, Audio)][-30:]
    return found[0]


async def ask(session: Session, text: str, **how) -> list[Event]:
    return await converse(session, spoken(text, **how))


def test_a_long_typed_turn_is_made_into_tokens_beside_the_event_loop():
    async def talk(runtime):
        threads, chat = [], runtime.checkpoint.chat
        plainly = type(chat).words

        def noted(text: str) -> tuple[int, ...]:
            threads.append(threading.current_thread() is threading.main_thread())
            return plainly(chat, text)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(chat, "words", noted)
            async with runtime.session() as session:
                await session.send_text("i " * 100)
                with pytest.raises(InputError, match="holds no words"):
                    await session.send_text(" " * 6_000)
        assert threads == [True, False]

    run(talk)


def test_a_spoken_question_is_answered():
    async def talk(runtime):
        async with runtime.session() as session:
            events = await ask(session, "what is twenty plus thirty")
        assert one(events, TurnEnd).text == "what is twenty plus thirty"
        assert one(events, ReplyDone).text == "Twenty plus thirty is fifty."

    run(talk)


def test_a_spoken_command_calls_the_tool_and_the_result_is_spoken():
    async def talk(runtime):
        async with runtime.session() as session:
            events = await ask(session, "turn on the kitchen light")
        call = one(events, ToolCall)
        assert (call.name, call.arguments) == ("set_light", {"room": "kitchen", "state": "on"})
        assert one(events, ToolResult).result == {"ok": True}
        assert "kitchen" in one(events, ReplyDone).text

    run(talk)


def test_own_tools_get_the_arguments_and_their_faults_come_back_as_results():
    seen = []

    def set_light(room: str, state: str) -> dict:
        seen.append((room, state))
        raise RuntimeError("the bulb is broken")

    async def talk(runtime):
        async with runtime.session(tools=[set_light]) as session:
            await session.send_text("turn on the kitchen light")
            events = await converse(session, np.zeros(0, np.float32))
        assert seen == [("kitchen", "on")]
        first = next(event for event in events if isinstance(event, ToolResult))
        assert "the bulb is broken" in first.result["error"]
        assert one(events, ReplyDone).text

    run(talk)


def test_a_follow_up_refers_to_the_turn_before():
    async def talk(runtime):
        async with runtime.session() as session:
            await ask(session, "what is twenty plus thirty")
            events = await ask(session, "and plus five", seed=1)
        assert one(events, ReplyDone).text == "Fifty plus five is fifty five."

    run(talk)


def test_the_same_words_in_two_tones_get_different_answers():
    async def talk(runtime):
        replies = {}
        for tone in ("happy", "sad"):
            async with runtime.session() as session:
                events = await ask(session, "i lost my keys", tone=tone)
            assert one(events, TurnEnd).text == "i lost my keys"
            replies[tone] = one(events, ReplyDone).text
        assert replies["happy"] != replies["sad"]

    run(talk)


def test_with_prosody_off_both_tones_get_the_same_answer_and_no_vector_is_kept():
    async def talk(runtime):
        replies = set()
        for tone in ("happy", "sad"):
            async with runtime.session(prosody=False) as session:
                events = await ask(session, "i lost my keys", tone=tone)
                assert all(entry.vector is None for entry in session.entries)
                assert not [event for event in events if event.type == "prosody"]
            replies.add(one(events, ReplyDone).text)
        assert len(replies) == 1

    run(talk)


@pytest.mark.parametrize("kind", ["silence", "white", "pink", "hum", "clicks"])
def test_silence_and_noise_give_no_turn(kind):
    rng, n = np.random.default_rng(1), 16_000 * 10
    samples = {
        "silence": lambda: np.zeros(n),
        "white": lambda: 0.1 * rng.standard_normal(n),
        "pink": lambda: 0.05 * colored_noise(rng, n, 1.0),
        "hum": lambda: 0.1 * np.sin(2 * np.pi * 50 / 16_000 * np.arange(n)),
        "clicks": lambda: (rng.random(n) < 1e-4).astype(float),
    }[kind]()  # fmt: skip

    async def talk(runtime):
        async with runtime.session() as session:
            events = await converse(session, np.clip(samples, -1, 1).astype(np.float32))
        assert not [event for event in events if isinstance(event, TurnEnd | ReplyDone)]

    run(talk)


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (48_000, 2), (44_100, 1)])
def test_other_rates_and_channels_are_understood(rate, channels):
    audio = soxr.resample(spoken("what is twenty plus thirty"), 16_000, rate).astype(np.float32)
    audio = np.stack([audio] * channels, 1) if channels > 1 else audio

    async def talk(runtime):
        async with runtime.session() as session:
            events = await converse(session, audio, lambda: rate // 50, rate)
        assert one(events, ReplyDone).text == "Twenty plus thirty is fifty."

    run(talk)


def test_a_pause_inside_a_sentence_does_not_end_the_turn():
    first, second = spoken("what is twenty", after_ms=0), spoken("plus thirty", before_ms=0, seed=1)

    async def talk(runtime):
        async with runtime.session() as session:
            events = await converse(session, np.concatenate([first, second]))
        assert [event for event in events if isinstance(event, TurnResumed)]
        assert one(events, TurnStart) and one(events, TurnEnd).text == "what is twenty plus thirty"

    run(talk)


async def cut_off_reply(session: Session) -> str:
    """Ask, hear two fifths of the answer, cut it off; gives what was heard."""
    await session.send_text("what is twenty plus thirty")
    await session.settled()
    sound = sum(len(event.pcm) / event.sample_rate for event in session.said() if isinstance(event, Audio))
    session.played(sound * 1000 * 0.4)
    await session.interrupt()
    events = await converse(session, np.zeros(0, np.float32))
    heard = one(events, Interrupt).heard_text
    done = one(events, ReplyDone)
    assert done.interrupted and done.heard_text == heard and done.text == "Twenty plus thirty is fifty."
    return heard


def test_after_an_interruption_the_context_holds_what_was_heard_and_a_mark():
    async def talk(runtime):
        chat = runtime.checkpoint.chat
        async with runtime.session(playback="acknowledged") as session:
            heard = await cut_off_reply(session)
            ids = [entry.token_id for entry in session.entries]
        assert heard and "Twenty plus thirty is fifty.".startswith(heard) and not heard.endswith("fifty.")
        reply = ids[ids.index(chat.cut_off_id) - len(chat.reply(heard)) : ids.index(chat.cut_off_id)]
        assert tuple(reply) == chat.reply(heard)
        assert tuple(ids[ids.index(chat.cut_off_id) + 1 :]) == chat.reply_close()

    run(talk, speak=True)


def test_asked_what_it_just_said_the_agent_repeats_the_heard_part_alone():
    async def talk(runtime):
        async with runtime.session(playback="acknowledged") as session:
            heard = await cut_off_reply(session)
            await session.send_text("what did you just say")
            await session.settled()
            reply = "".join(event.text for event in session.said() if event.type == "reply_delta")
        assert heard.rstrip(",") in reply and "fifty" not in reply

    run(talk, speak=True)


def test_no_audio_is_lost_when_a_client_changes_its_sample_rate_again_and_again():
    async def talk(runtime):
        async with runtime.session() as session:
            for _ in range(50):
                for rate in (48_000, 16_000, 8_000):
                    await session.send_audio(np.zeros(rate // 25, np.float32), rate)
            await session.settled()
            heard = [event.t_ms for event in session.said() if event.type == "voice_activity"]
        assert 50 * 3 * 40 - 64 <= heard[-1] <= 50 * 3 * 40

    run(talk)


def test_audio_that_cannot_be_used_is_refused_to_the_caller_and_the_session_goes_on():
    async def talk(runtime):
        async with runtime.session() as session:
            with pytest.raises(AudioError, match="rate"):
                await session.send_audio(np.zeros(160, np.float32), 1)
            with pytest.raises(InputError, match="no words"):
                await session.send_text(" ?! ")
            await session.send_text("what is twenty plus thirty")
            events = await converse(session, np.zeros(0, np.float32))
        assert one(events, ReplyDone).text == "Twenty plus thirty is fifty."

    run(talk)


def test_one_failing_session_ends_with_a_reason_and_leaves_the_others_running():
    async def talk(runtime):
        async with runtime.session() as broken, runtime.session() as healthy:
            runtime.engine.close_context(broken._context)  # as if the engine had lost it
            await broken.send_text("what is twenty plus thirty")
            await broken.settled()
            failed = one(broken.said(), Failed)
            assert "closed" in failed.reason
            with pytest.raises(TextProError, match="ended"):
                await broken.send_text("hello")
            await healthy.send_text("what is twenty plus thirty")
            events = await converse(healthy, np.zeros(0, np.float32))
        assert one(events, ReplyDone).text == "Twenty plus thirty is fifty."

    run(talk)


def test_a_typed_turn_that_is_too_long_is_refused_and_the_session_goes_on():
    async def talk(runtime):
        async with runtime.session() as session:
            with pytest.raises(InputError, match=r"'what is twenty plus .*has 3000 tokens: at most \d+ are taken"):
                await session.send_text("what is twenty plus thirty " * 600)
            with pytest.raises(InputError, match="a typed turn is a NoneType: expected a string"):
                await session.send_text(None)
            with pytest.raises(AudioError, match="Audio is a bytes; expected a NumPy array"):
                await session.send_audio(b"abc", 16_000)
            for _ in range(3):  # the second and third have room because the ones before are forgotten
                await session.send_text("what is twenty plus thirty " * 320)
                await session.settled()
            assert not [event for event in session.said() if isinstance(event, Failed)]
            await session.send_text("what is twenty plus thirty")
            events = await converse(session, np.zeros(0, np.float32))
        assert one(events, ReplyDone).text == "Twenty plus thirty is fifty."

    run(talk)


def test_a_session_that_was_not_entered_says_so():
    async def talk(runtime):
        session = runtime.session()
        with pytest.raises(TextProError, match="has not begun: open it by `async with"):
            await session.send_text("hello")
        async with session:
            pass

    run(talk)


def test_more_conversations_than_slots_are_refused_with_a_reason():
    async def talk(runtime):
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(4):
                await stack.enter_async_context(runtime.session())
            with pytest.raises(CapacityError):
                await stack.enter_async_context(runtime.session())

    run(talk)
