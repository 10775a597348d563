"""Conversations in which the model calls tools: slow, failing, wrong, too many, repeated ones. The model is a script and
time is virtual, except for tools in threads."""

from __future__ import annotations

import asyncio
import threading

import pytest

from scripted_engine import ScriptedTalk, run
from textpro.agent.tools import tool
from textpro.evaluation.partner import SilentVoice
from tool_machine import ANSWER, Machine, assert_well_formed, call, replies, results


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_a_tool_is_run_with_its_arguments_and_the_model_gets_the_result(kind):
    threads = []

    def add(a: int, b: int) -> int:
        threads.append(threading.current_thread())
        return a + b

    async def add_later(a: int, b: int) -> int:
        return add(a, b)

    async def main() -> None:
        chosen = tool(name="add")(add if kind == "sync" else add_later)
        async with ScriptedTalk([chosen], (("add", {"a": 1, "b": "2"}),), ANSWER) as talk:
            await talk.say("add one and two")
            assert talk.history.endswith(
                '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": "2"}}\n</tool_call><|im_end|>\n'
                '<|im_start|>user\n<tool_response>\n{"result": 3}\n</tool_response><|im_end|>\n'
                f"<|im_start|>assistant\n{ANSWER}<|im_end|>\n"
            )
        (made,), (done,) = talk.of("tool_call"), talk.of("tool_result")
        assert made.call_id == done.call_id and done.result == {"result": 3}
        assert (threads[0] is threading.main_thread()) == (kind == "async")

    asyncio.run(main())


def test_wrong_arguments_unknown_tools_and_failures_come_back_as_results_that_name_the_fault():
    async def fail(a: int) -> None:
        raise KeyError("the drawer is empty")

    async def main() -> None:
        async with ScriptedTalk([fail], (("fail", {"b": 1}),), (("open", {}),), (("fail", {"a": 1}),), ANSWER) as talk:
            await talk.say("open the drawer")
        wrong, unknown, failed = (result["error"] for result in results(talk))
        assert "wrong arguments for fail" in wrong and "a: Missing" in wrong and "b: Unexpected" in wrong
        assert "no tool 'open'" in unknown and "fail" in unknown
        assert failed == "fail failed: KeyError: 'the drawer is empty'"
        assert replies(talk) == [ANSWER]

    run(main)


def test_what_the_model_wrote_as_a_call_and_cannot_be_read_is_a_result_too():
    async def main() -> None:
        async with ScriptedTalk([], ((1, {}),), ANSWER) as talk:  # type: ignore[arg-type]
            await talk.say("hello")
            assert_well_formed(talk.history)
        assert "cannot be read" in results(talk)[0]["error"]

    run(main)


@pytest.mark.parametrize(("seconds", "filled"), [(0.5, False), (2.0, True)])
def test_a_slow_tool_is_bridged_by_its_filler_which_the_model_does_not_take_for_its_own_words(seconds, filled):
    machine = Machine(seconds, filler="Let me see.")

    async def main() -> None:
        async with ScriptedTalk([machine.tool], call("a"), call("b"), ANSWER, synthesizer=SilentVoice()) as talk:
            await talk.say("turn")
            assert "Let me see" not in talk.history and ANSWER in talk.history
        said = f"Let me see. {ANSWER}" if filled else ANSWER
        assert replies(talk) == [said], "at most once in a reply"
        assert "".join(event.text for event in talk.of("audio")) == said

    run(main)


def test_a_tool_over_its_time_limit_is_a_fault_and_is_stopped():
    machine = Machine(60, time_limit_s=3, filler=None)

    async def main() -> None:
        async with ScriptedTalk([machine.tool], call(), ANSWER) as talk:
            await talk.say("turn")
        assert results(talk) == [{"ok": False, "error": "turn took more than 3 s"}]
        assert machine.started == ["left"] and not machine.ended

    run(main)


def test_a_blocking_tool_over_its_time_limit_is_said_to_go_on_and_holds_up_nobody():
    gate, ended = threading.Event(), threading.Event()

    @tool(time_limit_s=0.05)
    def block() -> None:
        gate.wait(20)
        ended.set()

    async def main() -> None:
        async with ScriptedTalk([block], (("block", {}),), ANSWER) as talk:
            await talk.say("block")
        assert "may still take effect" in results(talk)[0]["error"] and replies(talk) == [ANSWER]

    asyncio.run(main())
    gate.set()
    assert ended.wait(20)


def test_more_calls_than_allowed_are_refused_and_a_model_that_goes_on_is_made_to_speak():
    machine = Machine()

    async def main() -> None:
        async with ScriptedTalk([machine.tool], *(call(str(n)) for n in range(9))) as talk:
            await talk.say("turn and turn")
            assert_well_formed(talk.history)
        assert machine.started == ["0", "1", "2"]
        assert "has had 3 calls" in results(talk)[3]["error"] and len(results(talk)) == 4
        assert replies(talk) == ["I could not do that."]

    run(main)


def test_two_calls_in_one_message_run_in_order_and_are_answered_together():
    machine = Machine()

    async def main() -> None:
        async with ScriptedTalk([machine.tool], (*call("a"), *call("b")), ANSWER) as talk:
            await talk.say("turn a and b")
            assert talk.history.count("<tool_response>") == 2
            assert_well_formed(talk.history)
        assert machine.ended == ["a", "b"] and [result["turned"] for result in results(talk)] == ["a", "b"]

    run(main)


def test_a_call_that_is_repeated_in_its_turn_runs_once_and_in_the_next_turn_again():
    machine = Machine()

    async def main() -> None:
        async with ScriptedTalk([machine.tool], (*call(), *call()), call(), ANSWER, call(), ANSWER) as talk:
            await talk.say("turn")
            assert machine.started == ["left"]
            assert [result["turned"] for result in results(talk)] == ["left"] * 3
            await talk.say("turn again")
        assert machine.started == ["left"] * 2

    run(main)


@pytest.mark.parametrize("sync", [False, True])
def test_a_tool_that_runs_when_the_session_closes_is_cancelled_and_that_is_said(sync):
    gate, stopped = threading.Event(), []

    def block() -> None:
        gate.wait(20)

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.append(True)

    async def main() -> None:
        async with ScriptedTalk([tool(name="turn")(block if sync else wait)], (("turn", {}),)) as talk:
            await talk.session.send_text("turn")
            while not talk.of("tool_call"):
                await asyncio.sleep(0.001)
        (said,) = results(talk)
        assert "turn was cancelled: the session was closed" in said["error"]
        assert ("may still take effect" in said["error"]) == sync and stopped == [True] * (not sync)

    asyncio.run(main())
    gate.set()
