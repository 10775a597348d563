"""The files of the browser page as the server gives them: types, caches, what they may load, and who gets them."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from quiet_runtime import QuietRuntime
from realtime_server import ServerThread, server_thread
from server_visits import BEARER, KEY
from textpro.serving.server import ServerSettings
from textpro.serving.server_access import Access
from tree import ROOT


@dataclass(frozen=True, slots=True)
class Got:
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes


@pytest.fixture(scope="module")
def thread() -> Iterator[ServerThread]:
    with server_thread() as thread:
        yield thread


@pytest.fixture(scope="module")
def url(thread: ServerThread) -> Iterator[str]:
    with thread.server(ServerSettings(port=0), runtime=QuietRuntime()) as server:
        yield server.url


def get(url: str, path: str, method: str = "GET", **headers: str) -> Got:
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=20)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    return Got(answer.status, dict(answer.getheaders()), answer.read())


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/client.js", "text/javascript; charset=utf-8"),
        ("/playback.worklet.js", "text/javascript; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
    ],
)
def test_each_file_has_its_type_and_is_not_guessed_at(url: str, path: str, kind: str) -> None:
    got = get(url, path)
    name = "index.html" if path == "/" else path[1:]
    assert (got.status, got.headers["Content-Type"]) == (200, kind)
    assert got.headers["X-Content-Type-Options"] == "nosniff"
    assert got.body == (ROOT / "serving" / "web" / name).read_bytes()


def test_every_file_of_the_folder_is_served(url: str) -> None:
    names = [path.name for path in (ROOT / "serving" / "web").iterdir()]
    assert [name for name in names if get(url, f"/{name}").status != 200] == []


def test_the_page_may_run_its_own_files_only(url: str) -> None:
    policy = dict(part.split(" ", 1) for part in get(url, "/").headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"


def test_the_page_has_no_inline_script_or_style_and_loads_nothing_from_elsewhere(url: str) -> None:
    page = get(url, "/").body.decode()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page)
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "serving" / "web").iterdir() if path.suffix != ".svg"]
    assert not [found for text in texts for found in re.findall(r"https?://(?!www\.w3\.org/2000/svg)[^\s\"]*", text)]


def test_nothing_is_inserted_as_html() -> None:
    for path in (ROOT / "serving" / "web").glob("*.js"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), path.name


def test_a_file_that_has_not_changed_is_not_sent_again(url: str) -> None:
    first = get(url, "/client.js")
    assert first.headers["Cache-Control"] == "no-cache"
    again = get(url, "/client.js", If_None_Match=f'"other", W/{first.headers["ETag"]}')
    assert (again.status, again.body) == (304, b"")
    assert get(url, "/client.js", If_None_Match='"other"').status == 200


@pytest.mark.parametrize(
    "path",
    ["/../server.py", "/%2e%2e/server.py", "/web/client.js", "//client.js", "/..%2fserver.py", "/client.js/", "/.", "/server.py"],
)
def test_no_path_leads_out_of_the_folder(url: str, path: str) -> None:
    assert get(url, path).status == 404


def test_pages_of_other_sites_and_other_names_of_the_machine_get_nothing(url: str) -> None:
    assert get(url, "/client.js", Origin="https://evil.example").status == 403
    assert get(url, "/", Host="evil.example").status == 403


def test_a_page_of_an_allowed_origin_may_import_the_client(url: str) -> None:
    got = get(url, "/client.js", Origin="http://localhost:3000")
    assert (got.status, got.headers["Access-Control-Allow-Origin"]) == (200, "http://localhost:3000")
    assert got.headers["Vary"] == "Origin"
    assert "Access-Control-Allow-Origin" not in get(url, "/client.js").headers


def test_where_keys_are_asked_for_the_page_comes_without_and_a_plain_request_tells_what_is_wrong(thread: ServerThread) -> None:
    with thread.server(ServerSettings(port=0), Access([KEY]), QuietRuntime()) as server:
        assert get(server.url, "/").status == 200
        assert get(server.url, "/v1/realtime").status == 401
        assert get(server.url, "/v1/realtime", **BEARER).status == 426
