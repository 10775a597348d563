"""The models that have a name: what each consists of, what it costs and may, and whether it is here. Plain data, one
frozen dataclass for a preset, from which the command's table, the README's and the downloads are made; nothing here
touches the network or imports torch. Sizes follow from the number of parameters, which is that of the architecture;
what the release of TextPro-SLM (arXiv 2605.05927) does not state is `None` and said to be unknown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from .errors import InputError

Role = Literal["speech", "backbone"]
State = Literal["bundled", "here", "partly", "absent"]

ALLOW_PATTERNS = ("*.safetensors", "*.json", "merges.txt", "vocab.txt", "LICENSE*", "README.md")
"""What is fetched of a repository. No pickle, no archive and no code matches."""
IGNORE_PATTERNS = ("*fp32*",)
"""Second copies of the weights in another precision, which some repositories hold beside the plain ones."""

CONFIG, INDEX = "config.json", "model.safetensors.index.json"
OPEN_LICENCES = frozenset({"apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0"})
"""Licences by their name on the hub that allow any use; every other one is asked about before a download."""

_FP32_BYTES, _BF16_BYTES = 4, 2


@dataclass(frozen=True, slots=True)
class Licence:
    """`name` as people read it, `open` whether any use is allowed; None where the release does not say it here."""

    name: str
    open: bool | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Repository:
    """One part of a model on the hub. `parameters` of the architecture, `stored_bytes` of each in the files.

    `assumed` names what of this is not stated by the release. `revision` None is the newest.
    """

    name: str
    role: Role
    parameters: int
    stored_bytes: int
    licence: Licence
    revision: str | None = None
    assumed: str = ""

    @property
    def download_bytes(self) -> int:
        """Size of the weights; configuration and tokenizer add some megabytes."""
        return self.parameters * self.stored_bytes


@dataclass(frozen=True, slots=True)
class Preset:
    """A model with a name. `fusion` None means no prosody; `measured` says by whom and how well, or what is missing."""

    name: str
    title: str
    repositories: tuple[Repository, ...]
    languages: str
    fusion: Literal["interleaving", "global"] | None
    can: str
    measured: str
    bundled_parameters: int = 0

    @property
    def parameters(self) -> int:
        """Of all parts together."""
        return self.bundled_parameters + sum(repository.parameters for repository in self.repositories)

    @property
    def download_bytes(self) -> int:
        """What has to be fetched, 0 for the bundled one."""
        return sum(repository.download_bytes for repository in self.repositories)

    @property
    def cpu_bytes(self) -> int:
        """Weights in fp32; the conversations' caches come on top."""
        return self.parameters * _FP32_BYTES

    @property
    def gpu_bytes(self) -> int:
        """Weights in bf16; the conversations' caches come on top."""
        return self.parameters * _BF16_BYTES

    @property
    def licences(self) -> tuple[Licence, ...]:
        """Each licence once."""
        return tuple(dict.fromkeys(repository.licence for repository in self.repositories)) or (_APACHE,)

    @property
    def open(self) -> bool:
        """Whether every part is known to allow any use; else it is asked before the download."""
        return all(licence.open for licence in self.licences)


_APACHE = Licence("Apache-2.0", True)
_QWEN_RESEARCH = Licence(
    "Qwen Research Licence", False, "research and evaluation only, no commercial use; it covers what was trained from it"
)
_CARD = Licence("see the model card", None, "the licence is read from the hub and shown before the download")

