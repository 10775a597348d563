"""The manner of the reply follows the tone of the user, when it is sure enough, within what a voice can do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textpro.models.whisperpro import TONES
from textpro.streaming.reply_prosody import FOLLOWED_FROM, MANNERS, manner_of_reply
from textpro.streaming.synthesis import AS_SET, Manner


def test_there_is_a_manner_for_every_tone_of_the_recognizer_and_no_other() -> None:
    assert set(MANNERS) == set(TONES)


def test_a_plain_an_unknown_and_an_unsure_tone_leave_the_voice_as_it_is_set() -> None:
    assert manner_of_reply("plain", 1.0) == AS_SET
    assert manner_of_reply("unknown", 1.0) == AS_SET
    assert manner_of_reply("bored", 1.0) == AS_SET
    assert manner_of_reply("sad", FOLLOWED_FROM - 0.001) == AS_SET
    assert manner_of_reply("sad", FOLLOWED_FROM) == MANNERS["sad"]


def test_sadness_is_met_slower_softer_and_calmer() -> None:
    manner = manner_of_reply("sad", 0.9)
    assert manner.rate < 1 and manner.amplitude < 1 and manner.pitch < 0 and manner.range < 0


def test_anger_is_met_calmly_and_not_copied() -> None:
    manner = manner_of_reply("angry", 0.9)
    assert 0.9 < manner.rate < 1 and manner.pitch < 0 and manner.range < 0 and manner.amplitude <= 1


def test_happiness_is_met_livelier() -> None:
    manner = manner_of_reply("happy", 0.9)
    assert manner.rate > 1 and manner.pitch > 0 and manner.range > 0


@pytest.mark.parametrize("manner", MANNERS.values())
def test_no_manner_changes_more_than_a_listener_would_accept(manner: Manner) -> None:
    assert 0.85 <= manner.rate <= 1.15 and 0.8 <= manner.amplitude <= 1.2
    assert abs(manner.pitch) <= 10 and abs(manner.range) <= 20


@given(st.text(), st.floats())
def test_any_label_and_confidence_give_a_manner(label: str, confidence: float) -> None:
    assert isinstance(manner_of_reply(label, confidence), Manner)
