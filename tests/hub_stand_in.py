"""A hub on this machine: the few addresses that `huggingface_hub` asks for when it lists and fetches a repository."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class StandInHub:
    """Repositories by name, each with its files and the licence of its card; `stated` replaces a file's stated hash."""

    files: dict[str, dict[str, bytes]]
    licences: dict[str, str] = field(default_factory=dict)
    stated: dict[str, str] = field(default_factory=dict)
    fetched: list[str] = field(default_factory=list)
    endpoint: str = ""

    def describe(self, repository: str, name: str) -> dict[str, object]:
        """A file as the hub lists it: large ones with sha256, small ones with git's sha1."""
        content = self.files[repository][name]
        listed: dict[str, object] = {"size": len(content), "oid": git_sha1(content), "blobId": git_sha1(content)}
        if name.endswith(".safetensors"):
            digest = self.stated.get(name, hashlib.sha256(content).hexdigest())
            listed["lfs"] = {"oid": digest, "sha256": digest, "size": len(content), "pointerSize": 130}
        return listed

    def answer(self, path: str) -> tuple[dict[str, str], bytes] | None:
        """Headers and body for a path; None for 404."""
        parts = path.split("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"] and (repository := "/".join(parts[2:4])) in self.files:
            names = self.files[repository]
            if parts[4:5] == ["tree"]:
                body: object = [{"type": "file", "path": name, **self.describe(repository, name)} for name in names]
            else:
                siblings = [{"rfilename": name, **self.describe(repository, name)} for name in names]
                card = {"license": self.licences.get(repository)}
                body = {"id": repository, "sha": COMMIT, "siblings": siblings, "cardData": card}
            return {"Content-Type": "application/json"}, json.dumps(body).encode()
        repository, name = "/".join(parts[:2]), "/".join(parts[4:])
        if parts[2:3] != ["resolve"] or name not in self.files.get(repository, {}):
            return None
        listed = self.describe(repository, name)
        large = listed.get("lfs")
        tag = large["oid"] if isinstance(large, dict) else listed["oid"]
        return {"X-Repo-Commit": COMMIT, "ETag": f'"{tag}"'}, self.files[repository][name]


@contextmanager
def serving(hub: StandInHub) -> Iterator[StandInHub]:
    """The hub while it answers at `hub.endpoint`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = hub.answer(self.path)
            self.send_response(404 if answer is None else 200)
            headers, body = answer or ({}, b"")
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                hub.fetched.append(self.path)
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        hub.endpoint = f"http://127.0.0.1:{server.server_port}"
        try:
            yield hub
        finally:
            server.shutdown()


def git_sha1(content: bytes) -> str:
    """Git's name of a blob."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
