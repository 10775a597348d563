"""The microphone transport: a conversation through the machine's own microphone and loudspeaker, until it is
stopped. The session hears every block in order, and silence in the place of what is muted, switched off or lost, so
that its time goes on and open turns end. A device that vanishes is looked for until it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ...models.errors import TextProError
from ..conversation import Conversation
from ..hearing import Command, Hearing
from ..signals import stop_on_signals
from ..terminal.keys import keys_of_terminal, why_no_keys
from .loudspeaker import Loudspeaker
from .sound_card import Block, Capture, SoundCard

TELL_S = 0.02
"""How often the session is told what has sounded."""
LOOK_S = 0.25
"""How often the devices are looked at when no block comes."""
RETRY_S = 1.0
DEAD_SILENCE_MS = 5_000
"""Not one sample other than zero for so long at the start: no microphone in a room is that quiet."""


@dataclass(frozen=True, slots=True)
class MicrophoneOptions:
    """Devices by index or part of the name, None for the system's; how the microphone is heard; whether replies are
    spoken."""

    input_device: str | None = None
    output_device: str | None = None
    half_duplex: bool = False
    push_to_talk: bool = False
    speaks: bool = True


@dataclass(slots=True)
class _Heard:
    """What the microphone brought so far."""

    ms: float = 0.0
    is_dead: bool = True  # nothing but zeros
    overflows: int = 0
    last_s: float = field(default_factory=time.monotonic)


class MicrophoneTransport:
    """Leads a conversation that is entered and whose player is `loudspeaker`, from the main thread."""

    def __init__(
        self,
        conversation: Conversation,
        loudspeaker: Loudspeaker,
        options: MicrophoneOptions,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._conversation, self._loudspeaker = conversation, loudspeaker
        self._session, self._notice = conversation.session, conversation.view.notice
        self._hearing = Hearing(half_duplex=options.half_duplex, push_to_talk=options.push_to_talk)
        self._options, self._now_s = options, now_s
        self._stop, self._news = asyncio.Event(), asyncio.Event()
        self._keys: list[str] = []
        self._heard = _Heard()

    async def run(self) -> None:
        """Until `q`, Ctrl-C or `stop`. DeviceError if the devices cannot be opened, EngineError when the session
        fails."""
        loop = asyncio.get_running_loop()
        self._capture = Capture(lambda: loop.call_soon_threadsafe(self._news.set))
        options = self._options
        played = self._loudspeaker if options.speaks else None
        self._card = SoundCard(self._capture, played, options.input_device, options.output_device)
        with contextlib.ExitStack() as ends:
            ends.enter_context(stop_on_signals(self.stop))
            self._card.open()
            ends.callback(self._card.close)
            self._notice(self._card.names)
            if (reason := why_no_keys()) is None:
                ends.enter_context(keys_of_terminal(self._press))
                self._notice(f"{self._hearing.keys_help()} (or Ctrl-C)")
            else:
                self._notice(f"{reason}; Ctrl-C ends the conversation")
            self._conversation.view.status(self._hearing.status)
            await self._until_stopped()
        self._sum_up()

    def stop(self) -> None:
        """End the conversation cleanly; on the event loop."""
        self._stop.set()

    async def _until_stopped(self) -> None:
        """EngineError and what else the work raises."""
        work = [asyncio.ensure_future(step) for step in (self._listen(), self._tell(), self._stop.wait())]
        try:
            done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    async def _tell(self) -> None:
        while True:
            self._conversation.check()
            self._conversation.play(self._loudspeaker.newly_sounded_ms())
            await asyncio.sleep(TELL_S)

    async def _listen(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._news.wait()
            self._news.clear()
            await self._hear()
            while self._keys:
                await self._obey(self._keys.pop(0))
            if (reason := self._card.lost()) is not None:
                await self._find_again(reason)

    async def _hear(self) -> None:
        """Send what was captured; say what was lost."""
        for block in self._capture.take():
            self._look_at(block)
            agent_sounds = self._conversation.player.pending_ms > 0
            if not self._hearing.hears(int(self._heard.ms), agent_sounds):
                block = np.zeros(len(block), np.int16)
            await self._session.send_audio(block, self._card.input_rate)
        if lost_ms := self._capture.take_lost_ms():
            self._notice(f"{lost_ms} ms of the microphone were lost: the session is behind; is the machine busy?")
        if self._card.overflows > self._heard.overflows:
            times = self._card.overflows - self._heard.overflows
            self._notice(f"the system lost audio of the microphone {times} times; is the machine busy?")
            self._heard.overflows = self._card.overflows

    def _look_at(self, block: Block) -> None:
        heard = self._heard
        before_ms, heard.last_s = heard.ms, self._now_s()
        heard.ms += len(block) * 1000 / self._card.input_rate
        heard.is_dead = heard.is_dead and not block.any()
        if heard.is_dead and before_ms < DEAD_SILENCE_MS <= heard.ms:
            self._notice("the microphone gives nothing but silence: is it switched off, or not allowed to this program?")

    def _press(self, key: str) -> None:
        self._keys.append(key)
        self._news.set()

    async def _obey(self, key: str) -> None:
        pressed = self._hearing.press(key)
        if pressed.notice is not None:
            self._notice(pressed.notice)
            self._conversation.view.status(self._hearing.status)
        match pressed.command:
            case Command.COMMIT:
                await self._session.commit()
            case Command.INTERRUPT:
                await self._session.interrupt()
            case Command.QUIT:
                self.stop()

    async def _find_again(self, reason: str) -> None:
        """Look for the devices every second; the session hears silence meanwhile."""
        self._notice(f"the audio devices are gone ({reason}); looking for them every second")
        began_s = silent_until_s = self._heard.last_s
        while True:
            try:
                await asyncio.to_thread(self._card.open_again)
                break
            except TextProError:
                await asyncio.sleep(RETRY_S)
            silent_until_s = await self._hear_silence(silent_until_s)
        await self._hear_silence(silent_until_s)
        lost_ms = round((self._now_s() - began_s) * 1000)
        self._heard.last_s = self._now_s()
        self._notice(f"found again: {self._card.names}; {lost_ms} ms of the microphone were lost")

    async def _hear_silence(self, since_s: float) -> float:
        """Silence for the time since then; the time of now."""
        now_s = self._now_s()
        silence = np.zeros(int((now_s - since_s) * self._card.input_rate), np.int16)
        await self._session.send_audio(silence, self._card.input_rate)
        return now_s

    def _sum_up(self) -> None:
        """Say at the end how the loudspeaker fared, if it ever faltered."""
        if self._card.underflows:
            self._notice(f"the loudspeaker ran dry {self._card.underflows} times: the machine was busy")
        if self._loudspeaker.gaps:
            self._notice(f"replies stood still {self._loudspeaker.gaps} times, {self._loudspeaker.gap_ms} ms in all")