_WHISPER_PRO = Repository(
    "qqjz/WhisperPro", "speech", 1_543_490_560, 2, _CARD,
    assumed="bf16 weights; a reconstruction decoder in the files adds to the download",
)  # fmt: skip
_RELEASED_LANGUAGES = "English measured by its authors; others as Whisper large-v3 and Qwen2.5 know them"
_RELEASED_MEASURED = "not by this project: nobody has run the released weights with it yet"

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        preset.name: preset
        for preset in (
            Preset(
                "tiny",
                "bundled: chunked WhisperPro and a small Qwen2 with prosody",
                (),
                "English, about 530 words",
                "interleaving",
                "synthetic voices and a small grammar: sums, lights, timers, a robot, orders, capitals; hears tones",
                "yes: models/tiny/README.md",
                bundled_parameters=10_659_012,
            ),
            Preset(
                "laptop",
                "Whisper base and Qwen2.5 0.5B Instruct",
                (
                    Repository("openai/whisper-base", "speech", 72_593_920, 4, _APACHE),
                    Repository("Qwen/Qwen2.5-0.5B-Instruct", "backbone", 494_032_768, 2, _APACHE),
                ),
                "99 heard (Whisper), 29 and more answered (Qwen2.5)",
                None,
                "human voices, free talk; words only, no prosody",
                "not yet: the parts are known, the pair is not measured here",
            ),
            Preset(
                "textpro-3b",
                "WhisperPro and TextPro-SLM 3B, one prosody vector for a turn",
                (
                    _WHISPER_PRO,
                    Repository(
                        "qqjz/TextPro-SLM-3B-Global", "backbone", 3_092_758_528, 2, _QWEN_RESEARCH, assumed="bf16 weights"
                    ),
                ),
                _RELEASED_LANGUAGES,
                "global",
                "human voices, free talk, hears how things are said",
                _RELEASED_MEASURED,
            ),
            Preset(
                "textpro-7b",
                "WhisperPro and TextPro-SLM 7B, a prosody vector for each five tokens",
                (
                    _WHISPER_PRO,
                    Repository(
                        "qqjz/TextPro-SLM-7B-Interleaving", "backbone", 7_633_056_256, 2,
                        Licence("see the model card", None, "trained from Qwen2.5-7B-Instruct, which is Apache-2.0"),
                        assumed="bf16 weights",
                    ),
                ),
                _RELEASED_LANGUAGES,
                "interleaving",
                "human voices, free talk, hears how things are said",
                _RELEASED_MEASURED,
            ),
        )
    }
)  # fmt: skip
"""By name, from the smallest; the next one of each is the one after it."""

TINY_EXAMPLES = (
    "what is twenty three plus forty eight",
    "turn on the kitchen light",
    "set a timer for ten minutes",
    "what is the capital of france",
    "i lost my keys",
)
"""Things to say to the bundled model, all inside its grammar."""


def find_preset(name: str) -> Preset:
    """The preset of that name. InputError names those that there are."""
    try:
        return PRESETS[name]
    except KeyError:
        raise InputError(f"no preset {name!r}: expected one of {', '.join(PRESETS)}") from None


def next_preset(name: str) -> Preset | None:
    """The next larger one; None behind the last."""
    names = list(PRESETS)
    at = names.index(name) + 1
    return PRESETS[names[at]] if at < len(names) else None


def start_hint(name: str) -> str | None:
    """What is said when a conversation starts: for the bundled model what it knows, five things to say and the next
    preset; None for all others."""
    preset, larger = PRESETS.get(name), next_preset(name) if name in PRESETS else None
    if preset is None or not preset.bundled_parameters or larger is None:
        return None
    return "\n".join(
        (
            f"The model {name} knows synthetic voices and a small grammar; a human voice it will often mishear. Try:",
            *(f"  {example}" for example in TINY_EXAMPLES),
            f"For human voices and free talk: --model {larger.name} (textpro-agent models download {larger.name}, "
            f"{gigabytes(larger.download_bytes)}).",
        )
    )


def gigabytes(size: int) -> str:
    """Bytes for people, in decimal units: 290 MB, 1.3 GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def local_folder(repository: Repository, cache: Path | None = None) -> Path | None:
    """The snapshot of a repository in the local hub cache; None where there is none. Never asks the network."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository.name, CONFIG, cache_dir=cache, revision=repository.revision)
    return Path(found).parent if isinstance(found, str) else None


def missing_files(folder: Path) -> tuple[str, ...]:
    """What a snapshot still lacks, by name: weights in one file, or the shards that its index names."""
    missing = []
    if (folder / INDEX).is_file():
        weights = json.loads((folder / INDEX).read_text(encoding="utf-8")).get("weight_map", {}).values()
        missing += sorted(name for name in set(weights) if not (folder / name).is_file())
    elif not any(folder.rglob("*.safetensors")):
        missing.append("*.safetensors")
    return tuple(missing)


def state_of(preset: Preset, cache: Path | None = None) -> State:
    """Whether a preset is here, as far as the local hub cache tells."""
    if not preset.repositories:
        return "bundled"
    folders = [local_folder(repository, cache) for repository in preset.repositories]
    whole = [folder is not None and not missing_files(folder) for folder in folders]
    if all(whole):
        return "here"
    return "partly" if any(folder is not None for folder in folders) else "absent"


def preset_folders(preset: Preset, cache: Path | None = None) -> dict[Role, Path]:
    """The local folder of each part. InputError, with the command that fetches it, where one is missing or incomplete."""
    folders: dict[Role, Path] = {}
    for repository in preset.repositories:
        folder = local_folder(repository, cache)
        missing = None if folder is None else missing_files(folder)
        if folder is None or missing:
            lack = "is not here" if folder is None else f"is incomplete, {', '.join(missing or ())} missing"
            raise InputError(
                f"{repository.name} of the preset {preset.name} {lack}: run textpro-agent models download {preset.name} "
                f"({gigabytes(preset.download_bytes)})"
            )
        folders[repository.role] = folder
    return folders
