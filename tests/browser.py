"""A headless Chromium whose microphone plays a recording, and the page of a server in it."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from requirements import require_module, require_program
from textpro.streaming.resample import resample
from textpro.streaming.wav import write_wav

TAP = """
(() => {
  const seen = (window.seen = { sent: [], loud: [] });
  const send = WebSocket.prototype.send;
  WebSocket.prototype.send = function (data) {
    const event = JSON.parse(data);
    seen.sent.push({ ...event, audio: undefined });
    return send.call(this, data);
  };
  const connect = AudioNode.prototype.connect;
  AudioNode.prototype.connect = function (to, ...rest) {
    if (to instanceof AudioDestinationNode) {
      const tap = new AnalyserNode(this.context, { fftSize: 2048 });
      const wave = new Float32Array(2048);
      connect.call(this, tap);
      setInterval(() => {
        tap.getFloatTimeDomainData(wave);
        seen.loud.push(Math.max(...wave.map(Math.abs)));
      }, 80);
    }
    return connect.call(this, to, ...rest);
  };
})();
"""
"""`seen.sent`: what the page sends; `seen.loud`: the peak, each 80 ms, of what reaches the loudspeaker."""


BY_HAND = """
(() => {
  let microphone = null;
  navigator.mediaDevices.getUserMedia = async () => {
    const context = new AudioContext();
    microphone = context.createMediaStreamDestination();
    return microphone.stream;
  };
  window.speak = async (recording) => {
    const { context } = microphone;
    const bytes = Uint8Array.from(atob(recording), (sign) => sign.charCodeAt(0));
    const source = new AudioBufferSourceNode(context, { buffer: await context.decodeAudioData(bytes.buffer) });
    source.connect(microphone);
    source.start();
  };
})();
"""
"""A microphone that says a recording when `speak` is called, for speech that has to come at a certain moment."""


@contextmanager
def chromium(microphone: Path) -> Iterator[Any]:
    """A browser (of Playwright) whose microphone plays this file, again and again, from when it is opened."""
    api = require_module("playwright.sync_api")
    program = require_program("chromium")
    arguments = [
        "--no-sandbox",
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={microphone}",
        "--autoplay-policy=no-user-gesture-required",
        "--disable-gpu",
    ]
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Any, url: str, *, by_hand: bool = False, **options: Any) -> Iterator[Any]:
    """The page at `url`, tapped; what its scripts throw fails the test. `by_hand`: its microphone is silent until `speak`."""
    context = browser.new_context(**{"viewport": {"width": 1100, "height": 760}, "reduced_motion": "reduce", **options})
    page = context.new_page()
    page.set_default_timeout(30_000)
    page.add_init_script(TAP + (BY_HAND if by_hand else ""))
    thrown: list[str] = []
    page.on("pageerror", lambda error: thrown.append(str(error)))
    page.on("console", lambda message: thrown.append(message.text) if "Content Security Policy" in message.text else None)
    page.goto(url)
    try:
        yield page
    finally:
        context.close()
    assert not thrown


def recorded(path: Path, speech: NDArray[np.float32]) -> Path:
    """Speech at 16 kHz as a file for the microphone."""
    write_wav(path, (resample(speech, 16_000, 48_000) * 32767).astype(np.int16), 48_000)
    return path


def until(page: Any, expression: str, what: str = "", within_s: float = 100) -> Any:
    """What the expression gives once it is true; the page's policy forbids the waiting of Playwright, which compiles text."""
    give_up = time.monotonic() + within_s
    while not (value := page.evaluate(expression)):
        if time.monotonic() > give_up:
            raise AssertionError(f"not within {within_s:g} s: {what or expression}; the page says {page.inner_text('body')!r}")
        page.wait_for_timeout(40)
    return value


def say(page: Any, text: str) -> None:
    """A typed turn."""
    page.fill("#entry", text)
    page.press("#entry", "Enter")


def speak(page: Any, recording: Path) -> None:
    """Into the microphone of a page that was opened `by_hand`."""
    page.evaluate("(recording) => speak(recording)", base64.b64encode(recording.read_bytes()).decode())


def sent(page: Any, kind: str) -> list[dict[str, Any]]:
    """What the page has sent of a type."""
    return [event for event in page.evaluate("seen.sent") if event["type"] == kind]


def log_has(words: str) -> str:
    """An expression: these words stand in the transcript."""
    return f"document.querySelector('#log').innerText.toLowerCase().includes({json.dumps(words.lower())})"
