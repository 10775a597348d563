"""`textpro-agent mqtt`: the agent as a service for the devices on an MQTT broker, with the settings in effect."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .exits import clean_exit

if TYPE_CHECKING:
    from .agent.session import Session
    from .agent.tools import Tool
    from .config import Settings
    from .serving.mqtt.bridge import Broker, MqttSettings
    from .serving.mqtt.topics import Hello

PASSWORD_VARIABLE = "TEXTPRO_MQTT_PASSWORD"
PATIENCE_S = 2.0
"""Until it is said that there is no broker yet."""


def mqtt(
    broker: Annotated[
        str,
        typer.Option(metavar="URL", help="mqtt://host, or mqtts://user@host:8883 for an encrypted connection."),
    ],
    prefix: Annotated[str, typer.Option(metavar="TOPIC", help="What all topics begin with.")] = "textpro",
    password_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=f"Holds the password; without it the variable {PASSWORD_VARIABLE}."),
    ] = None,
    ca: Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate to trust, instead of the system's.")] = None,
    cert: Annotated[Path | None, typer.Option(metavar="FILE", help="Our certificate, where the broker asks for one.")] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="The key of our certificate.")] = None,
    keep_s: Annotated[float, typer.Option(min=0, help="Seconds that a device which is away keeps its conversation.")] = 60.0,
    idle_s: Annotated[float, typer.Option(min=1, help="Seconds without a word after which a conversation is over.")] = 600.0,
    model: Annotated[str | None, typer.Option(metavar="PRESET|FOLDER", help="The model, as without the command.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Settings file instead of ./textpro.toml.")
    ] = None,
) -> None:
    """Serve devices over MQTT: sound in and out, typed turns, events, tools that the devices bring (docs/mqtt.md).

    Ends with Ctrl-C or SIGTERM, after the devices were told.
    """
    with clean_exit():
        from .config import load_settings
        from .serving.mqtt.bridge import Broker, MqttSettings
        from .serving.mqtt.topics import Topics

        settings = load_settings(config, {} if model is None else {"model": {"name": model}}).values
        where = Broker.from_url(broker, _password(password_file), ca=ca, certificate=cert, key=key)
        logging.basicConfig(stream=sys.stderr, level=settings.output.log_level.upper())
        asyncio.run(_serve(where, MqttSettings(Topics(prefix), keep_s, idle_s), settings))


async def _serve(where: Broker, how: MqttSettings, settings: Settings) -> None:
    from .serving.collector import calm_collector
    from .serving.mqtt.bridge import MqttBridge
    from .serving.signals import stop_on_signals
    from .talk import open_runtime

    async with open_runtime(settings) as runtime:

        def open_session(hello: Hello, tools: Sequence[Tool]) -> Session:
            return runtime.session(hello.instructions, tools, playback=hello.playback, **_session_settings(settings))

        bridge = MqttBridge(where, open_session, how)
        serving = asyncio.create_task(bridge.run())

        def stop() -> None:
            serving.cancel()

        with stop_on_signals(stop), calm_collector():
            connected = asyncio.create_task(bridge.connected.wait())
            await asyncio.wait((serving, connected), timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
            if not connected.done() and not serving.done():
                looked = f"no broker at {where.host}:{where.port} yet, it is looked for again and again; Ctrl-C ends"
                typer.echo(f"{looked}. A broker of your own: mosquitto", err=True)
            await asyncio.wait((serving, connected), return_when=asyncio.FIRST_COMPLETED)
            connected.cancel()
            if not serving.done():
                typer.echo(f"serving {how.topics.prefix}/+ on {where.host}:{where.port}; Ctrl-C ends", err=True)
            await asyncio.wait((serving,))
        if not serving.cancelled():
            serving.result()


def _session_settings(settings: Settings) -> dict[str, Any]:
    from .talk import session_options

    return {**session_options(settings), "behind_ms": settings.listening.behind_ms}


def _password(file: Path | None) -> str | None:
    """InputError if the file cannot be read."""
    from .models.errors import InputError

    if file is None:
        return os.environ.get(PASSWORD_VARIABLE)
    try:
        return file.read_text(encoding="utf-8").rstrip("\n")
    except OSError as error:
        raise InputError(f"{file}: the password cannot be read ({error.strerror}); give a file with it.") from None
