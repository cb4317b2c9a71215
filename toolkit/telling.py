"""Whoever is told, in sentences, what a function does while it works."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from toolkit.figures import duration_text

# takes one sentence for people; `print` is one
Tell = Callable[[str], None]
# is told what is being done, and how much of how much of it is done
Step = Callable[[str, int, int], None]


def aloud(text: str) -> None:
    """Tell people on stderr, at once."""
    print(text, file=sys.stderr, flush=True)


def silent(text: str) -> None:
    """Tell nobody."""


def if_heard(tell: Tell) -> Tell:
    """Return what tells as `tell` does, and goes on where that cannot be written any more."""

    def told(text: str) -> None:
        # a reader that went away, a full disk; rich ends the program where a pipe has no reader
        with contextlib.suppress(OSError, SystemExit):
            tell(text)

    return told


def unwatched(what: str, done: int, of: int) -> None:
    """Watch nothing."""


def counter(on_step: Step, what: str, of: int) -> Callable[[int], None]:
    """Return what takes how many more are done, and tells how many that makes."""
    done = 0

    def told(count: int) -> None:
        nonlocal done
        done += count
        on_step(what, done, of)

    return told


# nothing is said of work that is done sooner, and then again each time that so much has passed
FIRST_S, EVERY_S = 2.0, 10.0


@dataclass
class Pace:
    """Tells how far long work has come and how long it will take; `step` is told how much was done."""

    what: str
    total: int
    tell: Tell
    done: int = 0
    began: float = field(default_factory=time.perf_counter)
    spoke: float | None = None

    def step(self, count: int) -> None:
        """Count what was done, and tell where it is time to."""
        self.done += count
        now = time.perf_counter()
        due = now - self.began >= FIRST_S if self.spoke is None else now - self.spoke >= EVERY_S
        if not due or self.done >= self.total:
            return
        self.spoke = now
        left_s = (now - self.began) / self.done * (self.total - self.done)
        left = duration_text(left_s, rough=True)
        self.tell(f"{self.what}: {self.done:,} of {self.total:,}, about {left} left")
