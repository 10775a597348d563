"""Whatever the order of speech, silence, playing, typing and cutting in: what holds for events, ledger, history and context."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from scripted_ears import EarsTalk, speech
from scripted_engine import run
from textpro.agent.turns import Agent, Decision, TurnMachine, TurnSettings, TurnState
from tool_machine import Machine, assert_well_formed, call

REPLIES = ("One two three four five six seven eight nine ten.", "Yes. Eleven twelve thirteen, fourteen fifteen sixteen.")
P_END = {"there": 0.9, "it": 0.5, "stop": 0.01, "yes": 0.9, "moment": 0.9}
STEP = st.one_of(
    st.tuples(
        st.just("say"), st.sampled_from(["hello there", "what time is it", "stop", "mm hm", "yes", "noise noise", "noise " * 7])
    ),
    st.tuples(st.just("pause"), st.sampled_from([128, 256, 512, 1_024, 2_304])),
    st.tuples(st.just("still"), st.sampled_from([128, 512])),  # audio time without playback
    st.tuples(st.just("wait"), st.sampled_from([1, 10, 400])),  # for tools
    st.tuples(st.sampled_from(["type", "interrupt", "commit", "say all"]), st.none()),
)


async def do(talk: EarsTalk, step: tuple[str, Any]) -> None:
    match step:
        case "say" | "pause", part:
            await talk.hear(part)
        case "still", ms:
            await talk.hear(ms, plays=False)
        case "wait", ms:
            await asyncio.sleep(ms / 1000)
        case "type", _:
            await talk.session.send_text("hello")
        case "interrupt", _:
            await talk.session.interrupt()
        case "commit", _:
            await talk.session.commit()
        case "say all", _:  # in one piece, faster than anything is worked off
            await talk.session.send_audio(speech("what time is it", 512), 16_000)
    talk.look()


def check_events(events: list[Any]) -> None:
    """Order within turns, and nothing of a reply behind its end."""
    eager: dict[int, str] = {}
    ended: set[tuple[int, int]] = set()
    called: set[str] = set()
    answered: set[str] = set()
    open_turns: set[int] = set()
    over: set[tuple[int, int]] = set()
    ducked: set[int] = set()
    for event in events:
        turn, reply = event.turn_id, (event.turn_id, event.revision)
        match event.type:
            case "turn_start":
                assert not open_turns, "one turn at a time"
                open_turns.add(turn)
            case "eager_turn_end":
                assert event.text
                eager[turn] = event.text
            case "turn_resumed":
                assert turn in eager, "only after an eager end"
                over.add((turn, event.revision - 1))
                open_turns.add(turn)
            case "turn_end":
                if turn in open_turns:
                    assert event.text == eager[turn]
                open_turns.discard(turn)
                ended.add(reply)
            case "tool_call":
                assert reply in ended, "no tool before its turn is accepted"
                assert event.call_id not in called, "none twice"
                called.add(event.call_id)
            case "tool_result":
                assert event.call_id in called and event.call_id not in answered, "one result, of a call that was made"
                answered.add(event.call_id)
            case "turn_dropped":
                open_turns.discard(turn)
            case "duck":
                assert reply not in over and turn not in ducked
                ducked.add(turn)
            case "unduck":
                ducked.remove(turn)
            case "audio" | "reply_delta":
                assert reply not in over, "no reply after its end"
            case "reply_done":
                assert reply not in over
                over.add(reply)
                ducked.discard(turn)
                assert event.text.startswith(event.heard_text.rstrip()) or event.heard_text == ""
                assert event.interrupted or event.heard_text == event.text
            case "failed":
                raise AssertionError(event.reason)
    assert not ducked, "nothing stays ducked"


def check_history(talk: EarsTalk) -> None:
    """Context, history and ledger agree: user turns as ended, replies as heard."""
    turns = re.findall(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>\n", talk.history, re.S)
    if turns:
        assert_well_formed(talk.history)
    assert talk.session.history == talk.session.entries
    users = [text.strip() for role, text in turns if role == "user" and "<tool_response>" not in text]
    last = {event.turn_id: event.text for event in talk.of("turn_end")}
    assert users == [last[turn] for turn in sorted(last)]
    said = " ".join(re.sub(r"<tool_call>.*?</tool_call>|<\|cut_off\|>", " ", text, flags=re.S) for role, text in turns
                   if role == "assistant")  # fmt: skip
    heard = " ".join(event.heard_text for event in talk.of("reply_done"))
    assert Counter(said.split()) == Counter(heard.replace("One moment.", "").split())


@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(STEP, max_size=9),
    script=st.lists(st.sampled_from([*REPLIES, call("left"), call("right")]), max_size=6),
    seconds=st.sampled_from([0.0, 0.3]),
)
def test_whatever_happens_events_history_and_context_agree_and_nobody_is_stuck(steps, script, seconds):
    machine = Machine(seconds, filler=None)

    async def main() -> None:
        async with EarsTalk(*script, tools=[machine.tool], p_end=P_END) as talk:
            for step in steps:
                await do(talk, step)
            for _ in range(6):
                await talk.hear(2_560)
                await asyncio.sleep(1)
                await talk.settled()
            check_events(talk.events)
            assert talk.session._floor.is_free and talk.session._desk.reply is None, "nobody is stuck"
            check_history(talk)
            answered = {event.turn_id for event in talk.of("reply_done")}
            assert answered == {event.turn_id for event in talk.of("turn_end")}, "each turn is answered"
            before = len(talk.of("turn_end"))
            await talk.hear("hello there", 4_000)
            assert len(talk.of("turn_end")) == before + 1, "and the next one is heard"
            accepted = {(event.turn_id) for event in talk.of("turn_end")}
            assert {event.turn_id for event in talk.of("tool_call")} <= accepted
            made = Counter((event.turn_id, str(event.arguments)) for event in talk.of("tool_call"))
            assert len(machine.started) <= len(made), "no tool twice"

    run(main)


EVENT = st.tuples(
    st.sampled_from(["start", "end", "voice", "advance", "words", "agent", "judged", "hold", "force"]),
    st.integers(0, 700),
    st.floats(0, 1),
)
ALLOWED = {
    Decision.START: {Decision.SOFT_END},
    Decision.SOFT_END: {Decision.RESUME, Decision.END},
    Decision.RESUME: {Decision.SOFT_END},
    Decision.END: {Decision.START, Decision.REOPEN, Decision.OVERLAP},
    Decision.REOPEN: {Decision.SOFT_END},
    Decision.OVERLAP: {Decision.DUCK, Decision.JUDGE, Decision.CANCEL, Decision.SOFT_END},
    Decision.DUCK: {Decision.JUDGE, Decision.CANCEL, Decision.SOFT_END},
    Decision.JUDGE: {Decision.CANCEL, Decision.BACKCHANNEL, Decision.FALSE_ALARM},
    Decision.CANCEL: {Decision.SOFT_END},
    Decision.BACKCHANNEL: {Decision.START, Decision.REOPEN, Decision.OVERLAP},
    Decision.FALSE_ALARM: {Decision.START, Decision.REOPEN, Decision.OVERLAP},
}


@settings(max_examples=300, deadline=None)
@given(st.lists(EVENT, max_size=60), st.sampled_from(["model", "vad"]))
def test_any_history_gives_decisions_in_an_order_that_can_be_carried_out(history, endpointing):
    machine, now, said = TurnMachine(TurnSettings(endpointing=endpointing)), 0, []
    for what, step, p in history:
        now += step
        match what:
            case "start":
                said.append(machine.speech_started(now))
            case "end":
                machine.speech_ended(now)
            case "voice":
                machine.voice(now, p)
            case "words":
                said.append(machine.heard_words(["mm", "stop", "that"][: step % 4]))
            case "agent":
                machine.agent = list(Agent)[step % 3]
            case "judged" if machine.state is TurnState.SOFT_END:
                machine.judged(p)
            case "hold" if machine.state is TurnState.SOFT_END:
                machine.hold()
            case "force":
                said += machine.force_end()
        while decision := machine.advance(now):
            said.append(decision)
            if decision is Decision.JUDGE:
                said.append(machine.judge_overlap(["mm", "hm", "stop"][: step % 4]))
    done = [decision for decision in said if decision is not None]
    for before, after in pairwise(done):
        assert after in ALLOWED[before], done
    machine.agent = Agent.SILENT
    machine.speech_ended(now)
    machine.advance(now)
    for _ in range(4):
        now += 20_000
        while machine.advance(now):
            pass
    assert machine.state in (TurnState.IDLE, TurnState.STARTING), "no state lasts for ever in silence"


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_more_certainty_never_needs_more_silence(p, q, acoustic):
    timing = TurnSettings(endpointing="model")
    low, high = sorted((p, q))
    assert timing.sure_silence_ms <= timing.silence_needed_ms(high) <= timing.silence_needed_ms(low) <= timing.unsure_silence_ms
    assert timing.silence_needed_ms(high, acoustic) <= timing.silence_needed_ms(low, acoustic)
    assert TurnSettings(endpointing="vad").silence_needed_ms(p) == TurnSettings().end_silence_ms
