"""`textpro-agent serve`: what it refuses before it loads anything, and a server from its start to SIGTERM."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from requirements import require_module
from textpro.cli import app

KEY = "a-key-of-twenty-signs"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--host", "0.0.0.0"], "--keys FILE"),
        (["--keys", "absent"], "cannot be read"),
        (["--tls-key", "key.pem"], "--tls-cert"),
        (["--tls-cert", "absent.pem"], "no certificate"),
        (["--log-level", "loud"], "expected debug"),
        (["--voice", "maybe"], "expected on or off"),
        (["--state", "/proc/nowhere"], "cannot be written"),
        (["--model", "no/such/model", "--port", "0"], "no/such/model"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line(args: list[str], message: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        app(["serve", *args])
    error = capfd.readouterr().err.strip().splitlines()
    assert ended.value.code == 2 and message in error[-1]


def test_it_serves_until_sigterm(tmp_path: Path) -> None:
    require_module("espeakng_loader")
    command = [sys.executable, "-c", "from textpro.cli import main; main()", "serve", "--port", "0", "--max-sessions", "2"]
    environment = {**os.environ, "TEXTPRO_KEYS": KEY}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment) as server:
        try:
            assert server.stderr is not None
            line = next(line for line in server.stderr if line.startswith("serving "))
            url = line.split(" at ")[1].split(" ")[0].removesuffix("/v1")
            assert httpx2.get(f"{url}/readyz").json() == {"status": "ready", "free_sessions": 2}
            assert httpx2.get(f"{url}/metrics").status_code == 401
            server.send_signal(signal.SIGTERM)
            assert server.wait(60) == 0
        finally:
            server.kill()
