"""A conversation by Pipecat with its OpenAI Realtime service, run by a Python that has it:
`python pipecat_bot.py ws://HOST/v1/realtime SPEECH`. SPEECH is raw 16-bit mono at 24 kHz; what happened is one line of JSON."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from pathlib import Path
from typing import Any

frames = importlib.import_module("pipecat.frames.frames")
processor = importlib.import_module("pipecat.processors.frame_processor")
universal = importlib.import_module("pipecat.processors.aggregators.llm_response_universal")
realtime = importlib.import_module("pipecat.services.openai.realtime.llm")
events = importlib.import_module("pipecat.services.openai.realtime.events")
context_module = importlib.import_module("pipecat.processors.aggregators.llm_context")
worker_module = importlib.import_module("pipecat.pipeline.worker")
runner_module = importlib.import_module("pipecat.workers.runner")
pipeline_module = importlib.import_module("pipecat.pipeline.pipeline")
RATE = 24_000
STEP = RATE // 50


class Ear(processor.FrameProcessor):
    """Behind the service: what came out of it."""

    def __init__(self) -> None:
        super().__init__()
        self.report: dict[str, Any] = {"calls": [], "errors": [], "audio_ms": 0.0, "interruptions": 0, "replies": 0}
        self.changed = asyncio.Event()

    async def process_frame(self, frame: Any, direction: Any) -> None:
        await super().process_frame(frame, direction)
        match frame:
            case frames.TTSAudioRawFrame():
                self.report["audio_ms"] += len(frame.audio) / (2 * RATE / 1000)
            case frames.InterruptionFrame():
                self.report["interruptions"] += 1
            case frames.TTSStoppedFrame():
                self.report["replies"] += 1
        self.changed.set()
        await self.push_frame(frame, direction)

    async def wait(self, key: str, at_least: float) -> None:
        while self.report[key] < at_least:
            self.changed.clear()
            await self.changed.wait()


async def main(url: str, speech: bytes) -> None:
    ear = Ear()

    async def set_light(params: Any, room: str, state: str) -> None:
        """Turn the light in a room on or off.

        Args:
            room: Which room.
            state: on or off.
        """
        ear.report["calls"].append({"room": room, "state": state})
        await params.result_callback({"ok": True})

    transcription = events.AudioInput(transcription=events.InputAudioTranscription())
    properties = events.SessionProperties(audio=events.AudioConfiguration(input=transcription))
    settings = realtime.OpenAIRealtimeLLMService.Settings(session_properties=properties, model="any")
    service = realtime.OpenAIRealtimeLLMService(api_key="unused", base_url=url, settings=settings)
    first = {"role": "user", "content": "turn on the light in the kitchen"}
    context = context_module.LLMContext([first], tools=[set_light])
    aggregators = universal.LLMContextAggregatorPair(context)
    steps = [aggregators.user(), service, ear, aggregators.assistant()]
    worker = worker_module.PipelineWorker(pipeline_module.Pipeline(steps), idle_timeout_secs=None)

    @worker.event_handler("on_pipeline_error")
    async def on_pipeline_error(_worker: Any, frame: Any) -> None:
        ear.report["errors"].append(frame.error)

    async def speak() -> None:
        for at in range(0, len(speech), 2 * STEP):
            piece = speech[at : at + 2 * STEP]
            await worker.queue_frame(frames.InputAudioRawFrame(audio=piece, sample_rate=RATE, num_channels=1))
            await asyncio.sleep(0.02)

    async def converse() -> None:
        await worker.queue_frame(frames.LLMRunFrame())
        await ear.wait("replies", 1)
        await speak()
        await ear.wait("replies", 2)
        await speak()  # over the reply, as Pipecat's clock says
        await ear.wait("replies", 3)
        await worker.queue_frame(frames.EndFrame())

    runner = runner_module.WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    async with asyncio.timeout(300):
        await asyncio.gather(runner.run(), converse())
    report = ear.report
    report["history"] = [{"role": m["role"], "text": m["content"]} for m in context.messages if m.get("content")]
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]).read_bytes()))
