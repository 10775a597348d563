"""The transcript: what stands in it, that it is whole at every moment, private, and never in the way."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import stat
from pathlib import Path

import pytest

from scripted_session import RecordingView, ScriptedSession
from textpro.agent.events import (
    ConfirmationAnswer,
    ConfirmationRequest,
    Event,
    Failed,
    Interrupt,
    Prosody,
    ReplyDelta,
    ReplyDone,
    TokensCommitted,
    ToolCall,
    ToolResult,
    TurnDropped,
    TurnEnd,
    TurnResumed,
    TurnStart,
)
from textpro.agent.ledger import PlaybackLedger
from textpro.models.errors import InputError
from textpro.serving.conversation import Conversation
from textpro.serving.terminal.transcript import OPEN_TURNS, VERSION, TranscribedView, Transcript
from textpro.serving.terminal.typed import TypedTransport
from textpro.streaming.synthesis import WordTime

REPLY = "Oh no, I am *sorry*."


def turn(number: int = 1, confidence: float = 0.83, heard: str = REPLY) -> list[Event]:
    at = {"t_ms": 10_000 * number, "turn_id": number}
    return [
        TurnStart(**at, start_ms=10_000 * number - 900),
        TokensCommitted(**at, start_index=0, tokens=(1,), text="i lost my keys", end_ms=10_000 * number - 300),
        Prosody(**at, label="sad", confidence=confidence, pitch_hz=None, energy_db=None, words_per_minute=None),
        TurnEnd(**at, text="i lost my keys", p_end=0.9),
        ToolCall(**at, call_id=f"c{number}", name="find", arguments={"what": "keys", "rooms": ["hall", 2]}),
        ToolResult(**at, call_id=f"c{number}", name="find", result={"ok": False}),
        ReplyDelta(**at, text=REPLY),
        *([Interrupt(**at, heard_text=heard)] if heard != REPLY else []),
        ReplyDone(**at, text=REPLY, heard_text=heard, interrupted=heard != REPLY),
    ]


def dropped(number: int) -> list[Event]:
    at = {"t_ms": 10_000 * number, "turn_id": number}
    return [TurnStart(**at, start_ms=10_000 * number), TurnDropped(**at, reason="no words were recognized")]


def write(path: Path, *happened: Event) -> list[str]:
    """What was told."""
    told: list[str] = []
    with Transcript(path, told.append) as transcript:
        for event in happened:
            transcript.show(event)
    return told


def read(path: Path) -> dict[str, object]:
    found = json.loads(path.read_text(encoding="utf-8"))
    assert (found["format"], found["version"]) == ("textpro-transcript", VERSION)
    return found  # type: ignore[no-any-return]


def test_json_holds_what_was_said_sounded_like_called_answered_and_heard(tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    assert write(path, *turn(1), *turn(2, heard="Oh no,"), *dropped(3), *turn(4, confidence=0.5)) == []
    found = read(path)
    assert (found["finished"], found["failed"]) == (True, None)
    first, second, third, fourth = found["turns"]  # type: ignore[misc]
    assert first == {
        "turn": 1,
        "outcome": "answered",
        "said": {"text": "i lost my keys", "start_ms": 9_100, "end_ms": 9_700},
        "sounds_like": {"label": "sad", "confidence": 0.83},
        "tools": [
            {"call_id": "c1", "name": "find", "arguments": {"what": "keys", "rooms": ["hall", 2]}, "result": {"ok": False}}
        ],
        "answered": REPLY,
        "heard": REPLY,
    }
    assert (second["outcome"], second["answered"], second["heard"]) == ("interrupted", REPLY, "Oh no,")
    assert third == {"turn": 3, "outcome": "dropped", "dropped": "no words were recognized"}
    assert fourth["sounds_like"] == {"label": "unknown", "confidence": 0.5}


def test_markdown_holds_the_same_and_no_word_becomes_markup(tmp_path: Path) -> None:
    path = tmp_path / "talk.md"
    write(path, *turn(1), *turn(2, heard="Oh no,"), *dropped(3))
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# Conversation\n")
    assert (
        "\n## Turn 2 (0:19.1 to 0:19.7)\n\n"
        "- **Said:** i lost my keys\n"
        "- **Sounds like:** sad (confidence 0.83)\n"
        '- **Tool:** find, `{"what": "keys", "rooms": ["hall", 2]}`, gave `{"ok": false}`\n'
        "- **Answered:** Oh no, I am \\*sorry\\*.\n"
        "- **Heard:** Oh no, *(cut off here)*\n"
    ) in text
    assert text.endswith("\n## Turn 3\n\n- **Nothing was understood:** no words were recognized\n")


def test_with_prosody_off_nothing_is_written_of_it(tmp_path: Path) -> None:
    for name in ("talk.json", "talk.md"):
        write(tmp_path / name, *(event for event in turn() if not isinstance(event, Prosody)))
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "ounds" not in text and "sad" not in text


def test_after_an_interruption_the_transcript_holds_what_the_ledger_says_was_heard(tmp_path: Path) -> None:
    ledger = PlaybackLedger(sample_rate=1000)
    text = "Oh no, I am sorry."
    ledger.begin_clause(text)
    ends = {"Oh": 200, "no,": 400, "I": 500, "am": 600, "sorry.": 1000}
    words = tuple(WordTime(word, text.index(word), len(word), end - 100, end) for word, end in ends.items())
    ledger.add_audio(1000, words)
    ledger.played(550)
    heard = ledger.heard_text()
    assert heard == "Oh no, I"
    path = tmp_path / "talk.json"
    write(path, *turn(1, heard=heard))
    assert read(path)["turns"][0]["heard"] == heard  # type: ignore[index]


@pytest.mark.parametrize("name", ["talk.json", "talk.md"])
def test_the_file_is_a_whole_document_after_every_event_and_grows_with_each_turn(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    happened: list[Event] = []
    for number in range(1, 3 * OPEN_TURNS):
        at = {"t_ms": 10_000 * number, "turn_id": number}
        resumed = [*turn(number)[:4], TurnResumed(**at, revision=1), TurnEnd(**at, revision=1, text="i lost", p_end=0.5)]
        happened += resumed if number % 3 == 0 else turn(number) if number % 2 else dropped(number)
    with Transcript(path, pytest.fail) as transcript:
        for event in happened:
            transcript.show(event)
            text = path.read_text(encoding="utf-8")
            if text and name.endswith("json"):
                assert json.loads(text)["finished"] is False
        growing = text
    write(tmp_path / f"again_{name}", *happened)
    finished = path.read_text(encoding="utf-8")
    assert finished == (tmp_path / f"again_{name}").read_text(encoding="utf-8")
    assert finished == growing.replace('"finished": false', '"finished": true')
    turns = 3 * OPEN_TURNS - 1
    assert finished.count('{"turn": ' if name.endswith("json") else "## Turn ") == turns


def test_the_result_of_a_tool_that_comes_after_its_turn_stands_in_its_turn(tmp_path: Path) -> None:
    happened = turn(1)
    result = happened.pop(5)
    path = tmp_path / "talk.json"
    write(path, *happened, *turn(2), *turn(3), result)
    assert read(path)["turns"][0]["tools"][0]["result"] == {"ok": False}  # type: ignore[index]


def test_a_call_that_the_user_allowed_says_so(tmp_path: Path) -> None:
    at = {"t_ms": 1, "turn_id": 1, "call_id": "c1"}
    asked = [
        ConfirmationRequest(**at, name="find", arguments={}, question="Shall I look?"),
        ConfirmationAnswer(**at, accepted=True, decided_by="words"),
    ]
    path = tmp_path / "talk.json"
    write(path, *turn(1), *asked)
    tool = read(path)["turns"][0]["tools"][0]  # type: ignore[index]
    assert (tool["asked"], tool["allowed"]) == ("Shall I look?", True)


def test_why_a_session_broke_is_written(tmp_path: Path) -> None:
    for name in ("talk.json", "talk.md"):
        write(tmp_path / name, *turn(), Failed(t_ms=2, reason="no slot"))
    assert read(tmp_path / "talk.json")["failed"] == "no slot"
    assert (tmp_path / "talk.md").read_text(encoding="utf-8").endswith("\nThe session ended: no slot\n")


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    there = tmp_path / "there.md"
    there.touch(0o644)
    for path in (tmp_path / "new.md", there):
        write(path, *turn())
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_holds_something_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "talk.md"
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match=r"talk\.md: this file is there and not empty"):
        Transcript(path, pytest.fail)
    assert path.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("name", "message"),
    [("talk.txt", "ends in .md or .json"), ("absent/talk.md", "No such file or directory"), ("folder.md", "folder.md: ")],
)
def test_a_place_where_none_can_be_written_is_refused_in_one_line(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder.md").mkdir()
    with pytest.raises(InputError, match=message) as refused:
        Transcript(tmp_path / name, pytest.fail)
    assert "\n" not in str(refused.value)


def test_a_pipe_is_refused_without_waiting_for_a_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.md")
    with pytest.raises(InputError, match=r"pipe\.md"):
        Transcript(tmp_path / "pipe.md", pytest.fail)


def test_a_conversation_without_a_turn_leaves_no_file(tmp_path: Path) -> None:
    there = tmp_path / "there.md"
    there.touch()
    for path in (tmp_path / "new.md", there):
        write(path)
    assert [path.name for path in tmp_path.iterdir()] == ["there.md"]
    assert there.read_bytes() == b""


def test_a_full_disk_is_told_once_and_what_was_written_stays_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, told = tmp_path / "talk.json", list[str]()
    really = os.pwrite

    def pwrite(file: int, data: bytes, at: int) -> int:
        if at + len(data) > size:
            if at + 10 > size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return really(file, data[: size - at], at)
        return really(file, data, at)

    with Transcript(path, told.append) as transcript:
        for event in turn(1):
            transcript.show(event)
        size = path.stat().st_size + 20
        monkeypatch.setattr(os, "pwrite", pwrite)
        for event in [*turn(2), *turn(3)]:
            transcript.show(event)
    assert len(told) == 1 and "No space left on device" in told[0]
    assert [found["turn"] for found in read(path)["turns"]] == [1]  # type: ignore[union-attr, attr-defined]


async def talk(view: TranscribedView) -> None:
    async with ScriptedSession() as session, Conversation(session, view) as conversation:  # type: ignore[arg-type]
        await TypedTransport(conversation).run(["hello", "again"])


def test_a_conversation_is_transcribed_while_it_is_shown(tmp_path: Path) -> None:
    view = RecordingView()
    path = tmp_path / "talk.json"
    with Transcript(path, view.notice) as transcript:
        asyncio.run(talk(TranscribedView(view, transcript)))
    turns = read(path)["turns"]
    assert [(found["said"], found["heard"]) for found in turns] == [  # type: ignore[attr-defined]
        ({"text": "hello"}, "Yes."),
        ({"text": "again"}, "No."),
    ]
    assert view.types().count("reply_done") == 2
