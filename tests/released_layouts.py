"""Small random stand-ins of the released checkpoints, in several layouts that their unknown files could have: prefixes,
shards, the projector inside or beside, a reconstruction decoder, another marker."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM, WhisperConfig, WhisperForConditionalGeneration

from small_checkpoint import small_tokenizer

FEATURES, HIDDEN, LAYERS = 32, 24, 3
MARKER, OTHER_MARKER = "<|repo_name|>", "<|tone|>"


@dataclass(frozen=True)
class Layout:
    """How a stand-in's files are named and split. Prefixes stand before transformers' own names; `linears` are the
    projector's two layers; `projector_file` None puts it between the backbone's tensors; `settings` is the
    `textpro_config.json`."""

    speech_prefix: str = ""
    backbone_prefix: str = ""
    linears: tuple[str, str] = ("projector.linear1", "projector.linear2")
    projector_file: str | None = None
    shards: int = 1
    reconstruction: str | None = None
    one_folder: bool = False
    tied: bool = True
    square: bool = False
    stored_twice: bool = False
    nested_config: str | None = None
    dtype: torch.dtype = torch.float32
    settings: tuple[tuple[str, Any], ...] = (("fusion_mode", "interleaving"), ("prosody_layer", 2))


@dataclass(frozen=True, eq=False)
class StandIn:
    """What was written: the modules whose tensors have to arrive, and the folders."""

    speech: WhisperForConditionalGeneration
    backbone: Qwen2ForCausalLM
    projector: tuple[Tensor, Tensor, Tensor, Tensor]
    speech_folder: Path | None
    backbone_folder: Path


def write_released(root: Path, layout: Layout) -> StandIn:
    """Write the stand-in below `root`."""
    torch.manual_seed(5)
    features = HIDDEN if layout.square else FEATURES
    backbone_folder = root / "slm"
    speech_folder = backbone_folder if layout.one_folder else root / "whisperpro"
    speech, backbone = _whisper(speech_folder, features, layout), _qwen(backbone_folder, layout)
    shapes = ((HIDDEN, features), (HIDDEN,), (HIDDEN, HIDDEN), (HIDDEN,))
    values = [torch.randn(shape) for shape in shapes]
    projector = {
        f"{layout.linears[at // 2]}.{('weight', 'bias')[at % 2]}": value.to(layout.dtype) for at, value in enumerate(values)
    }
    heard = _named(speech, layout.speech_prefix, layout, without="proj_out.weight")
    if layout.reconstruction is not None:
        heard |= {f"{layout.reconstruction}.{key}": value for key, value in _decoder(speech).items()}
    words = _named(backbone, layout.backbone_prefix, layout, without="lm_head.weight" if layout.tied else "")
    if layout.projector_file is None:
        words |= projector
    else:
        save_file(projector, backbone_folder / layout.projector_file)
    if layout.one_folder:
        _save(backbone_folder, heard | words, layout)
    else:
        _save(speech_folder, heard, layout)
        _save(backbone_folder, words, layout)
    return StandIn(
        speech.to(layout.dtype),
        backbone.to(layout.dtype),
        tuple(projector.values()),
        None if layout.one_folder else speech_folder,
        backbone_folder,
    )


def write_json(file: Path, values: dict[str, Any]) -> None:
    """Add `values` to the object in `file`."""
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    file.write_text(json.dumps({**known, **values}), encoding="utf-8")


def _whisper(folder: Path, features: int, layout: Layout) -> WhisperForConditionalGeneration:
    tokenizer = small_tokenizer()
    tokenizer.add_tokens(["<|notimestamps|>"], special_tokens=True)
    tokenizer.save_pretrained(folder / "speech_tokenizer" if layout.one_folder else folder)
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=8,
        d_model=features,
        encoder_layers=1,
        decoder_layers=LAYERS,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_source_positions=20,
        max_target_positions=12,
        pad_token_id=1,
        bos_token_id=2,
        eos_token_id=0,
        decoder_start_token_id=2,
    )
    _write_config(folder, config.to_dict(), "whisper_config" if layout.one_folder else layout.nested_config)
    return WhisperForConditionalGeneration(config)


def _qwen(folder: Path, layout: Layout) -> Qwen2ForCausalLM:
    tokenizer = small_tokenizer()
    tokenizer.add_tokens([OTHER_MARKER, MARKER], special_tokens=True)
    tokenizer.save_pretrained(folder)
    config = Qwen2Config(
        vocab_size=len(tokenizer) + 3,
        hidden_size=HIDDEN,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=layout.tied,
    )
    values = config.to_dict()
    values.pop("rope_parameters", None)
    values["rope_theta"] = 1e6  # as the published configurations of Qwen2.5 write it
    _write_config(folder, values, "llm_config" if layout.one_folder else layout.nested_config)
    write_json(folder / "textpro_config.json", dict(layout.settings))
    return Qwen2ForCausalLM(Qwen2Config.from_dict(values))


def _write_config(folder: Path, values: dict[str, Any], entry: str | None) -> None:
    write_json(folder / "config.json", values if entry is None else {"model_type": "textpro", entry: values})


def _named(model: torch.nn.Module, prefix: str, layout: Layout, *, without: str) -> dict[str, Tensor]:
    named = {prefix + name: tensor.to(layout.dtype).clone() for name, tensor in model.state_dict().items()}
    if without and not layout.stored_twice:
        named.pop(prefix + without)
    return named


def _decoder(speech: WhisperForConditionalGeneration) -> dict[str, Tensor]:
    """A second decoder of the same shapes, the hardest thing to tell from Whisper's own."""
    return {name: torch.randn_like(tensor) for name, tensor in speech.model.decoder.state_dict().items()}


def _save(folder: Path, tensors: dict[str, Tensor], layout: Layout) -> None:
    if layout.shards == 1:
        save_file(tensors, folder / "model.safetensors")
        return
    names, weight_map = sorted(tensors), {}
    for shard in range(layout.shards):
        file = f"model-{shard + 1:05}-of-{layout.shards:05}.safetensors"
        kept = {name: tensors[name] for name in names[shard :: layout.shards]}
        save_file(kept, folder / file)
        weight_map |= dict.fromkeys(kept, file)
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})
