"""The ledger knows which words were heard."""

from hypothesis import given
from hypothesis import strategies as st

from textpro.agent.ledger import PlaybackLedger
from textpro.streaming.synthesis import WordTime

RATE = 1000  # a sample is a millisecond


def ledger() -> PlaybackLedger:
    """Two clauses: "One two, " of 300 ms with words to 100 and 200 ms, and "three four." of 400 ms."""
    book = PlaybackLedger(RATE)
    book.begin_clause("One two, ")
    book.add_audio(150, (WordTime("One", 0, 3, 0, 100),))
    book.add_audio(150, (WordTime("two,", 4, 4, 100, 200),))
    book.end_clause()
    book.begin_clause("three four.")
    book.add_audio(400, (WordTime("three", 0, 5, 0, 200), WordTime("four.", 6, 5, 200, 350)))
    book.end_clause()
    return book


def heard_at(ms: float) -> str:
    book = ledger()
    book.played(ms)
    return book.heard_text()


def test_words_are_heard_once_they_were_played_to_their_end():
    assert heard_at(0) == ""
    assert heard_at(99) == ""
    assert heard_at(100) == "One"
    assert heard_at(250) == "One two,"
    assert heard_at(300) == "One two, "
    assert heard_at(499) == "One two, "
    assert heard_at(500) == "One two, three"
    assert heard_at(700) == "One two, three four."


def test_a_clause_still_being_spoken_is_not_heard_beyond_its_known_words():
    book = PlaybackLedger(RATE)
    book.begin_clause("One two")
    book.add_audio(150, (WordTime("One", 0, 3, 0, 100),))
    book.played(150)
    assert book.heard_text() == "One"


def test_playback_never_goes_back_and_never_passes_the_audio():
    book = ledger()
    book.played(10_000)
    assert book.played_ms == 700 and book.is_played
    book.played(5)
    assert book.played_ms == 700


@given(st.lists(st.floats(0, 800), max_size=10))
def test_what_was_heard_only_grows_and_is_always_a_beginning_of_the_text(times):
    book, before = ledger(), ""
    for ms in times:
        book.played(ms)
        heard = book.heard_text()
        assert heard.startswith(before) and "One two, three four.".startswith(heard)
        before = heard
