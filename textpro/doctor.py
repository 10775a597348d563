"""`textpro-agent doctor`: whether this machine has what the agent needs, one line for each thing: ok, a warning where
something optional is missing, missing where it cannot run, and what to do. A check never raises and never waits long: what
may hang or crash (audio drivers, the GPU's tools, espeak-ng) is asked in a process of its own with a time limit.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from .exits import clean_exit

Status = Literal["ok", "warning", "missing"]

DEFAULT_PORT = 8765
PYTHONS = ((3, 11), (3, 14))
NEEDED_MEMORY_BYTES, NEEDED_DISK_BYTES = 1_000_000_000, 2_000_000_000
_TIME_LIMIT_S = 10.0
_DISTRIBUTION = "textpro-agent"
_NOT_FOR_USERS = ("dev",)
_MARKS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "missing": ("MISSING", "bold red")}

_ASK_AUDIO = """
import json, sounddevice
found = {"version": sounddevice.get_portaudio_version()[1]}
for kind in ("input", "output"):
    try:
        device = sounddevice.query_devices(kind=kind)
        found[kind] = f"{device['name']} at {device['default_samplerate']:.0f} Hz"
    except Exception:
        found[kind] = None
print(json.dumps(found))
"""
_ASK_ESPEAK = """
import asyncio
from textpro.streaming.espeak import EspeakProcess
async def start():
    async with EspeakProcess() as worker:
        print(worker.pid)
asyncio.run(start())
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; `remedy` says what to do and is empty for ok."""

    name: str
    status: Status
    detail: str
    remedy: str = ""


def check_python() -> Finding:
    """The versions this runs with."""
    version = platform.python_version()
    if PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        return Finding("python", "ok", f"{version} on {platform.system()} {platform.machine()}")
    wanted = " to ".join(".".join(map(str, bound)) for bound in PYTHONS)
    return Finding("python", "missing", version, f"install Python {wanted} and run `make PYTHON=...` again")


def check_torch() -> Finding:
    """Torch and the device it computes on."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding("torch", "missing", str(error), "install it: `make`, or pip install textpro-agent")
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        memory = f"{free / 1e9:.0f} of {total / 1e9:.0f} GB free"
        return Finding("torch", "ok", f"{torch.__version__}, {torch.cuda.get_device_name()} with {memory}")
    return Finding("torch", "ok", f"{torch.__version__}, on the CPU")


