"""The released layout: a WhisperPro and a TextPro-SLM as their authors publish them, read into checked, plain modules. The
names of their tensors are not documented, so Whisper's and Qwen2's are recognized by their well-known suffixes under
whatever prefix stands before them; what no part claims has to be exactly the projector (arXiv 2605.05927: Linear 1280 -> H,
GELU, Linear H -> H) or a reconstruction decoder, which is left out unread. Anything else, and anything missing or of
another shape, is refused by name. No code of a checkpoint is run, and no pickle is opened.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM, WhisperConfig, WhisperForConditionalGeneration

from ..kernels.fuse_prosody import ProjectorWeights
from .errors import CheckpointError
from .released_files import StoredTensor, read, read_json, refuse_other, scan
from .released_settings import CONFIG_FILES, FusionOptions, ReleasedSettings, open_tokenizer, read_settings

RECONSTRUCTION = "recon"
_COMPUTED = ("rotary_emb.inv_freq",)  # buffers that old releases of transformers stored
_WHISPER_KEYS = ("d_model", "encoder_layers", "decoder_layers", "encoder_attention_heads", "decoder_attention_heads",
                 "num_mel_bins", "vocab_size")  # fmt: skip
_QWEN_KEYS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
              "vocab_size")  # fmt: skip
Tensors = Mapping[str, StoredTensor]


@dataclass(frozen=True, slots=True, eq=False)
class ReleasedParts:
    """A released pair, checked and ready to be put together. Modules are in eval mode, all of one dtype, on the CPU.

    `speech_folder` and `backbone_folder` hold each one's `tokenizer.json` (and Whisper's generation settings);
    `left_out` are the names of the tensors that running it does not need.
    """

    speech: WhisperForConditionalGeneration
    backbone: Qwen2ForCausalLM
    projector: ProjectorWeights
    settings: ReleasedSettings
    speech_folder: Path
    backbone_folder: Path
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Part:
    """A module to be found: its tensors' shapes by their names inside it, and the name that gives it away."""

    label: str
    anchor: str
    shapes: Mapping[str, tuple[int, ...]]


