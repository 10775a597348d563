"""Make docs/browser_wide.png and docs/browser_phone.png again: the page in a headless Chromium, in the middle of a conversation
with the bundled model. A spoken question comes from the microphone, another one is typed, and its answer is interrupted.

    python tools/browser_pictures.py
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from browser import chromium, log_has, opened, recorded, say, speak, until  # noqa: E402
from conversation import spoken  # noqa: E402
from realtime_server import server_thread  # noqa: E402
from textpro.serving.server import ServerSettings  # noqa: E402
from textpro.streaming.espeak_worker import EspeakVoice  # noqa: E402

PLAYED = "seen.sent.filter((event) => event.type === 'textpro.playback')"
SECOND_REPLY_PLAYS = f"{PLAYED}.some((event) => event.item_id !== {PLAYED}[0].item_id && event.audio_end_ms > 1500)"
LISTENS = "document.querySelector('#status-text').textContent === 'Listening'"
SCALE = {"wide": ({"width": 1180, "height": 760}, 1.0), "phone": ({"width": 390, "height": 844}, 1.5)}


def picture(browser: Any, url: str, name: str, scheme: str, speech: Path) -> None:
    """Lead a conversation up to an interruption, and take the picture."""
    viewport, scale = SCALE[name]
    options = {"viewport": viewport, "device_scale_factor": scale, "color_scheme": scheme}
    with opened(browser, url, by_hand=True, **options) as page:
        page.click("#mic")
        until(page, LISTENS)
        speak(page, speech)
        until(page, log_has("after you stopped"))
        until(page, LISTENS)
        say(page, "what can you do")
        until(page, SECOND_REPLY_PLAYS)
        speak(page, speech)
        until(page, log_has("cut off"))
        until(page, "document.querySelectorAll('#latencies li').length > 2")
        page.screenshot(path=ROOT / "docs" / f"browser_{name}.png")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, server_thread(model="tiny", voice=EspeakVoice(rate=80)) as thread:
        speech = recorded(Path(folder) / "speech.wav", spoken("what is two plus two", tone="happy", after_ms=200))
        with thread.server(ServerSettings(port=0)) as server, chromium(speech) as browser:
            for name, scheme in (("wide", "light"), ("phone", "dark")):
                picture(browser, server.url.removesuffix("/v1") + "/", name, scheme, speech)


if __name__ == "__main__":
    main()
