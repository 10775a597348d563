"""Who may use the server: keys, short-lived client secrets, origins of browsers, and how much each may at once.

Without keys the server is bound to the machine itself, and pages of other sites are refused, as any page that the user visits
could otherwise talk to it. Pure bookkeeping: time is handed in, headers are plain strings.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from ..models.errors import InputError
from .realtime.limits import Meter
from .realtime.wire import Json

KEY_PROTOCOL = "openai-insecure-api-key."
RESUME_PROTOCOL = "textpro-resume."
RESUME_HEADER = "Textpro-Resume"
SECRET_PREFIX = "ek_"
SECRET_SECONDS = (10, 7200)
DEFAULT_SECRET_S = 600
MAX_SECRETS = 10_000
MIN_KEY = 16
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class Refused(InputError):
    """A request that is answered with this status instead."""

    def __init__(self, status: HTTPStatus, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass(slots=True)
class Caller:
    """Whoever holds a key. `id` is the key's hash; its beginning, `name`, identifies the key in logs without giving it away."""

    id: str
    meter: Meter
    sessions: int = 0

    @property
    def name(self) -> str:
        """For logs."""
        return self.id[:8]


@dataclass(frozen=True, slots=True)
class _Secret:
    caller: Caller
    expires_at: int
    session: Json


class Access:
    """Decides on requests, whose headers are named In-Title-Case. `keys` empty: everybody on this machine may."""

    def __init__(
        self,
        keys: Sequence[str] = (),
        *,
        origins: Collection[str] = (),
        sessions_per_key: int = 0,
        responses_per_minute: int = 0,
    ) -> None:
        for key in keys:
            if len(key) < MIN_KEY or not key.isascii() or not key.isprintable() or " " in key:
                raise InputError(f"a key has to be at least {MIN_KEY} printable characters without spaces: make it longer")
        self._callers = {_digest(key): Caller(_digest(key), Meter(responses_per_minute)) for key in keys}
        self._nobody = Caller("local", Meter(responses_per_minute))
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)
        self._per_key = sessions_per_key
        self._secrets: dict[str, _Secret] = {}

    @property
    def has_keys(self) -> bool:
        """Whether a key is asked for."""
        return bool(self._callers)

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """Refused for a page of another site, and, without keys, for another name of this machine (DNS rebinding)."""
        origin, host = headers.get("Origin"), _host_of(f"//{headers.get('Host', '')}")
        if not self.has_keys and host not in _LOCAL_NAMES:
            reason = f"the host {host!r} is not this machine: use localhost, or start the server with a key"
            raise Refused(HTTPStatus.FORBIDDEN, "host_not_allowed", reason)
        if origin is None or origin.rstrip("/").lower() in self._origins:
            return
        if _host_of(origin) in _LOCAL_NAMES if not self.has_keys else not self._origins:
            return
        reason = f"pages of {origin[:200]} may not connect: start the server with --origin {origin[:200]} to allow them"
        raise Refused(HTTPStatus.FORBIDDEN, "origin_not_allowed", reason)

    def caller(self, headers: Mapping[str, str], now_s: float, *, secrets_count: bool = True) -> tuple[Caller, Json]:
        """Who asks, and the session that a client secret carries. Refused without a valid key."""
        token = token_of(headers)
        if not self.has_keys and (token is None or token not in self._secrets):
            return self._nobody, {}
        if token is None:
            reason = "no API key was given: send it as Authorization: Bearer KEY"
            raise Refused(HTTPStatus.UNAUTHORIZED, "missing_api_key", reason)
        secret = self._secrets.get(token)
        if secret is not None and secrets_count:
            if now_s < secret.expires_at:
                return secret.caller, secret.session
            reason = "the client secret has expired: make another one with POST /v1/realtime/client_secrets"
            raise Refused(HTTPStatus.UNAUTHORIZED, "expired_client_secret", reason)
        digest = _digest(token)
        for known, caller in self._callers.items():
            if hmac.compare_digest(known, digest):
                return caller, {}
        raise Refused(HTTPStatus.UNAUTHORIZED, "invalid_api_key", "the API key is not one of this server's: check it")

    def admit(self, caller: Caller, *, kept: int = 0) -> None:
        """One more session of this caller, who has `kept` without a connection; end it with `release`. Refused where it has too
        many."""
        if self._per_key and caller.sessions + kept >= self._per_key:
            reason = f"this key has {self._per_key} sessions already: close one first"
            raise Refused(HTTPStatus.TOO_MANY_REQUESTS, "too_many_sessions", reason)
        caller.sessions += 1

    def admit_again(self, caller: Caller) -> None:
        """A session that this caller has already gets another connection."""
        caller.sessions += 1

    def release(self, caller: Caller) -> None:
        """A session of this caller is over."""
        caller.sessions -= 1

    def make_secret(self, caller: Caller, seconds: int, session: Json, now_s: float) -> tuple[str, int]:
        """A client secret and when it expires (seconds since 1970). Refused where too many are out."""
        self._secrets = {
            value: secret for value, secret in self._secrets.items() if now_s < secret.expires_at + SECRET_SECONDS[1]
        }
        if len(self._secrets) >= MAX_SECRETS:
            reason = f"{MAX_SECRETS} client secrets are out: wait until some have expired"
            raise Refused(HTTPStatus.TOO_MANY_REQUESTS, "too_many_client_secrets", reason)
        value = SECRET_PREFIX + secrets.token_hex(24)
        self._secrets[value] = _Secret(caller, int(now_s) + seconds, session)
        return value, int(now_s) + seconds


def read_keys(file: Path) -> list[str]:
    """The keys of a file, one in each line; # begins a comment. InputError if it cannot be read or holds none."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: the keys cannot be read ({error}): give a text file with one key in each line") from None
    keys = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not keys:
        raise InputError(f"{file}: there is no key in it: write one into each line, such as 32 random letters")
    return keys


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address that is bound."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_binding(host: str, has_keys: bool) -> None:
    """InputError for an open address without keys."""
    if not has_keys and not is_loopback(host):
        raise InputError(
            f"--host {host} can be reached by others, and there are no keys: add --keys FILE with one key in each line (or the "
            "environment variable TEXTPRO_KEYS), or leave --host out to serve this machine only"
        )


def token_of(headers: Mapping[str, str]) -> str | None:
    """The key of a request, from its authorization or, as browsers send it, from its subprotocols."""
    kind, _, token = headers.get("Authorization", "").partition(" ")
    if kind.lower() == "bearer" and token.strip():
        return token.strip()
    for offered in headers.get("Sec-Websocket-Protocol", "").split(","):
        if offered.strip().startswith(KEY_PROTOCOL):
            return offered.strip().removeprefix(KEY_PROTOCOL) or None
    return None


def resume_token_of(headers: Mapping[str, str]) -> str | None:
    """The token with which a client comes back, from its header or, as browsers send it, from its subprotocols."""
    if token := headers.get(RESUME_HEADER, "").strip():
        return token
    for offered in headers.get("Sec-Websocket-Protocol", "").split(","):
        if offered.strip().startswith(RESUME_PROTOCOL):
            return offered.strip().removeprefix(RESUME_PROTOCOL) or None
    return None


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _host_of(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""
