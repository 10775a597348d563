"""The recordings in a folder: which there are, and how the old ones go. Only files that carry a recording's name are touched,
and their age is that of the name: copying a file makes it no younger."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ..models.errors import InputError

_NAME = re.compile(r"(\d{8}T\d{6}Z)-[0-9a-f]{6}\.jsonl")
_STAMP = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True)
class Kept:
    """A recording: its file, when it began, its size."""

    path: Path
    began: datetime
    n_bytes: int


def recordings(folder: Path) -> list[Kept]:
    """Those in `folder`, the oldest first. InputError if it cannot be looked into."""
    try:
        found = [(path, match) for path in sorted(folder.iterdir()) if (match := _NAME.fullmatch(path.name))]
        kept = [Kept(path, datetime.strptime(match[1], _STAMP).replace(tzinfo=UTC), path.stat().st_size) for path, match in found]
    except OSError as error:
        raise InputError(f"{folder}: cannot be looked into ({error.strerror}); give the folder of --record") from None
    return sorted(kept, key=lambda one: one.began)


def delete(kept: Kept) -> None:
    """InputError if it is not possible."""
    try:
        kept.path.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{kept.path}: cannot be deleted ({error.strerror}); delete it by hand") from None


def delete_older(folder: Path, days: int, now: datetime | None = None) -> list[Kept]:
    """Delete recordings that began more than `days` days ago; gives those. A folder that is not there holds none."""
    if not folder.is_dir():
        return []
    limit = (now or datetime.now(UTC)) - timedelta(days=days)
    old = [one for one in recordings(folder) if one.began < limit]
    for one in old:
        delete(one)
    return old