def check_driver() -> Finding:
    """The NVIDIA driver; a card that torch does not use is worth a warning."""
    if shutil.which("nvidia-smi") is None:
        return Finding("gpu driver", "ok", "no NVIDIA driver; the CPU is used")
    said = _ask(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"])
    if said is None:
        return Finding("gpu driver", "warning", "nvidia-smi does not answer", "restart the machine or reinstall the driver")
    import torch

    if not torch.cuda.is_available():
        return Finding(
            "gpu driver", "warning", f"{said}; torch does not use it", "install torch's CUDA build that fits the driver"
        )
    return Finding("gpu driver", "ok", said)


def check_triton() -> Finding:
    """Needed by the GPU kernels alone."""
    try:
        import triton
    except (ImportError, OSError) as error:
        return Finding("triton", "warning", str(error), "only a GPU needs it, without it plain torch is used: pip install triton")
    return Finding("triton", "ok", str(triton.__version__))


def check_cpu() -> Finding:
    """Threads that torch takes, and the processors there are."""
    import torch

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    detail = f"{torch.get_num_threads()} threads of torch on {usable} processors"
    if usable < 2:
        return Finding("cpu", "warning", detail, "recognition may fall behind the speaker; two processors keep up")
    return Finding("cpu", "ok", detail)


def check_memory() -> Finding:
    """Memory that is free for a model; on systems that do not say it, all there is."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        total = page * os.sysconf("SC_PHYS_PAGES")
        free = _available_bytes() or total
    except (ValueError, OSError, AttributeError):
        return Finding("memory", "ok", "this system does not say")
    detail = f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free"
    if free < NEEDED_MEMORY_BYTES:
        return Finding("memory", "warning", detail, "the bundled model takes about 1 GB with torch: close other programs")
    return Finding("memory", "ok", detail)


def check_audio() -> Finding:
    """PortAudio and the default devices; only a conversation by microphone needs them."""
    said = _ask([sys.executable, "-c", _ASK_AUDIO])
    if said is None:
        return Finding(
            "audio", "warning", "PortAudio is not there", "for --mic: apt install libportaudio2, or brew install portaudio"
        )
    found = json.loads(said.splitlines()[-1])
    detail = f"{found['version'].split(',')[0]}; microphone {found['input'] or 'none'}; speaker {found['output'] or 'none'}"
    if found["input"] is None or found["output"] is None:
        return Finding("audio", "warning", detail, "for --mic: connect one, or choose it in the system's sound settings")
    return Finding("audio", "ok", detail)


def check_espeak() -> Finding:
    """The voice of the replies: the extra, and that its worker process starts."""
    if importlib.util.find_spec("espeakng_loader") is None:
        return Finding(
            "espeak-ng", "warning", "not installed; replies stay text", "pip install 'textpro-agent[espeak]' (GPL-3.0-or-later)"
        )
    if _ask([sys.executable, "-c", _ASK_ESPEAK]) is None:
        return Finding("espeak-ng", "warning", "its worker does not start", "pip install --force-reinstall espeakng-loader")
    version = importlib.metadata.version("espeakng-loader")
    return Finding("espeak-ng", "ok", f"espeakng-loader {version}, the worker speaks")


def check_port(port: int = DEFAULT_PORT) -> Finding:
    """Whether a server could listen at the default port."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            return Finding("port", "warning", f"{port} is taken ({error.strerror})", "a server needs another one: --port")
    return Finding("port", "ok", f"{port} is free")


def check_disk() -> Finding:
    """Room where downloaded models go."""
    from huggingface_hub.constants import HF_HUB_CACHE

    cache = Path(HF_HUB_CACHE)
    place = next(folder for folder in (cache, *cache.parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    detail = f"{free / 1e9:.1f} GB free for models in {cache}"
    if free < NEEDED_DISK_BYTES:
        return Finding("disk", "warning", detail, "a larger model does not fit: make room, or set HF_HOME to another disk")
    return Finding("disk", "ok", detail)


def check_model(folder: Path | None = None) -> Finding:
    """The bundled model: every file is there and every header opens."""
    from importlib.resources import files

    from safetensors import SafetensorError, safe_open

    place = folder or Path(str(files("textpro.models") / "tiny"))
    try:
        size = 0
        for name in ("textpro_config.json", "tokenizer.json", "whisperpro/config.json", "backbone/config.json"):
            json.loads((place / name).read_text(encoding="utf-8"))
        for name in ("whisperpro/model.safetensors", "backbone/model.safetensors", "projector.safetensors"):
            size += (place / name).stat().st_size
            with safe_open(place / name, framework="np"):
                pass
    except (OSError, ValueError, SafetensorError) as error:
        return Finding("model", "missing", f"the bundled model is broken: {error}", "install the package again")
    return Finding("model", "ok", f"tiny, {size / 1e6:.0f} MB")


def check_extras() -> Finding:
    """Which extras are installed; none is needed."""
    extras: dict[str, list[str]] = {}
    try:
        requirements = importlib.metadata.requires(_DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return Finding("extras", "warning", "the package is not installed", "pip install -e .")
    for requirement in requirements:
        if match := re.match(r"([\w.-]+).*extra\s*==\s*['\"]([\w-]+)", requirement):
            extras.setdefault(match[2], []).append(match[1])
    told = [f"{name} {'yes' if all(map(_is_installed, extras[name])) else 'no'}" for name in extras if name not in _NOT_FOR_USERS]
    return Finding("extras", "ok", ", ".join(told) or "none offered")


CHECKS: tuple[Callable[[], Finding], ...] = (
    check_python, check_torch, check_driver, check_triton, check_cpu, check_memory, check_audio, check_espeak, check_port,
    check_disk, check_model, check_extras,
)  # fmt: skip


def examine() -> Iterator[Finding]:
    """The checks, one after the other. One that fails in a way nobody thought of is a warning."""
    for check in CHECKS:
        name = check.__name__.removeprefix("check_").replace("_", " ")
        try:
            yield check()
        except Exception as error:
            yield Finding(name, "warning", f"the check failed: {type(error).__name__}: {error}", "please report it")


def doctor(as_json: Annotated[bool, typer.Option("--json", help="One JSON array on stdout.")] = False) -> None:
    """Check this machine: device, drivers, sound, voice, disk and model; each with ok or what to do.

    Exit code 0 when nothing that is required is missing, else 1.
    """
    with clean_exit():
        findings = []
        for finding in examine():
            findings.append(finding)
            if not as_json:
                _show(finding)
        if as_json:
            typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    if any(finding.status == "missing" for finding in findings):
        raise typer.Exit(1)


def _show(finding: Finding) -> None:
    from rich.console import Console
    from rich.text import Text

    mark, style = _MARKS[finding.status]
    line = Text.assemble((f"{mark:8}", style), f"{finding.name:12}", finding.detail)
    if finding.remedy:
        line.append(f" -> {finding.remedy}")
    Console(highlight=False, soft_wrap=True).print(line)


def _ask(command: list[str]) -> str | None:
    """What a program prints; None where it fails, is not there or takes too long."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIME_LIMIT_S, check=True, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _available_bytes() -> int | None:
    """Linux's estimate of what a new program can have."""
    try:
        said = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return None
    match = re.search(r"^MemAvailable:\s+(\d+) kB", said, re.MULTILINE)
    return int(match[1]) * 1024 if match else None


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
