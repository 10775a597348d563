"""The other end of a telephone call: what Twilio sends, with numbers as strings, and a caller's ear that plays what it is
sent when it is told to."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np

from textpro.serving.telephone.g711 import decode, encode

STREAM = "MZ0001"
CALL = "CA0001"
FRAME_MS = 20
CONNECTED = json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"})


class Caller:
    """Makes Twilio's frames in order; `take` a frame of the server, then `play` to hear it and get marks back."""

    def __init__(self) -> None:
        self.sequence = self.chunk = self.now_ms = 0
        self.queue: list[bytes | str] = []  # audio and names of marks
        self.heard: list[bytes] = []
        self.cleared = 0

    def start(self, **parameters: str) -> str:
        form = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
        start = {"streamSid": STREAM, "accountSid": "AC0001", "callSid": CALL, "tracks": ["inbound"]}
        return self.frame("start", {**start, "mediaFormat": form, "customParameters": parameters})

    def media(self, pcm: np.ndarray) -> str:
        """20 ms of the caller, int16 at 8 kHz."""
        self.chunk += 1
        body = {"track": "inbound", "chunk": str(self.chunk), "timestamp": str(self.now_ms)}
        self.now_ms += len(pcm) // 8
        return self.frame("media", {**body, "payload": base64.b64encode(encode(pcm, "mulaw")).decode()})

    def silence(self, ms: int) -> list[str]:
        return [self.media(np.zeros(FRAME_MS * 8, np.int16)) for _ in range(ms // FRAME_MS)]

    def press(self, digit: str) -> str:
        return self.frame("dtmf", {"track": "inbound_track", "digit": digit})

    def stop(self) -> str:
        return self.frame("stop", {"accountSid": "AC0001", "callSid": CALL})

    def frame(self, event: str, body: dict[str, Any]) -> str:
        self.sequence += 1
        return json.dumps({"event": event, "sequenceNumber": str(self.sequence), "streamSid": STREAM, event: body})

    def take(self, text: str) -> list[str]:
        """A frame of the server, which has exactly the fields that Twilio knows; what Twilio answers at once."""
        frame = json.loads(text)
        event = frame["event"]
        assert frame["streamSid"] == STREAM
        if event == "clear":
            assert set(frame) == {"event", "streamSid"}
            self.cleared += 1
            names = [queued for queued in self.queue if isinstance(queued, str)]
            self.queue.clear()
            return [self.frame("mark", {"name": name}) for name in names]
        assert event in ("media", "mark") and set(frame) == {"event", "streamSid", event}
        if event == "media":
            assert set(frame["media"]) == {"payload"}
            self.queue.append(base64.b64decode(frame["media"]["payload"], validate=True))
        else:
            assert set(frame["mark"]) == {"name"}
            self.queue.append(frame["mark"]["name"])
        return []

    def play(self, marks: int = 10_000) -> list[str]:
        """Hear what is queued, to its end or up to so many marks, which are given back."""
        reached = []
        while self.queue and len(reached) < marks:
            queued = self.queue.pop(0)
            if isinstance(queued, str):
                reached.append(self.frame("mark", {"name": queued}))
            else:
                self.heard.append(queued)
        return reached

    @property
    def sound(self) -> np.ndarray:
        """All that was heard, int16 at 8 kHz."""
        return decode(b"".join(self.heard), "mulaw")
