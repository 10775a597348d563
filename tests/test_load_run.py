"""A load test over real sockets: whom it calls, what it says of refusals and broken connections, how it is bounded, and the
command around it, against the bundled model."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile
import typer
from websockets.sync.server import Server, ServerConnection, serve

from load_partner import said
from quiet_runtime import QuietRuntime
from realtime_server import server_thread
from requirements import require_module
from server_visits import KEY, run
from textpro.evaluation.load import LoadRun, LoadSettings
from textpro.evaluation.load_caller import CallerSettings, Result
from textpro.evaluation.load_report import LoadReport
from textpro.evaluation.load_speech import recorded_utterance
from textpro.load_command import load
from textpro.models.errors import AudioError
from textpro.serving.server import RealtimeServer, ServerSettings
from textpro.serving.server_access import Access

PROGRAM = "import typer; from textpro.load_command import load; typer.run(load)"
QUICK = CallerSettings(turns=1, piece_ms=20, think_ms=(0, 50), reply_limit_ms=200)
app = typer.Typer()
app.command()(load)


async def called(server: RealtimeServer, stop: asyncio.Event | None = None, **settings: object) -> LoadReport:
    given = {"url": server.url, "ramp_ms": 0, "caller": QUICK, **settings}
    return await LoadRun(LoadSettings(**given), [said(200)]).run(stop or asyncio.Event())  # type: ignore[arg-type]


def test_whoever_is_not_let_in_is_a_refusal_with_its_reason() -> None:
    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        for key, code in ((None, "missing_api_key"), ("a-wrong-key-of-twenty", "invalid_api_key")):
            report = await called(server, key=key)
            (fault,) = report.faults
            assert fault.status == "refused" and fault.reason.startswith(f"HTTP 401, {code}: ") and not report.passed
        report = await called(server, key=KEY, callers=3)
        assert [turn.result for turn in report.turns] == [Result.NO_REPLY] * 2
        assert [fault.reason.split(":")[0] for fault in report.faults] == ["HTTP 503, too_many_sessions"]

    run(test, Access([KEY]), max_sessions=2)


def test_where_nobody_listens_is_a_refusal() -> None:
    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        report = await called(server, url="ws://127.0.0.1:9/v1/realtime")
        assert report.faults[0].reason.startswith("no connection")

    run(test)


def test_a_server_that_goes_away_loses_the_turns_that_were_open() -> None:
    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        caller = CallerSettings(turns=None, piece_ms=20, think_ms=(0, 0), reply_limit_ms=60_000)
        calls = asyncio.create_task(called(server, callers=2, idle=1, caller=caller))
        while runtime.open < 2:  # both were heard
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        await server.close()
        report = await calls
        assert [turn.result for turn in report.turns] == [Result.LOST] * 2
        assert {fault.status for fault in report.faults} == {"lost"} and "closed with 1012" in report.faults[0].reason

    run(test)


def test_a_run_ends_in_time_or_when_it_is_stopped_with_what_there_is() -> None:
    async def test(server: RealtimeServer, runtime: QuietRuntime) -> None:
        endless = CallerSettings(turns=None, piece_ms=20, think_ms=(0, 0), reply_limit_ms=100)
        report = await called(server, minutes=0.02, idle=2, caller=endless)
        assert not report.is_whole and report.turns and not report.faults and report.seconds < 20
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(0.3, stop.set)
        report = await called(server, stop, caller=endless)
        assert not report.is_whole and not report.faults
        while server.places_taken:
            await asyncio.sleep(0.01)

    run(test)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["somewhere"], "expected the URL of a Realtime server"),
        (["ws://h/v1/realtime", "--think-ms", "9-3"], "expected milliseconds from-to"),
        (["ws://h/v1/realtime", "--callers", "5000"], "expected 1 to 2000"),
        (["ws://h/v1/realtime", "--minutes", "0"], "expected more than 0"),
        (["ws://h/v1/realtime", "--wav", "absent.wav"], "absent.wav: no sound that can be read"),
        (["wss://h/v1/realtime", "--ca", "absent.pem"], "no certificate that can be read"),
    ],
)
def test_what_cannot_be_called_is_said_in_one_line(args: list[str], message: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        app(args)
    assert ended.value.code == 2 and message in capfd.readouterr().err.strip().splitlines()[-1]


def test_a_file_is_said_without_its_silence_and_silence_alone_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "said.wav"
    tone = np.sin(np.arange(8_000) / 5) * 0.3
    soundfile.write(file, np.pad(tone, (4_000, 12_000)), 16_000)
    utterance = recorded_utterance(file, ("four",))
    assert abs(len(utterance.pcm) - 12_000) < 300 and utterance.expects == ("four",)
    soundfile.write(file, np.zeros(1_000), 16_000)
    with pytest.raises(AudioError, match="nothing but silence"):
        recorded_utterance(file)


@pytest.fixture
def mute_server() -> Iterator[tuple[Server, list[str]]]:
    """Takes any session and says nothing; and what it was sent."""
    import threading

    heard: list[str] = []

    def answer(connection: ServerConnection) -> None:
        for message in connection:
            kind = json.loads(message)["type"]
            if kind == "session.update":
                connection.send(json.dumps({"type": "session.updated", "event_id": "e", "session": {}}))
            heard.append(kind)

    with serve(answer, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server, heard
        server.shutdown()
        thread.join()


def test_ctrl_c_ends_it_with_the_figures_so_far(mute_server: tuple[Server, list[str]], tmp_path: Path) -> None:
    server, heard = mute_server
    file = tmp_path / "said.wav"
    soundfile.write(file, np.sin(np.arange(8_000) / 5) * 0.3, 16_000)
    url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/v1/realtime"
    args = [url, "--wav", str(file), "--minutes", "2", "--callers", "2", "--ramp-ms", "0", "--json"]
    with subprocess.Popen([sys.executable, "-c", PROGRAM, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as calling:
        try:
            for _ in range(1_200):
                if heard.count("session.update") == 2 and len(heard) > 10:
                    break
                with pytest.raises(subprocess.TimeoutExpired):
                    calling.wait(0.05)
            calling.send_signal(signal.SIGINT)
            out, error = calling.communicate(timeout=60)
        finally:
            calling.kill()
    assert calling.returncode == 130, error
    values = json.loads(out)
    assert values["callers"] == 2 and not values["whole"] and not values["passed"] and values["audio_s"]["sent"] > 0


def test_a_caller_is_answered_by_the_bundled_model(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    require_module("espeakng_loader")
    picture = tmp_path / "load.svg"
    with server_thread(model="tiny", threads=1) as thread, thread.server(ServerSettings(port=0)) as server:
        with pytest.raises(SystemExit) as ended:
            app([server.url, "--turns", "1", "--reply-seconds", "60", "--json", "--plot", str(picture)])
        out, error = capfd.readouterr()
    assert ended.value.code == 0, error
    values = json.loads(out)
    (turn,) = values["each"]
    assert values["passed"] and turn["latency_ms"] > 0 and turn["audio_ms"] > 300 and turn["reply"]
    assert "latency at the ear" in error and ElementTree.parse(picture).getroot().get("role") == "img"
