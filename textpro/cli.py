"""The command `textpro-agent`. Only what reads the arguments is imported here; each command imports what it
needs, so that `--help` is quick. A TextProError is one line on stderr and exit code 2, Ctrl-C is 130, a
closed pipe is 141."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .bench_commands import bench_noise, bench_streaming
from .doctor import doctor
from .exits import clean_exit
from .forget_command import forget
from .load_command import load
from .model_commands import models
from .models.errors import InputError
from .mqtt_command import mqtt
from .recordings_command import recordings
from .serve_command import serve
from .simulate_command import simulate
from .train_commands import train
from .turns_commands import bench_turns, calibrate
from .verify_command import verify

WAV_OPTION = "--wav"

EPILOG = """\
[bold]Examples[/bold]

textpro-agent --wav question.wav  [dim]# heard and answered at real-time pace[/dim]

textpro-agent --wav one.wav two.wav --out replies  [dim]# two turns, two spoken replies[/dim]

textpro-agent --wav one.wav --fast --json  [dim]# events for a program, no waiting[/dim]

textpro-agent --text "what is two plus two"  [dim]# typed[/dim]

textpro-agent --mic  [dim]# spoken; --aec or headphones for loud rooms[/dim]
"""

MICROPHONE = "Microphone"


class Prosody(StrEnum):
    """Whether the tone of voice is used."""

    ON = "on"
    OFF = "off"


class LogLevel(StrEnum):
    """What is logged to stderr."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class AgentGroup(TyperGroup):
    """A group whose `--wav` takes any number of files: `--wav A B` is read as `--wav A --wav B`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the option before each file, then parse as usual."""
        flags = {name for option in self.get_params(ctx) if getattr(option, "is_flag", False) for name in option.opts}
        return super().parse_args(ctx, with_repeated_wav(args, flags | set(ctx.help_option_names)))


def with_repeated_wav(args: list[str], flags: set[str]) -> list[str]:
    """Behind the first `--wav`, whatever is neither an option nor the value of one is a file and gets a
    `--wav` of its own. `flags` are the options without a value."""
    repeated: list[str] = []
    behind_wav = expects_value = False
    for arg in args:
        if expects_value:
            expects_value = False
        elif arg.startswith("-"):
            name, equals, _ = arg.partition("=")
            behind_wav = behind_wav or name == WAV_OPTION
            expects_value = not equals and arg not in flags
        elif behind_wav:
            repeated.append(WAV_OPTION)
        repeated.append(arg)
    return repeated


app = typer.Typer(
    cls=AgentGroup,
    name="textpro-agent",
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(train, name="train")
app.add_typer(models, name="models")
app.command("doctor")(doctor)
app.command("verify")(verify)
app.command("serve")(serve)
app.command("simulate")(simulate)
app.command("mqtt")(mqtt)
app.command("recordings")(recordings)
app.command("forget")(forget)
app.command("load")(load)
bench = typer.Typer(
    help="Measure streaming and turn-taking.", no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]}
)
bench.command("streaming")(bench_streaming)
bench.command("noise")(bench_noise)
bench.command("turns")(bench_turns)
app.add_typer(bench, name="bench")
app.add_typer(calibrate, name="calibrate")

ConfigFile = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Settings file instead of ./textpro.toml.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"textpro-agent {version('textpro-agent')}")
        raise typer.Exit


