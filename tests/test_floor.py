"""Who has the floor: drafts, overlap, backchannels, reopening, holding, greeting, prompts and typing, in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from scripted_ears import EarsTalk, speech
from scripted_engine import run
from textpro.agent.gate import DraftSettings
from textpro.agent.turns import TurnSettings
from tool_machine import Machine, call

LONG = "One two three four five six seven eight nine ten, eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen."
SURE, UNSURE = {"there": 0.9, "is": 0.01, "it": 0.9}, {"there": 0.01}


def ends(talk: EarsTalk) -> list[str]:
    return [event.text for event in talk.of("turn_end")]


def test_a_turn_that_is_surely_over_ends_at_the_soft_end_and_an_unsure_one_waits():
    async def main() -> None:
        for p_end, low, high in ((0.9, 200, 300), (0.01, 2_000, 2_100)):
            async with EarsTalk("Yes.", p_end={"there": p_end}) as talk:
                await talk.hear(320, "hello there", 3_000)
                (end,) = talk.of("turn_end")
                assert low <= end.t_ms - (320 + 320) <= high

    run(main)


def test_silence_alone_ends_turns_where_the_settings_or_the_checkpoint_say_so():
    async def main() -> None:
        for turns in (TurnSettings(endpointing="vad"), TurnSettings()):  # the scripted checkpoint is not calibrated
            async with EarsTalk("Yes.", p_end=SURE, turns=turns) as talk:
                await talk.hear(320, "hello there", 1_000)
                (end,) = talk.of("turn_end")
                assert 640 <= end.t_ms - 640 <= 680

    run(main)


def test_a_draft_is_made_at_the_soft_end_and_held_back_until_the_turn_ends():
    async def main() -> None:
        async with EarsTalk("Yes. " + LONG, p_end={"there": 0.5}) as talk:
            await talk.hear(320, "hello there", 320)
            assert talk.types()[-1] == "eager_turn_end" and not talk.of("reply_delta", "audio")
            assert talk.voice.clauses == ["Yes. "] or len(talk.voice.clauses) == 1, "the first clause, no more"
            assert "assistant" in talk.history
            await talk.hear(2_000)
            assert talk.of("turn_end") and talk.of("audio") and talk.engine.script == []
            await talk.hear(4_000)
            assert talk.of("reply_done")[0].text == "Yes. " + LONG
            metrics = talk.of("metrics")[-1]
            assert (metrics.drafts_accepted, metrics.drafts_wasted) == (1, 0) and metrics.drafts_saved_ms > 0

    run(main)


def test_when_speech_resumes_the_draft_leaves_no_trace():
    async def main() -> None:
        async with EarsTalk("Wrong.", "Right.", p_end={"there": 0.5, "is": 0.9}) as talk:
            await talk.hear(320, "hello there", 320)
            assert "Wrong" in talk.history
            await talk.hear("what time is", 1_000)
            assert ends(talk) == ["hello there what time is"]
            assert "Wrong" not in talk.history and not [e for e in talk.of("reply_delta") if "Wrong" in e.text]
            assert [event.text for event in talk.of("reply_done")] == ["Right."]
            assert talk.of("metrics")[-1].drafts_wasted == 1

    run(main)


def test_a_tool_is_drafted_and_runs_once_the_turn_is_accepted_and_once_only():
    machine = Machine(0.01)

    async def main() -> None:
        async with EarsTalk(call(), "Done.", tools=[machine.tool], p_end={"there": 0.5}) as talk:
            await talk.hear(320, "hello there", 320)
            assert "<tool_call>" in talk.history and not machine.started and not talk.of("tool_call")
            await talk.hear(2_000)
            await asyncio.sleep(1)
            await talk.hear(320)
            assert machine.started == ["left"] and len(talk.of("tool_call")) == 1

    run(main)


def test_a_tool_of_a_draft_whose_turn_goes_on_never_runs():
    machine = Machine(0.01)

    async def main() -> None:
        async with EarsTalk(call(), "Fine.", tools=[machine.tool], p_end={"there": 0.5, "is": 0.9}) as talk:
            await talk.hear(320, "hello there", 320)
            await talk.hear("what time is", 1_000)
            assert not machine.started and not talk.of("tool_call") and "<tool_call>" not in talk.history

    run(main)


@pytest.mark.parametrize(("drafts", "queued"), [(DraftSettings(p_end=1.1), 0), (DraftSettings(max_queued=2), 3)])
def test_nothing_is_drafted_where_it_is_switched_off_or_the_engine_is_busy(drafts, queued):
    async def main() -> None:
        async with EarsTalk("Yes.", p_end={"there": 0.5}, drafts=drafts) as talk:
            talk.engine.queued = queued
            await talk.hear(320, "hello there", 320)
            assert talk.of("eager_turn_end") and "assistant" not in talk.history
            await talk.hear(2_000)
            assert talk.of("reply_done")

    run(main)


def test_an_accepted_turn_reopens_until_its_reply_is_heard():
    async def main() -> None:
        async with EarsTalk("Wrong.", "Right.", p_end={"there": 0.9, "is": 0.9}) as talk:
            await talk.hear(320, "hello there", 320, plays=False)
            assert ends(talk) == ["hello there"] and talk.of("audio")
            await talk.hear("what time is", plays=False)
            await talk.hear(1_000)
            kinds = [kind for kind in talk.types() if kind not in ("reply_start", "reply_spoken")]
            assert kinds[kinds.index("turn_end") :][:2] == ["turn_end", "turn_resumed"]
            last = talk.of("turn_end")[-1]
            assert (last.turn_id, last.revision, last.text) == (1, 1, "hello there what time is")
            assert "Wrong" not in talk.history and len(talk.of("turn_start")) == 1
            assert [event.text for event in talk.of("reply_done")] == ["Right."]

    run(main)


def test_once_the_first_sample_was_played_speech_opens_an_overlap_instead():
    async def main() -> None:
        async with EarsTalk(LONG, p_end=SURE) as talk:
            await talk.hear(320, "hello there", 400)
            assert talk.played_ms > 0
            await talk.hear("what time")
            assert talk.of("turn_start")[-1].over_reply and not talk.of("turn_resumed")

    run(main)


def test_after_a_tool_has_run_a_turn_does_not_reopen():
    machine = Machine(0.01)

    async def main() -> None:
        async with EarsTalk(call(), LONG, tools=[machine.tool], p_end=SURE) as talk:
            await talk.hear(320, "hello there", 320, plays=False)
            await talk.hear("what time is", 2_500, plays=False)
            assert machine.started == ["left"] and not talk.of("turn_resumed")
            assert [event.turn_id for event in talk.of("turn_start")] == [1, 2]

    run(main)


def test_words_over_the_reply_duck_it_first_and_then_cancel_it():
    async def main() -> None:
        async with EarsTalk(LONG, "Three.", p_end=SURE) as talk:
            await talk.hear(320, "hello there", 800)
            cut_at = talk.played_ms
            await talk.hear("what time is it", 3_000)
            kinds = [kind for kind in talk.types() if kind in ("duck", "unduck", "interrupt", "turn_end")]
            assert kinds == ["turn_end", "duck", "interrupt", "turn_end"]
            heard = talk.of("interrupt")[0].heard_text
            assert heard and LONG.startswith(heard) and len(heard.split()) <= (cut_at + 200) // 100
            assert f"{heard}<|cut_off|>" in talk.history and ends(talk)[-1] == "what time is it"

    run(main)


@pytest.mark.parametrize("said", ["mm hm", "yeah", "yes"])
def test_a_lone_backchannel_does_not_stop_the_reply_which_goes_on_where_it_was(said):
    async def main() -> None:
        async with EarsTalk(LONG, p_end=SURE) as talk:
            await talk.hear(320, "hello there", 800)
            before = talk.history
            await talk.hear(said, 3_000)
            assert [event.text for event in talk.of("backchannel")] == [said]
            kinds = [kind for kind in talk.types() if kind in ("duck", "unduck", "interrupt", "turn_dropped", "reply_done")]
            assert kinds == ["duck", "turn_dropped", "unduck", "reply_done"]
            done = talk.of("reply_done")[0]
            assert done.heard_text == LONG and talk.played_ms == talk.sent_ms and len(ends(talk)) == 1
            assert talk.history.startswith(before.rstrip()), "what was said over the reply is not in the context"

    run(main)


def test_a_voice_without_words_is_a_false_alarm_and_the_reply_goes_on():
    async def main() -> None:
        async with EarsTalk(LONG, p_end=SURE) as talk:
            await talk.hear(320, "hello there", 800)
            await talk.hear("noise noise", 3_000)
            assert "unduck" in talk.types() and not talk.of("interrupt", "backchannel")
            assert talk.of("reply_done")[0].heard_text == LONG

    run(main)


def test_a_long_voice_over_the_reply_cancels_it_whatever_it_says():
    async def main() -> None:
        async with EarsTalk(LONG, p_end=SURE) as talk:
            await talk.hear(320, "hello there", 800)
            at = len(talk.events)
            await talk.hear("noise " * 7, 1_000)
            (cut,) = talk.of("interrupt")
            started = next(event for event in talk.events[at:] if event.type == "turn_start")
            assert 800 <= cut.t_ms - started.start_ms <= 900
            assert talk.of("turn_dropped")

    run(main)


def test_a_single_word_of_substance_is_no_backchannel():
    async def main() -> None:
        async with EarsTalk(LONG, "Okay.", p_end=SURE) as talk:
            await talk.hear(320, "hello there", 800)
            await talk.hear("stop", 3_000)
            assert talk.of("interrupt") and ends(talk)[-1] == "stop"

    run(main)


def test_a_yes_at_the_very_end_of_the_reply_is_an_answer():
    async def main() -> None:
        async with EarsTalk("One two three four.", "Good.", p_end=SURE) as talk:
            await talk.hear(320, "hello there", 420)
            assert 0 < talk.sent_ms - talk.played_ms < 500
            await talk.hear("yes", 3_000)
            assert ends(talk)[-1] == "yes" and not talk.of("backchannel")

    run(main)


def test_a_yes_over_the_question_whether_a_tool_may_run_is_an_answer():
    machine = Machine(0.01, confirm="Shall I turn the machine now, slowly and with great care, as far as it goes?")

    async def main() -> None:
        async with EarsTalk(call(), "Done.", tools=[machine.tool], p_end=SURE) as talk:
            await talk.hear(320, "hello there", 800)
            await talk.hear("yes", 3_000)
            assert machine.started == ["left"] and not talk.of("backchannel")

    run(main)


def test_asked_to_wait_the_agent_waits_and_the_turn_goes_on():
    async def main() -> None:
        async with EarsTalk("Noon.", p_end={"moment": 0.99, "is": 0.9}) as talk:
            await talk.hear(320, "wait a moment", 6_000)
            assert not talk.of("turn_end") and talk.of("eager_turn_end")
            await talk.hear("what time is", 1_000)
            assert ends(talk) == ["wait a moment what time is"]

    run(main)


def test_who_asks_to_wait_and_says_no_more_is_answered_at_last():
    async def main() -> None:
        async with EarsTalk("I am here.", p_end={"moment": 0.99}) as talk:
            await talk.hear(320, "wait a moment", 9_000)
            assert ends(talk) == ["wait a moment"]

    run(main)


def test_the_greeting_is_said_first_and_stands_in_the_history_as_heard():
    async def main() -> None:
        async with EarsTalk("Noon.", greeting="Hello, I am here.", p_end=SURE) as talk:
            await talk.hear(3_000)
            assert talk.history == "<|im_start|>assistant\nHello, I am here.<|im_end|>\n"
            assert talk.of("reply_done")[0].heard_text == "Hello, I am here." and not talk.of("turn_end")

    run(main)


def test_the_user_may_speak_into_the_greeting():
    async def main() -> None:
        async with EarsTalk("Noon.", greeting="Hello, I am here for you all day long.", p_end=SURE) as talk:
            await talk.hear(320, "what time is it", 2_000)
            heard = talk.of("interrupt")[0].heard_text
            assert talk.history.startswith(f"<|im_start|>assistant\n{heard}<|cut_off|><|im_end|>\n<|im_start|>user\n what time")

    run(main)


def test_who_stays_silent_is_prompted_as_often_as_there_are_prompts_and_anew_after_his_next_turn():
    async def main() -> None:
        prompts = ("Are you there?", "Well then.")
        async with EarsTalk("Yes.", idle_prompts=prompts, idle_after_ms=2_000, p_end=SURE) as talk:
            await talk.hear(12_000)
            assert [event.text for event in talk.of("reply_done")] == list(prompts)
            first, second = talk.of("reply_delta")[:2]
            assert 2_000 <= first.t_ms < 2_200 and second.t_ms - first.t_ms >= 2_000
            await talk.hear("hello there", 6_000)
            assert [event.text for event in talk.of("reply_done")][2:4] == ["Yes.", "Are you there?"]

    run(main)


def test_a_typed_turn_lets_the_spoken_one_end_first():
    async def main() -> None:
        async with EarsTalk("No.", p_end=SURE) as talk:
            await talk.hear(320, "what time", plays=False)
            await talk.say("hello")
            assert ends(talk) == ["what time", "hello"]
            assert [event.turn_id for event in talk.of("turn_end")] == [1, 2]
            assert [(event.turn_id, event.heard_text) for event in talk.of("interrupt")] == [(1, "")]
            assert "user\n what time<|im_end|>\n<|im_start|>assistant\n<|cut_off|><|im_end|>\n" in talk.history

    run(main)


def test_a_typed_turn_drops_what_holds_no_words_with_a_reason():
    async def main() -> None:
        async with EarsTalk("No.", p_end=SURE) as talk:
            await talk.hear(320, "noise noise", plays=False)
            await talk.say("hello")
            assert talk.of("turn_dropped")[0].reason and ends(talk) == ["hello"]

    run(main)


def test_a_turn_that_grows_too_long_goes_on_as_the_next_one():
    async def main() -> None:
        turns = TurnSettings(endpointing="model", max_turn_ms=2_000)
        async with EarsTalk("A.", "B.", p_end=SURE, turns=turns) as talk:
            await talk.hear(320, "one two three four five " * 3, 3_000)
            assert len(ends(talk)) == 2 and " ".join(ends(talk)).split()[:5] == ["one", "two", "three", "four", "five"]

    run(main)


def test_without_automatic_replies_turns_follow_one_another_until_one_is_asked_for():
    async def main() -> None:
        async with EarsTalk("Noon.", p_end=SURE, auto_reply=False) as talk:
            await talk.hear(320, "hello there", 600, "what time is it", 600)
            assert not talk.of("reply_delta")
            assert talk.history == "<|im_start|>user\n hello there<|im_end|>\n<|im_start|>user\n what time is it<|im_end|>\n"
            await talk.session.respond()
            await talk.hear(2_000)
            assert talk.history.endswith(" what time is it<|im_end|>\n<|im_start|>assistant\nNoon.<|im_end|>\n")
            kept = talk.session.history
        async with EarsTalk("One.", p_end=SURE, history=kept) as later:
            assert later.history == talk.history
            await later.say("hello")

    run(main)


def test_the_scripted_audio_is_what_it_says():
    assert len(speech("hello there", 320)) == 10 * 512 + 10 * 512
