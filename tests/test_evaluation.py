"""The evaluation harness: intervals, held-out sets, what counts as right, a run on a small model."""

from __future__ import annotations

import asyncio
import io
import json
import random
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from transformers import Qwen2Config, Qwen2ForCausalLM

from requirements import require_module
from small_checkpoint import small_projector, small_tokenizer
from textpro.agent import events
from textpro.agent.ledger import PlaybackLedger
from textpro.agent.runtime import Runtime
from textpro.evaluation import evaluate as command
from textpro.evaluation import flite as flite_program
from textpro.evaluation.answers import Outcome, Scored, score, summarize
from textpro.evaluation.conditions import CONDITIONS, Speakers
from textpro.evaluation.evaluate import Size, evaluate
from textpro.evaluation.partner import WORD_MS, Answer, Partner, SilentVoice, read_answer
from textpro.evaluation.recognition import UNKNOWN, summarize_tones, word_errors
from textpro.evaluation.report import Aim
from textpro.evaluation.sets import (
    FILLERS,
    HELD_OUT_SETS,
    PARAPHRASES,
    draw_dialogues,
    draw_sentences,
    draw_typed,
    typed,
)
from textpro.evaluation.statistics import bootstrap_ratio
from textpro.models.checkpoint import save_checkpoint
from textpro.models.demo_tools import Call
from textpro.models.errors import InputError
from textpro.models.whisperpro import WhisperPro, WhisperProConfig
from textpro.training.skills import Turn, all_wordings, sample_dialogue

LAMP = Call("set_light", {"room": "kitchen", "state": "on"})
TYPED = Turn("what is one plus one", "One plus one is two.", "arithmetic", "what is {a} plus {b}")
CALLED = Turn("turn on the kitchen light", "Okay, it is on.", "devices", "", call=LAMP, result={"ok": True})


def test_the_interval_of_a_share_is_that_of_the_normal_approximation() -> None:
    ratio = bootstrap_ratio([(float(index < 80), 1) for index in range(200)], seed=1)
    spread = 1.96 * (0.4 * 0.6 / 200) ** 0.5
    assert ratio.value == 0.4
    assert ratio.low == pytest.approx(0.4 - spread, abs=0.01)
    assert ratio.high == pytest.approx(0.4 + spread, abs=0.01)


def test_samples_weigh_as_much_as_they_hold() -> None:
    ratio = bootstrap_ratio([(1, 2), (9, 10), (0, 8)], seed=1)
    assert (ratio.value, ratio.part, ratio.whole, ratio.samples) == (0.5, 10, 20, 3)


def test_turns_that_stand_or_fall_together_widen_the_interval() -> None:
    alone = bootstrap_ratio([(index % 2, 1) for index in range(80)], seed=1)
    together = bootstrap_ratio([(4 * (index % 2), 4) for index in range(20)], seed=1)
    assert alone.value == together.value
    assert together.high - together.low > 1.6 * (alone.high - alone.low)


def test_a_seed_gives_the_same_interval_and_nothing_counted_gives_none() -> None:
    counts = [(index % 7, 7 + index) for index in range(40)]
    assert bootstrap_ratio(counts, 5) == bootstrap_ratio(counts, 5) != bootstrap_ratio(counts, 6)
    nothing = bootstrap_ratio([], 1)
    assert (nothing.value, nothing.low, nothing.high) == (None, None, None)


@pytest.mark.parametrize("name", HELD_OUT_SETS)
def test_a_seed_gives_the_same_set_and_every_dialogue_ends_with_a_turn_that_counts(name: str) -> None:
    dialogues = draw_dialogues(name, 60, seed=4)
    assert dialogues == draw_dialogues(name, 60, seed=4) != draw_dialogues(name, 60, seed=5)
    assert dialogues[:10] == draw_dialogues(name, 200, seed=4)[:10]
    assert sum(dialogue.scored for dialogue in dialogues) >= 60
    assert all(dialogue.counts[-1] and dialogue.turns[-1].heard is None for dialogue in dialogues)


