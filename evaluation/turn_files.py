"""Reads a set of recorded user turns in the layout of LiveKit's eot-bench (the dataset livekit/eot-bench-data on the
Hugging Face hub): one row for a turn, `id`, `language`, `audio`, `silence_spans` (`start` and `end` in seconds; the last one
is the true end of the turn, the others are pauses), and maybe `messages` (`role`, `content`) and `words` (`word`, `start`,
`end`).

Two forms: Parquet files, in which `audio` holds the bytes of a sound file, and a `metadata.jsonl` beside sound files that its
`file_name` names (what the hub calls an audio folder). Nothing is fetched.
"""

from __future__ import annotations

import importlib
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..models.errors import DeviceError, InputError
from ..streaming.clock import SAMPLE_RATE
from .turn_sets import Message, Silence, SpokenTurn, Word

METADATA = "metadata.jsonl"


class _Span(BaseModel):
    start: float = Field(ge=0)
    end: float


class _Word(BaseModel):
    word: str
    end: float


class _Message(BaseModel):
    role: str
    content: str | None = None


class _Row(BaseModel):
    """A row without its audio; other columns are ignored."""

    model_config = ConfigDict(extra="ignore")

    id: str
    language: str
    silence_spans: list[_Span] = Field(min_length=1)
    messages: list[_Message] | None = None
    words: list[_Word] | None = None


def read_turns(folder: Path, limit: int | None = None, language: str = "en") -> list[SpokenTurn]:
    """The first `limit` turns in a language, in the order of the files. InputError where the folder holds no such set or a
    row is not as described; DeviceError where Parquet files need a package that is not installed."""
    turns: list[SpokenTurn] = []
    for number, (values, sound) in enumerate(_rows(folder)):
        if limit is not None and len(turns) >= limit:
            break
        try:
            row = _Row.model_validate(values)
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(str(part) for part in problem["loc"])
            raise InputError(f"row {number} of {folder}: {place}: {problem['msg']}; expected the columns of eot-bench") from None
        if row.language.lower().split("-")[0] == language:
            turns.append(_turn(row, _decode(sound, row.id)))
    if not turns:
        raise InputError(f"{folder} holds no turns with language {language!r}")
    return turns


def _rows(folder: Path) -> Iterator[tuple[Mapping[str, Any], bytes | Path]]:
    """(columns, the sound file or its bytes) of each row."""
    metadata, tables = folder / METADATA, sorted(folder.rglob("*.parquet")) if folder.is_dir() else []
    if metadata.is_file():
        for line in metadata.read_text(encoding="utf-8").splitlines():
            if line.strip():
                values = _object(line, metadata)
                yield values, folder / str(values.get("file_name", ""))
    elif tables:
        parquet = _parquet()
        for table in tables:
            for batch in parquet.ParquetFile(table).iter_batches(batch_size=16):
                for values in batch.to_pylist():
                    audio = values.get("audio") or {}
                    data = audio.get("bytes")
                    yield values, data if data is not None else folder / str(audio.get("path") or "")
    else:
        raise InputError(f"{folder}: expected a folder with Parquet files or a {METADATA}, in eot-bench's layout")


def _object(line: str, file: Path) -> Mapping[str, Any]:
    try:
        values = json.loads(line)
    except ValueError as error:
        raise InputError(f"{file}: a line is not JSON ({error})") from None
    if not isinstance(values, dict):
        raise InputError(f"{file}: expected a JSON object on each line, not {line[:40]!r}")
    return values


def _parquet() -> Any:
    try:
        return importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise DeviceError(f"Parquet files need pyarrow ({error}): pip install 'textpro-agent[turns]'") from error


def _decode(sound: bytes | Path, name: str) -> NDArray[np.float32]:
    """Mono at 16 kHz."""
    try:
        samples, rate = soundfile.read(io.BytesIO(sound) if isinstance(sound, bytes) else sound, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise InputError(f"the audio of turn {name} cannot be read ({error}): expected a sound file") from None
    mono = samples.mean(1)
    return np.asarray(soxr.resample(mono, rate, SAMPLE_RATE) if rate != SAMPLE_RATE else mono, np.float32)


def _turn(row: _Row, samples: NDArray[np.float32]) -> SpokenTurn:
    silences = tuple(Silence(_at(span.start), _at(span.end)) for span in row.silence_spans)
    starts = [silence.start_samples for silence in silences]
    if any(one.end_samples <= one.start_samples for one in silences) or starts != sorted(starts):
        raise InputError(f"turn {row.id}: silence_spans are not in order of time, or one ends before it begins")
    words = tuple(Word(word.word.strip(), _at(word.end)) for word in row.words or ())
    history = tuple(Message(one.role, one.content) for one in row.messages or () if one.content)
    missing = silences[-1].end_samples - len(samples)
    return SpokenTurn(row.id, np.pad(samples, (0, max(missing, 0))), silences, words, history)


def _at(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE)
