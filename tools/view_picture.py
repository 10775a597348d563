"""Draws docs/terminal.svg, the terminal view in the middle of a reply, from a recorded run and without a model:
python tools/view_picture.py [RECORDING [PICTURE]]. The recording is what the command prints with --json; that of the
README is made by

    espeak-ng -v en-us -s 165 -w light.wav "turn on the kitchen light"
    cd examples/audio
    textpro-agent --wav new_job_sad.wav new_job_happy.wav ../../light.wav --fast --json > ../../docs/terminal.jsonl
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from textpro.agent import events
from textpro.serving.terminal.live import render_svg
from textpro.serving.terminal.view_state import ViewState

DOCS = Path(__file__).resolve().parent.parent / "docs"
WIDTH, HEIGHT = 88, 20
HEARD_SHARE = 0.6
"""So much of the last reply has been played in the picture."""


def event_of(line: str) -> events.Event:
    """The event that a line of the recording tells; audio is silence of its length."""
    values: dict[str, Any] = json.loads(line)
    kind = "".join(part.title() for part in values.pop("type").split("_"))
    if kind == "Audio":
        values["pcm"] = np.zeros(values.pop("samples"), np.int16)
        del values["offset_samples"]
    event: events.Event = getattr(events, kind)(**values)
    return event


def state_at_the_last_reply(recording: list[events.Event]) -> ViewState:
    """What the view knows when `HEARD_SHARE` of the last reply has been played, with the voice as it was when that
    turn was spoken."""
    last = max(event.turn_id for event in recording if isinstance(event, events.ReplyDone))
    sounds = [event for event in recording if isinstance(event, events.Audio) and event.turn_id == last]
    reply_ms = sum(len(event.pcm) * 1000 / event.sample_rate for event in sounds)
    until_ms = next(event.t_ms for event in recording if isinstance(event, events.TurnEnd) and event.turn_id == last)
    state = ViewState()
    for event in recording:
        if event.turn_id > last or (event.turn_id == last and isinstance(event, events.ReplyDone | events.Metrics)):
            break
        if not isinstance(event, events.VoiceActivity) or event.t_ms <= until_ms:
            state = state.apply(event)
    return state.with_played(last, HEARD_SHARE * reply_ms)


def draw(recording: Path, picture: Path) -> None:
    """Read the one and write the other."""
    lines = recording.read_text(encoding="utf-8").splitlines()
    render_svg(state_at_the_last_reply([event_of(line) for line in lines]), picture, WIDTH, HEIGHT)


if __name__ == "__main__":
    paths = [Path(argument) for argument in sys.argv[1:]]
    draw(*[*paths, *(DOCS / "terminal.jsonl", DOCS / "terminal.svg")[len(paths) :]])
