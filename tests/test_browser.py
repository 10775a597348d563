"""The page in a real browser, which hears a recording and whose loudspeaker is tapped, against the running server."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import chromium, log_has, opened, recorded, say, sent, speak, until
from conversation import spoken
from quiet_runtime import QuietRuntime
from realtime_server import ServerThread, server_thread
from requirements import absent
from server_visits import KEY
from speech_server import PIECE, Answer, serving, tone
from textpro.serving.server import RealtimeServer, ServerSettings
from textpro.serving.server_access import Access
from textpro.streaming.http_voice import HttpVoice
from tree import ROOT

AXE = ROOT / "tests" / "node" / "node_modules" / "axe-core" / "axe.min.js"
PHONE = {"viewport": {"width": 360, "height": 640}, "has_touch": True, "is_mobile": True}
LOUD = "seen.loud.some((peak) => peak > 0.02)"
QUIET_NOW = "seen.loud.slice(-6).every((peak) => peak < 0.001)"
STATUS = "document.querySelector('#status-text').textContent"
SPEAKS, READY = f"{STATUS} === 'Speaking'", f"{STATUS} === 'Ready'"


@pytest.fixture(scope="module")
def question(tmp_path_factory: pytest.TempPathFactory) -> Path:
    speech = spoken("what is two plus two", after_ms=30_000)
    return recorded(tmp_path_factory.mktemp("sound") / "question.wav", speech)


@pytest.fixture(scope="module")
def browser(question: Path) -> Iterator[Any]:
    with chromium(question) as browser:
        yield browser


class Voice:
    """A tone for each word, which a test may draw out."""

    word_ms = 400

    def speak(self, answer: Answer) -> None:
        answer.begin("audio/pcm")
        answer.piece(tone(PIECE * len(str(answer.fields["input"]).split()) * self.word_ms // 100))
        answer.end()


@pytest.fixture(scope="module")
def voice() -> Voice:
    return Voice()


@pytest.fixture(scope="module")
def thread(voice: Voice) -> Iterator[ServerThread]:
    with (
        serving(voice.speak) as sound,
        server_thread(model="tiny", threads=1, voice=HttpVoice(sound.url, "any", "any")) as thread,
    ):
        yield thread


@pytest.fixture(scope="module")
def agent(thread: ServerThread) -> Iterator[str]:
    """The address of a server with the bundled model."""
    with thread.server(ServerSettings(port=0)) as server:
        yield address(server)


@pytest.fixture(scope="module")
def yes(thread: ServerThread) -> Iterator[str]:
    """The address of a server that answers "Yes." for eight seconds and hears nothing."""
    with thread.server(ServerSettings(port=0), runtime=QuietRuntime(reply_ms=8000)) as server:
        yield address(server)


def address(server: RealtimeServer) -> str:
    return server.url.removesuffix("/v1") + "/"


def violations(page: Any) -> list[str]:
    """What axe finds against WCAG 2.2 A and AA, and against its own advice."""
    if not AXE.is_file():
        absent("needs axe-core: npm install --prefix tests/node")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")["violations"]
    return [f"{one['id']}: {node['html'][:120]} {node['failureSummary']}" for one in found for node in one["nodes"]]


def test_a_spoken_question_is_shown_answered_and_heard_and_the_page_is_accessible(browser: Any, agent: str) -> None:
    with opened(browser, agent) as page:
        page.click("#mic")
        until(page, "document.querySelector('.turn.agent')")
        until(page, LOUD, "sound at the loudspeaker")
        until(page, log_has("after you stopped"))
        user = page.inner_text(".turn.you")
        assert page.inner_text(".turn.you .words").strip()  # which words: a busy machine loses pieces of the microphone
        assert "P(end)" in user
        assert "sounds like" in user
        assert "Hz" in (page.get_attribute(".turn.you svg", "aria-label") or "")
        assert page.inner_text(".turn.agent .words").strip()
        assert page.inner_text("#p-end b").endswith("%")
        until(page, QUIET_NOW, "silence after the answer")
        played = [event["audio_end_ms"] for event in sent(page, "textpro.playback")]
        assert played == sorted(played)
        assert played[-1] > 500
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            assert violations(page) == [], scheme


def test_speech_over_a_long_reply_stops_it_and_what_was_not_heard_is_struck_out(
    browser: Any, agent: str, question: Path, voice: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(voice, "word_ms", 2500)
    with opened(browser, agent, by_hand=True) as page:
        page.click("#mic")
        until(page, f"{STATUS} === 'Listening'")
        say(page, "what can you do")
        until(page, LOUD)
        speak(page, question)
        until(page, log_has("cut off"))
        until(page, QUIET_NOW, "silence")
        whole = page.inner_text(".turn.agent .words")
        unheard = page.inner_text(".turn.agent .unheard")
        assert 0 < len(unheard) < len(whole)
        (cut,) = sent(page, "conversation.item.truncate")
        assert cut["audio_end_ms"] > 0


def test_push_to_talk_sends_what_was_said_while_the_key_was_down(browser: Any, agent: str, question: Path) -> None:
    with opened(browser, agent, by_hand=True) as page:
        page.click("#ptt")
        page.click("#mic")
        until(page, "!document.querySelector('#hold').hidden")
        page.focus("#hold")
        page.keyboard.down(" ")
        until(page, f"{STATUS} === 'Hearing you'")
        speak(page, question)
        until(page, "seen.sent.filter((event) => event.type === 'input_audio_buffer.append').length > 55")
        page.keyboard.up(" ")
        until(page, log_has("after you let go"))
        assert len(sent(page, "input_audio_buffer.commit")) == 1
        appended = len(sent(page, "input_audio_buffer.append"))
        until(page, LOUD)
        assert len(sent(page, "input_audio_buffer.append")) == appended


def test_a_lost_connection_is_shown_and_made_again(browser: Any, thread: ServerThread) -> None:
    runtime = QuietRuntime(reply_ms=300)
    with thread.server(ServerSettings(port=0), runtime=runtime) as server:
        port = server.port
        context = opened(browser, address(server))
        page = context.__enter__()
        say(page, "hello")
        until(page, log_has("yes."))
    until(page, f"{STATUS}.startsWith('Reconnecting')")
    assert "reconnecting" in page.inner_text("#fault").lower()
    with thread.server(ServerSettings(port=port), runtime=runtime):
        until(page, "document.querySelector('#fault').textContent === ''")
        say(page, "hello again")
        until(page, "document.querySelectorAll('.turn.agent').length === 2")
        page.context.set_offline(True)
        until(page, f"{STATUS}.startsWith('Reconnecting')")
        page.context.set_offline(False)
        until(page, "document.querySelector('#fault').textContent === ''")
        context.__exit__(None, None, None)


def test_a_conversation_goes_on_after_the_network_was_away_with_the_sound_that_was_not_played(browser: Any, yes: str) -> None:
    with opened(browser, yes) as page:
        say(page, "hello")
        until(page, "seen.sent.some((event) => event.type === 'textpro.playback')")
        page.context.set_offline(True)
        until(page, f"{STATUS}.startsWith('Reconnecting')")
        before = sent(page, "textpro.playback")[-1]
        page.context.set_offline(False)
        until(page, log_has("the conversation goes on"))
        until(page, READY, "the end of the reply")
        after = sent(page, "textpro.playback")
        assert after[-1]["item_id"] == before["item_id"]
        assert before["audio_end_ms"] < 7000 < 7900 < after[-1]["audio_end_ms"]
        assert page.inner_text(".turn.agent .words") == "Yes."


def test_escape_stops_the_reply_and_tells_how_much_was_played(browser: Any, yes: str) -> None:
    with opened(browser, yes) as page:
        say(page, "hello")
        until(page, SPEAKS)
        until(page, "seen.sent.some((event) => event.type === 'textpro.playback')")
        page.keyboard.press("Escape")
        until(page, READY)
        assert sent(page, "conversation.item.truncate")[0]["audio_end_ms"] < 8000


def test_markup_that_is_typed_stays_text(browser: Any, yes: str) -> None:
    markup = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script><b>bold</b>"
    with opened(browser, yes) as page:
        say(page, markup)
        until(page, SPEAKS)
        assert page.inner_text(".turn.you .words") == markup
        assert page.evaluate("document.querySelectorAll('#log img, #log script, #log b:not(.who b)').length") == 0
        assert page.title() == "TextPro agent"


def test_a_phone_shows_everything_without_scrolling_sideways(browser: Any, yes: str) -> None:
    with opened(browser, yes, **PHONE) as page:
        say(page, "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft " * 3)
        until(page, SPEAKS)
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        for control in page.query_selector_all("header button:visible, footer button:visible, footer input"):
            box = control.bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= 360 and box["y"] + box["height"] <= 640
            assert box["height"] >= 40
        assert page.query_selector("#log").bounding_box()["height"] > 120


def test_prosody_off_is_told_to_the_server_shown_and_kept(browser: Any, yes: str) -> None:
    with opened(browser, yes) as page:
        page.focus("#prosody")
        page.keyboard.press(" ")
        page.reload()
        assert page.is_visible("#prosody-off")
        say(page, "hello")
        until(page, SPEAKS)
        assert sent(page, "session.update")[0]["session"]["textpro"]["prosody"] is False


def test_a_server_that_asks_for_a_key_says_so_and_takes_it(browser: Any, thread: ServerThread) -> None:
    with (
        thread.server(ServerSettings(port=0), Access([KEY]), QuietRuntime()) as server,
        opened(browser, address(server)) as page,
    ):
        say(page, "hello")
        until(page, "document.querySelector('#fault').textContent.includes('API key')")
        page.click("#open-settings")
        page.fill("#key", KEY)
        page.keyboard.press("Enter")
        page.press("#entry", "Enter")
        until(page, log_has("yes."))


def test_the_example_page_of_another_origin_talks(browser: Any, agent: str) -> None:
    folder = str(ROOT / "examples" / "browser")
    site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Silent, directory=folder))
    threading.Thread(target=site.serve_forever, daemon=True).start()
    try:
        with opened(browser, f"http://localhost:{site.server_port}/?server={agent.rstrip('/')}") as page:
            page.click("#talk")
            words = "document.querySelector('#words').innerText.toLowerCase()"
            until(page, f"{words}.includes('you: ') && {words}.includes('agent: ')")
            until(page, LOUD)
    finally:
        site.shutdown()
        site.server_close()


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


def test_the_example_is_short() -> None:
    assert len(Path(ROOT / "examples" / "browser" / "index.html").read_text(encoding="utf-8").splitlines()) <= 30