class _Pool:
    """The tensors of one folder, and which of them have been claimed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tensors: Tensors = scan(folder)
        self._claimed: set[str] = set()
        self._prefixes: list[str] = []

    def claim(self, part: _Part, beside: str = "") -> dict[str, StoredTensor]:
        """The tensors of `part` by their names inside it: those under the one prefix that holds them all. Among several
        the one that stands where `beside` says is taken."""
        prefixes = [name[: -len(part.anchor)] for name in self.tensors if _ends_in(name, part.anchor)]
        prefixes = [prefix for prefix in prefixes if RECONSTRUCTION not in prefix.lower()]
        faults = {prefix: self._faults(part, prefix) for prefix in prefixes}
        whole = [prefix for prefix in prefixes if not faults[prefix]]
        if not prefixes:
            raise CheckpointError(f"{self.folder} holds no {part.label}: expected a tensor whose name ends in {part.anchor}")
        if not whole:
            closest = min(prefixes, key=lambda prefix: len(faults[prefix]))
            refuse_other(f"the {part.label} in {self.folder} does not fit its configuration", faults[closest])
        if beside in whole:
            whole = [beside]
        if len(whole) > 1:
            told = " and ".join(repr(prefix) for prefix in whole)
            raise CheckpointError(f"{self.folder} holds the {part.label} more than once, under {told}: expected one of them")
        found = {name: self.tensors[whole[0] + name] for name in part.shapes}
        self._claimed.update(tensor.name for tensor in found.values())
        self._prefixes += whole
        return found

    def claim_output(self, name: str, embedding: StoredTensor, *, tied: bool) -> StoredTensor | None:
        """The output matrix; where it is tied to the embedding a stored one has to be equal, and None is returned."""
        found = [tensor for key, tensor in self.tensors.items() if _ends_in(key, name)]
        refuse_other(f"expected one {name} in {self.folder}", found if len(found) > 1 else ())
        if not found:
            refuse_other(
                f"missing in {self.folder}; its configuration says that it is not the embedding", () if tied else (name,)
            )
            return None
        refuse_other(f"expected {embedding.shape}, one row for each token", found if found[0].shape != embedding.shape else ())
        self._claimed.add(found[0].name)
        if not tied:
            return found[0]
        stored, shared = read((found[0], embedding), torch.float32)
        differs = [] if torch.equal(stored, shared) else found
        refuse_other(f"tie_word_embeddings says that it is {embedding.name}, but its values differ", differs)
        return None

    def left(self, leave_out: Iterable[str]) -> tuple[list[StoredTensor], list[str]]:
        """What nobody claimed, and the names of what is known to be needless."""
        rest = [tensor for name, tensor in self.tensors.items() if name not in self._claimed]
        needless = [tensor.name for tensor in rest if self._is_needless(tensor.name, tuple(leave_out))]
        return [tensor for tensor in rest if tensor.name not in needless], needless

    def _faults(self, part: _Part, prefix: str) -> list[str]:
        faults = []
        for name, shape in part.shapes.items():
            tensor = self.tensors.get(prefix + name)
            if tensor is None:
                faults.append(f"{prefix + name} missing")
            elif tensor.shape != shape:
                faults.append(f"{tensor} for {shape}")
        return faults

    def _is_needless(self, name: str, leave_out: tuple[str, ...]) -> bool:
        if name.startswith(leave_out) or any(_ends_in(name, computed) for computed in _COMPUTED):
            return True
        if any(prefix and name.startswith(prefix) for prefix in self._prefixes):
            return False
        modules = name.lower().split(".")[:-1]
        return any(RECONSTRUCTION in module or module.endswith("decoder") for module in modules)


def load_released(
    backbone: Path,
    speech: Path | None = None,
    *,
    options: FusionOptions | None = None,
    leave_out: Iterable[str] = (),
    dtype: torch.dtype = torch.float32,
) -> ReleasedParts:
    """Read a TextPro-SLM from the folder `backbone` and its WhisperPro from `speech`; None where one folder holds both.

    `options` say what the files do not; `leave_out` are prefixes of tensors that running it does not need, beside a
    reconstruction decoder. Raises CheckpointError naming the tensor, the file or the setting that does not fit.
    """
    slm, heard = _Pool(backbone), None if speech is None else _Pool(speech)
    whisper_pool = slm if heard is None else heard
    whisper = _whisper(whisper_pool, dtype)
    model = _qwen(slm, dtype)
    pools = (slm,) if heard is None else (slm, heard)
    lefts = [pool.left(leave_out) for pool in pools]
    rest, needless = [tensor for left, _ in lefts for tensor in left], [name for _, names in lefts for name in names]
    projector = _projector(rest, model.config.hidden_size, whisper.config.d_model, dtype)
    settings = read_settings(backbone, options or FusionOptions(), whisper.config.decoder_layers)
    _check_vocabulary(backbone, model.config.vocab_size)
    speech_folder = _tokenizer_folder(whisper_pool.folder, whisper.config.vocab_size, shared=heard is None)
    return ReleasedParts(whisper, model, projector, settings, speech_folder, backbone, tuple(needless))


def _whisper(pool: _Pool, dtype: torch.dtype) -> WhisperForConditionalGeneration:
    config = WhisperConfig.from_dict(_config(pool.folder, "Whisper", _WHISPER_KEYS))
    with torch.device("meta"):
        shapes = _shapes(WhisperForConditionalGeneration(config))
    heads = {"encoder": "model.encoder.", "decoder": "model.decoder."}
    encoder = pool.claim(_Part("Whisper encoder", "conv1.weight", _under(shapes, heads["encoder"])))
    beside = re.sub(r"encoder\.$", "decoder.", encoder["conv1.weight"].name.removesuffix("conv1.weight"))
    decoder = pool.claim(_Part("Whisper decoder", "embed_tokens.weight", _under(shapes, heads["decoder"])), beside)
    names = {heads["encoder"] + name: tensor for name, tensor in encoder.items()}
    names |= {heads["decoder"] + name: tensor for name, tensor in decoder.items()}
    pool.claim_output("proj_out.weight", names["model.decoder.embed_tokens.weight"], tied=True)
    return _build(WhisperForConditionalGeneration, config, names, dtype)


def _qwen(pool: _Pool, dtype: torch.dtype) -> Qwen2ForCausalLM:
    config = Qwen2Config.from_dict(_config(pool.folder, "Qwen2", _QWEN_KEYS))
    with torch.device("meta"):
        shapes = _shapes(Qwen2ForCausalLM(config))
    part = _Part("Qwen2 backbone", "embed_tokens.weight", _under(shapes, "model."))
    names = {f"model.{name}": tensor for name, tensor in pool.claim(part).items()}
    output = pool.claim_output("lm_head.weight", names["model.embed_tokens.weight"], tied=config.tie_word_embeddings)
    if output is not None:
        names["lm_head.weight"] = output
    return _build(Qwen2ForCausalLM, config, names, dtype)


def _build(kind: Any, config: Any, names: Tensors, dtype: torch.dtype) -> Any:
    """The module with exactly these tensors; what is tied to another one may be absent."""
    state: dict[str, Tensor] = dict(zip(names, read(names.values(), dtype), strict=True))
    model, report = kind.from_pretrained(None, config=config, state_dict=state, dtype=dtype, output_loading_info=True)
    refuse_other("not taken by transformers as they are", [*report["missing_keys"], *report["unexpected_keys"]])
    return model.eval()


def _projector(rest: list[StoredTensor], hidden: int, features: int, dtype: torch.dtype) -> ProjectorWeights:
    """The one chain of two linear layers among what nobody claimed."""
    expected = f"expected the projector, ({hidden}, {features}) then ({hidden}, {hidden}) with biases, and nothing beside it"
    by_name = {tensor.name: tensor for tensor in rest}
    layers = []
    for tensor in rest:
        bias = by_name.get(tensor.name.removesuffix("weight") + "bias")
        fits = tensor.shape in ((hidden, features), (hidden, hidden)) and tensor.name.endswith("weight")
        if fits and bias is not None and bias.shape == (hidden,):
            layers.append((tensor, bias))
    if len(layers) != 2:
        if not rest:
            raise CheckpointError(f"no projector in the files: {expected}")
        refuse_other(expected, rest)
    taken = {tensor.name for layer in layers for tensor in layer}
    refuse_other("no part of the model is known that takes it; name its prefix in leave_out if running it does not need it",
                 [tensor for tensor in rest if tensor.name not in taken])  # fmt: skip
    layers.sort(key=lambda layer: (layer[0].shape != (hidden, features), _natural(layer[0].name)))
    (first, first_bias), (second, second_bias) = layers
    unordered = features == hidden and not re.search(r"\d", first.name + second.name)
    if unordered or (first.shape, second.shape) != ((hidden, features), (hidden, hidden)):
        refuse_other(expected, (first, second))
    return ProjectorWeights(*read((first, first_bias, second, second_bias), dtype))


def _config(folder: Path, label: str, keys: tuple[str, ...]) -> dict[str, Any]:
    """The one configuration that has all `keys`: the file's own values, or an entry of it (as `text_config`)."""
    found: dict[str, dict[str, Any]] = {}
    for file in sorted({*(folder / name for name in CONFIG_FILES), *folder.glob("*/config.json")}):
        values = read_json(file)
        entries = {"": values, **{f" {key}": value for key, value in values.items() if isinstance(value, dict)}}
        for key, entry in entries.items():
            if all(name in entry for name in keys) and entry not in found.values():
                found[f"{file}{key}"] = entry
    if len(found) != 1:
        has = f"{len(found)} of them ({', '.join(found)})" if found else "none"
        raise CheckpointError(
            f"{folder}: expected one configuration of {label} with {', '.join(keys)}, it has {has}; put the config.json of "
            "the model it was trained from there"
        )
    place, values = found.popitem()
    if values.get("quantization_config"):
        raise CheckpointError(f"{place} says that the weights are quantized: expected plain F32, F16 or BF16; take that release")
    return {key: value for key, value in values.items() if key not in ("auto_map", "quantization_config")}


