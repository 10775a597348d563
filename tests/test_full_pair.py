"""Any Whisper with any ChatML model, through a whole session: words, rows and replies are those of plain transformers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from conversation import converse
from small_pair import (
    CHATML,
    PlainWhisper,
    example_audio,
    projector_tensors,
    runtime_with,
    write_qwen,
    write_whisper,
)
from textpro.agent.events import (
    EagerTurnEnd,
    Prosody,
    ReplyDone,
    TokensCommitted,
    TokensRetracted,
    TurnEnd,
    TurnResumed,
    TurnStart,
    Update,
)
from textpro.models.errors import CheckpointError
from textpro.models.fusion import Fusion
from textpro.models.pair import load_pair
from textpro.models.whisper_full import FullSettings

SYSTEM = "Answer in one short sentence."
HAPPY, SAD = example_audio("lost_keys_happy.wav"), example_audio("lost_keys_sad.wav")


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path, Path]:
    """A Whisper's, a chat model's, and the file of a projector between them."""
    place = tmp_path_factory.mktemp("pair")
    write_whisper(place / "whisper")
    write_qwen(place / "qwen")
    save_file(projector_tensors(), place / "projector.safetensors")
    return place / "whisper", place / "qwen", place / "projector.safetensors"


class Plain:
    """Both models in plain transformers."""

    def __init__(self, folders) -> None:
        self.whisper = PlainWhisper(folders[0])
        self.model = Qwen2ForCausalLM.from_pretrained(folders[1], dtype=torch.float32)
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(folders[1])
        self.projector = projector_tensors()

    def heard(self, events, audio, layer: int = 0) -> tuple[list[int], np.ndarray]:
        """What `generate` makes of the samples of the only turn, and the states that predict its tokens."""
        (start,) = [event for event in events if isinstance(event, TurnStart)]
        eager = [event for event in events if isinstance(event, EagerTurnEnd)][-1]
        samples = audio[start.start_ms * 16 : eager.t_ms * 16]
        limit = min(160 - 4, 25 * len(samples) // 16_000 + 8)
        return self.whisper.generate(samples, limit, layer, language="en", task="transcribe")

    def rendered(self, words: str) -> list[int]:
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": words}]
        return self.tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]

    @torch.inference_mode()
    def reply(self, rows: list[int | np.ndarray]) -> list[int]:
        """Greedy reply to rows of token ids and mean prosody vectors."""
        table, weights, embeds = self.model.get_input_embeddings().weight, self.projector, []
        for row in rows:
            if isinstance(row, int):
                embeds.append(table[row])
            else:
                hidden = torch.nn.functional.gelu(weights["w1"] @ torch.from_numpy(row) + weights["b1"])
                embeds.append(weights["w2"] @ hidden + weights["b2"])
        out = self.model.generate(
            inputs_embeds=torch.stack(embeds)[None], attention_mask=torch.ones(1, len(rows), dtype=torch.long),
            do_sample=False, max_new_tokens=160, eos_token_id=self.tokenizer.convert_tokens_to_ids("<|im_end|>"),
            pad_token_id=0,
        )  # fmt: skip
        return out[0].tolist()


@pytest.fixture(scope="module")
def plain(folders) -> Plain:
    return Plain(folders)


def talk(checkpoint, audio, piece=320, **session):
    """One session: its events and the entries of its context."""

    async def run():
        async with runtime_with(checkpoint) as runtime, runtime.session(SYSTEM, **session) as conversation:
            events = await converse(conversation, audio, lambda: piece)
            return events, conversation.entries

    return asyncio.run(run())


def of(events, kind):
    return [event for event in events if isinstance(event, kind)]


def rows_of(entries) -> list[int | np.ndarray]:
    return [int(entry.token_id) if entry.vector is None else entry.vector for entry in entries]


@pytest.mark.parametrize("audio", [HAPPY, SAD])
def test_a_plain_whisper_and_a_chat_model_answer_as_plain_transformers_do(folders, plain, audio):
    checkpoint = load_pair(folders[0], folders[1], settings=FullSettings("en"))
    events, entries = talk(checkpoint, audio)
    ids, _ = plain.heard(events, audio)
    words = plain.whisper.tokenizer.decode(ids).strip()
    (committed,) = of(events, TokensCommitted)
    assert list(committed.tokens) == ids and committed.text.strip() == words
    assert of(events, TurnEnd)[0].text == words == of(events, Update)[-1].committed
    assert any(update.tentative and not update.committed for update in of(events, Update)), "a tick guesses"
    assert not of(events, Prosody)
    rows = rows_of(entries)
    rendered = plain.rendered(words)
    assert rows[: len(rendered)] == rendered
    assert rows[len(rendered) :][: len(reply := plain.reply(rendered))] == reply
    assert of(events, ReplyDone)[0].text == plain.tokenizer.decode(reply, skip_special_tokens=True)


@pytest.mark.parametrize("fusion", [Fusion("global"), Fusion(grouping="array_split")], ids=lambda one: one.mode)
def test_a_full_recognizer_with_prosody_answers_as_plain_transformers_do(folders, plain, fusion):
    checkpoint = load_pair(*folders, fusion, settings=FullSettings("en", prosody_layer=1))
    events, entries = talk(checkpoint, SAD)
    ids, states = plain.heard(events, SAD, layer=1)
    words = plain.whisper.tokenizer.decode(ids).strip()
    text = plain.tokenizer(words, add_special_tokens=False)["input_ids"]
    size = len(text) if fusion.mode == "global" else 5
    groups = [text[start : start + size] for start in range(0, len(text), size)]
    assert len(text) != len(ids), "else the tokenizers are not different"
    parts = np.array_split(states, len(groups))
    user = [row for part, group in zip(parts, groups, strict=True) for row in (part.mean(0), *group)]
    rendered = plain.rendered(words)
    at = next(index for index in range(len(rendered)) if rendered[index : index + len(text)] == text)
    expected = [*rendered[:at], *user, *rendered[at + len(text) :]]
    rows = rows_of(entries)
    for found, row in zip(rows[: len(expected)], expected, strict=True):
        assert isinstance(found, int) == isinstance(row, int)
        np.testing.assert_allclose(found, row, atol=1e-4)
    reply = plain.reply(expected)
    assert rows[len(expected) :][: len(reply)] == reply
    assert {one.label for one in of(events, Prosody)} == {"unknown"}


def test_prosody_off_leaves_the_plain_text_in_the_context(folders, plain):
    checkpoint = load_pair(*folders, Fusion("global"), settings=FullSettings("en", prosody_layer=1))
    events, entries = talk(checkpoint, HAPPY, prosody=False)
    rendered = plain.rendered(of(events, TurnEnd)[0].text)
    assert rows_of(entries)[: len(rendered)] == rendered and not of(events, Prosody)


def test_speech_that_goes_on_is_recognized_as_one_turn_however_it_arrives(folders, plain):
    checkpoint = load_pair(folders[0], folders[1], settings=FullSettings("en"))
    audio = np.concatenate([HAPPY[: 1_600 * 16], example_audio("lost_keys_sad.wav", before_ms=0)])
    found = []
    for piece in (160, 20_000):
        events, entries = talk(checkpoint, audio, piece)
        assert of(events, TurnResumed) and of(events, TokensRetracted)[0].to_index == 0
        ids, _ = plain.heard(events, audio)
        assert list(of(events, TokensCommitted)[-1].tokens) == ids
        rendered = plain.rendered(plain.whisper.tokenizer.decode(ids).strip())
        found.append(rows_of(entries))
        assert found[-1][: len(rendered)] == rendered
    assert found[0] == found[1]


def test_typed_and_spoken_turns_follow_each_other(folders, plain):
    checkpoint = load_pair(folders[0], folders[1], settings=FullSettings("en"))

    async def run():
        async with runtime_with(checkpoint) as runtime, runtime.session(SYSTEM) as session:
            await session.send_text("What is Twenty plus 30?")
            await session.settled()
            typed = session.entries
            events = await converse(session, HAPPY)
            return typed, session.entries, events

    typed, entries, events = asyncio.run(run())
    rendered = plain.rendered("What is Twenty plus 30?")
    assert rows_of(typed)[: len(rendered)] == rendered, "text is read as it was written"
    words = of(events, TurnEnd)[-1].text
    turn = [{"role": "user", "content": words}]
    behind = plain.tokenizer.apply_chat_template(turn, add_generation_prompt=True)["input_ids"]
    assert rows_of(entries)[len(typed) :][: len(behind)] == behind


@pytest.mark.parametrize("missing", ["<|im_start|>", "<|im_end|>"])
def test_a_chat_model_without_chatml_tokens_is_refused_by_the_token_s_name(folders, tmp_path, missing):
    tokens = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"} - {missing}
    write_qwen(tmp_path, special=tuple(sorted(tokens)))
    with pytest.raises(CheckpointError, match=f"does not know {missing.replace('|', '.')}: expected"):
        load_pair(folders[0], tmp_path)


@pytest.mark.parametrize("template", [None, CHATML.replace("<|im_end|>", "<|im_end|> "), "{{ raise_exception('no') }}"])
def test_another_chat_template_is_refused(folders, tmp_path, template):
    write_qwen(tmp_path, template=template)
    with pytest.raises(CheckpointError, match=r"chat template .*expected .*ChatML"):
        load_pair(folders[0], tmp_path)


def test_the_marker_is_needed_only_with_fusion(folders, tmp_path):
    write_qwen(tmp_path, special=("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
    assert load_pair(folders[0], tmp_path).backbone.projector is None
    with pytest.raises(CheckpointError, match=r"<\|repo_name\|>"):
        load_pair(folders[0], tmp_path, folders[2], Fusion("global"), settings=FullSettings(prosody_layer=1))


@pytest.mark.parametrize(
    ("fusion", "projector", "layer", "told"),
    [
        (Fusion("none"), True, None, "fusion none uses no prosody"),
        (Fusion("none"), False, 1, "fusion none uses no prosody"),
        (Fusion("global"), False, 1, "fusion global needs"),
        (Fusion("global"), True, None, "fusion global needs"),
        (Fusion(), True, 1, "use array_split"),
    ],
)
def test_a_fusion_that_the_parts_cannot_serve_is_refused(folders, fusion, projector, layer, told):
    with pytest.raises(CheckpointError, match=told):
        load_pair(folders[0], folders[1], folders[2] if projector else None, fusion, settings=FullSettings(None, layer))
