"""A conversation as a file that people (`.md`) or programs (`.json`) read: what was said and when, how it sounded,
which tools ran, what was answered and what of it was heard. `Transcript` takes the same events as a view and reduces
them by the same `ViewState`. Invariants: at every moment the file is one whole document, since each change rewrites
its end, from the first turn that may still change, in one write; it is readable by its owner alone; memory is bounded.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from ...agent.events import Audio, Event, ReplyDelta, Update, VoiceActivity
from ...models.errors import InputError
from ..conversation import View
from .view_rows import is_known
from .view_state import Exchange, ToolUse, ViewState, one_line

VERSION = 1
OPEN_TURNS = 4
"""So many of the latest turns may still change: a tool may return after its reply was cut off."""


class _Format(Protocol):
    """How a document is put together: `head`, turns with `between` them, and what `foot` gives."""

    head: str
    between: str

    def turn(self, exchange: Exchange) -> str: ...

    def foot(self, finished: bool, failed: str | None) -> str: ...


class JsonFormat:
    """One object: `format`, `version`, `turns` in order, `finished`, and `failed` with the reason if the session broke.

    A turn has `turn`, `outcome` (answered, interrupted, dropped, open) and, as far as there is such a thing:
    `said` {text, start_ms, end_ms; no times if it was typed}, `sounds_like` {label, confidence; label "unknown" below
    0.6; absent with prosody off}, `tools` [{call_id, name, arguments, result or null; if the user was asked first:
    asked, the question, and allowed, true, false or null}], `answered` (as generated),
    `heard` (as played), `dropped` (why the turn came to nothing). Times are milliseconds of audio since the session
    began.
    """

    head = f'{{"format": "textpro-transcript", "version": {VERSION}, "turns": [\n'
    between = ",\n"

    def turn(self, exchange: Exchange) -> str:
        """A turn on a line of its own."""
        return json.dumps(turn_values(exchange), ensure_ascii=False, default=str).encode("utf-8", "replace").decode()

    def foot(self, finished: bool, failed: str | None) -> str:
        """The end of the object."""
        return f'\n], "finished": {json.dumps(finished)}, "failed": {json.dumps(failed)}}}\n'


class MarkdownFormat:
    """A heading for each turn and an item for each thing that happened in it."""

    head = "# Conversation\n\nTimes are of the audio, in minutes and seconds since the session began.\n\n"
    between = "\n"

    def turn(self, exchange: Exchange) -> str:
        """A turn as a section."""
        start, end = exchange.start_ms, exchange.end_ms
        times = f" ({_clock(start)} to {_clock(end)})" if start is not None and end is not None else ""
        items = []
        if exchange.dropped is not None:
            items.append(("Nothing was understood", _escaped(exchange.dropped)))
        if exchange.committed:
            items.append(("Said", _escaped(exchange.committed)))
        if (prosody := exchange.prosody) is not None:
            label = prosody.label if is_known(prosody) else "unknown"
            items.append(("Sounds like", f"{_escaped(label)} (confidence {prosody.confidence:.2f})"))
        for tool in exchange.tools:
            if tool.question is not None:
                decided = {True: "allowed", False: "not allowed", None: "not decided"}[tool.allowed]
                items.append(("Asked", f"{_escaped(tool.question)} ({decided})"))
            result = "no result" if tool.result is None else _code(tool.result)
            items.append(("Tool", f"{_escaped(tool.name)}, {_code(tool.arguments)}, gave {result}"))
        if exchange.reply:
            items.append(("Answered", _escaped(exchange.reply)))
        if exchange.is_answered:
            heard = _escaped(exchange.heard or "")
            cut_off = " *(cut off here)*" if heard else "*(cut off before a word was heard)*"
            items.append(("Heard", f"{heard}{cut_off if exchange.is_cut_off else ''}"))
        return f"## Turn {exchange.turn_id}{times}\n\n" + "".join(f"- **{name}:** {text}\n" for name, text in items)

    def foot(self, finished: bool, failed: str | None) -> str:
        """Why it ended, if it broke."""
        return f"\nThe session ended: {_escaped(failed)}\n" if failed is not None else ""


FORMATS: dict[str, _Format] = {".json": JsonFormat(), ".md": MarkdownFormat()}


class Transcript:
    """The file of one conversation; a context manager. `tell` is given one line if the file cannot be written on; then
    nothing more is written, and whatever feeds it goes on."""

    def __init__(self, path: Path, tell: Callable[[str], None]) -> None:
        """Opens the file. InputError if its ending is no format, it holds something, or it cannot be created."""
        self._path, self._tell = path, tell
        self._format = _format_of(path)
        self._state = ViewState()
        self._sealed_turn = self._sealed_bytes = 0
        self._end = b""  # what stands behind the sealed turns
        self._is_empty = True
        self._file, self._is_new = _opened(path)
        self._is_broken = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def show(self, event: Event) -> None:
        """Take the event, and write what it changes of what is written."""
        before, self._state = self._state, self._state.apply(event)
        if not isinstance(event, VoiceActivity | Update | ReplyDelta | Audio) and self._state != before:
            self._write(finished=False)

    def close(self) -> None:
        """Finish the document. A conversation without a turn leaves no file, or the empty one that was there."""
        if self._file < 0:
            return
        self._write(finished=True)
        if not self._is_broken and not self._is_empty:
            with contextlib.suppress(OSError):
                os.fsync(self._file)
        os.close(self._file)
        self._file = -1
        if self._is_empty and self._is_new:
            with contextlib.suppress(OSError):
                self._path.unlink()

    def _write(self, *, finished: bool) -> None:
        if self._is_broken:
            return
        turns = [
            exchange
            for exchange in self._state.exchanges
            if exchange.turn_id > self._sealed_turn and (exchange.is_over or (finished and exchange.committed))
        ]
        if not turns and self._is_empty:
            return
        written = [self._format.turn(exchange) for exchange in turns]
        pieces = [self._format.head if self._sealed_bytes == 0 else self._format.between if turns else ""]
        pieces.append(self._format.between.join(written))
        self._is_empty = False
        try:
            self._replace_end("".join(pieces) + self._format.foot(finished, self._state.failed))
        except OSError as error:
            self._break_off(error)
            return
        closed = turns[:-OPEN_TURNS]
        if closed:
            sealed = pieces[0] + self._format.between.join(written[: len(closed)])
            self._sealed_bytes += len(sealed.encode())
            self._end = self._end[len(sealed.encode()) :]
            self._sealed_turn = closed[-1].turn_id

    def _replace_end(self, text: str) -> None:
        end = text.encode()
        if end == self._end:
            return
        length = self._sealed_bytes + len(end)
        self._put(end.ljust(len(self._end), b"\n"))  # a shorter end is whole before the rest is cut, too
        os.ftruncate(self._file, length)
        self._end = end

    def _put(self, data: bytes) -> None:
        at = self._sealed_bytes
        while data:
            count = os.pwrite(self._file, data, at)
            at, data = at + count, data[count:]

    def _break_off(self, error: OSError) -> None:
        """Put back what stood there, for which there was room, and say so."""
        self._is_broken = True
        with contextlib.suppress(OSError):
            self._put(self._end)
            os.ftruncate(self._file, self._sealed_bytes + len(self._end))
        self._tell(f"the transcript {self._path} ends here: it cannot be written ({error.strerror}); the conversation goes on")


class TranscribedView:
    """A view, with a transcript of what it is shown."""

    def __init__(self, view: View, transcript: Transcript) -> None:
        self._view, self._transcript = view, transcript

    def show(self, event: Event) -> None:
        """Show it first, then write it down."""
        self._view.show(event)
        self._transcript.show(event)

    def played(self, turn_id: int, total_ms: float) -> None:
        """Passed on."""
        self._view.played(turn_id, total_ms)

    def status(self, text: str) -> None:
        """Passed on."""
        self._view.status(text)

    def notice(self, text: str) -> None:
        """Passed on."""
        self._view.notice(text)


def turn_values(exchange: Exchange) -> dict[str, object]:
    """A turn as JSON values, as `JsonFormat` describes them."""
    values: dict[str, object] = {"turn": exchange.turn_id, "outcome": _outcome(exchange)}
    if exchange.committed:
        said: dict[str, object] = {"text": exchange.committed}
        times = {"start_ms": exchange.start_ms, "end_ms": exchange.end_ms}
        said.update({name: ms for name, ms in times.items() if ms is not None})
        values["said"] = said
    if (prosody := exchange.prosody) is not None:
        label = prosody.label if is_known(prosody) else "unknown"
        values["sounds_like"] = {"label": label, "confidence": prosody.confidence}
    if exchange.tools:
        values["tools"] = [_tool_values(tool) for tool in exchange.tools]
    if exchange.reply:
        values["answered"] = exchange.reply
    if exchange.is_answered:
        values["heard"] = exchange.heard or ""
    if exchange.dropped is not None:
        values["dropped"] = exchange.dropped
    return values


def _tool_values(tool: ToolUse) -> dict[str, object]:
    values: dict[str, object] = {"call_id": tool.call_id, "name": tool.name, "arguments": tool.arguments, "result": tool.result}
    return values if tool.question is None else {**values, "asked": tool.question, "allowed": tool.allowed}


def _outcome(exchange: Exchange) -> str:
    if exchange.dropped is not None:
        return "dropped"
    if exchange.is_cut_off:
        return "interrupted"
    return "answered" if exchange.is_answered else "open"


def _format_of(path: Path) -> _Format:
    if (found := FORMATS.get(path.suffix.lower())) is None:
        raise InputError(f"{path}: a transcript is written as Markdown or JSON; give a name that ends in .md or .json.")
    return found


def _opened(path: Path) -> tuple[int, bool]:
    """The file descriptor, and whether the file was made just now; mode 0600."""
    is_new = not path.exists()
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC | (os.O_EXCL if is_new else 0), 0o600)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"{path}: no transcript can be written there ({reason}); give another name.") from None
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode) or found.st_size:
        os.close(file)
        raise InputError(f"{path}: this file is there and not empty, and is left as it is; give a new name for the transcript.")
    os.fchmod(file, 0o600)
    return file, is_new


def _clock(ms: int) -> str:
    seconds, ms = divmod(max(0, ms), 1000)
    return f"{seconds // 60}:{seconds % 60:02d}.{ms // 100}"


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>#|~&])", r"\\\1", one_line(text))


def _code(values: object) -> str:
    """JSON as inline code, in more backticks than it holds."""
    text = one_line(json.dumps(values, ensure_ascii=False, default=str))
    ticks = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    return f"{ticks}{text}{ticks}"
