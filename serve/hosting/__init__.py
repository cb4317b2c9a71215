"""The contract of a hosting file: `HOSTING`, a Hosting; and what one is asked to host."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from serve.settings import ServeSettings
from toolkit.catalog import Shelf, place_of
from toolkit.telling import Tell


class Hosting(ABC):
    """A place where a server runs: begun there, seen to its end, and drained at SIGTERM or Ctrl-C.

    One that is reached by an address takes it behind its word and a colon, and says in `address` how.
    """

    name: ClassVar[str]
    address: ClassVar[str | None] = None

    @abstractmethod
    def host(self, models: Sequence[str], settings: ServeSettings, address: str | None, tell: Tell) -> None:
        """Serve models until a signal; `tell` hears where, and what happens.

        Raises CnnkitError when that cannot be, UnavailableError where the place is not there.
        """


HOSTINGS = Shelf("serve.hosting", "HOSTING", Hosting, "place to serve")
# where a server runs unless another place is named
USUAL = "local"


@dataclass(frozen=True, kw_only=True)
class HostingPlace:
    """A hosting's word as it was typed, and the address behind it."""

    name: str
    address: str | None = None

    @classmethod
    def of(cls, text: str | None) -> HostingPlace:
        """Read WORD or WORD:ADDRESS. Raises CnnkitError for another."""
        hosting, address = place_of(HOSTINGS, text or USUAL)
        return cls(name=hosting.name, address=address)


def replicas_of(text: str) -> tuple[int, int]:
    """Read N or MIN-MAX replicas. Raises ValueError."""
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    least, most = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 0 < least <= most:
        raise ValueError("replicas: a number of 1 or more, or two as in 1-4")
    return least, most
