"""A conversation by OpenAI's agents SDK for Python, run by a Python that has it:
`python agents_sdk.py ws://HOST/v1/realtime SPEECH`. SPEECH is raw 16-bit mono at 24 kHz; what happened is one line of JSON."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from pathlib import Path
from typing import Any

agents = importlib.import_module("agents")
realtime = importlib.import_module("agents.realtime")
STEP = 2 * 24_000 // 50
SETTINGS = {
    "model_name": "any",
    "output_modalities": ["audio"],
    "audio": {"input": {"transcription": {"model": "any"}, "turn_detection": {"type": "server_vad"}}},
}


async def main(url: str, speech: bytes) -> None:
    report: dict[str, Any] = {"calls": [], "errors": [], "audio_ms": 0.0, "interruptions": 0, "replies": 0}
    changed = asyncio.Event()

    @agents.function_tool
    async def set_light(room: str, state: str) -> str:
        """Turn the light in a room on or off."""
        report["calls"].append({"room": room, "state": state})
        return '{"ok": true}'

    async def follow(session: Any) -> None:
        async for event in session:
            match event.type:
                case "audio":
                    report["audio_ms"] += len(event.audio.data) / 48
                case "audio_interrupted":
                    report["interruptions"] += 1
                case "agent_end":
                    report["replies"] += 1
                case "error":
                    report["errors"].append(str(event.error))
                case "history_updated":
                    report["history"] = event.history
            changed.set()

    async def told(key: str, at_least: float) -> None:
        while report[key] < at_least:
            changed.clear()
            await changed.wait()

    async def speak(session: Any) -> None:
        for at in range(0, len(speech), STEP):
            await session.send_audio(speech[at : at + STEP])
            await asyncio.sleep(0.02)

    agent = realtime.RealtimeAgent(name="assistant", instructions="", tools=[set_light])
    runner = realtime.RealtimeRunner(agent, config={"model_settings": SETTINGS, "tracing_disabled": True})
    async with asyncio.timeout(300), await runner.run(model_config={"url": url, "api_key": "unused"}) as session:
        following = asyncio.create_task(follow(session))
        await session.send_message("turn on the light in the kitchen")
        await told("replies", 2)  # the call, then the words about its result
        await speak(session)
        await told("replies", 3)
        await session.send_message("what can you do")
        sound = report["audio_ms"]
        await told("audio_ms", sound + 1)
        await speak(session)
        await told("replies", 5)
        following.cancel()
    history = [item.model_dump() for item in report.pop("history")]
    report["history"] = [
        {"role": item["role"], "text": item["content"][0].get("transcript") or item["content"][0].get("text") or ""}
        for item in history
        if item["type"] == "message" and item["content"]
    ]
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]).read_bytes()))
