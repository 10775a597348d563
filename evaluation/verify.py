"""`textpro-agent verify`: the one command that checks a model for whoever has its weights. It loads them (a layout that does not
fit is told with the tensor's name), says some sentences to a real session, and puts what came of it beside plain transformers:
words, prosody, input, reply; then word errors, latency and memory. Its report holds no words, names or paths of the user's.
"""

from __future__ import annotations

import asyncio
import hashlib
import platform
import resource
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ..agent.runtime import Runtime
from ..models.checkpoint import Checkpoint
from ..models.errors import DeviceError, InputError, TextProError
from ..models.named import Pair, model_files, open_model
from ..models.placing import PRECISIONS, likely_device, place
from ..models.whisper_decoding import Transcribe
from ..models.whisper_full import FullWhisper
from . import verify_checks as checks
from .recognition import OfflineRecognizer
from .verify_checks import Check, Limits
from .verify_talk import Played, Sound, bundled, espeak_is_here, play, recorded, synthesized

Progress = Callable[[str], None]
"""Told what is done now."""
MAX_TOKENS = 48
HASHED = (".safetensors", ".json", ".txt", ".jinja")
LIBRARIES = ("textpro-agent", "torch", "transformers", "tokenizers", "safetensors", "numpy")
AFTER_LOADING = (
    "weights", "words as plain transformers", "prosody as plain transformers", "input as the chat template",
    "reply as plain generate", "word error rate", "first reply token", "real-time factor", "memory",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """What is verified with: `wavs` of the user's beside the sentences and examples that are here; `sentences` said by
    espeak-ng; `realtime` False plays as fast as the machine works, which leaves the cost of listening out of the latency.
    `device` None takes a GPU where there is one, `dtype` of the backbone None bfloat16 there and float32 on the CPU."""

    wavs: tuple[Path, ...] = ()
    sentences: int = 5
    realtime: bool = True
    limits: Limits = field(default_factory=Limits)
    device: str | None = None
    dtype: str | None = None


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """A file of the checkpoint: its place, size in bytes and sha256."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Verification:
    """All that was found out. `settings` are those in effect, with their origin where a released layout leaves them open."""

    model: str
    checks: tuple[Check, ...]
    files: tuple[CheckedFile, ...]
    settings: Mapping[str, str]
    machine: Mapping[str, str]
    sounds: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed; one that was not run is none."""
        return all(check.status != "not ok" for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"passed": self.passed, **asdict(self)}


def verify(model: str | Path | Pair, plan: Plan | None = None, progress: Progress | None = None) -> Verification:
    """Check a preset, a folder or a pair. InputError where the model is not here, AudioError for a recording that is none,
    DeviceError without the device; whatever is wrong with the model is a check that is not ok."""
    plan, tell = plan or Plan(), progress or _silent
    if plan.device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("torch sees no GPU here: verify on the CPU, or install torch's CUDA build (textpro-agent doctor)")
    folders, own = model_files(model), recorded(plan.wavs)
    tell("reading the files")
    files = tuple(_hashed(folders))
    before = _resident_bytes()
    tell("loading the model")
    try:
        checkpoint = _placed(open_model(model), plan)
    except DeviceError:
        raise
    except TextProError as error:
        reason = _without_paths(str(error), folders)
        unread = (Check("layout and shapes", "not ok", "refused", "every tensor in its place and shape", reason),)
        rest = tuple(checks.not_run(name, "the model was not loaded") for name in AFTER_LOADING)
        return Verification(named(model), unread + rest, files, {}, _machine(None), ())
    loaded = checks.judged("layout and shapes", True, "loaded", "every tensor in its place and shape")
    weights = checks.check_weights(checkpoint, str(model))
    found, labels = asyncio.run(_listen(checkpoint, own, plan, tell))
    memory = checks.check_memory(checkpoint, _more_than(before), _gpu_bytes())
    return Verification(
        named(model), (loaded, weights, *found, memory), files, _settings(checkpoint), _machine(checkpoint), labels
    )


def named(model: str | Path | Pair) -> str:
    """The model in a report: a preset, or folders by their last name."""
    if isinstance(model, Pair):
        return f"{model.encoder.name} + {model.backbone.name}"
    return Path(model).name


def _placed(checkpoint: Checkpoint, plan: Plan) -> Checkpoint:
    """The checkpoint where the plan wants it; the bundled model stays on the CPU unless it is sent away."""
    full = isinstance(checkpoint.speech, FullWhisper)
    device = torch.device(plan.device) if plan.device else likely_device() if full else torch.device("cpu")
    dtype = PRECISIONS[plan.dtype] if plan.dtype else torch.float32 if device.type == "cpu" else torch.bfloat16
    if (device, dtype) == (checkpoint.backbone.device, checkpoint.backbone.dtype):
        return checkpoint
    return place(checkpoint, device, dtype)


async def _listen(checkpoint: Checkpoint, own: list[Sound], plan: Plan, tell: Progress) -> tuple[list[Check], tuple[str, ...]]:
    """All checks that need sounds; and the sounds' labels."""
    sounds = [*bundled(), *own]
    if plan.sentences and espeak_is_here():
        sounds += [sound async for sound in synthesized(plan.sentences)]
    if not sounds:
        raise InputError("there is nothing to say to the model: install the extra espeak, or give recordings by --wav")
    played: list[Played] = []
    async with Runtime(checkpoint, speak=False) as runtime:
        for sound in sounds:
            tell(f"saying {sound.label}")
            played.append(await play(runtime, sound, MAX_TOKENS, plan.realtime))
    tell("comparing with plain transformers")
    compared = [checks.compare(checkpoint, one, MAX_TOKENS) for one in played]
    tell("counting word errors")
    recognized = [(sound, await _recognized(checkpoint, sound)) for sound in sounds if sound.text is not None]
    dtype, limits = checkpoint.backbone.dtype, plan.limits
    return [
        checks.check_words(compared),
        checks.check_vectors(compared, dtype),
        checks.check_template(compared),
        checks.check_replies(compared, dtype),
        checks.check_word_errors(recognized, limits.word_error_rate),
        checks.check_latency(played, plan.realtime, limits.first_token_ms),
        checks.check_factor(played, limits.realtime_factor),
    ], tuple(sound.label for sound in sounds)


async def _recognized(checkpoint: Checkpoint, sound: Sound) -> str:
    """The words of a whole sound, in one pass."""
    speech = checkpoint.speech
    if isinstance(speech, FullWhisper):
        samples = sound.samples[: speech.window_samples]
        return speech.text(speech.transcribe(Transcribe(object(), samples)).tokens)
    return (await OfflineRecognizer(checkpoint).recognize(sound.samples)).text


def _settings(checkpoint: Checkpoint) -> dict[str, str]:
    config, fusion = checkpoint.config, checkpoint.fusion
    values: dict[str, object] = {
        "recognizer": "full" if isinstance(checkpoint.speech, FullWhisper) else "chunked",
        "mode": fusion.mode,
        "ratio": fusion.ratio,
        "grouping": fusion.grouping,
        "marker_token": config.get("marker_token"),
        "marker_id": fusion.marker_id,
        "prosody_layer": config.get("prosody_layer"),
        "prosody_at": config.get("prosody_at"),
        "default_system": "yes" if checkpoint.chat.default_system else "no",
        "tensors left out": len(config.get("left_out", ())),
    }
    origins: Mapping[str, str] = config.get("origins", {})
    return {name: f"{value} ({origins[name]})" if name in origins else str(value) for name, value in values.items()}


def _machine(checkpoint: Checkpoint | None) -> dict[str, str]:
    """Versions, device and precision; nothing that tells whose machine it is."""
    device = "CPU" if checkpoint is None or checkpoint.backbone.device.type == "cpu" else torch.cuda.get_device_name()
    found = {
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
        "device": device,
        "threads": str(torch.get_num_threads()),
    }
    if checkpoint is not None:
        parts = {"recognizer": next(checkpoint.speech.model.parameters()).dtype, "backbone": checkpoint.backbone.dtype}
        found["precision"] = ", ".join(f"{part} {str(dtype).removeprefix('torch.')}" for part, dtype in parts.items())
    return found


def _hashed(folders: Mapping[str, Path]) -> list[CheckedFile]:
    found = []
    for part, folder in folders.items():
        for path in sorted(folder.rglob("*")):
            if path.suffix in HASHED and path.is_file():
                with path.open("rb") as opened:
                    digest = hashlib.file_digest(opened, "sha256").hexdigest()
                found.append(CheckedFile(f"{part}/{path.relative_to(folder).as_posix()}", path.stat().st_size, digest))
    return found


def _without_paths(text: str, folders: Mapping[str, Path]) -> str:
    """A message without the places of this machine."""
    for part, folder in folders.items():
        text = text.replace(str(folder), part)
    return text.replace(str(Path.home()), "~")


def _resident_bytes() -> int | None:
    """Memory that the process holds now; on systems that tell only the most it ever held, that."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * resource.getpagesize()
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def _more_than(before: int | None) -> int | None:
    now = _resident_bytes()
    return None if before is None or now is None else now - before


def _gpu_bytes() -> int | None:
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


def _silent(stage: str) -> None:
    """Progress that nobody looks at."""
