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


WORDS = "one two, three four. five!".split()
STEP = st.one_of(
    st.tuples(st.just("clause"), st.integers(1, 4)),
    st.tuples(st.just("audio"), st.integers(0, 300)),
    st.tuples(st.just("end"), st.just(0)),
    st.tuples(st.just("played"), st.integers(0, 1_500)),
    st.tuples(st.just("estimated"), st.integers(0, 1_500)),
)


@given(st.lists(STEP, max_size=40))
def test_whatever_comes_first_synthesis_or_reports_the_heard_text_is_a_beginning_that_was_played(steps):
    """An oracle beside the ledger keeps when each word has sounded."""
    book, text, audio_ms, before = PlaybackLedger(RATE), "", 0, ""
    sounds: list[tuple[int, int]] = []  # (ms at which it has sounded, length of the text with it)
    waiting: list[tuple[int, str]] = []  # words of the clause that have no audio yet, and where they begin
    start = at = 0
    is_open = False
    for what, size in steps:
        match what:
            case "clause" if not is_open:
                clause = " ".join(WORDS[:size]) + " "
                start, at, is_open = len(text), 0, True
                waiting = [(clause.index(word), word) for word in WORDS[:size]]
                text += clause
                book.begin_clause(clause)
            case "audio" if is_open:
                words = ()
                if waiting and size:
                    place, word = waiting.pop(0)
                    words = (WordTime(word, place, len(word), at, at + size),)
                    sounds.append((audio_ms + size, start + place + len(word)))
                book.add_audio(size, words)
                audio_ms, at = audio_ms + size, at + size
            case "end" if is_open:
                is_open = False
                book.end_clause()
                sounds.append((audio_ms, len(text)))
            case "played" | "estimated":
                book.played(size, estimated=what == "estimated")
        heard = book.heard_text()
        assert heard.startswith(before) and text.startswith(heard), "it only grows, and is a beginning of the reply"
        assert book.played_ms <= book.audio_ms == audio_ms
        assert len(heard) <= max((end for ms, end in sounds if ms <= book.played_ms + 0.5), default=0), "nothing unplayed"
        before = heard
    if not is_open:
        book.played(10_000)
        assert book.heard_text() == text and book.is_played and (not audio_ms or not book.is_estimate)


@given(st.lists(st.tuples(st.integers(0, 900), st.booleans()), min_size=1, max_size=12))
def test_what_counts_as_played_is_an_estimate_unless_a_report_reaches_as_far(reports):
    book, furthest, estimated = ledger(), 0, False
    for ms, is_estimate in reports:
        book.played(ms, estimated=is_estimate)
        reached = min(ms, 700)
        if reached > furthest or (reached == furthest and estimated):
            furthest, estimated = reached, is_estimate
        assert (book.played_ms, book.is_estimate) == (furthest, estimated)
