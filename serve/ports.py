"""Sockets that a server listens on, bound before anything is opened; and on how many cores it may run."""

from __future__ import annotations

import contextlib
import socket

from toolkit.errors import CnnkitError


def listen(
    host: str, port: int, *, shared: bool = False, what: str = "", option: str = "--port"
) -> socket.socket:
    """Return a socket bound to host and port, which others may bind, too, where it is `shared`.

    Raises CnnkitError in words when that cannot be: `what` is the socket for, which `option` its port's.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT if shared else socket.SO_REUSEADDR, 1)
            sock.bind((host, port))
        except OSError:
            sock.close()
            raise
    except OSError as error:
        raise CnnkitError(
            f"cannot listen on {host}:{port}{what and ' '}{what}: {error.strerror or error}; "
            f"`{option} 0` takes any free one"
        ) from None
    return sock


def address(sock: socket.socket, host: str) -> str:
    """Return the URL that people open."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{sock.getsockname()[1]}"


def shared_port(host: str, port: int) -> socket.socket:
    """Return a socket that keeps a free port for processes which then share it. Raises CnnkitError."""
    with contextlib.closing(listen(host, port, what="for gRPC", option="--grpc-port")) as free:
        port = free.getsockname()[1]  # one that nobody listens on, sharing it or not
    return listen(host, port, shared=True, what="for gRPC", option="--grpc-port")
