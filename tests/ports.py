"""Ports for what must be told one before it listens."""

from __future__ import annotations

import random
import socket
from pathlib import Path

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """Return a port that nobody listens on, and that the system gives to nobody who asks for any.

    A server takes seconds to begin, and other tests' servers and connections are given ports meanwhile.
    """
    first = int(RANGE.read_text().split()[0]) if RANGE.exists() else 32768
    own = range(20_000, first if first > 21_000 else 32_768)
    while True:
        port = random.SystemRandom().choice(own)
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
