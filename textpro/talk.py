"""What `textpro-agent --wav`, `--text` and `--mic` do: one session between a transport and a view, with the settings
in effect."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from .agent.listener import ListeningSettings
from .agent.turns import TurnSettings
from .config import ModelSettings, Settings, VoiceSettings
from .models.errors import InputError
from .models.presets import start_hint
from .serving.collector import calm_collector
from .serving.conversation import Conversation, View
from .serving.local_audio.devices import Way, audio_devices, devices_table
from .serving.local_audio.loudspeaker import Loudspeaker
from .serving.local_audio.microphone import MicrophoneOptions, MicrophoneTransport
from .serving.local_audio.sound_card import check_devices
from .serving.local_audio.wav import FastPace, RealTimePace, WavTransport, check_wavs
from .serving.playback import ReplyFiles
from .serving.terminal.json_lines import JsonLines, claimed_stdout
from .serving.terminal.keys import why_no_keys
from .serving.terminal.live import LiveTerminal, render_svg
from .serving.terminal.plain import PlainLines
from .serving.terminal.transcript import TranscribedView, Transcript
from .serving.terminal.typed import TypedTransport, check_texts
from .streaming.echo_canceller import check_installed
from .streaming.echo_guard import EchoSettings
from .streaming.espeak_frames import EspeakVoice

if TYPE_CHECKING:
    from .agent.runtime import Runtime
    from .agent.session import Session
    from .models.named import Pair
    from .streaming.voices import Voice


PLAIN_WPM = 165
"""The words per minute that other voices than espeak-ng's are taken to speak as they are."""


@dataclass(frozen=True, slots=True)
class Talk:
    """What to say to the agent: sound files or texts, one of them empty, or what the microphone hears; `fast` on
    audio time instead of real time; `svg` where to draw the view at the end."""

    wavs: tuple[Path, ...] = ()
    texts: tuple[str, ...] = ()
    fast: bool = False
    svg: Path | None = None
    microphone: bool = False


def talk(what: Talk, settings: Settings) -> None:
    """Lead the conversation to its end. Raises TextProError with one clear line; inputs are checked before
    the model is loaded."""
    check_wavs(what.wavs)
    check_texts(what.texts)
    if what.microphone:
        _check_microphone(settings)
    if settings.output.replies is not None:
        ReplyFiles(settings.output.replies)
    with contextlib.ExitStack() as ends:
        told: list[str] = []  # nobody can be shown anything before the view is up
        tell = told.append
        transcript = None
        if settings.output.transcript is not None:
            transcript = ends.enter_context(Transcript(settings.output.transcript, lambda text: tell(text)))
        view = ends.enter_context(_view(settings))
        tell = view.notice
        if (hint := _hint(what, settings.model, view)) is not None:
            view.notice(hint)
        shown = view if transcript is None else TranscribedView(view, transcript)
        asyncio.run(_converse(what, settings, shown))
        if what.svg is not None and isinstance(view, LiveTerminal | PlainLines):
            render_svg(view.state, what.svg)


async def _converse(what: Talk, settings: Settings, view: View) -> None:
    async with (
        open_runtime(settings) as runtime,
        _recorded(open_session(runtime, settings, what.microphone), settings, view) as session,
        Conversation(session, view, settings.output.replies) as conversation,
    ):
        if what.microphone:
            loudspeaker = Loudspeaker(session.played, keep=settings.output.replies is not None)
            conversation.player = loudspeaker
            with calm_collector():
                await MicrophoneTransport(conversation, loudspeaker, _microphone(settings)).run()
        elif what.texts:
            await TypedTransport(conversation).run(what.texts)
        else:
            pace = FastPace(conversation) if what.fast else RealTimePace()
            await WavTransport(conversation, pace).run(what.wavs)


def list_devices(as_json: bool) -> None:
    """Print the audio devices: a table, or one JSON object per line. DeviceError if there is none."""
    devices = audio_devices()
    if as_json:
        for device in devices:
            typer.echo(json.dumps(device.to_dict(), ensure_ascii=False))
    else:
        Console(highlight=False).print(devices_table(devices))


def _check_microphone(settings: Settings) -> None:
    """DeviceError or InputError for what would fail only once the model is there."""
    audio = settings.audio
    ways = (Way.INPUT, Way.OUTPUT) if settings.voice.enabled else (Way.INPUT,)
    check_devices(audio.input_device, audio.output_device, ways)
    if audio.echo == "cancel":
        check_installed()
    if audio.push_to_talk and (reason := why_no_keys()) is not None:
        raise InputError(f"--push-to-talk needs its key: {reason}; start it in a terminal, or without the option.")


def _microphone(settings: Settings) -> MicrophoneOptions:
    return MicrophoneOptions(**settings.audio.model_dump(exclude={"echo"}), speaks=settings.voice.enabled)