def _check_vocabulary(folder: Path, rows: int) -> None:
    size = open_tokenizer(folder).get_vocab_size()
    if size > rows:
        raise CheckpointError(
            f"{folder}: the tokenizer has {size} tokens and the model {rows}: put the files of one release together"
        )


def _tokenizer_folder(folder: Path, rows: int, *, shared: bool) -> Path:
    """Where Whisper's tokenizer lies: in its folder, or in the subfolder that one folder for both keeps it in."""
    candidates = sorted(path.parent for path in folder.glob("*/tokenizer.json")) if shared else [folder]
    if len(candidates) != 1:
        raise CheckpointError(
            f"{folder}: expected Whisper's tokenizer in one subfolder, there are {len(candidates)}; give the folder of "
            "WhisperPro as the speech folder"
        )
    _check_vocabulary(candidates[0], rows)
    return candidates[0]


def _shapes(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _under(shapes: Mapping[str, tuple[int, ...]], head: str) -> dict[str, tuple[int, ...]]:
    return {name.removeprefix(head): shape for name, shape in shapes.items() if name.startswith(head)}


def _ends_in(name: str, suffix: str) -> bool:
    return name == suffix or name.endswith(f".{suffix}")


def _natural(name: str) -> tuple[Any, ...]:
    """Sorts 2 before 10."""
    return tuple(int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name))
