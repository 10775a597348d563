"""Fusions of which nothing is final before the turn's end, with the bundled recognizer: the whole turn in one append."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from conversation import converse
from oracle import Offline
from small_pair import example_audio, runtime_with
from textpro.agent.events import EagerTurnEnd, ReplyDone, TokensCommitted, TurnStart
from textpro.models.checkpoint import load_checkpoint
from textpro.models.fusion import Fusion
from textpro.models.named import model_folder

TINY = model_folder("tiny")
AUDIO = example_audio("lost_keys_sad.wav")


@pytest.mark.parametrize("mode", ["global", "none"])
def test_the_whole_turn_is_appended_at_its_end_as_the_layout_says(mode):
    loaded = load_checkpoint(TINY)
    checkpoint = replace(loaded, fusion=Fusion(mode, marker_id=loaded.chat.marker_id))
    offline = Offline(TINY)

    async def run():
        async with runtime_with(checkpoint) as runtime, runtime.session() as session:
            events, middle = [], None
            for start in range(0, len(AUDIO), 5_120):
                events += await converse(session, AUDIO[start : start + 5_120])
                if middle is None and any(isinstance(event, TokensCommitted) for event in events):
                    middle = any(isinstance(event, EagerTurnEnd) for event in events), session.entries
            return events, middle, session.entries

    events, middle, entries = asyncio.run(run())
    assert middle == (False, ()), "words are committed while the user speaks, and nothing is appended for them"
    (start,) = [event for event in events if isinstance(event, TurnStart)]
    (eager,) = [event for event in events if isinstance(event, EagerTurnEnd)]
    turn = offline.recognize(AUDIO[start.start_ms * 16 : eager.t_ms * 16])
    before, after = offline.chat.user_open(), offline.chat.reply_open()
    marker = [offline.chat.marker_id] * (mode == "global")
    expected = [*before, *marker, *turn.tokens, *after]
    assert [entry.token_id for entry in entries[: len(expected)]] == expected
    vectors = [entry.vector for entry in entries if entry.vector is not None]
    assert len(vectors) == len(marker)
    if marker:
        assert entries[len(before)].vector is vectors[0]
        np.testing.assert_allclose(vectors[0], turn.vectors.mean(0), atol=1e-4)
    assert any(isinstance(event, ReplyDone) and event.text for event in events)
