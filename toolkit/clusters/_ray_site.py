"""What runs on a machine of Ray's: a process that holds files there, and may run one command among them.

Imports no torch, so that it starts at once. Every path of the machine that work is sent from lies
under the site's `root`, as if that were the root of its file system.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import toolkit
from toolkit.clusters._ray_pieces import Piece, SiteNews, Written
from toolkit.locking import lock
from toolkit.processes import end_with_parent

_LOCK = ".lock"
_BEGINNING = "cnnkit-on-"
# Linux's request for an interface's address
_SIOCGIFADDR = 0x8915


class Site:
    """One process on a machine; all of one session there share a root, which goes with the last of them."""

    def __init__(self, session: str) -> None:
        import ray

        self._node = str(ray.get_runtime_context().get_node_id())
        temporary = Path(tempfile.gettempdir())
        self.root = temporary / f"{_BEGINNING}{session}-{self._node[:12]}"
        self._process: subprocess.Popen[bytes] | None = None
        self._written: Written | None = None
        self._output = self.root
        _clear(temporary, but=self.root)
        self.root.mkdir(exist_ok=True)
        # shared by all sites of the session: a root that nobody holds was left by a killed one
        self._held = lock(self.root / _LOCK, shared=True)

    def home(self) -> tuple[str, str]:
        """Return the machine's id and the root."""
        return self._node, str(self.root)

    def meeting(self) -> tuple[str, int]:
        """Return this machine's address, and a port of it that is free now."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            return _address(), int(probe.getsockname()[1])

    def take(self, held: Sequence[Piece]) -> str | None:
        """Write pieces of files under the root; return what the system says against it, None for nothing."""
        try:
            for piece in held:
                path = Path(f"{self.root}{piece.path}")
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("r+b" if piece.offset else "wb") as stream:
                    stream.seek(piece.offset)
                    stream.write(piece.data)
        except OSError as error:
            return f"{error.filename or self.root}: {error.strerror}"
        return None

    def start(self, words: Sequence[str], folder: str, log: str, environment: Mapping[str, str]) -> None:
        """Start a `cnnkit` command whose results come to lie under `folder`, and what it says in `log`."""
        place, said = Path(f"{self.root}{folder}"), Path(f"{self.root}{log}")
        place.mkdir(parents=True, exist_ok=True)
        self._written = Written(place, said)
        self._output = self.root / f"output-{os.getpid()}"
        # a worker may import what its environment does not name
        source = str(Path(toolkit.__file__).parents[1])
        paths = os.pathsep.join(part for part in (source, os.environ.get("PYTHONPATH")) if part)
        said.parent.mkdir(parents=True, exist_ok=True)
        own = {"PYTHONPATH": paths} | (_gloo() if "MASTER_ADDR" in environment else {})
        with self._output.open("wb") as output, said.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cnnkit", *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                cwd=self.root,
                env=os.environ | own | dict(environment),
                preexec_fn=_as_a_child,  # noqa: PLW1509  (no thread of this process is at work meanwhile)
            )

    def look(self) -> SiteNews:
        """Return what changed: all of it now and then and once the command has ended, else what grows."""
        assert self._written is not None
        assert self._process is not None
        return self._written.look(self._process, self._output)

    def stop(self, *, at_once: bool) -> None:
        """Ask the command to save and end, or end it at once."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL if at_once else signal.SIGTERM)

    def close(self) -> None:
        """Remove the root, with all that was sent."""
        self.stop(at_once=True)
        shutil.rmtree(self.root, ignore_errors=True)


def _address() -> str:
    from ray.util import get_node_ip_address

    address: Callable[[], str] = get_node_ip_address  # which says nothing of its types
    return address()


def _gloo() -> dict[str, str]:
    """Tell gloo the interface that this machine's address is of, where nobody has.

    It takes what the machine's own name leads to otherwise, which is 127.0.1.1 on Debian.
    """
    found = interface_of(_address())
    return {} if found is None or "GLOO_SOCKET_IFNAME" in os.environ else {"GLOO_SOCKET_IFNAME": found}


def interface_of(address: str) -> str | None:
    """Return the network interface that has an IPv4 address; None where the system tells of none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):
                asked = struct.pack("256s", name.encode()[:15])
                if socket.inet_ntoa(fcntl.ioctl(probe, _SIOCGIFADDR, asked)[20:24]) == address:
                    return name
    return None


def _as_a_child() -> None:
    end_with_parent()
    # Ray has its workers' signals blocked, and a command is asked to end by one
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _clear(temporary: Path, *, but: Path) -> None:
    """Remove roots of sessions that were killed."""
    for root in temporary.glob(f"{_BEGINNING}*"):
        if root == but or not root.is_dir():
            continue
        with contextlib.suppress(OSError):
            held = lock(root / _LOCK)
            if held is not None:
                with held:
                    shutil.rmtree(root, ignore_errors=True)
