"""The user cuts in before, while and after a tool runs: nothing runs twice, and the model learns what came of it."""

from __future__ import annotations

import asyncio
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from scripted_engine import ScriptedTalk, run
from textpro.agent.session_settings import SessionSettings
from textpro.evaluation.partner import SilentVoice
from tool_machine import ANSWER, Machine, assert_well_formed, call, replies, results, until


def test_cut_off_while_it_writes_a_call_the_model_is_remembered_to_have_called_nothing():
    machine = Machine()

    async def main() -> None:
        async with ScriptedTalk([machine.tool], call(), ANSWER) as talk:
            await talk.session.send_text("turn")
            await asyncio.sleep(0.02)
            await talk.session.interrupt()
            await talk.settled()
            assert talk.history == "<|im_start|>user\n turn<|im_end|>\n<|im_start|>assistant\n<|cut_off|><|im_end|>\n"
        assert not machine.started

    run(main)


def test_cut_off_while_a_tool_runs_it_goes_on_and_the_model_knows_its_result_before_the_next_reply():
    machine = Machine(3, filler=None)

    async def main() -> None:
        async with ScriptedTalk([machine.tool], call(), "Fine.") as talk:
            await talk.session.send_text("turn")
            await until(talk, "tool_call")
            await talk.session.interrupt()
            await talk.settled()
            assert_well_formed(talk.history)
            assert '{"status": "still running"}' in talk.history
            await asyncio.sleep(5)
            assert results(talk) == [{"turned": "left"}]
            await talk.say("hello")
            assert talk.history.endswith(
                '</tool_call><|im_end|>\n<|im_start|>user\n<tool_response>\n{"turned": "left"}\n</tool_response><|im_end|>\n'
                "<|im_start|>assistant\n<|cut_off|><|im_end|>\n"
                "<|im_start|>user\n hello<|im_end|>\n<|im_start|>assistant\nFine.<|im_end|>\n"
            ), "as if it had come in time"
        assert machine.started == machine.ended == ["left"]

    run(main)


def test_a_result_that_comes_after_the_next_reply_is_told_before_the_one_after_it():
    machine = Machine(3, filler=None)

    async def main() -> None:
        async with ScriptedTalk([machine.tool], call(), "Fine.", "Good.") as talk:
            await talk.session.send_text("turn")
            await until(talk, "tool_call")
            await talk.say("hello")
            assert '"status": "still running"' in talk.history and "Fine." in talk.history
            await asyncio.sleep(5)
            before = talk.history
            await talk.say("and now")
            assert talk.history == before + (
                '<|im_start|>user\n<tool_response>\n{"late_result_of": "turn", "arguments": {"what": "left"}, "turned": "left"}\n'
                "</tool_response><|im_end|>\n<|im_start|>assistant\n<|cut_off|><|im_end|>\n"
                "<|im_start|>user\n and now<|im_end|>\n<|im_start|>assistant\nGood.<|im_end|>\n"
            )
            await talk.say("what else")
            assert talk.history.count('"turned"') == 1, "told once"

    run(main)


def test_called_again_while_it_still_runs_a_tool_is_waited_for_and_not_started_again():
    machine = Machine(3, filler=None)

    async def main() -> None:
        async with ScriptedTalk([machine.tool], call(), call(), ANSWER) as talk:
            await talk.session.send_text("turn")
            await until(talk, "tool_call")
            await talk.say("turn please")
            assert talk.history.endswith(
                f'{{"turned": "left"}}\n</tool_response><|im_end|>\n<|im_start|>assistant\n{ANSWER}<|im_end|>\n'
            )
            await talk.say("thank you")
            assert talk.history.count('"turned"') == 1
        assert machine.started == ["left"] and len(results(talk)) == 2

    run(main)


