"""One model for many conversations: loads a checkpoint, owns the engine and the voice, opens sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Self

import torch

from ..engine import Engine, Sampling
from ..models.checkpoint import load_checkpoint
from ..models.errors import InputError
from ..streaming.espeak import EspeakProcess, EspeakSynthesizer
from ..streaming.espeak_worker import EspeakVoice
from .session import Playback, Session, SessionSettings
from .tools import Toolbox, ToolFunction
from .turns import TurnSettings


def model_folder(model: str | Path) -> Path:
    """The folder of a model: "tiny" is the bundled one, anything else a path. InputError where there is none."""
    if str(model) == "tiny":
        return Path(str(files("textpro.models") / "tiny"))
    folder = Path(model).expanduser()
    if not folder.is_dir():
        raise InputError(f"no model at {folder}: expected 'tiny' or a folder with textpro_config.json")
    return folder


class Runtime:
    """The model, the engine's thread and the voice. Use as an async context manager.

    `slots` conversations at once, more are refused with CapacityError; `context_length` tokens and markers each;
    `speak` False means text only. `threads` is torch's number of CPU threads, None leaves it as it is.
    """

    def __init__(
        self,
        model: str | Path = "tiny",
        *,
        voice: EspeakVoice | None = None,
        speak: bool = True,
        slots: int = 4,
        context_length: int = 2048,
        threads: int | None = None,
    ) -> None:
        self._folder = model_folder(model)
        self._voice = voice or EspeakVoice()
        self._slots, self._context_length, self._threads = slots, context_length, threads
        self._speak = speak
        self._process = EspeakProcess() if speak else None

    async def __aenter__(self) -> Self:
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        self.checkpoint = await asyncio.to_thread(load_checkpoint, self._folder)
        length = min(self._context_length, self.checkpoint.backbone.max_positions)
        self.engine = Engine(self.checkpoint.backbone, self.checkpoint.speech, slots=self._slots, slot_len=length)
        if self._process is not None:
            try:
                await self._process.start()
            except BaseException:
                await self.engine.aclose()
                raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.engine.aclose()
        if self._process is not None:
            await self._process.close()

    def session(
        self,
        instructions: str | None = None,
        tools: Sequence[ToolFunction] | None = None,
        *,
        prosody: bool = True,
        voice: EspeakVoice | None = None,
        playback: Playback = "assumed",
        turns: TurnSettings | None = None,
        sampling: Sampling | None = None,
    ) -> Session:
        """A conversation; enter it with `async with`. `tools` None means the demo tools."""
        synthesizer = EspeakSynthesizer(self._process, voice or self._voice) if self._process else None
        settings = SessionSettings(
            instructions=instructions,
            prosody=prosody,
            playback=playback,
            turns=turns or TurnSettings(),
            sampling=sampling or Sampling(),
        )
        return Session(self.engine, self.checkpoint, synthesizer, Toolbox(tools), settings)


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


