"""One device's conversation: its messages to a session, the session's events to a log that is published from. It knows no
connection; the log and the session live on while there is none.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ...agent.events import Audio, Event, Failed, Interrupt, ReplyDone, VoiceActivity
from ...agent.tools import Tool, unchecked
from ...models.errors import InputError, TextProError
from ..conversation import DRAIN_STEPS
from ..terminal.json_lines import ACTIVITY_INTERVAL_MS
from .sequence import AudioIn, Once, OutLog
from .topics import (
    AudioPacket,
    Channel,
    Commit,
    Confirm,
    DeviceTool,
    EndAudio,
    Heard,
    Hello,
    Resume,
    StopReply,
    ToolAnswer,
    Topics,
    Typed,
    read_control,
    read_json,
    write_json,
)

if TYPE_CHECKING:
    from ...agent.session import Session  # brings torch

_log = logging.getLogger(__name__)
MAX_WAITING = 512
"""Messages of one device that may wait for its session."""
PIECE_MS = 100
"""Of reply audio in one message."""

OpenSession = Callable[[Hello, Sequence[Tool]], "Session"]


class Device:
    """A conversation from its first message to `end`. `news` is called whenever there is something to publish."""

    def __init__(self, name: str, hello: Hello, topics: Topics, open_session: OpenSession, news: Callable[[], None]) -> None:
        self.name, self.hello = name, hello
        self.log = OutLog()
        self.session_id = uuid.uuid4().hex[:12]
        self._topics, self._open_session, self._news = topics, open_session, news
        self._waiting: asyncio.Queue[tuple[Channel, bytes]] = asyncio.Queue(MAX_WAITING)
        self._audio, self._texts = AudioIn(), Once()
        self._asked: dict[str, asyncio.Future[Any]] = {}
        self._reply: tuple[int, int] | None = None  # turn and revision
        self._reply_samples = 0
        self._activity_ms = -ACTIVITY_INTERVAL_MS
        self._dropped = 0
        self._reason = "the session was closed"
        self._task: asyncio.Task[None] | None = None

    def start(self, ended: Callable[[Device], None]) -> None:
        """Open the session; `ended` is called once it is over, whoever ended it."""
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(lambda _: ended(self))

    async def end(self, reason: str) -> None:
        """Close the session and tell the device why."""
        assert self._task is not None, "a device is started before it is ended"
        self._reason = reason
        self._task.cancel()
        await asyncio.wait((self._task,))

    def take(self, channel: Channel, payload: bytes) -> None:
        """A message of the device; never waits. Resumption and results of tools do not wait for the session either."""
        try:
            match channel:
                case Channel.TOOL_RESULT:
                    self._answered(read_json(ToolAnswer, payload))
                case Channel.CONTROL if isinstance(resume := read_control(payload), Resume):
                    self._resume(resume)
                case _:
                    self._waiting.put_nowait((channel, payload))
                    self._dropped = 0
        except asyncio.QueueFull:
            self._dropped += 1
            if self._dropped == 1:
                self._tell("error", message=f"more than {MAX_WAITING} messages wait: further ones are dropped")
        except InputError as error:
            self._tell("error", message=str(error))

    async def _run(self) -> None:
        """The whole conversation; ends by itself only where the session cannot go on."""
        tools = [self._remote(tool) for tool in self.hello.tools]
        reading: asyncio.Task[None] | None = None
        try:
            async with self._open_session(self.hello, tools) as session:
                self._tell("session_started", boot=self.hello.boot)
                reading = asyncio.create_task(self._read(session))
                working = asyncio.create_task(self._work(session))
                try:
                    await asyncio.wait((reading, working), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in (working, reading):
                        task.cancel()
                    await asyncio.wait((working, reading))
                for task in (working, reading):
                    if not task.cancelled() and (error := task.exception()) is not None:
                        raise error
        except TextProError as error:
            self._reason = str(error)
        except asyncio.CancelledError:
            pass
        except Exception as error:
            _log.exception("a device's conversation failed")
            self._reason = f"{type(error).__name__}: {error}"
        finally:
            self._tell("session_ended", reason=self._reason)

    async def _work(self, session: Session) -> None:
        while True:
            channel, payload = await self._waiting.get()
            try:
                await self._handle(session, channel, payload)
            except InputError as error:
                self._tell("error", message=str(error))

    async def _handle(self, session: Session, channel: Channel, payload: bytes) -> None:
        if channel is Channel.AUDIO_IN:
            packet = AudioPacket.from_bytes(payload)
            pcm = self._audio.take(packet)
            if len(pcm):
                await session.send_audio(pcm, packet.sample_rate)
        elif channel is Channel.TEXT:
            typed = read_json(Typed, payload)
            if self._texts.is_new(typed.seq):
                await session.send_text(typed.text)
        else:
            match read_control(payload):
                case Commit():
                    await session.commit()
                case StopReply():
                    await session.interrupt()
                case EndAudio():
                    await session.end_audio()
                case Confirm(call_id=call_id, accepted=accepted):
                    await session.confirm(call_id, accepted)
                case Heard(turn_id=turn_id, total_ms=total_ms):
                    for _ in range(DRAIN_STEPS):  # an acknowledgement is not to meet a reply that it is not about
                        await asyncio.sleep(0)
                    if self._reply is not None and self._reply[0] == turn_id:
                        session.played(total_ms)

    async def _read(self, session: Session) -> None:
        async for event in session:
            self._say(event)
            if isinstance(event, Failed):
                self._reason = event.reason
                return

    def _say(self, event: Event) -> None:
        match event:
            case VoiceActivity():
                if not self.hello.voice_activity or event.t_ms - self._activity_ms < ACTIVITY_INTERVAL_MS:
                    return
                self._activity_ms = event.t_ms
            case Audio():
                return self._sound(event)
            case Interrupt() | ReplyDone():
                self._reply = None
        values = event.to_dict()
        del values["type"]
        self._tell(event.type, **values)

    def _sound(self, audio: Audio) -> None:
        if self._reply != (audio.turn_id, audio.revision):
            self._reply, self._reply_samples = (audio.turn_id, audio.revision), 0
        step = max(1, audio.sample_rate * PIECE_MS // 1000)
        for at in range(0, len(audio.pcm), step):
            self._packet(audio, self._reply_samples, audio.pcm[at : at + step])
            self._reply_samples += len(audio.pcm[at : at + step])
        self._news()

    def _packet(self, audio: Audio, first: int, pcm: Any) -> None:
        topic = self._topics.of(self.name, Channel.AUDIO_OUT)
        self.log.add(topic, lambda seq: AudioPacket(seq, audio.turn_id, audio.sample_rate, first, pcm).to_bytes())

    def _tell(self, type: str, **values: object) -> int:
        head = {"session": self.session_id, "type": type}
        topic = self._topics.of(self.name, Channel.EVENT)
        seq = self.log.add(topic, lambda seq: write_json({"seq": seq, **head, **values}))
        self._news()
        return seq

    def _resume(self, resume: Resume) -> None:
        if resume.session != self.session_id:
            return self._lost(f"the session {resume.session} is over: this is {self.session_id}")
        if not self.log.rewind(resume.after_seq):
            self._lost(f"not everything after {resume.after_seq} is kept any more")
        self._news()

    def _lost(self, message: str) -> None:
        self._tell("error", message=message)

    def _remote(self, tool: DeviceTool) -> Tool:
        async def ask(**arguments: Any) -> Any:
            return await self._ask(tool.name, arguments)

        return Tool(
            name=tool.name,
            description=tool.description,
            parameters=tool.parameters,
            function=ask,
            check=unchecked,
            time_limit_s=tool.time_limit_s,
            confirm=tool.confirm,
            filler=tool.filler,
            cancel_on_interrupt=tool.cancel_on_interrupt,
        )

    async def _ask(self, name: str, arguments: dict[str, Any]) -> Any:
        """Publish a call and wait for its result. When it is cancelled the device is told, and a call that it has not got
        yet never reaches it."""
        topic, call_id = self._topics.of(self.name, Channel.TOOL_CALL), uuid.uuid4().hex[:12]
        call = {"session": self.session_id, "id": call_id, "name": name}
        asked = asyncio.get_running_loop().create_future()
        self._asked[call_id] = asked
        number = self.log.add(topic, lambda seq: write_json({"seq": seq, **call, "arguments": arguments}))
        self._news()
        try:
            return await asked
        except asyncio.CancelledError:
            self.log.replace(number, write_json({"seq": number, **call, "cancelled": True}))
            self.log.add(topic, lambda seq: write_json({"seq": seq, **call, "cancelled": True}))
            self._news()
            raise
        finally:
            del self._asked[call_id]

    def _answered(self, answer: ToolAnswer) -> None:
        asked = self._asked.get(answer.id)
        if asked is not None and not asked.done():  # else it came twice, or too late
            failed = {"ok": False, "error": answer.error}
            asked.set_result(answer.result if answer.error is None else failed)