def open_runtime(settings: Settings) -> Runtime:
    """The runtime of these settings, to be entered. The first call brings torch, seconds after the view is
    up."""
    from transformers.utils import logging as transformers_logging

    from .agent.runtime import Runtime

    transformers_logging.disable_progress_bar()  # it would tear the view
    return Runtime(
        _model(settings.model),
        voice=_voice(settings.voice),
        speak=settings.voice.enabled,
        slots=settings.model.slots,
        max_sessions=settings.model.max_sessions,
        max_load=settings.model.max_load,
        threads=settings.model.threads,
        device=settings.model.device,
    )


def open_session(runtime: Runtime, settings: Settings, live: bool = False) -> Session:
    """A session of these settings, to be entered; it is told what has been played. `live`: sound that waits is lost time."""
    behind_ms = settings.listening.behind_ms if live else None
    echo = _echo(settings) if live else None
    return runtime.session(playback="acknowledged", behind_ms=behind_ms, echo=echo, **session_options(settings))


def _echo(settings: Settings) -> EchoSettings:
    """Our own voice in the microphone: with half duplex it is not heard, and without a voice there is none."""
    is_heard = settings.voice.enabled and not settings.audio.half_duplex
    return EchoSettings(settings.audio.echo if is_heard else "off")


def _recorded(session: Session, settings: Settings, view: View) -> Session:
    """The session, with a recording of it where that is asked for; people are told."""
    if settings.output.record is None:
        return session
    from .serving.recording import RecordedSession, Recording
    from .serving.recordings import delete_older

    if (days := settings.output.record_days) is not None and (old := delete_older(settings.output.record, days)):
        view.notice(f"{len(old)} recordings older than {days} days were deleted from {settings.output.record}")
    recording = Recording(settings.output.record, settings.model.name)
    view.notice(recording.notice)
    return RecordedSession(session, recording)


def session_options(settings: Settings) -> dict[str, Any]:
    """What every session of these settings has, whatever carries it."""
    listening = settings.listening
    return {
        "prosody": settings.prosody.enabled,
        "follow_tone": settings.voice.follow_tone,
        "turns": TurnSettings(**settings.turns.model_dump()),
        "listening": ListeningSettings(listening.policy, listening.final_pass, listening.language),
    }


def _hint(what: Talk, model: ModelSettings, view: View) -> str | None:
    """What the model says of itself at the start, where somebody is there to read it: at the microphone, or at a terminal
    whatever is played or typed; never between the events of --json, and not into a pipe or a log."""
    if isinstance(view, JsonLines) or model.encoder is not None or model.backbone is not None:
        return None
    return start_hint(model.name) if what.microphone or Console().is_terminal else None


def _model(model: ModelSettings) -> str | Pair:
    if model.encoder is None and model.backbone is None:
        return model.name
    if model.encoder is None or model.backbone is None:
        raise InputError("--encoder and --backbone go together: give a Whisper folder and a chat model's folder.")
    from .models.named import Pair

    return Pair(model.encoder, model.backbone)


def _voice(voice: VoiceSettings) -> Voice:
    match voice.engine:
        case "piper":
            if voice.file is None:
                raise InputError("voice.engine is piper, and voice.file is empty: give the .onnx file of a Piper voice.")
            from .streaming.piper import PiperVoice

            return PiperVoice(voice.file, voice.rate_wpm / PLAIN_WPM, voice.amplitude_percent / 100, voice.speaker)
        case "http":
            if voice.url is None:
                raise InputError("voice.engine is http, and voice.url is empty: give the base URL, as http://localhost:8880/v1.")
            from .streaming.http_voice import HttpVoice

            return HttpVoice(
                voice.url,
                voice.http_model,
                voice.http_voice,
                voice.api_key_variable,
                voice.rate_wpm / PLAIN_WPM,
                voice.amplitude_percent / 100,
                voice.timeout_s,
                language="en",
            )
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
    level = settings.output.log_level.upper()
    console = Console(highlight=False)
    chosen = settings.output.view
    if chosen == "auto":
        chosen = "live" if console.is_terminal and not console.is_dumb_terminal else "plain"
    match chosen:
        case "json":
            logging.basicConfig(stream=sys.stderr, level=level)
            with claimed_stdout() as stream:
                yield JsonLines(stream, _to_stderr)
        case "live":
            with LiveTerminal(console) as live:
                logging.basicConfig(stream=sys.stderr, level=level)  # through the view, which would be torn
                yield live
        case _:
            logging.basicConfig(stream=sys.stderr, level=level)
            with PlainLines(console) as plain:
                yield plain


def _to_stderr(text: str) -> None:
    typer.echo(text, err=True)
