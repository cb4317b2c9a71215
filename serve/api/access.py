"""Who may ask: tokens and passwords, and no other site's page through a visitor's browser."""

from __future__ import annotations

import base64
import functools
import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from serve.api import RefusedError

# Probes of a load balancer carry no password, and learn nothing but that the server is up.
OPEN = frozenset({"/v2/health/live", "/v2/health/ready"})


def is_loopback(host: str) -> bool:
    """Tell whether only programs of this machine can reach a host's address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, kw_only=True)
class Access:
    """What a request must bring: `auth` is `user:password`; `token` is a bearer's, or any user's password.

    None asks for nothing; an empty one lets nobody in.
    """

    auth: str | None = None
    token: str | None = None
    loopback: bool = True

    def check(self, path: str, headers: Mapping[bytes, bytes]) -> None:
        """Raise RefusedError: 401 without credentials, 403 from another site, 421 for a foreign name."""
        host = headers.get(b"host", b"")
        # a foreign name that resolves to this machine is how a web page reaches into the machine
        if self.loopback and not _names_loopback(host):
            raise RefusedError(421, "this server answers to localhost only")
        origin = headers.get(b"origin")
        if origin is not None and origin.partition(b"://")[2] != host:
            raise RefusedError(403, "other sites may not use this server")
        asked = self.auth is not None or self.token is not None
        if asked and path not in OPEN and not self._known(headers):
            raise RefusedError(
                401,
                "this server asks for a password or token",
                {b"www-authenticate": b'Basic realm="cnnkit"'},
            )

    def _known(self, headers: Mapping[bytes, bytes]) -> bool:
        scheme, _, value = headers.get(b"authorization", b"").partition(b" ")
        value = value.strip()
        if scheme.lower() == b"bearer" and self.token:
            return hmac.compare_digest(value, self.token.encode())
        if scheme.lower() != b"basic":
            return False
        try:
            given = base64.b64decode(value, validate=True)
        except ValueError:
            return False
        password = given.partition(b":")[2]
        by_name = bool(self.auth and hmac.compare_digest(given, self.auth.encode()))
        by_token = bool(self.token and hmac.compare_digest(password, self.token.encode()))
        return by_name or by_token


@functools.lru_cache(maxsize=64)
def _names_loopback(header: bytes) -> bool:
    host = header.decode("latin-1")
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return not set(host) & set("/@?#\\ ") and is_loopback(name)
