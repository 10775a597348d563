"""The server's door: who may connect, with what, and what others are told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from quiet_runtime import QuietRuntime
from server_visits import BEARER, KEY, connected, refusal, run, text_turn, until
from textpro.models.errors import InputError
from textpro.serving.server import RealtimeServer, ServerSettings
from textpro.serving.server_access import Access, check_binding, read_keys


def test_a_turn_needs_no_key_on_the_machine_itself() -> None:
    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        async with connected(server) as client:
            assert (await text_turn(client))["response"]["status"] == "completed"
            assert client.subprotocol is None

    run(test)


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "missing_api_key"),
        ({"Authorization": "Bearer wrong"}, 401, "invalid_api_key"),
        ({"Authorization": f"Basic {KEY}"}, 401, "missing_api_key"),
        (BEARER, 101, ""),
    ],
)
def test_with_keys_only_they_open_the_door(headers: dict[str, str], status: int, code: str) -> None:
    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        if status == 101:
            async with connected(server, additional_headers=headers) as client:
                await until(client, "session.created")
        else:
            found, error = await refusal(server, additional_headers=headers)
            assert (found, error["code"]) == (status, code) and error["message"]

    run(test, Access([KEY]))


def test_a_browser_sends_its_key_as_a_subprotocol_that_is_never_echoed() -> None:
    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        offered = ["realtime", f"openai-insecure-api-key.{KEY}", "openai-agents-sdk.1"]
        async with connected(server, subprotocols=offered) as client:
            assert client.subprotocol == "realtime"

    run(test, Access([KEY]))


@pytest.mark.parametrize(
    ("keys", "origins", "origin", "host", "allowed"),
    [
        ([], [], "http://localhost:3000", None, True),
        ([], [], "https://evil.example", None, False),
        ([], ["https://app.example"], "https://app.example", None, True),
        ([], [], None, "evil.example", False),
        ([], [], "null", None, False),
        ([KEY], [], "https://anywhere.example", None, True),
        ([KEY], ["https://app.example"], "https://anywhere.example", None, False),
    ],
)
def test_pages_of_other_sites_may_not_use_a_server_without_keys(
    keys: list[str], origins: list[str], origin: str | None, host: str | None, allowed: bool
) -> None:
    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        headers = dict(BEARER) if keys else {}
        if origin is not None:
            headers["Origin"] = origin
        if host is not None:
            url = f"ws://{host}:{server.port}/v1/realtime"
            with pytest.raises(InvalidStatus) as refused:
                async with connect(url, host="127.0.0.1", port=server.port):
                    pass
            assert refused.value.response.status_code == 403
        elif allowed:
            async with connected(server, additional_headers=headers) as client:
                await until(client, "session.created")
        else:
            status, error = await refusal(server, additional_headers=headers)
            assert (status, error["code"]) == (403, "origin_not_allowed")

    run(test, Access(keys, origins=origins))


def test_a_server_for_others_needs_keys() -> None:
    with pytest.raises(InputError, match="--keys FILE"):
        check_binding("0.0.0.0", has_keys=False)
    with pytest.raises(InputError, match="--keys FILE"):
        RealtimeServer(QuietRuntime(), ServerSettings(host="::"), Access())  # type: ignore[arg-type]
    check_binding("0.0.0.0", has_keys=True)
    check_binding("::1", has_keys=False)


def test_keys_are_read_from_a_file_and_short_ones_refused(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# mine\n{KEY}\n\n")
    assert read_keys(file) == [KEY]
    with pytest.raises(InputError, match="at least 16"):
        Access(["short"])
    with pytest.raises(InputError, match="cannot be read"):
        read_keys(tmp_path / "absent")


def test_a_client_secret_opens_the_door_for_a_while_with_the_session_it_was_made_for() -> None:
    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        async with httpx2.AsyncClient(base_url=server.url) as http:
            path = "/realtime/client_secrets"
            assert (await http.post(path, json={})).status_code == 401
            wanted = {
                "expires_after": {"anchor": "created_at", "seconds": 60},
                "session": {"type": "realtime", "instructions": "be kind"},
            }
            made = (await http.post(path, json=wanted, headers=BEARER)).json()
            assert made["value"].startswith("ek_") and made["session"]["instructions"] == "be kind"
            bad = await http.post(path, json={"expires_after": {"seconds": 5}}, headers=BEARER)
            assert bad.status_code == 400 and "10 to 7200" in bad.json()["error"]["message"]
            assert (await http.post(path, content=b"[", headers=BEARER)).status_code == 400
            assert (await http.post(path, content=b"x" * 300_000, headers=BEARER)).status_code == 413
            assert (await http.put(path, json={}, headers=BEARER)).status_code == 405
            secret = {"Authorization": f"Bearer {made['value']}"}
            assert (await http.post(path, json={}, headers=secret)).status_code == 401
        async with connected(server, additional_headers=secret) as client:
            assert (await until(client, "session.created"))["session"]["instructions"] == "be kind"

    run(test, Access([KEY]))


def test_a_client_secret_expires() -> None:
    access = Access([KEY])
    caller, _ = access.caller(BEARER, 1000.0)
    value, expires_at = access.make_secret(caller, 60, {}, 1000.0)
    assert expires_at == 1060 and access.caller({"Authorization": f"Bearer {value}"}, 1059.0)[0] is caller
    with pytest.raises(InputError, match="expired"):
        access.caller({"Authorization": f"Bearer {value}"}, 1060.0)


def test_too_many_sessions_are_refused_and_a_free_place_is_taken_again() -> None:
    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        async with connected(server), connected(server):
            status, error = await refusal(server)
            assert (status, error["code"]) == (503, "too_many_sessions") and "all 2" in error["message"]
            async with httpx2.AsyncClient() as http:
                assert (await http.get(f"http://127.0.0.1:{server.port}/readyz")).status_code == 503
        while server.places_taken:
            await asyncio.sleep(0.01)
        async with connected(server) as client:
            await until(client, "session.created")

    run(test, max_sessions=2)


def test_a_key_has_no_more_sessions_than_it_may() -> None:
    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        async with connected(server, additional_headers=BEARER):
            status, error = await refusal(server, additional_headers=BEARER)
            assert (status, error["code"]) == (429, "too_many_sessions")

    run(test, Access([KEY], sessions_per_key=1))


def test_the_pages_say_what_they_are_and_the_counts_what_happened() -> None:
    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        async with connected(server, additional_headers=BEARER) as client:
            await text_turn(client)
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as http:
            assert (await http.get("/metrics")).status_code == 401
            page = (await http.get("/metrics", headers=BEARER)).text
            assert 'textpro_responses_total{status="completed"} 1.0' in page and "textpro_first_output_seconds_count 1.0" in page
            assert (await http.get("/v1/realtime", headers=BEARER)).status_code == 426
            missing = await http.get("/nothing")
            assert missing.status_code == 404 and "/v1/realtime" in missing.json()["error"]["message"]

    run(test, Access([KEY]))
