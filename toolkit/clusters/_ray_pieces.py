"""What goes from one machine to another: files in pieces, and news of what a command has written."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from toolkit.clusters import is_kept

PIECE_BYTES = 16 << 20
# all that a command has written is sent so often, and at the end; its log and its tables whenever asked for
STATES_S = 10.0
STATE, HALF, _TABLE = ".state", ".part", ".csv"


@dataclass(frozen=True)
class Piece:
    """Bytes of a file from `offset` on; `path` is absolute on the machine that sends.

    Of what a command has written it is the path from the command's folder on.
    """

    path: str
    offset: int
    data: bytes


@dataclass(frozen=True)
class SiteNews:
    """What changed under a command's folder since the last look, and how the command ended, if it has.

    With `more`, the next look tells what is missing yet, and until then none of the files is whole. `present`
    are all that are there, None where only some were looked at.
    """

    pieces: tuple[Piece, ...]
    more: bool
    present: frozenset[str] | None
    status: int | None
    output: bytes


def pieces(paths: Sequence[Path], size: int = PIECE_BYTES) -> Iterator[list[Piece]]:
    """Yield the content of files, about so many bytes at a time."""
    return _cut(((str(path), path.open("rb")) for path in paths), size)


def _cut(opened: Iterable[tuple[str, IO[bytes]]], size: int) -> Iterator[list[Piece]]:
    held: list[Piece] = []
    room = size
    for name, stream in opened:
        offset = 0
        with stream:
            while data := stream.read(room):
                held.append(Piece(name, offset, data))
                offset, room = offset + len(data), room - len(data)
                if room <= 0:
                    yield held
                    held, room = [], size
        if offset == 0:  # an empty file is a file
            held.append(Piece(name, 0, b""))
    if held:
        yield held


class Written:
    """What a command writes under its folder, told in one look after another; `log` is what it says."""

    def __init__(self, folder: Path, log: Path) -> None:
        """Begin with what lies there by now, which is known where looks are asked for."""
        self._folder, self._log = folder, log
        self._sent = {name: state for name, state, _ in _files(folder)}
        self._telling: Iterator[SiteNews] = iter(())
        self._states_due = 0.0

    def look(self, command: subprocess.Popen[bytes], output: Path) -> SiteNews:
        """Return what changed: all every STATES_S, with a first state, and at the end, else what grows.

        `output` is what the command prints, told at its end.
        """
        news = next(self._telling, None)
        if news is None:
            self._telling = self._news(command.poll(), output)
            news = next(self._telling)
        return news

    def _news(self, status: int | None, output: Path) -> Iterator[SiteNews]:
        found = list(_files(self._folder))
        # a first state is what a lost run can go on from, with all that it was begun with
        first = _has_state(name for name, _, _ in found) and not _has_state(self._sent)
        whole = first or status is not None or time.monotonic() >= self._states_due
        changed = [one for one in found if self._sent.get(one[0]) != one[1]]
        if whole:
            self._states_due = time.monotonic() + STATES_S
        else:
            changed = [one for one in changed if one[2] == self._log or one[2].suffix == _TABLE]
        present = frozenset(name for name, _, _ in found) if whole else None
        printed = output.read_bytes() if status is not None else b""
        with contextlib.ExitStack() as stack:
            told = _cut(self._opened(changed, stack), PIECE_BYTES)
            ahead = next(told, [])
            for held in told:
                yield SiteNews(tuple(ahead), more=True, present=None, status=None, output=b"")
                ahead = held
        yield SiteNews(tuple(ahead), more=False, present=present, status=status, output=printed)

    def _opened(
        self, files: list[tuple[str, tuple[int, int], Path]], stack: contextlib.ExitStack
    ) -> list[tuple[str, IO[bytes]]]:
        """Open files at one moment, each as it is then, however long it takes to send them.

        States come first, so that none is newer than what belongs to it; a process killed now would leave
        that.
        """
        opened: list[tuple[str, IO[bytes]]] = []
        for name, state, path in sorted(files, key=lambda one: not one[0].endswith(STATE)):
            with contextlib.suppress(FileNotFoundError):
                opened.append((name, stack.enter_context(path.open("rb"))))
                self._sent[name] = state
        return opened


def _has_state(names: Iterable[str]) -> bool:
    return any(name.endswith(STATE) for name in names)


def _files(folder: Path) -> Iterator[tuple[str, tuple[int, int], Path]]:
    """Yield the files of a folder that are whole: name, size and time of change, path."""
    for path in sorted(folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            found, name = path.stat(), path.relative_to(folder)
            if path.is_file() and is_kept(name):
                yield name.as_posix(), (found.st_size, found.st_mtime_ns), path
