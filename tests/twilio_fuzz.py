"""Mutated calls of Twilio's Media Streams, from a seed: a valid call's frames, some changed inside, doubled, lost or moved."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import numpy as np

from phone import CONNECTED, STREAM, Caller
from realtime_fuzz import places

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 10**30, "", "x", "-1", "99999999999999999999", STREAM, "MZ_other", "\x00", "\u00e9",
    "A" * 300, [], {}, [None], {"event": "media"}, "/w==", "start", "stop", "clear", "mark", "dtmf", "connected",
)  # fmt: skip
EVENTS = ("connected", "start", "media", "dtmf", "mark", "stop", "clear", "error", "")


def call_script(chance: random.Random, count: int) -> list[str]:
    """About so many frames of a call in which a caller is silent, sounds, presses keys and hears what it is sent."""
    caller = Caller()
    frames = [CONNECTED, caller.start(customer="7")]
    marks = 0
    while len(frames) < count - 1:
        match chance.randrange(8):
            case 0:
                frames.append(caller.press(chance.choice("0123456789*#")))
            case 1:
                marks += 1
                frames.append(caller.frame("mark", {"name": f"p{chance.randrange(marks + 1)}"}))
            case 2:
                caller.now_ms += chance.choice((0, 40, 400, 60_000))
                frames += caller.silence(20)
            case _:
                frames.append(caller.media((np.sin(np.arange(160) / 3) * chance.randrange(9_000)).astype(np.int16)))
    return [*frames, caller.stop()]


def twilio_frames(chance: random.Random, count: int) -> list[str]:
    """A call as something broken on the way would send it. In three of four calls the beginning is whole."""
    frames = call_script(chance, count)
    begin = 2 if chance.random() < 0.75 else 0
    shuffle(chance, frames, begin)
    share = chance.choice((0.02, 0.2, 0.6))
    return [frame if at < begin or chance.random() > share else changed(chance, frame) for at, frame in enumerate(frames)]


def shuffle(chance: random.Random, steps: list[Any], begin: int = 0) -> None:
    """Some of a list, from `begin` on, doubled, moved or lost."""
    for _ in range(chance.choice((0, 1, 3, 10))):
        at, to = (chance.randrange(begin, len(steps)) for _ in range(2))
        match chance.randrange(3):
            case 0:
                steps.insert(to, steps[at])
            case 1:
                steps.insert(to, steps.pop(at))
            case _ if len(steps) > begin + 2:
                del steps[at]


def changed(chance: random.Random, frame: str) -> str:
    """JSON with something else, something less or a broken place in it."""
    if chance.random() < 0.15:
        at = chance.randrange(len(frame))
        return frame[:at] + chance.choice(("", "\\", '"', "}", "\x01", "]")) + frame[at + chance.randrange(3) :]
    message = json.loads(frame)
    if "event" in message and chance.random() < 0.2:
        message["event"] = chance.choice(EVENTS)
    for _ in range(chance.choice((1, 1, 2, 3))):
        spots = places(message)
        container, key = chance.choice(spots)
        if isinstance(container, dict) and len(container) > 1 and chance.random() < 0.3:
            del container[key]
        else:
            container[key] = copy.deepcopy(chance.choice(ODD))
    return json.dumps(message)
