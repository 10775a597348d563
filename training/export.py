"""From the runs to the bundled model: the last weights of each, written as one checkpoint folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from ..models.checkpoint import save_checkpoint
from ..models.fusion import Fusion
from .runs import read_state
from .slm_data import trained_whisperpro
from .slm_model import SpokenLanguageModel, backbone_config

P_END = {"unsure": 0.003, "sure": 0.95}
"""Thresholds of the bundled model; `textpro-agent bench turns` says what they give."""
NO_SPEECH_THRESHOLD = 0.03
"""The bundled recognizer's; `textpro-agent bench noise` and `textpro-agent eval` say what it gives."""


def export_tiny(speech_run: Path, slm_run: Path, out: Path, card: str | None = None) -> None:
    """Write `out` from a WhisperPro run (which holds the tokenizer) and a run of either stage of the
    backbone."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(speech_run)
    speech = trained_whisperpro(speech_run)
    speech.config = replace(speech.config, no_speech_threshold=NO_SPEECH_THRESHOLD)
    state = read_state(slm_run)["model"]
    layers = 1 + max(int(name.split(".")[3]) for name in state if name.startswith("backbone.model.layers."))
    hidden, feature_dim = state["projector.0.weight"].shape
    config = backbone_config(len(tokenizer), hidden, layers, int(tokenizer.pad_token_id))
    model = SpokenLanguageModel(config, feature_dim)
    model.load_state_dict(state)
    save_checkpoint(
        out,
        name="textpro-tiny",
        speech=speech,
        backbone=model.backbone,
        projector=model.projector_weights(),
        tokenizer=tokenizer,
        fusion=Fusion(marker_id=int(tokenizer.convert_tokens_to_ids("<|prosody|>"))),
        card=card,
        p_end=P_END,
    )
