"""Calls that need the user's yes: by words, by a button, refused, unclear, cut off."""

from __future__ import annotations

import asyncio

import pytest

from scripted_engine import ScriptedTalk, run
from textpro.agent.session_settings import SessionSettings
from textpro.evaluation.partner import SilentVoice
from textpro.models.errors import InputError
from tool_machine import ANSWER, Machine, assert_well_formed, call, replies, results, until

QUESTION = "Shall I turn it left? Say yes or no."


def asking(seconds: float = 0.1) -> Machine:
    return Machine(seconds, confirm="Shall I turn it {what}? Say yes or no.")


def test_a_tool_that_needs_it_runs_after_the_users_yes():
    machine = asking()

    async def main() -> None:
        async with ScriptedTalk([machine.tool], call(), ANSWER) as talk:
            await talk.say("turn")
            (request,) = talk.of("confirmation_request")
            assert (request.question, request.arguments) == (QUESTION, {"what": "left"})
            assert replies(talk) == [QUESTION] and not machine.started
            await talk.say("yes please")
            assert machine.ended == ["left"] and replies(talk)[1] == ANSWER
            assert talk.history.endswith(
                f"<|im_start|>assistant\n{QUESTION}<|im_end|>\n<|im_start|>user\n yes please<|im_end|>\n"
                '<|im_start|>user\n<tool_response>\n{"turned": "left"}\n</tool_response><|im_end|>\n'
                f"<|im_start|>assistant\n{ANSWER}<|im_end|>\n"
            )
            assert_well_formed(talk.history)
        (answer,) = talk.of("confirmation_answer")
        assert (answer.call_id, answer.accepted, answer.decided_by) == (request.call_id, True, "words")

    run(main)


def test_after_a_no_the_tool_does_not_run_and_the_model_knows_why():
    machine = asking()

    async def main() -> None:
        async with ScriptedTalk([machine.tool], call(), "As you like.") as talk:
            await talk.say("turn")
            await talk.say("no")
        assert results(talk) == [{"ok": False, "error": "not run: the user was asked and said no"}]
        assert not machine.started and replies(talk)[1] == "As you like."

    run(main)


def test_an_unclear_answer_is_asked_about_once_more_and_then_is_a_no():
    machine = asking()

    async def main() -> None:
        async with ScriptedTalk([machine.tool], call(), "It is noon.") as talk:
            await talk.say("turn")
            await talk.say("what is the time")
            assert replies(talk) == [QUESTION] * 2 and len(talk.of("confirmation_request")) == 2
            await talk.say("tell me the time")
            assert_well_formed(talk.history)
        assert "did not clearly say yes" in results(talk)[0]["error"]
        assert [event.decided_by for event in talk.of("confirmation_answer")] == ["unclear"]
        assert not machine.started and replies(talk)[2] == "It is noon."

    run(main)


@pytest.mark.parametrize("accepted", [True, False])
def test_a_client_can_decide_with_a_button_even_while_the_question_is_spoken(accepted):
    machine = asking()

    async def main() -> None:
        settings = SessionSettings(playback="acknowledged")
        async with ScriptedTalk([machine.tool], call(), ANSWER, settings=settings, synthesizer=SilentVoice()) as talk:
            await talk.say("turn")
            (request,) = talk.of("confirmation_request")
            talk.session.played(200)
            with pytest.raises(InputError, match="waits"):
                await talk.session.confirm("another", True)
            await talk.session.confirm(request.call_id, accepted)
            await talk.settled()
            assert "Shall I<|cut_off|>" in talk.history
            assert_well_formed(talk.history)
            with pytest.raises(InputError, match="waits"):
                await talk.session.confirm(request.call_id, accepted)
        assert machine.started == ["left"] * accepted
        (answer,) = talk.of("confirmation_answer")
        assert (answer.accepted, answer.decided_by) == (accepted, "client")
        assert "".join(event.text for event in talk.of("audio")).endswith(ANSWER)

    run(main)


def test_a_confirmed_tool_that_is_cut_off_is_remembered_with_its_result():
    machine = asking(seconds=3)

    async def main() -> None:
        async with ScriptedTalk([machine.tool], call(), ANSWER) as talk:
            await talk.say("turn")
            await talk.session.send_text("yes")
            await until(talk, "confirmation_answer")
            await talk.session.interrupt()
            await asyncio.sleep(5)
            await talk.say("well")
            assert_well_formed(talk.history)
            assert talk.history.count('{"turned": "left"}') == 1 and '"still running"' not in talk.history
        assert machine.started == machine.ended == ["left"]

    run(main)


def test_a_second_call_that_needs_a_yes_waits_for_its_own_turn():
    machine = asking()

    async def main() -> None:
        async with ScriptedTalk([machine.tool], (*call("left"), *call("right"), *call("left")), ANSWER) as talk:
            await talk.say("turn")
            assert [request.arguments["what"] for request in talk.of("confirmation_request")] == ["left"]
            assert ["not run" in result["error"] for result in results(talk)] == [True, True]
            await talk.say("yes")
        assert machine.started == ["left"]

    run(main)


def test_a_call_that_still_waits_at_the_end_gets_a_result():
    machine = asking()

    async def main() -> None:
        async with ScriptedTalk([machine.tool], call()) as talk:
            await talk.say("turn")
        assert "the session was closed" in results(talk)[0]["error"]

    run(main)
