"""The Realtime server with the bundled model, used by three frameworks for voice agents as their users do: LiveKit Agents with
its OpenAI plugin, Pipecat, and OpenAI's agents SDK. They stay out of this environment, the first two are big: a variable names
the Python of another one, with `pip install livekit-plugins-openai` (tried: 1.8.9), `pip install "pipecat-ai[openai]"` (1.14.0)
or `pip install openai-agents` (0.24.0)."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conversation import spoken
from realtime_server import server_thread
from textpro.serving.server import RealtimeServer, ServerSettings
from textpro.streaming.resample import resample

CLIENTS = Path(__file__).parent / "clients"
LIVEKIT, PIPECAT, AGENTS = "TEXTPRO_LIVEKIT_PYTHON", "TEXTPRO_PIPECAT_PYTHON", "TEXTPRO_AGENTS_PYTHON"


@pytest.fixture(scope="module")
def server() -> Iterator[RealtimeServer]:
    with server_thread(model="tiny", threads=1) as thread, thread.server(ServerSettings(port=0)) as server:
        yield server


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """A spoken sum, raw at 24 kHz."""
    file = tmp_path / "sum.pcm"
    sound = resample(spoken("what is two plus two"), 16_000, 24_000)
    file.write_bytes((sound * 32767).astype(np.dtype("<i2")).tobytes())
    return file


def needs(framework: str, variable: str) -> pytest.MarkDecorator:
    reason = f"needs {framework}: set {variable} to the Python of an environment that has it"
    return pytest.mark.skipif(variable not in os.environ, reason=reason)


def run(variable: str, program: str, *words: str) -> dict[str, Any]:
    """What the program has printed last."""
    ended = subprocess.run([os.environ[variable], str(CLIENTS / program), *words], capture_output=True, text=True, timeout=320)
    assert ended.returncode == 0, ended.stderr
    report: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    assert report["errors"] == [] and report["calls"] == [{"room": "kitchen", "state": "on"}]
    return report


def said(report: dict[str, Any], role: str) -> list[str]:
    return [message["text"].lower() for message in report["history"] if message["role"] == role]


@needs("LiveKit", LIVEKIT)
def test_livekit_types_speaks_calls_a_tool_and_interrupts(server: RealtimeServer, speech: Path) -> None:
    report = run(LIVEKIT, "livekit_agent.py", server.url, str(speech))
    typed, called, spoken_to, cut, answered = said(report, "assistant")
    assert all("four" in answer for answer in (typed, spoken_to, answered)) and "kitchen" in called and cut
    assert [message["interrupted"] for message in report["history"] if message["text"].lower() == cut] == [True]
    assert said(report, "user")[2] == "what is two plus two"


@needs("Pipecat", PIPECAT)
def test_pipecat_speaks_calls_a_tool_and_interrupts(server: RealtimeServer, speech: Path) -> None:
    report = run(PIPECAT, "pipecat_bot.py", server.url.replace("http", "ws", 1) + "/realtime", str(speech))
    called, *sums = said(report, "assistant")
    assert "kitchen" in called and len(sums) == 2 and all("four" in answer for answer in sums)
    assert said(report, "user")[1:] == ["what is two plus two"] * 2
    assert report["interruptions"] == 2 and report["audio_ms"] > 2_000


@needs("OpenAI's agents SDK", AGENTS)
def test_the_agents_sdk_speaks_calls_a_tool_and_interrupts(server: RealtimeServer, speech: Path) -> None:
    report = run(AGENTS, "agents_sdk.py", server.url.replace("http", "ws", 1) + "/realtime", str(speech))
    called, spoken_to, cut, answered = said(report, "assistant")
    assert called and all("four" in answer for answer in (spoken_to, answered))
    assert report["interruptions"] >= 1 and len(cut.split()) < 10 and report["audio_ms"] > 2_000
    assert said(report, "user")[1] == "what is two plus two"
