"""One model for many conversations: loads a checkpoint, owns the engine and the voice, opens sessions."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import torch
from transformers.utils import logging as transformers_logging

from ..engine import Engine, Entry, Sampling
from ..engine.pace import LONGEST_TICK_MS
from ..models.checkpoint import Checkpoint
from ..models.named import Pair, check_model, open_model
from ..models.placing import place_by_name
from ..streaming.echo_guard import EchoSettings
from ..streaming.espeak_frames import EspeakVoice
from ..streaming.voices import Voice, VoiceSource
from .gate import DraftSettings
from .listener import ListeningSettings
from .session import Session
from .session_settings import Playback, SessionSettings
from .tools import Tool, Toolbox, ToolFunction
from .turns import TurnSettings

_log = logging.getLogger(__name__)


class Runtime:
    """The model, the engine's thread and the voice. Use as an async context manager.

    `model` is a preset (`textpro-agent models`), a folder, a `Pair` of any Whisper and chat model, or a loaded checkpoint.

    `slots` conversations are at work at once, `max_sessions` may be open (None: as many as slots); more are refused with
    CapacityError, and with `max_load` those too that the engine has measured no time for: the share of its time that
    sessions may fill. `context_length` tokens and markers each; `speak` False means text only. `threads` is torch's number
    of CPU threads, None takes those that `engine_threads` says. `device` is where a model that is opened here goes
    (`models/placing.py`).
    """

    def __init__(
        self,
        model: str | Path | Pair | Checkpoint = "tiny",
        *,
        voice: Voice | None = None,
        speak: bool = True,
        slots: int = 4,
        max_sessions: int | None = None,
        max_load: float | None = None,
        context_length: int = 2048,
        threads: int | None = None,
        device: str = "auto",
    ) -> None:
        if not isinstance(model, Checkpoint):
            check_model(model)
        self._model = model
        self._voice = voice or EspeakVoice()
        self._slots, self._context_length, self._threads = slots, context_length, threads
        self._max_sessions, self._max_load = max_sessions, max_load
        self._device = device
        self._speak = speak
        self._voices = VoiceSource(self._voice) if speak else None

    async def __aenter__(self) -> Self:
        torch.set_num_threads(self._threads or engine_threads())
        model = self._model
        self.checkpoint = model if isinstance(model, Checkpoint) else await asyncio.to_thread(self._open, model)
        length = min(self._context_length, self.checkpoint.backbone.max_positions)
        self.engine = Engine(
            self.checkpoint.backbone,
            self.checkpoint.speech,
            slots=self._slots,
            contexts=self._max_sessions,
            slot_len=length,
            max_load=self._max_load,
        )
        try:
            await self.engine.warm_up(lambda done, total: _log.info("recorded %d of %d CUDA graphs", done, total))
            if self._voices is not None:
                await self._voices.start()
        except BaseException:
            await self.engine.aclose()
            if self._voices is not None:
                await self._voices.close()
            raise
        return self

    def _open(self, model: str | Path | Pair) -> Checkpoint:
        """Without a bar of transformers: whoever shows progress does it by themselves."""
        shown = transformers_logging.is_progress_bar_enabled()
        transformers_logging.disable_progress_bar()
        try:
            return place_by_name(open_model(model), self._device)
        finally:
            if shown:
                transformers_logging.enable_progress_bar()

    async def __aexit__(self, *_: object) -> None:
        await self.engine.aclose()
        if self._voices is not None:
            await self._voices.close()

    def session(
        self,
        instructions: str | None = None,
        tools: Sequence[ToolFunction | Tool] | None = None,
        *,
        prosody: bool = True,
        voice: Voice | None = None,
        playback: Playback = "assumed",
        turns: TurnSettings | None = None,
        sampling: Sampling | None = None,
        follow_tone: bool = True,
        speak: bool = True,
        max_reply_tokens: int = 160,
        drafts: DraftSettings | None = None,
        greeting: str | None = None,
        idle_prompts: Sequence[str] = (),
        idle_after_ms: int = 15_000,
        auto_reply: bool = True,
        history: Sequence[Entry] = (),
        listening: ListeningSettings | None = None,
        behind_ms: int | None = None,
        echo: EchoSettings | None = None,
    ) -> Session:
        """A conversation; enter it with `async with`. `tools` are functions, or what `tool` makes of them; None means the
        demo tools. `speak` False: this one in text only. For the others see `SessionSettings`."""
        synthesizer = self._voices.synthesizer(voice) if self._voices and speak else None
        listening = listening or ListeningSettings()
        if behind_ms is not None:  # in real time
            listening = replace(listening, longest_tick_ms=LONGEST_TICK_MS)
        settings = SessionSettings(
            instructions=instructions,
            prosody=prosody,
            playback=playback,
            turns=turns or TurnSettings(),
            sampling=sampling or Sampling(),
            follow_tone=follow_tone,
            max_reply_tokens=max_reply_tokens,
            drafts=drafts or DraftSettings(),
            greeting=greeting,
            idle_prompts=tuple(idle_prompts),
            idle_after_ms=idle_after_ms,
            auto_reply=auto_reply,
            history=tuple(history),
            listening=listening,
            behind_ms=behind_ms,
            echo=echo or EchoSettings(),
        )
        return Session(self.engine, self.checkpoint, synthesizer, Toolbox(tools), settings)


def engine_threads() -> int:
    """torch's present number of CPU threads, but one fewer than there are cores at most: the event loop, where all sessions
    listen, needs a core, and a thread of torch that has to wait for one holds up all the others."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(torch.get_num_threads(), cores - 1))


class VoiceAgent:
    """One conversation with a runtime of its own: the shortest way in.

    `async with VoiceAgent() as agent: await agent.send_text("hello"); async for event in agent: ...`
    """

    def __init__(self, model: str | Path = "tiny", **session: object) -> None:
        self._runtime, self._options = Runtime(model), session

    async def __aenter__(self) -> Session:
        await self._runtime.__aenter__()
        self.session = self._runtime.session(**self._options)  # type: ignore[arg-type]
        return await self.session.__aenter__()

    async def __aexit__(self, *_: object) -> None:
        await self.session.__aexit__()
        await self._runtime.__aexit__()
