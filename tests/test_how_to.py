"""docs/how-to.md: its commands have the options they are given, its snippets run, and what it links to is there."""

from __future__ import annotations

import asyncio
import http.server
import re
import shlex
import socket
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from browser import chromium, opened, recorded, sent, until
from conversation import spoken
from mosquitto import Mosquitto
from quiet_runtime import QuietRuntime
from realtime_server import server_thread
from textpro.agent.runtime import Runtime
from textpro.cli import app
from textpro.config import load_settings
from textpro.models.demo_tools import TOOLS
from textpro.serving.mqtt.bridge import Broker, MqttBridge
from textpro.serving.server import ServerSettings
from textpro.serving.server_access import Access

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "how-to.md").read_text(encoding="utf-8")
LIMIT_S = 200


FENCED = re.compile(r"^```(\w*)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [text for found, text in FENCED.findall(PAGE) if found == language]


def block_with(words: str) -> str:
    (found,) = (block for block in blocks("python") if words in block)
    return found


def names_of(words: str, name: str = "how_to") -> dict[str, Any]:
    """What the Python block with these words defines; a block for `__main__` stays."""
    defined: dict[str, Any] = {"__name__": name}
    exec(compile(block_with(words), "docs/how-to.md", "exec", dont_inherit=True), defined)
    return defined


def commands() -> list[list[str]]:
    """Every command line of the page: of its blocks, and those within the text that say more than a name."""
    lines = [line for block in blocks("") for line in block.splitlines() if line.strip()]
    inline = re.findall(r"`((?:textpro-agent|python|make|pip|apt) [^`]+)`", FENCED.sub("", PAGE))
    return [shlex.split(line, comments=True) for line in [*lines, *inline]]


def without_variables(words: list[str]) -> list[str]:
    return [word for word in words if not re.fullmatch(r"[A-Z_]+=\S*", word)]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_a_command_is_one_that_exists_with_options_that_it_takes(words: list[str]) -> None:
    program, *rest = without_variables(words)
    match program.rpartition("/")[2]:
        case "textpro-agent":
            told = CliRunner().invoke(app, [*rest, "--help"])
            assert told.exit_code == 0 and "Usage:" in told.output, told.output
        case "python" if rest[0] != "-m":
            text = (ROOT / rest[0]).read_text(encoding="utf-8")
            assert all(f'"{option}"' in text for option in rest if option.startswith("--")), rest
        case "make":
            text = (ROOT / "Makefile").read_text(encoding="utf-8")
            assert all(re.search(rf"^{target}:", text, re.MULTILINE) for target in rest)
        case other:
            assert other in ("python", "pip", "apt"), words


def test_every_settings_snippet_loads(tmp_path: Path) -> None:
    file = tmp_path / "textpro.toml"
    for block in blocks("toml"):
        file.write_text(block, encoding="utf-8")
        assert load_settings(file).origins
    for setting in re.findall(r"`(\w+\.\w+) = ", PAGE):
        group, _, name = setting.partition(".")
        assert name in type(getattr(load_settings().values, group)).model_fields


def test_every_link_leads_to_a_file() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", PAGE)
    named = re.findall(r"`((?:examples|tests|models|benchmarks)/[\w./]*)`", PAGE)
    assert len(links) > 5
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
    assert [file for file in named if not (ROOT / file).exists()] == []


def test_the_tool_is_called_and_its_reply_printed(capsys: pytest.CaptureFixture[str]) -> None:
    defined = names_of("async def set_light")
    assert defined["lights"] == {"kitchen": "on"} and "kitchen" in capsys.readouterr().out
    (trained,) = (tool for tool in TOOLS if tool.name == "set_light")
    assert defined["set_light"].name == trained.name


def test_the_device_on_the_broker_is_called(tmp_path: Path) -> None:
    device = names_of("aiomqtt.Client")["device"]
    with Mosquitto(tmp_path) as broker:

        async def scenario() -> dict[str, Any]:
            async with Runtime(threads=1, speak=False) as runtime:

                def open_session(hello: Any, tools: Any) -> Any:
                    return runtime.session(hello.instructions, tools, playback=hello.playback)

                where = Broker.from_url(f"mqtt://127.0.0.1:{broker.port}")
                serving = asyncio.create_task(MqttBridge(where, open_session).run())
                call: dict[str, Any] = await device("127.0.0.1", broker.port, "turn left")
                serving.cancel()
                await asyncio.wait((serving,))
                return call

        call = asyncio.run(asyncio.wait_for(scenario(), LIMIT_S))
    assert (call["name"], call["arguments"]) == ("robot_turn", {"direction": "left"})


def test_the_server_of_a_program_has_its_tools_and_ends(capsys: pytest.CaptureFixture[str]) -> None:
    serve = names_of("async def serve")["serve"]
    asyncio.run(asyncio.wait_for(serve(QuietRuntime(), 0), LIMIT_S))
    assert re.search(r"base URL of clients: http://127.0.0.1:\d+/v1", capsys.readouterr().out)


def test_the_voices_can_be_made() -> None:
    defined = names_of("PiperVoice(Path")
    assert (defined["calm"].name, defined["calm"].rate) == ("en-gb", 140)
    assert defined["piper"].model.suffix == ".onnx"


def test_the_way_to_the_gpu_is_one_of_the_packages() -> None:
    assert callable(names_of("on_the_second_gpu")["on_the_second_gpu"])


def test_the_page_of_your_own_connects_and_sends_what_the_microphone_hears(tmp_path: Path) -> None:
    (page,) = blocks("html")
    assert page.count("\n") <= 25
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    site = f"http://localhost:{port}"
    with server_thread() as thread, thread.server(ServerSettings(port=0), Access(origins=[site]), QuietRuntime()) as server:
        here = server.url.removesuffix("/v1")
        (tmp_path / "index.html").write_text(page.replace("http://127.0.0.1:8765", here), encoding="utf-8")
        handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
        with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as files:
            threading.Thread(target=files.serve_forever, daemon=True).start()
            microphone = recorded(tmp_path / "microphone.wav", spoken("what is two plus two"))
            with chromium(microphone) as browser, opened(browser, site) as window:
                window.click("#talk")
                until(window, "seen.sent.filter((event) => event.type === 'input_audio_buffer.append').length > 5")
                (configured, *_) = sent(window, "session.update")
            files.shutdown()
    assert configured["session"]["instructions"] == "Answer in one sentence."