@app.callback(invoke_without_command=True, epilog=EPILOG)
def agent(
    ctx: typer.Context,
    wav: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE [FILE ...]",
            help="Sound files, the turns of one conversation, in order; any rate and channels.",
        ),
    ] = None,
    text: Annotated[list[str] | None, typer.Option(metavar="WORDS", help="A typed turn; repeat it for the next ones.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Write the spoken replies: a .wav file (later replies get _2, _3, ...) or a folder (reply_1.wav, ...).",
        ),
    ] = None,
    mic: Annotated[
        bool,
        typer.Option(
            "--mic",
            help="Talk through microphone and loudspeaker until q or Ctrl-C; m mutes. With open loudspeakers the agent tells its "
            "own voice from yours; where that fails, wear headphones, or add --aec or --half-duplex.",
            rich_help_panel=MICROPHONE,
        ),
    ] = False,
    list_devices: Annotated[
        bool, typer.Option("--list-devices", help="Print the audio devices and end.", rich_help_panel=MICROPHONE)
    ] = False,
    input_device: Annotated[
        str | None,
        typer.Option(metavar="INDEX|NAME", help="The microphone; part of the name is enough.", rich_help_panel=MICROPHONE),
    ] = None,
    output_device: Annotated[
        str | None,
        typer.Option(metavar="INDEX|NAME", help="The loudspeaker; part of the name is enough.", rich_help_panel=MICROPHONE),
    ] = None,
    half_duplex: Annotated[
        bool,
        typer.Option(
            "--half-duplex",
            help="Deaf while the agent speaks, for open loudspeakers: the agent does not hear itself, and cannot be interrupted.",
            rich_help_panel=MICROPHONE,
        ),
    ] = False,
    aec: Annotated[
        bool,
        typer.Option(
            "--aec", help="Take the agent's voice out of what the microphone hears (extra aec).", rich_help_panel=MICROPHONE
        ),
    ] = False,
    push_to_talk: Annotated[
        bool,
        typer.Option(
            "--push-to-talk",
            help="Heard only while talking is switched on: space begins (and cuts a reply off), the next space ends the turn. "
            "Press, do not hold: terminals do not tell when a key is let go.",
            rich_help_panel=MICROPHONE,
        ),
    ] = False,
    fast: Annotated[bool, typer.Option("--fast", help="As fast as the machine can instead of real time; same results.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One event per line of JSON on stdout, nothing else.")] = False,
    plain: Annotated[
        bool,
        typer.Option("--plain", help="Whole lines in plain words, nothing that moves: for screen readers and logs."),
    ] = False,
    transcript: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the conversation down, as .md or .json: said, sounded like, answered, heard."),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write the session down so that `simulate --replay` can lead it again; readable by you alone."
        ),
    ] = None,
    record_days: Annotated[
        int | None,
        typer.Option(min=1, metavar="DAYS", help="With --record: delete recordings in that folder that are older than this."),
    ] = None,
    prosody: Annotated[Prosody | None, typer.Option(help="Use how the user sounds, or keep it out of model and events.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="PRESET|FOLDER",
            help="tiny (bundled), another preset (command models), a checkpoint folder; for speed alone padded:135m, random:7b.",
        ),
    ] = None,
    encoder: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Any Whisper, with --backbone; without prosody.")] = None,
    backbone: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Any chat model of the ChatML kind, with --encoder.")
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(metavar="CODE", help="What the user speaks, for a recognizer of many languages; otherwise found once."),
    ] = None,
    voice: Annotated[
        str | None,
        typer.Option(metavar="ACCENT[+SPEAKER]|off", help="Voice of the replies, as en-gb or en-us+f2; off: text only."),
    ] = None,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the view as it is at the end into an SVG file.")] = None,
    config: ConfigFile = None,
    log_level: Annotated[LogLevel | None, typer.Option(help="What to log to stderr.")] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A voice agent that hears words [italic]and[/italic] tone, and answers aloud.

    Talk to it, play sound files to it or type; without a command one of --mic, --wav and --text is needed.
    """
    options = {"--wav": wav, "--text": text, "--mic": mic, "--list-devices": list_devices}
    if ctx.invoked_subcommand is not None:
        if given := [name for name, value in options.items() if value]:
            raise typer.BadParameter(f"{given[0]} does not go with the command {ctx.invoked_subcommand}.")
        return
    given = [name for name, value in options.items() if value]
    if not given:
        typer.echo(ctx.get_help())
        raise typer.Exit
    if len(given) > 1:
        raise typer.BadParameter(f"give {' or '.join(given)}, not both.")
    if mistaken := [path for path in wav or () if str(path).startswith("-") and not path.exists()]:
        raise typer.BadParameter(f"--wav needs a sound file, and {mistaken[0]} is none.")
    if fast and not wav:
        raise typer.BadParameter("--fast is about the pace of --wav; nothing else has one that can be changed.")
    audio = _audio(input_device, output_device, half_duplex, push_to_talk, aec)
    if audio and not mic:
        raise typer.BadParameter("--input-device, --output-device, --half-duplex, --aec and --push-to-talk belong to --mic.")
    if plain and json:
        raise typer.BadParameter("--plain and --json are two ways to print; give one.")
    if svg is not None and json:
        raise typer.BadParameter("--svg draws the terminal view, and --json has none.")
    with clean_exit():
        given_settings = _overrides(out, json, plain, transcript, prosody, model, encoder, backbone, voice, log_level)
        kept = {name: value for name, value in {"record": record, "record_days": record_days}.items() if value is not None}
        given_settings["output"] = {**given_settings.get("output", {}), **kept}
        listening: dict[str, object] = {} if language is None else {"language": language}
        settings = _load(config, {**given_settings, "audio": audio, "listening": listening})
        from . import talk

        if list_devices:
            talk.list_devices(json)
        else:
            talk.talk(talk.Talk(tuple(wav or ()), tuple(text or ()), fast, svg, mic), settings.values)


@app.command("eval")
def evaluate(
    model: Annotated[str, typer.Option(metavar="tiny|FOLDER", help="The model to measure.")] = "tiny",
    full: Annotated[bool, typer.Option("--full", help="Many more samples, for figures that are written down.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Which samples are drawn.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Measure a model: answers to typed and spoken turns on two held-out sets, word error rates, tones.

    About three minutes on two cores; --full takes much longer. Progress goes to stderr.
    """
    with clean_exit():
        from .evaluation.evaluate import FULL, QUICK, run

        raise typer.Exit(run(model, (FULL if full else QUICK).name, seed, json))


