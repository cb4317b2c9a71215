"""Who may ask: tokens and passwords, and no other site's page through a visitor's browser."""

from __future__ import annotations

import base64
import functools
import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field

from serve.api import RefusedError
from serve.api.front import Front, host_of

# Probes of a load balancer carry no password, and learn nothing but that the server is up.
OPEN = frozenset({"/v2/health/live", "/v2/health/ready"})


@functools.lru_cache(maxsize=64)
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

    None asks for nothing; an empty one lets nobody in. `front` has the names that a proxy is known by.
    """

    auth: str | None = None
    token: str | None = None
    loopback: bool = True
    front: Front = field(default_factory=Front)

    def check(self, path: str, headers: Mapping[bytes, bytes]) -> None:
        """Raise RefusedError: 401 without credentials, 403 from another site, 421 for a foreign name."""
        host = headers.get(b"host", b"").decode("latin-1")
        # a foreign name that resolves to this machine is how a web page reaches into the machine
        if self.loopback and not is_loopback(host_of(host)) and not self.front.is_public(host):
            known = ", ".join(["localhost", *(name.address for name in self.front.names)])
            raise RefusedError(
                421,
                f"this server answers to {known} only; behind a proxy it is told the names that people use: "
                "`--public-name NAME`",
            )
        origin = headers.get(b"origin")
        if origin is not None:
            site = origin.decode("latin-1").partition("://")[2]
            if site != host and not self.front.is_public(site):
                raise RefusedError(
                    403,
                    "other sites may not use this server; `--public-name NAME` names the one that a proxy "
                    "shows it as",
                )
        if path not in OPEN:
            self.check_credentials(headers)

    def check_credentials(self, headers: Mapping[bytes, bytes]) -> None:
        """Raise RefusedError (401) where a name or token is asked for and not given."""
        asked = self.auth is not None or self.token is not None
        if asked and not self._known(headers):
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
