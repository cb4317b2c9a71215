"""What stands before the server: the names that people know it by, the path it lies under, trusted proxies.

Nothing that a request says of a proxy counts unless it comes from an address that `--trust-proxy` names: any
client can write an X-Forwarded header.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from serve.api import Scope
from toolkit.errors import CnnkitError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Headers = Mapping[bytes, bytes]

# What proxies tell of the client; it is read here alone and never goes on to the page.
FORWARDED = frozenset(
    {
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-forwarded-port",
        b"x-forwarded-prefix",
        b"x-gradio-server",
    }
)


@dataclass(frozen=True, kw_only=True)
class PublicName:
    """A name that people know the server by: `address` with its port, `scheme` http where none was typed."""

    host: str
    address: str
    scheme: str

    @classmethod
    def of(cls, text: str) -> PublicName:
        """Return what `[https://]NAME[:PORT]` says. Raises CnnkitError."""
        scheme, colon, address = text.strip().lower().rpartition("://")
        host = host_of(address)
        if not host or (colon and scheme not in ("http", "https")):
            raise CnnkitError(
                f"{text!r} is no host name; --public-name takes the address bar's text up to the path, "
                "as in `--public-name demo.example.org` or `--public-name https://demo.example.org:8443`"
            )
        return cls(host=host, address=address, scheme=scheme or "http")


@dataclass(frozen=True, kw_only=True)
class Front:
    """What stands before the server; `root_path` is "" or "/some/path"."""

    names: tuple[PublicName, ...] = ()
    root_path: str = ""
    trusted: tuple[Network, ...] = ()

    @classmethod
    def of(cls, names: Iterable[str], root_path: str, trusted: Iterable[str]) -> Front:
        """Return what was typed, checked. Raises CnnkitError for what is no name, path or address."""
        return cls(
            names=tuple(map(PublicName.of, names)),
            root_path=_root_path(root_path),
            trusted=tuple(map(_network, trusted)),
        )

    def __bool__(self) -> bool:
        return bool(self.root_path or self.trusted)

    def received(self, scope: Scope, headers: dict[bytes, bytes]) -> dict[bytes, bytes]:
        """Turn a request into what its client sent: host and scheme that it used, the path below ours.

        A proxy may hand on the path with or without the part that the server lies under. Returns the headers.
        """
        if self.trusts(scope):
            headers = self._told(scope, headers)
        path = scope["path"]
        if self.root_path and (path == self.root_path or path.startswith(f"{self.root_path}/")):
            scope["path"] = path[len(self.root_path) :] or "/"
            scope["raw_path"] = scope["raw_path"][len(self.root_path) :] or b"/"
        return headers

    def trusts(self, scope: Scope) -> bool:
        """Tell whether a request comes from a proxy that is trusted."""
        client = scope.get("client")
        return bool(self.trusted and client and self._is_trusted(client[0]))

    def _told(self, scope: Scope, headers: dict[bytes, bytes]) -> dict[bytes, bytes]:
        for hop in reversed(headers.get(b"x-forwarded-for", b"").decode("latin-1").split(",")):
            address = hop.strip()
            if address and not self._is_trusted(address):
                scope["client"] = (address, 0)
                break
        scheme = headers.get(b"x-forwarded-proto", b"").split(b",")[0].strip()
        host = headers.get(b"x-forwarded-host", b"").split(b",")[0].strip()
        if not host and self.names and not self.is_public(headers.get(b"host", b"").decode("latin-1")):
            # a proxy that was told nothing asks by the server's own address
            host, scheme = self.names[0].address.encode(), scheme or self.names[0].scheme.encode()
        if scheme in (b"http", b"https"):
            scope["scheme"] = scheme.decode()
        if host:
            headers = {**headers, b"host": host}
            scope["headers"] = [
                (name, headers[name] if name == b"host" else value) for name, value in scope["headers"]
            ]
        return headers

    def _is_trusted(self, address: str) -> bool:
        return _within(address, self.trusted)

    def is_public(self, host: str) -> bool:
        """Tell whether a host, with or without a port, is a name that people know the server by."""
        return any(name.host == host_of(host) for name in self.names)


@functools.lru_cache(maxsize=256)
def _within(address: str, networks: tuple[Network, ...]) -> bool:
    try:
        found = ipaddress.ip_address(address.strip("[]"))
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None) or found
    return any(mapped in network for network in networks if mapped.version == network.version)


@functools.lru_cache(maxsize=64)
def host_of(header: str) -> str:
    """Return the name in a Host header, without its port, in small letters; "" where there is none."""
    try:
        name = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""
    return "" if set(header) & set("/@?#\\ ") else name


def _root_path(text: str) -> str:
    path = text.strip().rstrip("/")
    if path and (not path.startswith("/") or set(path) & set("?#% \\\"'<>") or "//" in path or "/." in path):
        raise CnnkitError(f"{text!r} is no path to lie under; --root-path takes one as in `--root-path /cnn`")
    return path


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        raise CnnkitError(
            f"{text!r} is no address; --trust-proxy takes the proxy's own, or a network, as in "
            "`--trust-proxy 127.0.0.1` or `--trust-proxy 10.0.0.0/8`"
        ) from None