def test_nothing_that_counts_was_ever_trained_on() -> None:
    rng = random.Random(9)
    trained = [turn for _ in range(4_000) for turn in sample_dialogue(rng, "train").turns]
    fillers = {turn.filler for turn in trained} - {None}
    held = [
        turn
        for dialogue in draw_dialogues(FILLERS, 500, 1)
        for turn, counts in zip(dialogue.turns, dialogue.counts, strict=True)
        if counts
    ]
    assert not fillers & {turn.filler for turn in held}
    known = {text for ways in all_wordings() for text in ways.train}
    assert {turn.template for turn in held} <= known
    other = [turn for dialogue in draw_dialogues(PARAPHRASES, 500, 1) for turn in dialogue.turns]
    assert not known & {turn.template for turn in other}
    assert not {turn.user for turn in trained} & {turn.user for turn in other}


def test_sentences_for_recognition_are_half_of_each_set() -> None:
    sentences = draw_sentences(40, 2)
    assert sentences == draw_sentences(40, 2)
    known = {text for ways in all_wordings() for text in ways.train}
    assert sum(turn.template in known for turn in sentences) == 20


def test_what_is_typed_ends_before_the_first_turn_that_needs_a_tone() -> None:
    dialogues = draw_dialogues(PARAPHRASES, 300, 1)
    short = [typed(dialogue) for dialogue in dialogues]
    assert any(one is None for one in short)
    assert [one for one in short if one][:20] == [*draw_typed(PARAPHRASES, 300, 1)][:20]
    for whole, part in zip(dialogues, short, strict=True):
        if part is not None:
            assert all(turn.tone is None for turn in part.turns)
            assert [turn.user for turn in part.turns] == [turn.user for turn in whole.turns[: len(part.turns)]]
            assert part.number == whole.number


@pytest.mark.parametrize(
    ("turn", "answer", "outcome"),
    [
        (TYPED, Answer(TYPED.user, (), TYPED.reply), Outcome.RIGHT),
        (TYPED, Answer(TYPED.user, (), f" {TYPED.reply} "), Outcome.RIGHT),
        (TYPED, Answer(TYPED.user, (), "One plus one is three."), Outcome.WRONG_ANSWER),
        (TYPED, Answer(TYPED.user, (LAMP,), TYPED.reply), Outcome.WRONG_ANSWER),
        (TYPED, Answer(TYPED.user), Outcome.WRONG_ANSWER),
        (TYPED, Answer("what is one and one", (), TYPED.reply), Outcome.RIGHT),
        (TYPED, Answer("what is nine plus one", (), "Nine plus one is ten."), Outcome.WRONG_WORDS),
        (TYPED, Answer(None), Outcome.NO_TURN),
        (TYPED, Answer(TYPED.user, (), TYPED.reply, "no slots"), Outcome.FAILED),
        (CALLED, Answer(CALLED.user, (LAMP,), CALLED.reply), Outcome.RIGHT),
        (CALLED, Answer(CALLED.user, (), CALLED.reply), Outcome.WRONG_ANSWER),
        (CALLED, Answer(CALLED.user, (LAMP, LAMP), CALLED.reply), Outcome.WRONG_ANSWER),
        (CALLED, Answer(CALLED.user, (LAMP,), "Sorry."), Outcome.WRONG_ANSWER),
        (
            CALLED,
            Answer(CALLED.user, (Call("set_light", {"room": "hall", "state": "on"}),), CALLED.reply),
            Outcome.WRONG_ANSWER,
        ),
    ],
)
def test_a_turn_is_right_when_reply_and_call_are(turn: Turn, answer: Answer, outcome: Outcome) -> None:
    assert score(turn, answer) is outcome


def test_a_turn_that_fell_apart_has_all_its_words_and_calls_and_its_last_reply() -> None:
    happened = [
        events.TurnEnd(t_ms=1, text="turn on", p_end=0.1),
        events.ToolCall(t_ms=1, call_id="a", name=LAMP.name, arguments=dict(LAMP.arguments)),
        events.ReplyDone(t_ms=2, text="What?", heard_text="", interrupted=True),
        events.TurnEnd(t_ms=3, text="the light", p_end=0.9),
        events.ReplyDone(t_ms=4, text="Okay.", heard_text="Okay.", interrupted=False),
    ]
    assert read_answer(happened) == Answer("turn on the light", (LAMP,), "Okay.")
    assert read_answer(happened[:4]).reply is None
    assert read_answer([events.TurnDropped(t_ms=1, reason="no words")]).words is None
    assert read_answer([events.Failed(t_ms=1, reason="full")]).failure == "full"


