"""A conversation as it is kept, so that it can go on elsewhere: in a session opened anew, behind another connection, or after a
restart of the server.

`entries` are the closed turns exactly as the model reads them (token ids and prosody vectors), which is what
`Runtime.session(history=...)` takes; `items` the same conversation as a client sees it, with what was heard of each reply. Its
bytes are safetensors, so nothing in them can be executed, and vectors come back bit by bit.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ..engine import Entry
from ..models.errors import InputError

Json = dict[str, Any]
VERSION = 1
_NO_TOKEN = -1


@dataclass(frozen=True, slots=True, eq=False)
class Sound:
    """Sound of a reply that the client has to get again: int16 [n] at `rate` Hz, which begins `start_ms` into the item.
    `place` are the fields that name it on the wire, `format` the form in which it is sent there."""

    item_id: str
    start_ms: float
    rate: int
    pcm: NDArray[np.int16]
    place: Json = field(default_factory=dict)
    format: Json = field(default_factory=dict)

    @property
    def end_ms(self) -> float:
        """Where it ends in the item."""
        return self.start_ms + len(self.pcm) * 1000 / self.rate

    def behind(self, played_ms: float) -> Sound | None:
        """What is left once the item was played up to there; None for nothing."""
        skipped = max(0, round((played_ms - self.start_ms) * self.rate / 1000))
        if skipped >= len(self.pcm):
            return None
        return replace(self, start_ms=self.start_ms + skipped * 1000 / self.rate, pcm=self.pcm[skipped:])


@dataclass(frozen=True, slots=True)
class HeardMark:
    """The client has played so much of this item's sound, and all items before it."""

    item_id: str
    audio_ms: float


@dataclass(frozen=True, slots=True, eq=False)
class SessionLog:
    """See the module. `model` names the checkpoint to which the entries belong; `unread` are the ids of items that are not in
    them, whose words the model has still to read; `state` is what else the transport keeps for itself."""

    session_id: str
    model: str
    settings: Json
    entries: tuple[Entry, ...] = ()
    items: tuple[Json, ...] = ()
    unread: tuple[str, ...] = ()
    unheard: tuple[Sound, ...] = ()
    heard: HeardMark | None = None
    state: Json = field(default_factory=dict)

    def marked(self, mark: HeardMark | None) -> SessionLog:
        """The same when so much has been heard."""
        return self if mark is None else replace(self, unheard=behind(self.unheard, mark), heard=mark)

    def to_bytes(self) -> bytes:
        """For a file or a database."""
        tokens, rows, vectors = packed(self.entries)
        head = {
            "version": VERSION, "session_id": self.session_id, "model": self.model, "settings": self.settings,
            "items": self.items, "unread": self.unread, "state": self.state,
            "heard": None if self.heard is None else [self.heard.item_id, self.heard.audio_ms],
            "unheard": [[sound.item_id, sound.start_ms, sound.rate, sound.place, sound.format] for sound in self.unheard],
        }  # fmt: skip
        sounds = {f"sound.{at}": np.ascontiguousarray(sound.pcm) for at, sound in enumerate(self.unheard)}
        text = np.frombuffer(json.dumps(head).encode(), np.uint8)
        return save({"log": text, "tokens": tokens, "rows": rows, "vectors": vectors, **sounds})

    @classmethod
    def from_bytes(cls, data: bytes) -> SessionLog:
        """What `to_bytes` gave. InputError for anything else."""
        try:
            parts = load(data)
            head = json.loads(parts["log"].tobytes())
            if head["version"] != VERSION:
                raise InputError(f"the log has version {head['version']!r}, expected {VERSION}: begin a new conversation")
            return cls(
                head["session_id"],
                head["model"],
                head["settings"],
                unpacked(parts["tokens"], parts["rows"], parts["vectors"]),
                tuple(head["items"]),
                tuple(head["unread"]),
                tuple(
                    Sound(item_id, start_ms, rate, parts[f"sound.{at}"], place, audio_format)
                    for at, (item_id, start_ms, rate, place, audio_format) in enumerate(head["unheard"])
                ),
                None if head["heard"] is None else HeardMark(*head["heard"]),
                head["state"],
            )
        except (SafetensorError, KeyError, ValueError, TypeError, IndexError) as error:
            raise InputError(f"this is no log of a session ({error}): begin a new conversation") from None


def behind(sounds: tuple[Sound, ...], mark: HeardMark) -> tuple[Sound, ...]:
    """What is left of them when so much has been played; all of it where the mark is about none of them."""
    first = next((at for at, sound in enumerate(sounds) if sound.item_id == mark.item_id), None)
    if first is None:
        return sounds
    rest = (sound.behind(mark.audio_ms) if sound.item_id == mark.item_id else sound for sound in sounds[first:])
    return tuple(sound for sound in rest if sound is not None)


def joined(sounds: Iterable[Sound]) -> tuple[Sound, ...]:
    """One for each item, of pieces that follow each other."""
    whole: list[list[Sound]] = []
    for sound in sounds:
        if whole and (whole[-1][0].item_id, whole[-1][0].rate) == (sound.item_id, sound.rate):
            whole[-1].append(sound)
        else:
            whole.append([sound])
    return tuple(replace(pieces[0], pcm=np.concatenate([piece.pcm for piece in pieces])) for pieces in whole)


def packed(entries: Sequence[Entry]) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    """Token ids [n], -1 where there is none; the rows [m] that have a vector; their vectors [m, dim]."""
    tokens = np.array([_NO_TOKEN if entry.token_id is None else entry.token_id for entry in entries], np.int32)
    marked = [(row, entry.vector) for row, entry in enumerate(entries) if entry.vector is not None]
    rows = np.array([row for row, _ in marked], np.int32)
    vectors = np.stack([vector for _, vector in marked]) if marked else np.zeros((0, 0), np.float32)
    return tokens, rows, vectors


def unpacked(tokens: NDArray[np.int32], rows: NDArray[np.int32], vectors: NDArray[np.float32]) -> tuple[Entry, ...]:
    """The entries that `packed` was given, without their positions."""
    vector_of = dict(zip(rows.tolist(), vectors, strict=True))
    return tuple(Entry(None if token == _NO_TOKEN else token, vector_of.get(row)) for row, token in enumerate(tokens.tolist()))