def test_a_tool_marked_so_is_cancelled_by_an_interruption_and_the_model_knows():
    machine = Machine(3, cancel_on_interrupt=True)

    async def main() -> None:
        async with ScriptedTalk([machine.tool], call(), ANSWER) as talk:
            await talk.session.send_text("turn")
            await until(talk, "tool_call")
            await talk.session.interrupt()
            await talk.settled()
            assert '{"ok": false, "error": "turn was cancelled: the user interrupted"}' in talk.history
            await asyncio.sleep(5)
            assert len(results(talk)) == 1 and not machine.ended

    run(main)


def test_cut_off_while_it_speaks_after_a_tool_the_reply_keeps_the_call_and_what_was_heard():
    machine = Machine(2, filler="One moment.")

    async def main() -> None:
        settings = SessionSettings(playback="acknowledged")
        async with ScriptedTalk(
            [machine.tool], call(), "It has been turned left.", settings=settings, synthesizer=SilentVoice()
        ) as talk:
            await talk.say("turn")
            talk.session.played(100 * 4)  # One moment. It has
            await talk.session.interrupt()
            await talk.settled()
            assert talk.history.endswith(
                '{"turned": "left"}\n</tool_response><|im_end|>\n<|im_start|>assistant\nIt has<|cut_off|><|im_end|>\n'
            )
            assert talk.of("interrupt")[0].heard_text == "One moment. It has"
        assert machine.started == ["left"]

    run(main)


def test_words_before_a_call_that_were_not_heard_are_not_remembered_but_the_call_is():
    machine = Machine(0.01)

    async def main() -> None:
        settings = SessionSettings(playback="acknowledged")
        async with ScriptedTalk(
            [machine.tool], ("I turn it now.", *call()), ANSWER, settings=settings, synthesizer=SilentVoice()
        ) as talk:
            await talk.say("turn")
            assert replies(talk) == [] and "I turn it now.\n<tool_call>" in talk.history
            talk.session.played(200)
            await talk.session.interrupt()
            await talk.settled()
            assert "assistant\nI turn<|cut_off|><tool_call>" in talk.history
            assert talk.history.endswith(
                '{"turned": "left"}\n</tool_response><|im_end|>\n<|im_start|>assistant\n<|cut_off|><|im_end|>\n'
            )

    run(main)


STEP = st.tuples(st.integers(0, 4_000), st.sampled_from(["interrupt", "hello", "turn", "yes", "no", "press"]))


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(STEP, max_size=6),
    script=st.lists(st.sampled_from([call("left"), call("right"), (*call("left"), *call("right")), "Well."]), max_size=8),
    seconds=st.sampled_from([0.0, 0.05, 1.0, 5.0]),
    confirm=st.booleans(),
    cancel=st.booleans(),
)
def test_whenever_the_user_cuts_in_no_tool_runs_twice_for_one_turn_and_every_call_has_one_result(
    steps, script, seconds, confirm, cancel
):
    machine = Machine(seconds, confirm=confirm, cancel_on_interrupt=cancel)

    async def main() -> None:
        async with ScriptedTalk([machine.tool], *script) as talk:
            await talk.session.send_text("turn")
            for pause_ms, step in steps:
                await asyncio.sleep(pause_ms / 1000)
                talk.look()
                if step == "interrupt":
                    await talk.session.interrupt()
                elif step != "press":
                    await talk.session.send_text(step)
                elif (waiting := talk.session._calls.waiting) is not None:
                    await talk.session.confirm(waiting.run.call_id, True)
            await talk.settled()
            await asyncio.sleep(10)
            await talk.settled()
            assert_well_formed(talk.history)
        assert not talk.of("failed")
        made = {event.call_id: event for event in talk.of("tool_call")}
        assert Counter(event.call_id for event in talk.of("tool_result")) == Counter(made.keys())
        by_turn = Counter((event.turn_id, str(event.arguments)) for event in made.values())
        assert len(machine.started) <= len(by_turn), "at most once for a call of a turn, however often it was made"

    run(main)
