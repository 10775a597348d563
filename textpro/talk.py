"""What `textpro-agent --wav` and `--text` do: one session between a transport and a view, with the settings
in effect."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from .agent.turns import TurnSettings
from .config import Settings, VoiceSettings
from .serving.conversation import Conversation, View
from .serving.json_lines import JsonLines, claimed_stdout
from .serving.playback import ReplyFiles
from .serving.terminal import LiveTerminal, PlainLines, render_svg
from .serving.typed import TypedTransport, check_texts
from .serving.wav import FastPace, RealTimePace, WavTransport, check_wavs
from .streaming.espeak_frames import EspeakVoice

if TYPE_CHECKING:
    from .agent.runtime import Runtime
    from .agent.session import Session


@dataclass(frozen=True, slots=True)
class Talk:
    """What to say to the agent: sound files or texts, one of them empty; `fast` on audio time instead of real
    time; `svg` where to draw the view at the end."""

    wavs: tuple[Path, ...] = ()
    texts: tuple[str, ...] = ()
    fast: bool = False
    svg: Path | None = None


def talk(what: Talk, settings: Settings) -> None:
    """Lead the conversation to its end. Raises TextProError with one clear line; inputs are checked before
    the model is loaded."""
    check_wavs(what.wavs)
    check_texts(what.texts)
    if settings.output.replies is not None:
        ReplyFiles(settings.output.replies)
    with _view(settings) as view:
        asyncio.run(_converse(what, settings, view))
        if what.svg is not None and isinstance(view, LiveTerminal | PlainLines):
            render_svg(view.state, what.svg)


async def _converse(what: Talk, settings: Settings, view: View) -> None:
    async with (
        open_runtime(settings) as runtime,
        open_session(runtime, settings) as session,
        Conversation(session, view, settings.output.replies) as conversation,
    ):
        if what.texts:
            await TypedTransport(conversation).run(what.texts)
        else:
            pace = FastPace(conversation) if what.fast else RealTimePace()
            await WavTransport(conversation, pace).run(what.wavs)


def open_runtime(settings: Settings) -> Runtime:
    """The runtime of these settings, to be entered. The first call brings torch, seconds after the view is
    up."""
    from transformers.utils import logging as transformers_logging

    from .agent.runtime import Runtime

    transformers_logging.disable_progress_bar()  # it would tear the view
    return Runtime(
        settings.model.name,
        voice=_voice(settings.voice),
        speak=settings.voice.enabled,
        slots=settings.model.slots,
        threads=settings.model.threads,
    )


def open_session(runtime: Runtime, settings: Settings) -> Session:
    """A session of these settings, to be entered; it is told what has been played."""
    return runtime.session(
        prosody=settings.prosody.enabled,
        playback="acknowledged",
        turns=TurnSettings(**settings.turns.model_dump()),
    )


def _voice(voice: VoiceSettings) -> EspeakVoice:
    return EspeakVoice(
        name=voice.name,
        variant=voice.variant,
        rate=voice.rate_wpm,
        pitch=voice.pitch_percent,
        range=voice.range_percent,
        amplitude=voice.amplitude_percent,
    )


@contextlib.contextmanager
def _view(settings: Settings) -> Iterator[View]:
    logging.basicConfig(stream=sys.stderr, level=settings.output.log_level.upper())
    console = Console(highlight=False)
    chosen = settings.output.view
    if chosen == "auto":
        chosen = "live" if console.is_terminal and not console.is_dumb_terminal else "plain"
    match chosen:
        case "json":
            with claimed_stdout() as stream:
                yield JsonLines(stream, _to_stderr)
        case "live":
            with LiveTerminal(console) as live:
                yield live
        case _:
            with PlainLines(console) as plain:
                yield plain


def _to_stderr(text: str) -> None:
    typer.echo(text, err=True)
