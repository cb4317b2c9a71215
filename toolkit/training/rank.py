"""One rank as `--ranks` starts it: a training whose watcher tells another process, in lines of JSON."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import IO

from toolkit import schema
from toolkit.allocation import reuse_freed_memory
from toolkit.errors import CnnkitError
from toolkit.processes import end_with_parent
from toolkit.training import EpochRecord, Watcher
from toolkit.training.jobs import train
from toolkit.training.process.launching import Word

_COUNT_S = 0.1  # so often pictures are told of: a line for each step would cost small steps a share


class Teller(Watcher):
    """Tells what it learns to the process that started this one."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._count, self._told = 0, 0.0

    def tell(self, word: Word) -> None:
        """Write a word down, after the pictures that came before."""
        if self._count and word.kind != "images":
            self.flush()
        self._stream.write(json.dumps(schema.plain(word)) + "\n")
        self._stream.flush()

    def flush(self) -> None:
        """Tell of the pictures that were not told of yet."""
        count, self._count, self._told = self._count, 0, time.monotonic()
        self.tell(Word(kind="images", numbers=(count,)))

    def say(self, text: str) -> None:
        self.tell(Word(kind="say", text=text))

    def read(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done >= total or now - self._told > _COUNT_S:
            self._told = now
            self.tell(Word(kind="read", numbers=(done, total)))

    def start(self, *, epochs: int, images: int, done: int) -> None:
        self.tell(Word(kind="start", numbers=(epochs, images, done)))

    def images(self, count: int) -> None:
        self._count += count
        if time.monotonic() - self._told > _COUNT_S:
            self.flush()

    def epoch(self, record: EpochRecord) -> None:
        self.tell(Word(kind="epoch", record=record))


def main() -> int:
    """Train with the arguments on stdin; return the exit status."""
    end_with_parent()  # without Linux: when the next word finds no reader
    # what libraries print is no word of ours
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    teller = Teller(told)
    arguments = json.loads(sys.stdin.read())
    reuse_freed_memory()
    try:
        outcome = train(watcher=teller, **arguments)
    except CnnkitError as error:
        lost = getattr(error, "ranks", None)
        teller.tell(Word(kind="error", text=str(error), lost=lost, exit_status=error.exit_status))
        return error.exit_status
    if os.environ["RANK"] == "0":
        teller.tell(Word(kind="report", report=outcome.report()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
