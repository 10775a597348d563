"""Training of the backbone: what is learned where, what is never seen, runs that go on, the way into a
checkpoint."""

from __future__ import annotations

import csv
import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from textpro.models.chat import ChatFormat
from textpro.models.checkpoint import load_checkpoint
from textpro.models.errors import InputError
from textpro.models.fusion import Fusion
from textpro.models.text import number_words
from textpro.models.whisperpro import WhisperPro, WhisperProConfig
from textpro.training import export as exporting
from textpro.training import train_slm as training
from textpro.training.dense_arithmetic import DenseArithmetic
from textpro.training.export import export_tiny
from textpro.training.skills import TONES, Call, Dialogue, Turn, sample_dialogue
from textpro.training.skills.arithmetic import PAIRS
from textpro.training.slm_data import HeardDialogue, read_shards, shard_file, write_shard
from textpro.training.slm_evaluation import decode_greedily
from textpro.training.slm_lessons import Lessons
from textpro.training.slm_model import SpokenLanguageModel, backbone_config, losses
from textpro.training.slm_sequences import Renderer, TrainingSequence, UserTurn, collate
from textpro.training.tokenizer import train_tokenizer
from textpro.training.train_slm import SlmTraining, train_slm

FEATURES = 16
TURN_END = 5


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A folder with a small tokenizer."""
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(folder, vocab_size=700, dialogues=400)
    return folder


@pytest.fixture(scope="module")
def tokenizer(run) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(run)


@pytest.fixture(scope="module")
def renderer(tokenizer) -> Renderer:
    return Renderer(tokenizer, ChatFormat(tokenizer, {}), Fusion())


def heard(renderer: Renderer, dialogue: Dialogue, seed: int = 0) -> HeardDialogue:
    """The dialogue as a recognizer might hear it, with a wrong word at its front and a cut of every turn."""
    rng = np.random.default_rng(seed)

    def user(text: str, complete: bool) -> UserTurn:
        ids = renderer.chat.words(text)
        return UserTurn(ids, rng.standard_normal((len(ids), FEATURES)).astype(np.float16), complete)

    said = tuple(user(f"well {turn.user}", True) for turn in dialogue.turns)
    return HeardDialogue(dialogue, said, tuple(user("well", False) for _ in dialogue.turns))


LIGHT = Dialogue(
    (
        Turn(
            "turn on the kitchen light",
            "Okay, the kitchen light is on.",
            "devices",
            "",
            call=Call("set_light", {"room": "kitchen", "state": "on"}),
            result={"ok": True},
            heard="Okay, the",
        ),
        Turn("i lost my keys", "Oh no.", "tone", "", tone="sad"),
    )
)


def learned(sequence: TrainingSequence, tokenizer: PreTrainedTokenizerFast) -> str:
    return tokenizer.decode([token for _, token, _ in sequence.replies])


def test_every_word_of_the_user_is_asked_for_the_end_and_only_the_last_has_it(renderer, tokenizer):
    sequence = renderer.render(LIGHT)
    words, at = [], 0
    for row, is_end in sequence.ends:
        text = tokenizer.decode([item.token_id for item in sequence.rows[at : row + 1]])
        words.append((text.replace("user\n", " ").split()[-1], is_end))
        at = row + 1
    said = [turn.user.split() for turn in LIGHT.turns]
    assert words == [(word, word == turn[-1]) for turn in said for word in turn]
    for row, is_end in sequence.ends:
        assert (sequence.rows[row + 1].token_id == TURN_END) == is_end


def test_an_unfinished_turn_has_no_end_and_no_reply(renderer):
    said = [renderer.typed(LIGHT)[0], UserTurn(renderer.chat.words("i lost"), None, False)]
    sequence = renderer.render(LIGHT, said)
    assert sequence.ends[-1] == (len(sequence.rows) - 1, False)
    assert sequence.rows[-1].token_id == renderer.chat.words("lost")[-1]


def test_markers_stand_before_the_words_and_are_never_asked_for_the_end(renderer):
    item = heard(renderer, LIGHT)
    sequence = renderer.render(LIGHT, item.said)
    markers = {row for row, content in enumerate(sequence.rows) if content.vector is not None}
    assert len(markers) == sum(-(-len(user.tokens) // 5) for user in item.said)
    assert not markers & {row for row, _ in sequence.ends}


def test_the_assistants_tokens_are_learned_at_the_row_before_each(renderer, tokenizer):
    sequence = renderer.render(LIGHT)
    for row, token, weight in sequence.replies:
        assert sequence.rows[row + 1].token_id == token and weight == 1
    call = '<tool_call>\n{"name": "set_light", "arguments": {"room": "kitchen", "state": "on"}}\n</tool_call>'
    assert learned(sequence, tokenizer) == f"{call}<|im_end|>Okay, theOh no.<|im_end|>"


def test_a_reply_that_was_cut_off_reads_as_heard_but_the_mark_is_not_learned(renderer, tokenizer):
    whole = tokenizer.decode([row.token_id for row in renderer.render(LIGHT).rows])
    assert "Okay, the<|cut_off|><|im_end|>\n<|im_start|>user" in whole
    last = Dialogue(LIGHT.turns[:1])
    assert "Okay, the kitchen light is on.<|im_end|>" in learned(renderer.render(last), tokenizer)


@pytest.mark.parametrize("seed", range(12))
def test_the_teacher_is_asked_for_the_same_tokens_in_the_same_order(renderer, seed):
    rng = random.Random(seed)
    items = [heard(renderer, sample_dialogue(rng, "train"), seed) for _ in range(6)]
    ways = [
        (item, (*item.said[:index], item.cuts[index]) if rng.random() < 0.5 else item.said)
        for item in items
        for index in [rng.randrange(len(item.said))]
    ]
    students = [renderer.render(item.dialogue, said) for item, said in ways]
    teachers = [renderer.twin(item.dialogue, said) for item, said in ways]
    student, teacher = collate(students, 1), collate(teachers, 1)
    assert (student.reply_ids[student.distilled] == teacher.reply_ids[teacher.distilled]).all()
    shared = [item.dialogue.turns[span.turn].tone for (item, _), one in zip(ways, teachers, strict=True) for span in one.spans]
    assert len(student.distilled) > 0 or all(shared)
    assert not len(teacher.markers) and len(student.markers)


def test_turns_that_need_a_tone_are_not_distilled(renderer):
    sequence = renderer.render(LIGHT)
    tokens = [sequence.replies[place][1] for place in sequence.distilled]
    assert tuple(tokens[-len(renderer.chat.reply("Okay, the")) :]) == renderer.chat.reply("Okay, the")


NUMBER = "|".join(sorted((number_words(number) for number in range(101)), key=len, reverse=True))
SUM = re.compile(rf"\b({NUMBER}) (plus|minus|times) ({NUMBER})\b", re.IGNORECASE)
CUT_OR_REPEATED = re.compile(r"<\|im_start\|>assistant\n[^<]*<\|cut_off\|>|(I|You) said: [^<]*")
"""Replies whose last number may have lost its last word."""
VALUE = {number_words(number): number for number in range(101)}


def test_held_out_pairs_never_occur_in_training_sequences(renderer, tokenizer):
    lessons = Lessons(renderer, 5, 4096, 1)
    held = {operation: PAIRS[operation].held_set for operation in PAIRS}
    sequences = found = 0
    while sequences < 5000:
        batch = lessons.batch(0.65 if sequences < 2500 else 0.1).batch
        for text in tokenizer.batch_decode(batch.ids):
            if "<|im_start|>" not in text:  # lines of sums, of which the last may have lost words
                text = text.rpartition("\n")[0]
            for first, operation, second in SUM.findall(CUT_OR_REPEATED.sub("", text)):
                pair = VALUE[first.lower()], VALUE[second.lower()]
                assert pair not in held[operation.lower()]
                found += 1
        sequences += len(batch.ids)
    assert found > 10_000


def test_a_line_of_sums_is_made_of_the_ids_of_its_text(renderer, tokenizer):
    ids, weights = DenseArithmetic(renderer.chat).draw(random.Random(1), 2000)
    text = tokenizer.decode(ids)
    assert renderer.chat.reply(text)[:1990] == ids[:1990]
    heavy = tokenizer.decode([token for token, weight in zip(ids, weights, strict=True) if weight == 1])
    lines = text.split("\n")[:50]
    results = [". " + line.split(". ", 1)[1] if ". " in line else " " + line.split(" is ", 1)[1] for line in lines]
    assert heavy.startswith("".join(results))


def test_a_batch_fills_its_rows(renderer):
    lessons = Lessons(renderer, 6, 2048, 1)
    batches = [lessons.batch(0.5).batch for _ in range(20)]
    assert sum((batch.ids != 1).sum().item() for batch in batches) > 0.85 * 20 * 2048
    assert all(batch.ids.numel() <= 2048 for batch in batches)


def test_heard_lessons_mix_speech_with_typed_words_and_cut_turns(renderer):
    rng = random.Random(0)
    items = [heard(renderer, sample_dialogue(rng, "train"), index) for index in range(40)]
    lessons = Lessons(renderer, 6, 2048, 1, items, heard_share=0.6)
    drawn = [lessons.batch(0.0) for _ in range(12)]
    spoken = sum(len(lesson.batch.markers) for lesson in drawn)
    taught = [lesson for lesson in drawn if lesson.teacher is not None]
    assert spoken and len(taught) > len(drawn) // 2  # the others hold turns that were cut off and nothing else
    for lesson in taught:
        batch, teacher = lesson.batch, lesson.teacher
        assert (batch.reply_ids[batch.distilled] == teacher.reply_ids[teacher.distilled]).all()


def small_model(vocabulary: int) -> SpokenLanguageModel:
    torch.manual_seed(4)
    model = SpokenLanguageModel(backbone_config(vocabulary, hidden=64, layers=2), FEATURES)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.15)
    return model.eval()


def test_batched_decoding_equals_one_prompt_at_a_time_without_a_cache(renderer, tokenizer):
    model = small_model(len(tokenizer))
    rng = random.Random(1)
    sequences = [
        renderer.render(item.dialogue, item.said)
        for item in (heard(renderer, sample_dialogue(rng, "train"), n) for n in range(5))
    ]
    prompts = [sequence.rows[: span.row + 1] for sequence in sequences for span in sequence.spans]
    batched = decode_greedily(model, prompts, TURN_END, 6)
    for prompt, said in zip(prompts, batched, strict=True):
        one = TrainingSequence(rows=list(prompt))
        with torch.inference_mode():
            for token in said:
                states = model.states(collate([one], 1))
                assert int(model.logits(states, torch.tensor([len(states) - 1])).argmax()) == token
                one.read([token])


def test_the_end_loss_is_the_binary_cross_entropy_of_the_end_tokens_probability(renderer, tokenizer):
    model = small_model(len(tokenizer))
    sequence = renderer.render(LIGHT)
    batch = collate([sequence], 1)
    with torch.no_grad():
        values = losses(model, batch, TURN_END, None)
        ids = torch.tensor([[row.token_id for row in sequence.rows]])
        p = model.backbone(input_ids=ids).logits[0].softmax(-1)[:, TURN_END]
    rows = torch.tensor([row for row, _ in sequence.ends])
    target = torch.tensor([float(is_end) for _, is_end in sequence.ends])
    expected = torch.nn.functional.binary_cross_entropy(p[rows], target)
    torch.testing.assert_close(values["end"], expected, atol=1e-5, rtol=1e-4)


def test_a_teacher_that_agrees_costs_nothing(renderer, tokenizer):
    model = small_model(len(tokenizer))
    batch = collate([renderer.render(LIGHT)], 1)
    with torch.no_grad():
        logits = model.logits(model.states(batch), batch.replies[batch.distilled])
        assert abs(float(losses(model, batch, TURN_END, logits)["distil"])) < 1e-5
        assert float(losses(model, batch, TURN_END, logits.roll(1, -1))["distil"]) > 0.1


def test_the_tone_is_read_where_the_answer_to_a_heard_turn_that_needs_it_begins_and_nowhere_else(renderer, tokenizer):
    item = heard(renderer, LIGHT)
    sequence = renderer.render(LIGHT, item.said)
    ((row, tone),) = sequence.tones
    assert TONES[tone] == "sad" and row == sequence.spans[-1].row
    assert not renderer.render(LIGHT).tones and not renderer.render(LIGHT, [item.said[0], item.cuts[1]]).tones
    model, head = small_model(len(tokenizer)), torch.nn.Linear(64, len(TONES))
    batch = collate([sequence], 1)
    with torch.no_grad():
        expected = -head(model.states(batch)[row]).log_softmax(-1)[tone]
        torch.testing.assert_close(losses(model, batch, TURN_END, None, head)["tone"], expected)
        assert float(losses(model, batch, TURN_END, None)["tone"]) == 0


def settings(folder: Path, run: Path, **changes) -> SlmTraining:
    base = SlmTraining(
        folder,
        "text",
        run,
        steps=40,
        rows=512,
        hidden=64,
        layers=2,
        feature_dim=FEATURES,
        warm_up=3,
        threads=1,
        report_every=5,
        evaluate_every=40,
        evaluation_dialogues=2,
        save_every=10,
    )
    return replace(base, **changes)


def lines(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def text_run(run, tmp_path_factory) -> Path:
    """A finished small run of stage 'text'."""
    folder = tmp_path_factory.mktemp("text")
    train_slm(settings(folder, run))
    return folder


def test_the_loss_falls_and_the_evaluation_is_logged(text_run):
    log = lines(text_run)
    assert [int(line["step"]) for line in log] == [5, 10, 15, 20, 25, 30, 35, 40]
    assert float(log[-1]["text"]) < 0.85 * float(log[0]["text"])
    assert log[0]["typed"] == "nan" and 0 <= float(log[-1]["typed"]) <= 1


def test_a_run_goes_on_at_its_step_with_its_weights(run, tmp_path, monkeypatch):
    train_slm(settings(tmp_path, run, steps=6, save_every=4))
    stopped = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    rates, step = [], training.train_step

    def watched(model, teacher, lesson, steppers, rate, turn_end, options, tone_head, team):
        if not rates:
            assert all((model.state_dict()[name] == value).all() for name, value in stopped["model"].items())
            assert steppers[0].state_dict()["state"].keys() == stopped["muon"]["state"].keys()
        rates.append(rate)
        return step(model, teacher, lesson, steppers, rate, turn_end, options, tone_head, team)

    monkeypatch.setattr(training, "train_step", watched)
    train_slm(settings(tmp_path, run, steps=8))
    assert stopped["step"] == 6
    assert rates == [training.schedule(index, 8, 3) for index in (6, 7)]


def test_both_stages_and_the_way_into_a_checkpoint(run, text_run, renderer, tmp_path, monkeypatch):
    rng = random.Random(2)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for split in ("train", "fillers"):
        items = [heard(renderer, sample_dialogue(rng, split), index) for index in range(20)]
        write_shard(shard_file(corpus, split, 0), items)
    folder = tmp_path / "speech"
    train_slm(settings(folder, run, stage="speech", start=text_run, corpus=corpus, steps=5))
    last = lines(folder)[-1]
    assert float(last["distil"]) > 0 and 0 <= float(last["spoken"]) <= 1

    vocabulary = len(PreTrainedTokenizerFast.from_pretrained(run))
    speech = WhisperPro(WhisperProConfig(vocabulary, FEATURES, 1, 2, 2, 16, 8, max_frames=16, prosody_layer=1))
    monkeypatch.setattr(exporting, "trained_whisperpro", lambda _: speech)
    export_tiny(run, folder, tmp_path / "tiny", card="A card.\n")
    loaded = load_checkpoint(tmp_path / "tiny")
    trained = torch.load(folder / "checkpoint.pt", weights_only=True)["model"]
    name = "model.layers.1.mlp.up_proj.weight"
    torch.testing.assert_close(
        loaded.backbone.model.state_dict()[name], trained[f"backbone.{name}"].half().float(), atol=0, rtol=0
    )
    torch.testing.assert_close(loaded.backbone.projector.w1, trained["projector.0.weight"].half().float())
    assert loaded.config["name"] == "textpro-tiny"


def test_stage_speech_without_its_beginnings_is_refused(run, tmp_path):
    with pytest.raises(InputError, match="stage 'text'"):
        train_slm(settings(tmp_path, run, stage="speech"))


def test_a_shard_gives_back_what_was_written(renderer, tmp_path):
    rng = random.Random(3)
    items = [heard(renderer, sample_dialogue(rng, "train"), index) for index in range(8)]
    write_shard(shard_file(tmp_path, "train", 0), items)
    found = read_shards(tmp_path, "train")
    assert [item.dialogue for item in found] == [item.dialogue for item in items]
    for one, other in zip(items, found, strict=True):
        for users in (zip(one.said, other.said, strict=True), zip(one.cuts, other.cuts, strict=True)):
            for before, after in users:
                assert before.tokens == after.tokens and before.complete == after.complete
                assert (before.vectors == after.vectors).all()
    assert read_shards(tmp_path, "fillers") == []
