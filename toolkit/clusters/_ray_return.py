"""What a command writes on another machine, as it comes to lie on this one.

Between whole looks only what grows comes: the log, which is written in place, and tables. A whole look is
laid in place at once, when its last piece is here: so a passport never comes without its weights, nor a
state before what belongs to it, wherever the machine is lost.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from toolkit.artifacts import write_bytes
from toolkit.clusters import Work
from toolkit.clusters._ray_pieces import HALF, STATE, Piece, SiteNews
from toolkit.errors import CnnkitError
from toolkit.publishing import take_turn

# files that may tell of paths, in which the machine's root is taken away again
_TEXTS = (".json", ".csv", ".txt", ".html")


class Return:
    """The files of one piece of work on their way back from the machine where they lie under `root`."""

    def __init__(self, work: Work, root: str) -> None:
        self._folder, self._log, self._root = work.folder, work.log, root.encode()
        # files that both sides have
        self._known = {path.relative_to(work.folder).as_posix() for path in work.kept()}
        self._staged: dict[str, Path] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop what of a whole look has come, where the rest has not."""
        for part in self._staged.values():
            part.unlink(missing_ok=True)

    def take(self, news: SiteNews) -> None:
        """Write what has come. Raises CnnkitError where that cannot be."""
        try:
            for piece in news.pieces:
                self._stage(piece)
            if not news.more:
                self._lay()
                if news.present is not None:
                    self._remove_but(news.present)
        except OSError as error:
            raise CnnkitError(
                f"cannot write {error.filename or self._folder}: {error.strerror}; free some space, then "
                "the same command with --resume goes on"
            ) from None

    def _stage(self, piece: Piece) -> None:
        path = self._folder / piece.path
        part = self._staged.setdefault(piece.path, path.with_name(f".{path.name}.back{HALF}"))
        part.parent.mkdir(parents=True, exist_ok=True)
        with part.open("r+b" if piece.offset else "wb") as stream:
            stream.seek(piece.offset)
            stream.write(piece.data)

    def _lay(self) -> None:
        """Give the files their names: states last, and a passport, by its name, after its weights.

        Others that write artifacts of these names on this machine wait until all are there.
        """
        artifacts = {(self._folder / name).parent for name in self._staged if f"{name}.json" in self._staged}
        with contextlib.ExitStack() as turns:
            for folder in sorted(artifacts):
                turns.enter_context(take_turn(folder))
            self._name()
        self._known |= self._staged.keys()
        self._staged.clear()

    def _name(self) -> None:
        for name in sorted(self._staged, key=lambda name: (name.endswith(STATE), name)):
            path, part = self._folder / name, self._staged[name]
            text = part.read_bytes().replace(self._root, b"") if path.suffix in _TEXTS else None
            if text is not None and path == self._log:  # a log that grows is no file that appears whole
                path.write_bytes(text)
            elif text is not None:
                write_bytes(path, text)
            else:
                with part.open("rb") as stream:
                    os.fsync(stream.fileno())
                part.replace(path)
            part.unlink(missing_ok=True)

    def _remove_but(self, present: frozenset[str]) -> None:
        for name in self._known - present:
            if (self._folder / name).is_file():
                (self._folder / name).unlink()
        self._known = set(present)
