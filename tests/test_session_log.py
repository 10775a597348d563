"""A conversation as a log: what comes back of it, who can read its file, and that what was to be forgotten is gone."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from textpro.engine import Entry
from textpro.forget_command import forget
from textpro.models.errors import InputError
from textpro.serving.session_log import HeardMark, SessionLog, Sound
from textpro.serving.session_store import FILE, Bounds, SessionStore, existing_store

SECRET_WORDS = "the tiger sleeps in the garden"
APP = typer.Typer()
APP.command()(forget)
ENTRIES = st.lists(
    st.one_of(
        st.integers(0, 2**31 - 1).map(Entry),
        st.tuples(st.none() | st.integers(0, 500), st.lists(st.floats(width=32), min_size=3, max_size=3)).map(
            lambda given: Entry(given[0], np.array(given[1], np.float32))
        ),
    )
)


def log_of(session_id: str = "sess_1", text: str = SECRET_WORDS, samples: int = 0) -> SessionLog:
    sounds = (Sound("item_2", 100.0, 16_000, np.arange(samples, dtype=np.int16), {"item_id": "item_2"}),) if samples else ()
    items = ({"id": "item_1", "text": text},)
    return SessionLog(session_id, "m", {"id": session_id}, (Entry(7),), items, ("item_1",), sounds, state={"fed_ms": 1.5})


@given(ENTRIES)
def test_a_log_comes_back_from_its_bytes_bit_by_bit(entries: list[Entry]) -> None:
    log = SessionLog("sess", "model", {"tools": [{"ü": None}]}, tuple(entries), ({"id": "a", "heard": None},), ("a",))
    back = SessionLog.from_bytes(log.to_bytes())
    assert [entry.token_id for entry in back.entries] == [entry.token_id for entry in entries]
    for entry, other in zip(entries, back.entries, strict=True):
        assert (entry.vector is None) == (other.vector is None)
        assert entry.vector is None or other.vector is None or entry.vector.tobytes() == other.vector.tobytes()
    assert (back.settings, back.items, back.unread, back.unheard) == (log.settings, log.items, log.unread, ())


def test_the_sound_of_a_log_comes_back_from_where_it_was_heard() -> None:
    log = SessionLog.from_bytes(log_of(samples=1600).to_bytes())
    (rest,) = log.marked(HeardMark("item_2", 150.0)).unheard
    assert rest.start_ms == 150 and np.array_equal(rest.pcm, np.arange(800, 1600)) and rest.place == {"item_id": "item_2"}
    assert log.marked(HeardMark("item_2", 200.0)).unheard == ()
    assert len(log.marked(HeardMark("another", 500.0)).unheard[0].pcm) == 1600


@pytest.mark.parametrize("data", [b"", b"\x00" * 40, b"{}", log_of().to_bytes()[:-3], b"\xff" * 200])
def test_other_bytes_are_no_log(data: bytes) -> None:
    with pytest.raises(InputError, match="begin a new conversation"):
        SessionLog.from_bytes(data)


def test_only_the_owner_can_read_what_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    umask = os.umask(0)
    try:
        store = SessionStore(folder)
        store.add("hash", "key", log_of(), 0, 100)
    finally:
        os.umask(umask)
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == [FILE, f"{FILE}-shm", f"{FILE}-wal"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    store.close()
    folder.chmod(0o750)
    with pytest.raises(InputError, match="chmod 700"):
        SessionStore(folder)


def test_a_log_is_there_after_the_process_for_its_time_and_its_caller_alone(tmp_path: Path) -> None:
    store = SessionStore(tmp_path / "state")
    store.add("hash", "key", log_of(samples=1600), 0, 100)
    store.mark("hash", HeardMark("item_2", 150.0), 1, 100)
    store.close()
    store = existing_store(tmp_path / "state")
    log = store.load("hash", "key", 99)
    assert log is not None and log.items[0]["text"] == SECRET_WORDS and len(log.unheard[0].pcm) == 800
    assert store.load("hash", "other", 99) is None and store.load("other", "key", 99) is None
    assert store.load("hash", "key", 100) is None and store.expire(100) == 1 and store.load("hash", "key", 0) is None
    store.close()


def test_what_somebody_deleted_is_not_written_again() -> None:
    store = SessionStore(None)
    store.add("hash", "key", log_of(), 0, 100)
    assert store.update("hash", "key", log_of(text="more"), 1, 100)
    assert store.forget() == 1
    assert not store.update("hash", "key", log_of(), 2, 100) and not store.mark("hash", HeardMark("item_2", 1.0), 2, 100)
    assert store.load("hash", "key", 3) is None


def test_the_oldest_give_way_and_what_is_too_large_is_not_kept() -> None:
    store = SessionStore(None, Bounds(logs=3, log_bytes=8_000, all_bytes=100_000))
    for number in range(5):
        assert store.add(f"hash{number}", "key", log_of(f"sess_{number}"), number, 100)
    assert [number for number in range(5) if store.load(f"hash{number}", "key", 9) is not None] == [2, 3, 4]
    assert not store.update("hash4", "key", log_of(samples=8_000), 9, 100)
    assert store.load("hash4", "key", 9) is None
    store = SessionStore(None, Bounds(all_bytes=10_000))
    for number in range(5):
        store.add(f"hash{number}", "key", log_of(samples=2_000), number, 100)
    assert [number for number in range(5) if store.load(f"hash{number}", "key", 9) is not None] == [3, 4]


@pytest.mark.parametrize(
    ("options", "left"),
    [(["--session", "sess_1"], {"sess_2"}), (["--older-than", "1d"], {"sess_2"}), (["--all"], set())],
)
def test_forget_deletes_for_good(options: list[str], left: set[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "state"
    serving = SessionStore(folder)  # a server that runs
    now = time.time()
    serving.add("hash1", "key", log_of("sess_1"), now - 90_000, now + 100)
    serving.add("hash2", "key", log_of("sess_2", "nothing else"), now, now + 100)
    assert any(SECRET_WORDS.encode() in file.read_bytes() for file in folder.iterdir())
    with pytest.raises(SystemExit) as ended:
        APP(["--state", str(folder), *options])
    assert not ended.value.code and str(2 - len(left)) in capfd.readouterr().out
    assert not any(SECRET_WORDS.encode() in file.read_bytes() for file in folder.iterdir())
    kept = {f"sess_{number}" for number in (1, 2) if serving.load(f"hash{number}", "key", now) is not None}
    assert kept == left
    serving.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [([], "--all"), (["--all", "--session", "x"], "one of"), (["--older-than", "soon"], "12h"), (["--all"], "serve --state")],
)
def test_forget_says_what_it_needs(options: list[str], message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        APP(["--state", str(tmp_path), *options])
    assert ended.value.code == 2 and message in capfd.readouterr().err
