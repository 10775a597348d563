"""A conversation by LiveKit's agent framework with its OpenAI Realtime plugin, run by a Python that has them:
`python livekit_agent.py http://HOST/v1 SPEECH`. SPEECH is raw 16-bit mono at 24 kHz; what happened is one line of JSON."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

aiohttp = importlib.import_module("aiohttp")
agents = importlib.import_module("livekit.agents")
rtc = importlib.import_module("livekit.rtc")
openai = importlib.import_module("livekit.plugins.openai")
RATE = 24_000
STEP = RATE // 50


class Microphone(agents.io.AudioInput):
    """Speaks what it is given in real time, and is silent otherwise."""

    def __init__(self) -> None:
        super().__init__(label="microphone")
        self.sound = b""

    async def __anext__(self) -> Any:
        await asyncio.sleep(0.02)
        piece, self.sound = self.sound[: 2 * STEP].ljust(2 * STEP, b"\0"), self.sound[2 * STEP :]
        return rtc.AudioFrame(piece, RATE, 1, STEP)


class Loudspeaker(agents.io.AudioOutput):
    """Plays in real time without a sound."""

    def __init__(self) -> None:
        super().__init__(label="loudspeaker", capabilities=agents.io.AudioOutputCapabilities(pause=False), sample_rate=RATE)
        self.queued_s = self.played_s = 0.0
        self.playing: asyncio.Task[None] | None = None

    async def capture_frame(self, frame: Any) -> None:
        await super().capture_frame(frame)
        self.queued_s += frame.duration
        if self.playing is None:
            self.playing = asyncio.create_task(self.play())
            self.on_playback_started(created_at=time.time())

    async def play(self) -> None:
        while True:
            await asyncio.sleep(0.02)
            self.played_s = min(self.queued_s, self.played_s + 0.02)

    def flush(self) -> None:
        super().flush()
        if self.playing is not None:
            self.ending = asyncio.create_task(self.end())

    async def end(self) -> None:
        while self.played_s < self.queued_s:
            await asyncio.sleep(0.01)
        self.finish(interrupted=False)

    def clear_buffer(self) -> None:
        self.finish(interrupted=True)

    def finish(self, interrupted: bool) -> None:
        if self.playing is None:
            return
        self.playing.cancel()
        position, self.playing, self.queued_s, self.played_s = self.played_s, None, 0.0, 0.0
        self.on_playback_finished(playback_position=position, interrupted=interrupted)


async def main(url: str, speech: bytes) -> None:
    calls: list[dict[str, str]] = []

    @agents.function_tool
    async def set_light(room: str, state: str) -> str:
        """Turn the light in a room on or off."""
        calls.append({"room": room, "state": state})
        return '{"ok": true}'

    errors: list[str] = []
    async with aiohttp.ClientSession() as http:
        model = openai.realtime.RealtimeModel(base_url=url, api_key="unused", model="any", http_session=http)
        session = agents.AgentSession(llm=model, vad=None)
        session.on("error", lambda event: errors.append(str(event.error)))
        session.input.audio, session.output.audio = Microphone(), Loudspeaker()
        await session.start(agents.Agent(instructions="", tools=[set_light]))
        async with asyncio.timeout(300):
            await session.generate_reply(user_input="what is two plus two")
            await session.generate_reply(user_input="turn on the light in the kitchen")
            spoken = session.input.audio
            before = len(session.history.items)
            spoken.sound = speech
            while not (len(session.history.items) >= before + 2 and session.agent_state == "listening"):
                await asyncio.sleep(0.05)
            reply = session.generate_reply(user_input="what can you do")
            while session.agent_state != "speaking":
                await asyncio.sleep(0.02)
            spoken.sound = speech
            before = len(session.history.items)
            await reply
            while not (len(session.history.items) >= before + 3 and session.agent_state == "listening"):
                await asyncio.sleep(0.05)
        history = [
            {"role": item.role, "text": item.text_content, "interrupted": item.interrupted}
            for item in session.history.items
            if item.type == "message"
        ]
        await session.aclose()
        await model.aclose()
    sys.stdout.write(json.dumps({"history": history, "calls": calls, "errors": errors}) + "\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]).read_bytes()))
