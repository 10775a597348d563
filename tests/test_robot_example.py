"""The robot example with the agent's command and a real broker: it drives by what is said to it, and a killed agent is gone."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import aiomqtt
import numpy as np
import pytest

from mosquitto import Mosquitto
from textpro.streaming.audio import int16_from_mono
from textpro.streaming.espeak_frames import EspeakVoice
from textpro.streaming.resample import resample
from textpro.streaming.voices import VoiceSource
from textpro.streaming.wav import write_wav

ROBOT = Path(__file__).parents[1] / "examples/robot_mqtt.py"
AGENT = "import typer; from textpro.mqtt_command import mqtt; typer.run(mqtt)"
LIMIT_S = 240


def spoken(text: str, file: Path) -> Path:
    """The text as a sound file."""

    async def speak() -> tuple[np.ndarray, int]:
        async with asyncio.timeout(LIMIT_S):
            source = VoiceSource(EspeakVoice())
            await source.start()
            voice = source.synthesizer(None)
            pcm = np.concatenate([chunk.pcm async for chunk in voice.synthesize(text)])
            await source.close()
            return pcm, voice.sample_rate

    pcm, rate = asyncio.run(speak())
    write_wav(file, int16_from_mono(resample(pcm.astype(np.float32) / 32768, rate)), 16_000)
    return file


@pytest.mark.usefixtures("espeak_library")
def test_the_robot_drives_by_typed_and_spoken_commands_and_a_killed_agent_is_said_to_be_gone(tmp_path: Path) -> None:
    turn = spoken("turn left", tmp_path / "turn.wav")
    with Mosquitto(tmp_path) as server:
        status: asyncio.Queue[bytes] = asyncio.Queue()

        async def watch() -> None:
            async with aiomqtt.Client("127.0.0.1", server.port) as client:
                await client.subscribe("textpro/status", 1)
                async for message in client.messages:
                    status.put_nowait(bytes(message.payload))

        async def scenario() -> str:
            watching = asyncio.create_task(watch())
            command = [sys.executable, "-c", AGENT, "--broker", f"mqtt://127.0.0.1:{server.port}"]
            agent = subprocess.Popen(command, env={**os.environ, "TEXTPRO_MODEL__THREADS": "1"})
            try:
                assert await status.get() == b"online"
                words = ["--text", "go forward three meters", str(turn), "--pace", "2"]
                robot = await asyncio.create_subprocess_exec(
                    sys.executable, str(ROBOT), "--port", str(server.port), *words, stdout=subprocess.PIPE
                )
                drawn, _ = await robot.communicate()
                assert robot.returncode == 0
            finally:
                agent.kill()
                agent.wait()
            assert await status.get() == b"offline"
            watching.cancel()
            return drawn.decode()

        drawn = asyncio.run(asyncio.wait_for(scenario(), LIMIT_S))
    assert "at 10,4 heading north" in drawn and drawn.count("\n|") >= 9
    assert "at 10,1 heading north" in drawn, drawn
    assert "you: turn left" in drawn and drawn.rstrip().splitlines()[-2] == "at 10,1 heading west", drawn