def test_the_gap_is_what_speech_loses_on_the_turns_asked_both_ways() -> None:
    good, bad = Answer(TYPED.user, (), TYPED.reply), Answer(None)

    def asked(*turns: tuple[int, bool, bool]) -> list[Scored]:
        return [
            Scored(dialogue, TYPED, good if right else bad, score(TYPED, good if right else bad), counts)
            for dialogue, right, counts in turns
        ]

    text = asked((0, True, True), (1, False, False), (1, True, True), (2, True, True))
    speech = asked((0, True, True), (1, True, False), (1, False, True), (1, False, True))
    result = summarize("fillers", text, speech, seed=1)
    assert (result.text.part, result.text.whole) == (3, 3)
    assert (result.speech.part, result.speech.whole) == (1, 3)
    assert (result.gap.value, result.gap.whole) == (0.5, 2)
    assert result.gap.value == result.both_text.value - result.both_speech.value
    assert result.speech_outcomes == {Outcome.RIGHT: 1, Outcome.NO_TURN: 2}
    assert result.text_skills == {"arithmetic": (3, 3)}
    assert [way for way, _ in result.wrong] == ["speech", "speech"]


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        ("turn on the light", 0),
        ("turn the light", 1),
        ("turn on the big light", 1),
        ("turn off a light", 2),
        ("", 4),
    ],
)
def test_words_wrong_missing_and_too_many_are_errors(text: str, errors: int) -> None:
    assert word_errors("turn on the light", text) == (errors, 4)


def test_a_tone_that_is_not_sure_is_unknown_and_counts_as_wrong() -> None:
    def sure(index: int, confidence: float) -> np.ndarray:
        rest = np.full(4, (1 - confidence) / 3, np.float32)
        rest[index] = confidence
        return rest

    found = [("plain", sure(0, 0.9)), ("happy", sure(1, 0.5)), ("sad", sure(3, 0.8)), ("angry", None)]
    result = summarize_tones(found, seed=1)
    assert (result.accuracy.value, result.best_guess.value, result.unknown.value) == (0.25, 0.5, 0.5)
    assert result.confusion["sad"] == {"angry": 1}
    assert result.confusion["happy"] == result.confusion["angry"] == {UNKNOWN: 1}


def test_a_promise_is_kept_by_the_figure_and_open_where_nothing_was_measured() -> None:
    assert Aim("accuracy", 0.75, at_least=0.75).met and not Aim("accuracy", 0.74, at_least=0.75).met
    assert Aim("errors", 0.06, at_most=0.06).met and not Aim("errors", 0.07, at_most=0.06).met
    assert Aim("errors", None, at_most=0.06).met is None


def test_a_reply_can_be_cut_behind_any_word_of_the_silent_voice() -> None:
    async def heard_of(text: str, words: int) -> str:
        ledger = PlaybackLedger(SilentVoice.sample_rate)
        ledger.begin_clause(text)
        async for chunk in SilentVoice().synthesize(text):
            ledger.add_audio(len(chunk.pcm), chunk.words)
        ledger.end_clause()
        ledger.played(words * WORD_MS)
        return ledger.heard_text()

    text = "Okay, the light is on."
    for words in range(6):
        assert asyncio.run(heard_of(text, words)).split() == text.split()[:words]


def test_conditions_say_the_same_sentences_in_the_tone_that_each_asks_for() -> None:
    require_module("espeakng_loader")
    sentences = [TYPED, Turn("i lost my keys", "Oh no.", "tone", "", tone="sad")]
    for condition in CONDITIONS:
        if condition.missing is None:
            said = list(Speakers(3).under(condition, sentences))
            assert [one.text for one in said] == [turn.user for turn in sentences]
            assert all(np.abs(one.samples).max() > 0.02 and len(one.samples) > 16_000 for one in said)
            assert said[1].tone in ("sad", None)


