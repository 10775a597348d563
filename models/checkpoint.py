"""The checkpoint folder: one recognizer, one backbone, one projector and one tokenizer that belong together.

Layout: `textpro_config.json`, the tokenizer's files, `whisperpro/` and `backbone/` (each `config.json` and
`model.safetensors`), `projector.safetensors`, `README.md` (the card). Weights are stored as fp16 and computed
in fp32. Only JSON and safetensors are read, so no code from a checkpoint is ever run; whatever is missing,
unknown or of another shape is refused with its name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from ..kernels.fuse_prosody import ProjectorWeights
from .backbone import Backbone
from .chat import LOWER_WORDS, ChatFormat
from .errors import CheckpointError
from .fusion import Fusion
from .speech_stream import StreamingWhisperPro
from .whisper_full import FullWhisper
from .whisperpro import TONES, WhisperPro, WhisperProConfig

FORMAT = 1
CONFIG, CARD = "textpro_config.json", "README.md"
WEIGHTS, PROJECTOR = "model.safetensors", "projector.safetensors"
SPEECH, BACKBONE = "whisperpro", "backbone"
CAUSAL = "causal language model"


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A recognizer and a backbone that belong together, in fp32 on the CPU, ready for the engine.

    `tokenizer` is the backbone's; a chunked recognizer shares it, a full one brings its own. `config` holds what
    `textpro_config.json` does.
    """

    speech: StreamingWhisperPro | FullWhisper
    backbone: Backbone
    tokenizer: PreTrainedTokenizerFast
    chat: ChatFormat
    fusion: Fusion
    config: dict[str, Any]

    @property
    def chunked(self) -> StreamingWhisperPro:
        """The recognizer, for what needs a chunked one; CheckpointError for another."""
        if isinstance(self.speech, StreamingWhisperPro):
            return self.speech
        raise CheckpointError("this needs a chunked recognizer, and the model has a full one: take the bundled model")

    def speech_text(self, tokens: Sequence[int]) -> str:
        """The words of the recognizer's tokens."""
        return self.speech.text(tokens) if isinstance(self.speech, FullWhisper) else self.chat.text(tokens)

    def heard_ids(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """The recognizer's tokens as the backbone reads them: whole words cross, joined by ids."""
        return self.chat.words(self.speech.text(tokens)) if isinstance(self.speech, FullWhisper) else tuple(tokens)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Load a checkpoint folder. Raises CheckpointError naming what is missing or does not fit."""
    config = _read_json(folder / CONFIG)
    if config.get("format") != FORMAT:
        raise CheckpointError(
            f"{folder / CONFIG} has format {config.get('format')!r}, this version reads {FORMAT}: update "
            "the package or take a checkpoint that fits it"
        )
    tokenizer = load_tokenizer(folder)
    chat = ChatFormat(tokenizer, config)
    fusion = Fusion.from_dict(config.get("fusion", {}), chat.marker_id)
    speech = _load_speech(folder / _subfolder(config, "speech", SPEECH))
    model: PreTrainedModel = load_model(folder / _subfolder(config, "backbone", BACKBONE), AutoModelForCausalLM, CAUSAL)
    _check_vocabulary(len(tokenizer), speech.config.vocab_size, model.config.vocab_size)
    if config.get("prosody_layer", speech.config.prosody_layer) != speech.config.prosody_layer:
        raise CheckpointError(
            f"prosody_layer is {config['prosody_layer']} in {CONFIG} and {speech.config.prosody_layer} in "
            f"{SPEECH}/config.json: expected the same"
        )
    projector = None
    if fusion.mode != "none":
        projector = load_projector(folder / PROJECTOR, model.config.hidden_size, speech.config.d_model)
    backbone = Backbone(model, projector, chat.marker_id)
    return Checkpoint(StreamingWhisperPro(speech), backbone, tokenizer, chat, fusion, config)


def save_checkpoint(
    folder: Path,
    *,
    name: str,
    speech: WhisperPro,
    backbone: PreTrainedModel,
    projector: ProjectorWeights | None,
    tokenizer: PreTrainedTokenizerFast,
    fusion: Fusion | None = None,
    card: str | None = None,
    p_end: Mapping[str, float] | None = None,
) -> None:
    """Write the folder in fp16; an existing card stays where `card` is None. `p_end` are the thresholds of the end of a turn,
    by which a session then ends turns. Raises CheckpointError for weights that fp16 cannot hold."""
    fusion = Fusion() if fusion is None else fusion
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    config = {
        "format": FORMAT,
        "name": name,
        "fusion": fusion.to_dict(),
        "marker_token": tokenizer.convert_ids_to_tokens(fusion.marker_id),
        "prosody_layer": speech.config.prosody_layer,
        "prosody_at": "reads",
        "speech": SPEECH,
        "backbone": BACKBONE,
        "text": LOWER_WORDS,
        "tones": list(TONES),
    }
    if p_end is not None:
        config["p_end"] = dict(p_end)
    _write_json(folder / CONFIG, config)
    (folder / SPEECH).mkdir(exist_ok=True)
    _write_json(folder / SPEECH / "config.json", speech.config.to_dict())
    _save_half(folder / SPEECH / WEIGHTS, speech.state_dict())
    (folder / BACKBONE).mkdir(exist_ok=True)
    _save_half(folder / BACKBONE / WEIGHTS, _untied(backbone))
    _write_json(folder / BACKBONE / "config.json", _plain_config(backbone))
    if projector is not None:
        weights = {field.name: getattr(projector, field.name) for field in fields(projector)}
        _save_half(folder / PROJECTOR, weights)
    if card is not None:
        (folder / CARD).write_text(card, encoding="utf-8")


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a folder. CheckpointError without `tokenizer.json`."""
    if not (folder / "tokenizer.json").is_file():
        raise CheckpointError(f"{folder / 'tokenizer.json'} is missing: expected a checkpoint folder with its own tokenizer")
    return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)


