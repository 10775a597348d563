"""Events have one JSON form each, and the page that lists them is what the code says."""

import json
import sys
from pathlib import Path

import numpy as np

from textpro.agent.events import Audio, EagerTurnEnd, TokensCommitted

ROOT = Path(__file__).parent.parent


def test_an_event_is_one_line_of_json_with_type_and_time():
    event = TokensCommitted(t_ms=5, turn_id=2, start_index=0, tokens=(7, 8), text=" two words", end_ms=4)
    line = event.to_json()
    assert "\n" not in line
    assert json.loads(line) == {
        "type": "tokens_committed", "t_ms": 5, "turn_id": 2, "revision": 0,
        "start_index": 0, "tokens": [7, 8], "text": " two words", "end_ms": 4,
    }  # fmt: skip
    assert EagerTurnEnd(t_ms=0, text="", p_end=0.5).type == "eager_turn_end"


def test_audio_tells_its_length_and_keeps_its_samples_to_itself():
    values = Audio(t_ms=0, pcm=np.zeros(160, np.int16), sample_rate=16_000, text="Yes.").to_dict()
    assert values["samples"] == 160 and "pcm" not in values


def test_the_page_of_events_is_up_to_date():
    sys.path.insert(0, str(ROOT / "tools"))
    import events_page

    assert (ROOT / "docs" / "events.md").read_text() == events_page.render(), "run: python tools/events_page.py"
