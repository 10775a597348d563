"""From what a user names, a preset or a folder, to a checkpoint that the engine can run: the bundled layout, a pair of any
Whisper and chat model, or the released layout. Nothing is downloaded here.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from safetensors import SafetensorError
from transformers import GenerationConfig, WhisperFeatureExtractor

from .chat_template import PLAIN, read_template
from .checkpoint import CONFIG, Checkpoint, load_checkpoint, load_tokenizer
from .errors import CheckpointError, InputError
from .padded_models import is_padded, pad_checkpoint, padded_body
from .pair import join_pair, load_pair
from .presets import PRESETS, preset_folders
from .random_models import is_random, open_random, random_shapes
from .released import ReleasedParts, load_released
from .released_files import read_json
from .released_settings import FusionOptions
from .whisper_full import FullSettings, FullWhisper
from .whisper_settings import with_stored

BUNDLED = "tiny"
GENERATION = "generation_config.json"


@dataclass(frozen=True, slots=True)
class Pair:
    """Folders of any Whisper and any chat model of the ChatML kind, which know no prosody together, or of a WhisperPro and a
    TextPro-SLM as released, which do."""

    encoder: Path
    backbone: Path


def model_folder(model: str | Path) -> Path:
    """The folder of a model that lies in one: "tiny" is the bundled one, anything else a path. InputError where there is
    none."""
    if str(model) == BUNDLED:
        return Path(str(files("textpro.models") / BUNDLED))
    folder = Path(model).expanduser()
    if not folder.is_dir():
        raise InputError(f"no model at {folder}: expected one of {', '.join(PRESETS)} or a folder with {CONFIG}")
    return folder


def check_model(model: str | Path | Pair, cache: Path | None = None) -> None:
    """InputError where the model is not here; cheap, before anything is loaded."""
    if isinstance(model, Pair):
        for folder in (model.encoder, model.backbone):
            if not folder.expanduser().is_dir():
                raise InputError(f"no model at {folder}: expected a folder with config.json and safetensors")
    elif (preset := PRESETS.get(str(model))) is not None:
        if preset.repositories:
            preset_folders(preset, cache)
    elif is_random(model):
        random_shapes(str(model))
    elif is_padded(model):
        padded_body(str(model))
    else:
        model_folder(model)


def open_model(model: str | Path | Pair, cache: Path | None = None) -> Checkpoint:
    """The checkpoint of a preset, of random weights (`random:7b`), of the bundled model in a larger body (`padded:135m`), of a
    pair, or of a folder with a `textpro_config.json`: the project's own layout, or a released one that holds both parts.
    `cache` is the hub's, None the usual one. InputError where it is not here, CheckpointError where something in it does not
    fit, DeviceError where weights that are made on the spot have no room."""
    check_model(model, cache)
    if is_random(model):
        return open_random(str(model))
    if is_padded(model):
        return pad_checkpoint(load_checkpoint(model_folder(BUNDLED)), str(model))
    if isinstance(model, Pair):
        encoder, backbone = model.encoder.expanduser(), model.backbone.expanduser()
        if is_released(backbone):
            return join_released(load_released(backbone, encoder), f"{encoder.name} + {backbone.name}")
        return load_pair(encoder, backbone)
    preset = PRESETS.get(str(model))
    if preset is None:
        folder = model_folder(model)
        return join_released(load_released(folder), folder.name) if is_released(folder) else load_checkpoint(folder)
    if not preset.repositories:
        return load_checkpoint(model_folder(preset.name))
    folders = preset_folders(preset, cache)
    if preset.fusion is None:
        return load_pair(folders["speech"], folders["backbone"])
    options = FusionOptions(mode=preset.fusion)
    return join_released(load_released(folders["backbone"], folders["speech"], options=options), preset.name)


def is_released(folder: Path) -> bool:
    """Whether a folder holds a TextPro-SLM as its authors publish it: fusion settings, and not in the project's own layout."""
    return (folder / CONFIG).is_file() and "format" not in read_json(folder / CONFIG)


def model_files(model: str | Path | Pair, cache: Path | None = None) -> dict[str, Path]:
    """The folders that `open_model` reads, by the name of their part."""
    if isinstance(model, Pair):
        return {"speech": model.encoder.expanduser(), "backbone": model.backbone.expanduser()}
    if is_random(model) or is_padded(model):
        raise InputError(f"{model} is made on the spot and has no files: name a preset or a folder")
    preset = PRESETS.get(str(model))
    if preset is not None and preset.repositories:
        return {str(role): folder for role, folder in preset_folders(preset, cache).items()}
    return {"model": model_folder(model)}


def join_released(parts: ReleasedParts, name: str) -> Checkpoint:
    """A checkpoint of released parts. CheckpointError without Whisper's `preprocessor_config.json`."""
    folder, settings = parts.speech_folder, parts.settings
    try:
        extractor = WhisperFeatureExtractor.from_pretrained(folder, local_files_only=True)
        if (folder / GENERATION).is_file():
            parts.speech.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{folder / 'preprocessor_config.json'} is missing or broken ({error}): fetch it again") from error
    heard = FullSettings(prosody_layer=settings.prosody_layer, prosody_at=settings.prosody_at)
    tokenizer = load_tokenizer(parts.backbone_folder)
    checkpoint = join_pair(
        FullWhisper(parts.speech, load_tokenizer(folder), extractor, with_stored(folder, heard)),
        parts.backbone,
        tokenizer,
        parts.projector,
        settings.fusion,
        name=name,
        marker_token=settings.marker_token,
        template=read_template(tokenizer, parts.backbone_folder) if tokenizer.chat_template else PLAIN,
    )
    checkpoint.config["origins"] = dict(settings.origins)
    checkpoint.config["left_out"] = list(parts.left_out)
    return checkpoint
