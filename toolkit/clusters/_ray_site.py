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
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import toolkit
from toolkit.processes import end_with_parent

PIECE_BYTES = 16 << 20
# a state of a training is sent so often, and at the end; what is as small as a log whenever it is asked for
STATES_S, SMALL_BYTES = 10.0, 1 << 18
_STATE, _LOCK, _HALF = ".state", ".lock", ".part"
_BEGINNING = "cnnkit-on-"


@dataclass(frozen=True)
class Piece:
    """Bytes of a file, `path` being absolute on the machine that sends, from `offset` on."""

    path: str
    offset: int
    data: bytes


@dataclass(frozen=True)
class SiteNews:
    """What changed under a command's folder since the last look, and how the command ended, if it has.

    `files` are in the order in which they are to be written: states last. `present` are all that are there.
    """

    files: tuple[tuple[str, bytes], ...]
    present: frozenset[str] | None
    status: int | None
    output: bytes


def pieces(paths: Sequence[Path], size: int = PIECE_BYTES) -> Iterator[list[Piece]]:
    """Yield the content of files, about so many bytes at a time."""
    held: list[Piece] = []
    room = size
    for path in paths:
        offset = 0
        with path.open("rb") as stream:
            while data := stream.read(room):
                held.append(Piece(str(path), offset, data))
                offset, room = offset + len(data), room - len(data)
                if room <= 0:
                    yield held
                    held, room = [], size
        if offset == 0:  # an empty file is a file
            held.append(Piece(str(path), 0, b""))
    if held:
        yield held


class Site:
    """One process on a machine; all of one session there share a root, which goes with the last of them."""

    def __init__(self, session: str) -> None:
        import ray

        self._node = str(ray.get_runtime_context().get_node_id())
        temporary = Path(tempfile.gettempdir())
        self.root = temporary / f"{_BEGINNING}{session}-{self._node[:12]}"
        self._process: subprocess.Popen[bytes] | None = None
        self._folder, self._output = self.root, self.root
        self._sent: dict[str, tuple[int, int]] = {}
        self._states_due = 0.0
        _clear(temporary, but=self.root)
        self.root.mkdir(exist_ok=True)
        # shared by all sites of the session: a root that nobody holds was left by a killed one
        self._held = _held(self.root, fcntl.LOCK_SH)

    def home(self) -> tuple[str, str]:
        """Return the machine's id and the root."""
        return self._node, str(self.root)

    def meeting(self) -> tuple[str, int]:
        """Return this machine's address, and a port of it that is free now."""
        from ray.util import get_node_ip_address

        with socket.socket() as probe:
            probe.bind(("", 0))
            address: Callable[[], str] = get_node_ip_address  # which says nothing of its types
            return address(), int(probe.getsockname()[1])

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
        self._folder = Path(f"{self.root}{folder}")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._sent = {name: state for name, state, _ in _files(self._folder)}
        self._output = self.root / f"output-{os.getpid()}"
        own = str(Path(toolkit.__file__).parents[1])  # a worker may import what its environment does not name
        paths = os.pathsep.join(part for part in (own, os.environ.get("PYTHONPATH")) if part)
        said = Path(f"{self.root}{log}")
        said.parent.mkdir(parents=True, exist_ok=True)
        with self._output.open("wb") as output, said.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cnnkit", *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                cwd=self.root,
                env=os.environ | {"PYTHONPATH": paths} | dict(environment),
                preexec_fn=_as_a_child,  # noqa: PLW1509  (no thread of this process is at work meanwhile)
            )

    def look(self, whole: bool = False) -> SiteNews:
        """Return what changed; small files only, until states are due again or the command has ended."""
        assert self._process is not None
        status = self._process.poll()
        whole = whole or status is not None or time.monotonic() >= self._states_due
        if whole:
            self._states_due = time.monotonic() + STATES_S
        found = list(_files(self._folder))
        changed = [one for one in found if self._sent.get(one[0]) != one[1]]
        # read first, so that no state is newer than what belongs to it; a process killed now would leave that
        changed.sort(key=lambda one: not one[0].endswith(_STATE))
        sent = []
        for name, state, path in changed:
            if whole or (state[0] <= SMALL_BYTES and not name.endswith(_STATE)):
                with contextlib.suppress(FileNotFoundError):
                    sent.append((name, path.read_bytes()))
                    self._sent[name] = state
        return SiteNews(
            files=tuple(reversed(sent)),
            present=frozenset(name for name, _, _ in found) if whole else None,
            status=status,
            output=self._output.read_bytes() if status is not None else b"",
        )

    def stop(self, *, at_once: bool) -> None:
        """Ask the command to save and end, or end it at once."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL if at_once else signal.SIGTERM)

    def close(self) -> None:
        """Remove the root, with all that was sent."""
        self.stop(at_once=True)
        shutil.rmtree(self.root, ignore_errors=True)


def _as_a_child() -> None:
    end_with_parent()
    # Ray has its workers' signals blocked, and a command is asked to end by one
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _files(folder: Path) -> Iterator[tuple[str, tuple[int, int], Path]]:
    """Yield the files of a folder that are whole: name, size and time of change, path."""
    for path in sorted(folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            found = path.stat()
            if path.is_file() and path.suffix not in (_LOCK, _HALF):
                yield path.relative_to(folder).as_posix(), (found.st_size, found.st_mtime_ns), path


def _held(root: Path, how: int) -> IO[str] | None:
    stream = (root / _LOCK).open("w")
    try:
        fcntl.flock(stream, how | fcntl.LOCK_NB)
    except OSError:
        stream.close()
        return None
    return stream


def _clear(temporary: Path, *, but: Path) -> None:
    """Remove roots of sessions that were killed."""
    for root in temporary.glob(f"{_BEGINNING}*"):
        if root == but or not root.is_dir():
            continue
        with contextlib.suppress(OSError):
            held = _held(root, fcntl.LOCK_EX)
            if held is not None:
                with held:
                    shutil.rmtree(root, ignore_errors=True)
