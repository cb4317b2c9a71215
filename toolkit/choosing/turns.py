"""Two choosings on one machine take turns: each would be the other's noise. Who waits is told for whom."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from toolkit import schema
from toolkit.artifacts import cache_root
from toolkit.errors import CnnkitError
from toolkit.figures import duration_text
from toolkit.locking import lock
from toolkit.schema import Count
from toolkit.telling import Tell

LOCK = "choosing.lock"
# how often a waiting one looks
LOOK_S = 0.2


@dataclass(frozen=True, kw_only=True)
class LockHolder:
    """Who measures: the network's name, the process and when it began, as `time.time` tells it."""

    model: str
    process: Count
    began: float

    def words(self) -> str:
        """Say who it is and for how long it has been at it."""
        taken_s = max(0.0, time.time() - self.began)
        return (
            f"`cnnkit choose {self.model}` (process {self.process}, for {duration_text(taken_s, rough=True)})"
        )


@contextlib.contextmanager
def only_one(model: str, limit_s: float, tell: Tell) -> Iterator[float]:
    """Wait until no other choosing measures on this machine; yield the seconds waited.

    Raises CnnkitError after `limit_s` seconds.
    """
    path = cache_root() / LOCK
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        taken = _taken(path, limit_s, tell)
    except OSError:  # a home that cannot be written to has no other one waiting there either
        yield 0.0
        return
    try:
        _note(taken, LockHolder(model=model, process=os.getpid(), began=time.time()))
        yield time.monotonic() - start
    finally:
        _note(taken, None)
        with contextlib.suppress(OSError):  # what a full disk did not take is written once more
            taken.close()


def _taken(path: Path, limit_s: float, tell: Tell) -> IO[str]:
    """Take the lock; say once who has it. Raises OSError where there can be none."""
    ends, told = time.monotonic() + limit_s, False
    while (taken := lock(path)) is None:
        if time.monotonic() > ends:
            raise CnnkitError(
                f"{_who(path)} measures on this machine, and {duration_text(limit_s, rough=True)} were "
                "waited for it; end that one, or try again later"
            )
        if not told:
            tell(
                f"{_who(path)} measures on this machine; waiting until it is done, for "
                f"{duration_text(limit_s, rough=True)} at most (Ctrl-C: no longer) …"
            )
            told = True
        time.sleep(LOOK_S)
    return taken


def _note(taken: IO[str], holder: LockHolder | None) -> None:
    """Write who holds the lock into it; on a full disk nobody is told, and the lock holds as well."""
    import json

    with contextlib.suppress(OSError):
        taken.seek(0)
        taken.truncate()
        taken.write(json.dumps(schema.plain(holder)) if holder else "")
        taken.flush()


def _who(path: Path) -> str:
    with contextlib.suppress(OSError, CnnkitError):
        return schema.convert(LockHolder, schema.read_json(path), what=str(path)).words()
    return "another `cnnkit choose`"
