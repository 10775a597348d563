"""Checkpoints by parts: any Whisper folder and any ChatML model's folder, with a projector where prosody goes along.

`load_pair` reads folders as Hugging Face lays them out; `join_pair` takes modules that are ready, for loaders of other
layouts. The two tokenizers stay apart: words cross as text (see `Checkpoint.heard_ids`). Only JSON and safetensors are
read, so no code from a checkpoint is ever run; what does not fit is refused by name.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSpeechSeq2Seq,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from ..kernels.fuse_prosody import ProjectorWeights
from .backbone import Backbone
from .chat import WRITTEN, ChatFormat
from .chat_template import PLAIN, ChatTemplate, read_template
from .checkpoint import CAUSAL, FORMAT, Checkpoint, load_model, load_projector, load_tokenizer
from .errors import CheckpointError
from .fusion import Fusion
from .tokens import CUT_OFF, TURN_START
from .whisper_full import FullSettings, FullWhisper
from .whisper_settings import with_stored

QWEN_MARKER = "<|repo_name|>"
"""The token that the released models put before a group of text tokens."""
NO_FUSION = Fusion("none")
CUT_OFF_TEXTS = ("\u2026", "...", "-")
"""How a reply breaks off where the tokenizer reserves no token for it: the first of these that is one token."""


def load_pair(
    encoder: Path,
    backbone: Path,
    projector: Path | None = None,
    fusion: Fusion = NO_FUSION,
    *,
    settings: FullSettings | None = None,
    marker_token: str = QWEN_MARKER,
    text: str = WRITTEN,
) -> Checkpoint:
    """A checkpoint of two folders and, unless fusion is `none`, a projector's safetensors file (w1, b1, w2, b2).

    `settings` of the recognizer must name a `prosody_layer` where there is fusion. Raises CheckpointError.
    """
    speech = load_full_whisper(encoder, settings)
    tokenizer = load_tokenizer(backbone)
    template = read_template(tokenizer, backbone)
    model: PreTrainedModel = load_model(backbone, AutoModelForCausalLM, CAUSAL)
    weights = None
    if projector is not None:
        weights = load_projector(projector, model.config.hidden_size, speech.model.config.d_model)
    return join_pair(
        speech, model, tokenizer, weights, fusion,
        name=f"{encoder.name} + {backbone.name}", marker_token=marker_token, text=text, template=template,
    )  # fmt: skip


def join_pair(
    speech: FullWhisper,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    projector: ProjectorWeights | None = None,
    fusion: Fusion = NO_FUSION,
    *,
    name: str,
    marker_token: str = QWEN_MARKER,
    text: str = WRITTEN,
    template: ChatTemplate = PLAIN,
) -> Checkpoint:
    """A checkpoint of ready modules of one dtype and device, which writes by the tokenizer's `template`; the fusion's marker
    id is looked up. Raises CheckpointError."""
    if len(tokenizer) > model.config.vocab_size:
        raise CheckpointError(
            f"the backbone's tokenizer has {len(tokenizer)} tokens, its model {model.config.vocab_size}: put the files of one "
            "checkpoint together"
        )
    _check_fusion(speech, projector, fusion)
    config: dict[str, Any] = {
        "format": FORMAT,
        "name": name,
        "fusion": fusion.to_dict(),
        # without fusion no marker is ever written, so none has to be reserved
        "marker_token": TURN_START if fusion.mode == "none" else marker_token,
        "cut_off_token": _cut_off_token(tokenizer),
        "prosody_layer": speech.settings.prosody_layer,
        "prosody_at": speech.settings.prosody_at,
        "text": text,
        "default_system": template.system,
        "reply_lead": template.reply_lead,
    }
    if template.lists_tools:
        config["tool_prompt"] = "hermes"
    chat = ChatFormat(tokenizer, config)
    fusion = replace(fusion, marker_id=chat.marker_id)
    return Checkpoint(speech, Backbone(model, projector, chat.marker_id), tokenizer, chat, fusion, config)


def load_full_whisper(folder: Path, settings: FullSettings | None = None) -> FullWhisper:
    """A Whisper folder: weights, tokenizer, `preprocessor_config.json`, `generation_config.json`. CheckpointError."""
    try:
        extractor = WhisperFeatureExtractor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{folder / 'preprocessor_config.json'} is missing or broken ({error}): fetch it again") from error
    tokenizer = load_tokenizer(folder)
    model = load_model(folder, AutoModelForSpeechSeq2Seq, "Whisper")
    if not isinstance(model, WhisperForConditionalGeneration):
        raise CheckpointError(f"{folder} holds a {type(model).__name__}: expected a Whisper")
    return FullWhisper(model, tokenizer, extractor, with_stored(folder, settings))


def _check_fusion(speech: FullWhisper, projector: ProjectorWeights | None, fusion: Fusion) -> None:
    """Raise where the parts and the fusion do not belong together."""
    has_prosody = speech.settings.prosody_layer is not None
    if fusion.mode == "none" and (has_prosody or projector is not None):
        raise CheckpointError("fusion none uses no prosody, but a projector or a prosody_layer was given: name a fusion")
    if fusion.mode != "none" and (not has_prosody or projector is None):
        raise CheckpointError(f"fusion {fusion.mode} needs a prosody_layer of the recognizer and a projector: give both")
    if fusion.mode == "interleaving" and fusion.grouping == "fixed":
        raise CheckpointError("fixed grouping needs one tokenizer for recognizer and backbone: use array_split")


def _cut_off_token(tokenizer: PreTrainedTokenizerFast) -> str:
    if CUT_OFF in tokenizer.get_vocab():
        return CUT_OFF
    for text in CUT_OFF_TEXTS:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) == 1:
            return str(tokenizer.convert_ids_to_tokens(ids[0]))
    raise CheckpointError(f"the backbone's tokenizer has no single token for any of {CUT_OFF_TEXTS}: use another model")