@app.command("config")
def show_config(config: ConfigFile = None) -> None:
    """Print the effective settings and where each came from.

    Later ones win: defaults, textpro.toml (or --config), the environment (TEXTPRO_VOICE__RATE_WPM=180), the
    command line.
    """
    with clean_exit():
        loaded = _load(config, {})
        from rich.console import Console
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("setting", "value", "from", "meaning"):
            table.add_column(column, overflow="fold")
        for setting in loaded.listed():
            value = "" if setting.value is None else str(setting.value)
            table.add_row(setting.name, value, setting.origin, setting.description)
        Console(highlight=False).print(table)


def main() -> None:
    """The entry point of the command."""
    app()


def _load(config: Path | None, overrides: dict[str, dict[str, object]]) -> Any:
    from .config import load_settings

    return load_settings(config, overrides)


def _audio(
    input_device: str | None, output_device: str | None, half_duplex: bool, push_to_talk: bool, aec: bool
) -> dict[str, object]:
    """The settings of --mic that the command line gives."""
    given = {
        "input_device": input_device,
        "output_device": output_device,
        "half_duplex": half_duplex or None,
        "push_to_talk": push_to_talk or None,
        "echo": "cancel" if aec else None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _overrides(
    out: Path | None,
    json: bool,
    plain: bool,
    transcript: Path | None,
    prosody: Prosody | None,
    model: str | None,
    encoder: Path | None,
    backbone: Path | None,
    voice: str | None,
    log_level: LogLevel | None,
) -> dict[str, dict[str, object]]:
    """The settings that the command line gives, by group."""
    output: dict[str, object] = {}
    given: dict[str, dict[str, object]] = {"output": output}
    if out is not None:
        output["replies"] = out
    if json or plain:
        output["view"] = "json" if json else "plain"
    if transcript is not None:
        output["transcript"] = transcript
    if log_level is not None:
        output["log_level"] = log_level.value
    if prosody is not None:
        given["prosody"] = {"enabled": prosody is Prosody.ON}
    parts: dict[str, object | None] = {"name": model, "encoder": encoder, "backbone": backbone}
    if chosen := {name: value for name, value in parts.items() if value is not None}:
        given["model"] = chosen
    if voice == "off":
        given["voice"] = {"enabled": False}
    elif voice is not None:
        name, plus, variant = voice.partition("+")
        if not name or (plus and not variant):
            raise InputError(f"--voice {voice}: expected an accent and maybe a speaker, as en-us or en-us+f2.")
        given["voice"] = {"enabled": True, "name": name, "variant": variant or None}
    return given