def test_without_flite_its_voices_are_missing_and_the_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    flite_program.flite_voices.cache_clear()
    try:
        missing = [condition.name for condition in CONDITIONS if condition.missing is not None]
    finally:
        flite_program.flite_voices.cache_clear()
    assert missing == ["flite slt", "flite awb", "flite rms", "flite kal16"]


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose recognizer is random and that replies "a a a a ..." without end."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = small_tokenizer()
    size = len(tokenizer)
    speech = WhisperPro(
        WhisperProConfig(size, 32, encoder_layers=1, decoder_layers=2, heads=2, ffn_dim=16, max_tokens=8, prosody_layer=1)
    )
    speech.initialize()
    backbone = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=size, hidden_size=24, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=1, max_position_embeddings=2048, tie_word_embeddings=False,
        )
    )  # fmt: skip
    letter, space = tokenizer.convert_tokens_to_ids(["a", "\u0120"])
    with torch.no_grad():
        backbone.model.layers[0].self_attn.o_proj.weight.zero_()
        backbone.model.layers[0].mlp.down_proj.weight.zero_()
        embedding, head = backbone.model.embed_tokens.weight.zero_(), backbone.lm_head.weight.zero_()
        embedding[:, 0] = 1.0  # behind any token comes the letter,
        head[letter, 0] = 1.0
        embedding[letter, :2] = torch.tensor([0.0, 1.0])  # behind the letter the space
        head[space, 1] = 1.0
    save_checkpoint(
        folder, name="small", speech=speech, backbone=backbone, projector=small_projector(),
        tokenizer=tokenizer, card="Small.\n",
    )  # fmt: skip
    return folder


def test_a_reply_that_was_cut_off_is_remembered_as_far_as_it_was_heard(small_model: Path) -> None:
    async def converse() -> tuple[str, Answer]:
        async with Runtime(small_model, speak=False) as runtime, Partner(runtime) as partner:
            await partner.write("hello", heard="a a")
            answer = await partner.write("again")
            tokens = [entry.token_id for entry in partner.entries]
            return runtime.checkpoint.tokenizer.decode(tokens), answer

    remembered, answer = asyncio.run(converse())
    first = remembered.partition("assistant\n")[2].partition("<|im_end|>")[0]
    assert first.replace(" ", "") == "aa<|cut_off|>"
    assert (answer.words, answer.failure) == ("again", None)
    assert answer.reply is not None and answer.reply.startswith("a a a a")


def test_a_small_model_is_evaluated_from_end_to_end(small_model: Path) -> None:
    require_module("espeakng_loader")
    seen: list[tuple[str, int, int]] = []
    size = Size("smoke", text_turns=2, speech_turns=1, sentences=1, streamed=1, tones=4)
    report = evaluate(str(small_model), size, 1, lambda *step: seen.append(step))
    values = json.loads(json.dumps(report.to_dict()))
    assert set(values["sets"]) == set(HELD_OUT_SETS)
    for result in report.sets:
        assert result.text.whole >= 2 and result.speech.whole >= 1
        assert sum(result.speech_outcomes.values()) == result.speech.whole
        assert result.text_outcomes[Outcome.FAILED] == result.speech_outcomes[Outcome.FAILED] == 0
    assert list(values["recognition"]) == [condition.name for condition in CONDITIONS]
    assert values["recognition"]["training voices"]["offline_wer"]["whole"] > 0
    assert sum(map(sum, (Counter(row).values() for row in values["tones"]["confusion"].values()))) == 4
    assert [aim["met"] for aim in values["aims"]][:2] == [False, False]
    console = Console(record=True, width=140, file=io.StringIO())
    console.print(report.tables())
    shown = console.export_text()
    assert "unseen voice variants" in shown and "seed 1" in shown
    assert {stage for stage, _, _ in seen} == {
        "answers, fillers",
        "answers, paraphrases",
        "recognition",
        "tones",
    }


def test_the_command_refuses_an_unknown_size_by_name() -> None:
    with pytest.raises(InputError, match=r"'huge'.*quick or full"):
        command.run("tiny", "huge", 0, json=False)
