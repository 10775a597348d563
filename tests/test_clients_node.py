"""The Realtime server with the bundled model, used by OpenAI's two JavaScript packages in Node as their users do: the agents
SDK, and the plain client, which connects by TLS only. `tests/node` has their versions and the programs that are run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conversation import spoken
from mosquitto import certificates
from realtime_server import ServerThread, server_thread
from requirements import absent, require_module
from textpro.serving.server import RealtimeServer, ServerSettings, tls_context
from textpro.serving.server_access import Access
from textpro.streaming.resample import resample

NODE = Path(__file__).parent / "node"
KEY = "a-key-of-twenty-signs"


@pytest.fixture(scope="module")
def node() -> str:
    if (found := shutil.which("node")) is None:
        absent("needs the program 'node' (Debian package nodejs)")
    for package in ("@openai/agents-realtime", "openai"):
        if not (NODE / "node_modules" / package).is_dir():
            absent(f"needs the npm package '{package}': npm ci --prefix tests/node")
    return found


@pytest.fixture(scope="module")
def thread(node: str) -> Iterator[ServerThread]:
    require_module("espeakng_loader")
    with server_thread(model="tiny", threads=1) as thread:
        yield thread


@pytest.fixture(scope="module")
def server(thread: ServerThread) -> Iterator[RealtimeServer]:
    with thread.server(ServerSettings(port=0)) as server:
        yield server


def run(node: str, program: str, *words: str, **environment: str) -> dict[str, Any]:
    """What the program has printed; it has to end well."""
    command = [node, "--import", (NODE / "websocket.mjs").as_uri(), str(NODE / program), *words]
    ended = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    report: dict[str, Any] = json.loads(ended.stdout)
    return report


def talked(node: str, server: RealtimeServer, scenario: str, speech: Path | None = None) -> dict[str, Any]:
    """What `agents_realtime.mjs` tells of a scenario."""
    url = server.url.replace("http", "ws", 1) + "/realtime"
    return run(node, "agents_realtime.mjs", scenario, url, *([str(speech)] if speech else []))


def said(report: dict[str, Any]) -> list[tuple[str, str]]:
    """The messages of the SDK's own history: role, and text or transcript."""
    messages = [item for item in report["history"] if item["type"] == "message"]
    return [(item["role"], item["content"][0].get("text", item["content"][0].get("transcript"))) for item in messages]


@pytest.fixture(scope="module")
def question(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spoken sum, raw at 24 kHz."""
    file = tmp_path_factory.mktemp("speech") / "sum.pcm"
    sound = resample(spoken("what is two plus two"), 16_000, 24_000)
    file.write_bytes((sound * 32767).astype(np.dtype("<i2")).tobytes())
    return file


def test_the_agents_sdk_has_a_typed_turn_answered(node: str, server: RealtimeServer) -> None:
    report = talked(node, server, "typed")
    (asked, (role, answer)) = said(report)
    assert asked == ("user", "what is two plus two") and role == "assistant" and "four" in answer.lower()
    assert not report["errors"]


def test_the_agents_sdk_has_a_spoken_turn_found_and_answered_aloud(node: str, server: RealtimeServer, question: Path) -> None:
    report = talked(node, server, "spoken", question)
    (asked, (role, answer)) = said(report)
    assert asked[0] == "user" and "two plus two" in asked[1]
    assert role == "assistant" and "four" in answer.lower()
    assert 800 < report["audioMs"] < 4000 and not report["errors"]
    assert "input_audio_buffer.speech_stopped" in report["events"]


def test_the_agents_sdk_runs_its_tool_and_has_the_result_said(node: str, server: RealtimeServer) -> None:
    report = talked(node, server, "called")
    assert report["calls"] == [{"room": "kitchen", "state": "on"}]
    assert "kitchen" in said(report)[-1][1] and not report["errors"]


def test_the_agents_sdk_cuts_a_reply_where_the_user_spoke_over_it(node: str, server: RealtimeServer, question: Path) -> None:
    report = talked(node, server, "interrupted", question)
    whole = report["responses"][0]["output"][0]["content"][0]["transcript"]
    heard, answer = (text for role, text in said(report) if role == "assistant")
    assert report["interruptions"] == 1 and report["truncated"]["audio_end_ms"] > 300
    assert whole.startswith(heard) and 0 < len(heard) < len(whole)
    assert "four" in answer.lower() and not report["errors"]


def test_the_agents_sdk_cancels_a_reply_and_has_the_next_turn_answered(node: str, server: RealtimeServer) -> None:
    report = talked(node, server, "cancelled")
    cancelled, answered = report["responses"]
    assert (cancelled["status"], cancelled["status_details"]["reason"]) == ("cancelled", "client_cancelled")
    assert answered["status"] == "completed" and "four" in said(report)[-1][1].lower()
    assert not report["errors"]


def test_the_agents_sdk_is_told_which_of_its_events_was_refused_and_goes_on(node: str, server: RealtimeServer) -> None:
    report = talked(node, server, "refused")
    (refused,) = (error["error"] for error in report["errors"])
    assert refused["event_id"] == "mine" and "item_of_another" in refused["message"]
    assert "four" in said(report)[-1][1].lower()


@pytest.mark.parametrize("kind", ["ws", "native"])
def test_the_npm_client_has_a_typed_turn_answered_over_tls_with_a_key(
    node: str, thread: ServerThread, tmp_path: Path, kind: str
) -> None:
    certificates(tmp_path)
    tls = tls_context(str(tmp_path / "server.crt"), str(tmp_path / "server.key"))
    with thread.server(ServerSettings(port=0, tls=tls), Access([KEY])) as server:
        trust = {"NODE_EXTRA_CA_CERTS": str(tmp_path / "authority.crt"), "TEXTPRO_KEY": KEY}
        report = run(node, "openai_realtime.mjs", kind, server.url, **trust)
    assert report["url"].startswith("wss://") and report["status"] == "completed"
    assert "four" in report["text"].lower() and "error" not in report["events"]
