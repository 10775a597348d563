"""`textpro-agent serve`: the agent for other programs, by the OpenAI Realtime protocol over websockets (docs/server.md)."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .exits import clean_exit
from .models.errors import InputError

if TYPE_CHECKING:
    from .config import Settings
    from .serving.server import ServerSettings
    from .serving.server_access import Access

DEFAULT_PORT = 8765
KEYS_VARIABLE = "TEXTPRO_KEYS"
TWILIO_TOKEN_VARIABLE = "TWILIO_AUTH_TOKEN"
ACCESS, LIMITS, MODEL = "Who may connect", "Limits", "Model"


def serve(
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where to listen; others than this machine need keys.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Which port; 0 takes a free one.")] = DEFAULT_PORT,
    keys: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=f"Keys that clients have to send, one in each line; or the variable {KEYS_VARIABLE}, separated by commas.",
            rich_help_panel=ACCESS,
        ),
    ] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL", help="A site whose pages may connect, as https://app.example; repeatable.", rich_help_panel=ACCESS
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Certificate chain (PEM): serve wss and https.", rich_help_panel=ACCESS)
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its key (PEM), if it is not in the same file.", rich_help_panel=ACCESS)
    ] = None,
    max_sessions: Annotated[
        int, typer.Option(min=1, max=1024, help="Connections at once; further ones are refused.", rich_help_panel=LIMITS)
    ] = 4,
    sessions_per_key: Annotated[
        int, typer.Option(min=0, help="Connections of one key at once; 0 for no limit.", rich_help_panel=LIMITS)
    ] = 0,
    responses_per_minute: Annotated[
        int, typer.Option(min=0, help="Responses that one key may ask for in a minute; 0 for no limit.", rich_help_panel=LIMITS)
    ] = 0,
    session_minutes: Annotated[
        float, typer.Option(min=0.1, help="How long one connection may last.", rich_help_panel=LIMITS)
    ] = 60.0,
    idle_minutes: Annotated[
        float, typer.Option(min=0.1, help="How long a client may say nothing.", rich_help_panel=LIMITS)
    ] = 15.0,
    drain_seconds: Annotated[
        float, typer.Option(min=0, help="How long running turns may take after SIGTERM.", rich_help_panel=LIMITS)
    ] = 30.0,
    resume_seconds: Annotated[
        float,
        typer.Option(
            min=0,
            max=3600,
            help="How long the session of a lost connection waits for its client; 0: not.",
            rich_help_panel=LIMITS,
        ),
    ] = 60.0,
    state: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Keep logs of sessions that clients want to resume there, so that a restart ends none; see `forget`.",
            rich_help_panel=LIMITS,
        ),
    ] = None,
    retention_days: Annotated[
        float, typer.Option(min=0.001, max=3650, help="How long after its last word a log stays.", rich_help_panel=LIMITS)
    ] = 1.0,
    twilio_url: Annotated[
        str | None,
        typer.Option(
            metavar="wss://HOST/twilio",
            help=f"Where the TwiML sends telephone calls, if a proxy changes it. They are taken at /twilio once "
            f"{TWILIO_TOKEN_VARIABLE} holds the account's token.",
            rich_help_panel=ACCESS,
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="PRESET|FOLDER", help="As for the agent itself.", rich_help_panel=MODEL)
    ] = None,
    voice: Annotated[str | None, typer.Option(metavar="on|off", help="off: replies are text.", rich_help_panel=MODEL)] = None,
    prosody: Annotated[
        str | None, typer.Option(metavar="on|off", help="off: how users sound is not used, sent or kept.", rich_help_panel=MODEL)
    ] = None,
    demo_tools: Annotated[
        bool,
        typer.Option("--demo-tools", help="Give the model the demo tools, whose results are made up.", rich_help_panel=MODEL),
    ] = False,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings file instead of ./textpro.toml.", rich_help_panel=MODEL)
    ] = None,
    log_level: Annotated[
        str, typer.Option(metavar="LEVEL", help="debug, info, warning or error; never words or sound.")
    ] = "info",
) -> None:
    """Serve the agent to programs that speak the OpenAI Realtime protocol.

    Clients take http://127.0.0.1:8765/v1 as their base URL; any model name will do. Without keys only this machine may
    connect. /healthz, /readyz and /metrics say how it is; SIGTERM lets running turns finish first.
    """
    with clean_exit():
        if log_level not in ("debug", "info", "warning", "error"):
            raise InputError(f"--log-level {log_level}: expected debug, info, warning or error.")
        logging.basicConfig(stream=sys.stderr, level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        given: dict[str, dict[str, object]] = {"model": {"slots": max_sessions + 1}}
        if model is not None:
            given["model"]["name"] = model
        if voice is not None:
            given["voice"] = {"enabled": _switch("--voice", voice)}
        if prosody is not None:
            given["prosody"] = {"enabled": _switch("--prosody", prosody)}
        from .config import load_settings

        settings = load_settings(config, given).values

        from .serving.realtime.connection import Limits
        from .serving.resume import ResumeSettings
        from .serving.server import ServerSettings, tls_context
        from .serving.server_access import Access, check_binding
        from .serving.session_store import private_file

        access = Access(
            read_all_keys(keys),
            origins=origin or (),
            sessions_per_key=sessions_per_key,
            responses_per_minute=responses_per_minute,
        )
        check_binding(host, access.has_keys)
        if tls_key is not None and tls_cert is None:
            raise InputError("--tls-key needs --tls-cert: give the certificate too.")
        if state is not None:
            private_file(state)
        server = ServerSettings(
            host=host,
            port=port,
            model=settings.model.name,
            speaks=settings.voice.enabled,
            max_sessions=max_sessions,
            drain_s=drain_seconds,
            limits=Limits(session_s=session_minutes * 60, idle_s=idle_minutes * 60),
            resume=ResumeSettings(keep_s=resume_seconds, state=state, retention_s=retention_days * 86_400),
            tls=tls_context(str(tls_cert), None if tls_key is None else str(tls_key)) if tls_cert is not None else None,
        )
        asyncio.run(run_server(settings, server, access, demo_tools=demo_tools, twilio_url=twilio_url))


def read_all_keys(file: Path | None) -> list[str]:
    """The keys of the file and of the environment. InputError where one cannot be used."""
    from .serving.server_access import read_keys

    keys = [key.strip() for key in os.environ.get(KEYS_VARIABLE, "").split(",") if key.strip()]
    return [*keys, *(read_keys(file) if file is not None else ())]


async def run_server(
    settings: Settings, server: ServerSettings, access: Access, *, demo_tools: bool, twilio_url: str | None = None
) -> None:
    """Load the model and serve until SIGTERM or SIGINT, then drain; a second signal ends it at once."""
    from dataclasses import replace

    from .agent.tools import Toolbox
    from .agent.turns import TurnSettings
    from .serving.realtime.session import SessionDefaults
    from .serving.server import open_server
    from .serving.telephone.twilio import TwilioSettings
    from .talk import open_runtime, session_options

    twilio = None
    if token := os.environ.get(TWILIO_TOKEN_VARIABLE):
        options = {**session_options(settings), "behind_ms": settings.listening.behind_ms}
        tools_of_calls = None if demo_tools else ()
        twilio = TwilioSettings(
            auth_token=token,
            public_url=twilio_url,
            open_session=lambda runtime, call: runtime.session(tools=tools_of_calls, playback="acknowledged", **options),
        )
    toolbox = Toolbox(None if demo_tools else ())
    defaults = SessionDefaults(
        tools=[toolbox.get(name) for name in toolbox.names],
        turns=TurnSettings(**settings.turns.model_dump()),
        prosody=settings.prosody.enabled,
        follow_tone=settings.voice.follow_tone,
        behind_ms=settings.listening.behind_ms,
    )
    stop, stop_now = asyncio.Event(), asyncio.Event()

    def signalled() -> None:
        (stop_now if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    async with (
        open_runtime(settings) as runtime,
        open_server(runtime, replace(server, defaults=defaults, twilio=twilio), access) as opened,
    ):
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, signalled)
        typer.echo(f"serving {settings.model.name} at {opened.url} (base URL of clients); Ctrl-C ends it", err=True)
        await stop.wait()
        typer.echo("no new clients; running turns finish, press Ctrl-C again to end at once", err=True)
        draining, at_once = asyncio.create_task(opened.drain()), asyncio.create_task(stop_now.wait())
        await asyncio.wait([draining, at_once], return_when=asyncio.FIRST_COMPLETED)
        draining.cancel()
        at_once.cancel()


def _switch(option: str, value: str) -> bool:
    if value not in ("on", "off"):
        raise InputError(f"{option} {value}: expected on or off.")
    return value == "on"
