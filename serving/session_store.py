"""Logs of sessions in SQLite: in a folder that only its owner can read, where they survive a restart, or in memory.

A row is found by the hash of its token, so the file holds no token. Rows end with their time; what is deleted is overwritten
(`secure_delete`), and `forget` leaves nothing in the write-ahead log either. Every method blocks and may be called from one
thread at a time.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..models.errors import InputError
from .session_log import HeardMark, SessionLog

FILE = "sessions.sqlite3"
_TABLE = """
create table if not exists session (
    token_hash text primary key, session_id text not null, caller text not null, saved_at real not null,
    expires_at real not null, size integer not null, log blob not null, mark text
)
"""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept: logs, bytes of one, bytes of all. The oldest give way."""

    logs: int = 1000
    log_bytes: int = 32 * 1024 * 1024
    all_bytes: int = 2 * 1024 * 1024 * 1024


class SessionStore:
    """`folder` None: in memory. InputError where it cannot be used, or others could read it."""

    def __init__(self, folder: Path | None, bounds: Bounds | None = None) -> None:
        self._bounds = bounds or Bounds()
        self._where = ":memory:" if folder is None else str(private_file(folder))
        with self._faults():
            self._database = sqlite3.connect(self._where, timeout=30, isolation_level=None, check_same_thread=False)
            for setting in ("journal_mode = wal", "synchronous = normal", "secure_delete = on"):
                self._database.execute(f"pragma {setting}")
            self._database.execute(_TABLE)

    def close(self) -> None:
        """Write everything to its place."""
        with self._faults():
            self._database.close()

    def add(self, token_hash: str, caller: str, log: SessionLog, now_s: float, expires_at: float) -> bool:
        """A session's first log; False where it is too large."""
        return self._write(
            "insert or replace into session (caller, session_id, log, size, mark, saved_at, expires_at, token_hash) "
            "values (:caller, :session, :log, :size, null, :now, :expires, :hash)",
            token_hash, caller, log, now_s, expires_at,
        )  # fmt: skip

    def update(self, token_hash: str, caller: str, log: SessionLog, now_s: float, expires_at: float) -> bool:
        """Its next one; False where somebody has deleted it meanwhile, or it is too large and deleted for that."""
        return self._write(
            "update session set log = :log, size = :size, mark = null, saved_at = :now, expires_at = :expires "
            "where token_hash = :hash and caller = :caller",
            token_hash, caller, log, now_s, expires_at,
        )  # fmt: skip

    def mark(self, token_hash: str, mark: HeardMark, now_s: float, expires_at: float) -> bool:
        """So much of the log's sound has been heard since; False where there is no log."""
        with self._faults():
            done = self._database.execute(
                "update session set mark = ?, saved_at = ?, expires_at = ? where token_hash = ?",
                (json.dumps([mark.item_id, mark.audio_ms]), now_s, expires_at, token_hash),
            )
            return done.rowcount > 0

    def load(self, token_hash: str, caller: str, now_s: float) -> SessionLog | None:
        """The log of this token and caller; None where there is none or its time is over."""
        with self._faults():
            row = self._database.execute(
                "select log, mark from session where token_hash = ? and caller = ? and expires_at > ?",
                (token_hash, caller, now_s),
            ).fetchone()
        if row is None:
            return None
        log = SessionLog.from_bytes(row[0])
        return log.marked(None if row[1] is None else HeardMark(*json.loads(row[1])))

    def delete(self, token_hash: str) -> None:
        """Its session is over."""
        with self._faults():
            self._database.execute("delete from session where token_hash = ?", (token_hash,))

    def expire(self, now_s: float) -> int:
        """Delete what has had its time, and what deleted logs have left elsewhere; gives how many."""
        with self._faults():
            count = self._database.execute("delete from session where expires_at <= ?", (now_s,)).rowcount
            self._empty_log()
            return count

    def forget(self, *, session_id: str | None = None, before_s: float | None = None) -> int:
        """Delete for good: the logs of a session, those saved before a time, or, with neither, all. Gives how many."""
        where, values = "", list[object]()
        if session_id is not None:
            where, values = " where session_id = ?", [session_id]
        elif before_s is not None:
            where, values = " where saved_at < ?", [before_s]
        with self._faults():
            count = self._database.execute(f"delete from session{where}", values).rowcount
            self._database.execute("vacuum")
            if not self._empty_log():
                raise InputError(f"{self._where} is read by another program: end that, and forget again")
            return count

    def _write(self, statement: str, token_hash: str, caller: str, log: SessionLog, now_s: float, expires_at: float) -> bool:
        data = log.to_bytes()
        if len(data) > self._bounds.log_bytes:
            self.delete(token_hash)
            return False
        values = {
            "hash": token_hash, "caller": caller, "session": log.session_id, "log": data, "size": len(data), "now": now_s,
            "expires": expires_at,
        }  # fmt: skip
        with self._faults():
            if not self._database.execute(statement, values).rowcount:
                return False
            while self._is_over():
                self._database.execute(
                    "delete from session where token_hash in (select token_hash from session order by saved_at limit 1)"
                )
        return True

    def _empty_log(self) -> bool:
        """Leave nothing in the write-ahead log; False where somebody reads from it."""
        return not self._database.execute("pragma wal_checkpoint(truncate)").fetchone()[0]

    def _is_over(self) -> bool:
        count, size = self._database.execute("select count(*), coalesce(sum(size), 0) from session").fetchone()
        return bool(count > self._bounds.logs or size > self._bounds.all_bytes)

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise InputError(f"{self._where}: the logs of sessions cannot be used ({error}): look at the disk") from None


def existing_store(folder: Path) -> SessionStore:
    """That of a folder which has one. InputError if it has none."""
    if not (folder / FILE).is_file():
        raise InputError(f"{folder}: there is no {FILE} in it: give the folder that `serve --state` was given")
    return SessionStore(folder)


def private_file(folder: Path) -> Path:
    """The file of a folder, made so that only its owner can read it before anything is written. InputError where it cannot be
    made, or others can read it."""
    path = folder / FILE
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if stat.S_IMODE(folder.stat().st_mode) & 0o077:
            raise InputError(f"{folder} can be read by others: chmod 700 {folder}, or give another folder")
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise InputError(f"{path} can be read by others: chmod 600 {path}")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); give a folder of yours") from None
    return path