def _load_speech(folder: Path) -> WhisperPro:
    values = _read_json(folder / "config.json")
    known = {field.name for field in fields(WhisperProConfig)}
    if values.get("kind") != "chunked" or "vocab_size" not in values or set(values) - known:
        raise CheckpointError(
            f"{folder / 'config.json'} is no configuration of a chunked WhisperPro (kind "
            f"{values.get('kind')!r}, unknown settings {sorted(set(values) - known)}): expected the file "
            "that save_checkpoint writes"
        )
    model = WhisperPro(WhisperProConfig(**values))
    tensors = _read_tensors(folder / WEIGHTS)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    _check_tensors(folder / WEIGHTS, tensors, shapes)
    model.load_state_dict(tensors)
    return model


def load_model(folder: Path, loader: Any, kind: str) -> Any:
    """A model by a class of transformers, in fp32; `kind` names it in the CheckpointError for what does not fit."""
    _read_json(folder / "config.json")
    if not any(folder.glob("*.safetensors")):
        raise CheckpointError(f"{folder} holds no safetensors: expected {WEIGHTS}; convert other formats, they may run code")
    try:
        model, report = loader.from_pretrained(
            folder,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{folder} is no {kind} that transformers knows: {error}") from error
    wrong = [str(entry) for entry in report["mismatched_keys"]]
    _refuse(folder, set(report["missing_keys"]), set(report["unexpected_keys"]), wrong)
    return model


def load_projector(file: Path, hidden: int, features: int) -> ProjectorWeights:
    """The projector of a safetensors file, in fp32. CheckpointError naming what does not fit."""
    tensors = _read_tensors(file)
    shapes = {"w1": (hidden, features), "b1": (hidden,), "w2": (hidden, hidden), "b2": (hidden,)}
    _check_tensors(file, tensors, shapes)
    return ProjectorWeights(**tensors)


def _read_tensors(file: Path) -> dict[str, Tensor]:
    """All tensors of a file, in fp32."""
    if not file.is_file():
        raise CheckpointError(f"{file} is missing: expected safetensors of that name")
    try:
        return {name: tensor.float() for name, tensor in load_file(file).items()}
    except SafetensorError as error:
        raise CheckpointError(f"{file} is broken ({error}): fetch it again") from error


def _check_tensors(file: Path, found: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    wrong = [
        f"{name} {tuple(tensor.shape)} for {expected[name]}"
        for name, tensor in found.items()
        if name in expected and tuple(tensor.shape) != expected[name]
    ]
    _refuse(file, expected.keys() - found.keys(), found.keys() - expected.keys(), wrong)


def _refuse(place: Path, missing: set[str], unknown: set[str], wrong: list[str]) -> None:
    """Raise where anything is missing, unknown or of the wrong shape."""
    told = (("missing", sorted(missing)), ("unknown", sorted(unknown)), ("of the wrong shape", sorted(wrong)))
    faults = [f"{kind}: {', '.join(names)}" for kind, names in told if names]
    if faults:
        raise CheckpointError(f"{place} does not fit its config.json; tensors {'; '.join(faults)}")


def _check_vocabulary(tokenizer: int, speech: int, backbone: int) -> None:
    if speech != tokenizer or backbone < tokenizer:
        raise CheckpointError(
            f"the tokenizer has {tokenizer} tokens, the recognizer {speech}, the backbone {backbone}: "
            "expected one vocabulary for all; put the files of one checkpoint together"
        )


def _subfolder(config: Mapping[str, Any], key: str, default: str) -> str:
    name = str(config.get(key, default))
    if Path(name).name != name or name in ("", ".", ".."):
        raise CheckpointError(f"{key} {name!r} in {CONFIG}: expected the name of a folder beside it")
    return name


def _read_json(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{file} is missing: expected a checkpoint folder with {CONFIG}") from error
    except ValueError as error:
        raise CheckpointError(f"{file} is no JSON ({error}): fetch it again") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{file} holds {type(values).__name__}: expected a JSON object")
    return values


def _write_json(file: Path, values: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _plain_config(backbone: PreTrainedModel) -> dict[str, Any]:
    """The model's `config.json` without the attention function that the engine may have put in."""
    values: dict[str, Any] = json.loads(backbone.config.to_json_string(use_diff=True))
    return {**values, "architectures": [type(backbone).__name__], "dtype": "float16"}


def _untied(backbone: PreTrainedModel) -> dict[str, Tensor]:
    """Weights without the output matrix where it is the embedding."""
    state = backbone.state_dict()
    return {
        name: tensor for name, tensor in state.items() if not (backbone.config.tie_word_embeddings and name == "lm_head.weight")
    }


def _save_half(file: Path, tensors: Mapping[str, Tensor]) -> None:
    halves = {name: tensor.detach().to(torch.float16).cpu().contiguous() for name, tensor in tensors.items()}
    broken = [name for name, half in halves.items() if not half.isfinite().all()]
    if broken:
        raise CheckpointError(
            f"{', '.join(broken)} cannot be stored as fp16: expected finite values of at most 65504; train "
            "on with a smaller learning rate"
        )
    save_file(halves, file, metadata={"format": "pt"})
    file.chmod(0o644)  # safetensors writes for the owner alone
