"""Fetches a model's repositories from the hub into its local cache and checks what came: sizes and hashes against what the
hub states, and that the header of every safetensors file opens. Only the files that `presets.ALLOW_PATTERNS` names are
fetched, so no pickle and no code. Everything else about models works without a network.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from .errors import CapacityError, CheckpointError, InputError
from .presets import ALLOW_PATTERNS, IGNORE_PATTERNS, Repository, gigabytes

_CHUNK_BYTES = 1 << 22
_OFFLINE = "what is here already runs without one, see textpro-agent models"


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file as the hub states it: its path, size, and sha256, or git's sha1 for small files; None where not stated."""

    name: str
    size: int
    sha256: str | None
    git_sha1: str | None


@dataclass(frozen=True, slots=True)
class HubState:
    """What the hub states about a repository: the licence of its card, its commit and the files that would be fetched."""

    repository: Repository
    commit: str
    licence: str | None
    files: tuple[HubFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all the files."""
        return sum(file.size for file in self.files)


def ask_hub(repository: Repository, endpoint: str | None = None) -> HubState:
    """What the hub states. InputError, one line, without a network or where the repository is not to be had."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
    from huggingface_hub.errors import HTTPError as NoAnswer  # type: ignore[attr-defined]  # httpx's, of either release

    try:
        info = HfApi(endpoint=endpoint).model_info(repository.name, revision=repository.revision, files_metadata=True)
    except HfHubHTTPError as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(
            f"the hub does not give {repository.name} ({first}): check the name; a gated one needs `hf auth login`"
        ) from error
    except (NoAnswer, OSError, OfflineModeIsEnabled) as error:
        raise InputError(f"the hub cannot be reached ({type(error).__name__}): downloads need a network; {_OFFLINE}") from error
    files = tuple(
        HubFile(found.rfilename, found.size or 0, found.lfs.sha256 if found.lfs else None, None if found.lfs else found.blob_id)
        for found in info.siblings or ()
        if _is_wanted(found.rfilename)
    )
    if not any(file.name.endswith(".safetensors") for file in files):
        raise InputError(f"{repository.name} has no safetensors on the hub: other formats may run code and are not fetched")
    card = info.card_data
    licence = None if card is None else card.get("license_name") or card.get("license")
    return HubState(repository, str(info.sha), None if licence is None else str(licence), files)


def fetch(state: HubState, cache: Path | None = None, endpoint: str | None = None) -> Path:
    """Fetch what is not here yet, with progress on stderr, and check all of it. Returns the folder.

    Raises CapacityError without room on the disk, InputError when the network breaks off (what came is kept, the next
    call goes on), CheckpointError naming a file that is not what the hub states.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import HTTPError as NoAnswer  # type: ignore[attr-defined]  # as above
    from huggingface_hub.errors import LocalEntryNotFoundError

    name = state.repository.name
    _check_room(state, cache or Path(HF_HUB_CACHE))
    try:
        folder = snapshot_download(
            name,
            revision=state.repository.revision,
            cache_dir=cache,
            allow_patterns=list(ALLOW_PATTERNS),
            ignore_patterns=list(IGNORE_PATTERNS),
            endpoint=endpoint,
        )
    except (NoAnswer, LocalEntryNotFoundError, OSError) as error:
        raise InputError(f"the download of {name} broke off ({type(error).__name__}): run it again, it goes on") from error
    check_files(Path(folder), state.files)
    return Path(folder)


def check_files(folder: Path, files: Iterable[HubFile]) -> None:
    """CheckpointError naming the first file that is missing, of another size or content, or whose header does not open."""
    from safetensors import SafetensorError, safe_open

    for file in files:
        path = folder / file.name
        found = path.stat().st_size if path.is_file() else None
        if found != file.size:
            raise CheckpointError(f"{path}: expected {file.size} bytes, has {found}: delete it and download again")
        if (file.sha256 and _sha256(path) != file.sha256) or (file.git_sha1 and _git_sha1(path) != file.git_sha1):
            raise CheckpointError(f"{path}: its content is not what the hub states: delete it and download again")
        if path.suffix == ".safetensors":
            try:
                with safe_open(path, framework="np"):
                    pass
            except SafetensorError as error:
                raise CheckpointError(f"{path} is no safetensors file ({error}): tell its authors") from error


def _is_wanted(name: str) -> bool:
    """The rule by which `snapshot_download` takes files."""
    return any(fnmatch(name, pattern) for pattern in ALLOW_PATTERNS) and not any(fnmatch(name, p) for p in IGNORE_PATTERNS)


def _check_room(state: HubState, cache: Path) -> None:
    place = next(folder for folder in (cache, *cache.parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    here = cache / f"models--{state.repository.name.replace('/', '--')}" / "blobs"
    fetched = sum(blob.stat().st_size for blob in here.iterdir()) if here.is_dir() else 0
    if state.size - fetched > free:
        raise CapacityError(
            f"{state.repository.name} needs {gigabytes(state.size - fetched)} in {place}, {gigabytes(free)} are free: make "
            "room, or set HF_HOME to a folder on a larger disk"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _git_sha1(path: Path) -> str:
    """The name that git gives a file's content."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as opened:
        while chunk := opened.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
