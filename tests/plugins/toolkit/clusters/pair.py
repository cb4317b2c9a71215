"""A cluster of seats on this machine, two unless its address says how many."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

from toolkit.clusters import Cluster, Demand, Ended, Sent, Work, Workplace
from toolkit.clusters.local import LocalWorkplace
from toolkit.telling import Tell


class Seats(LocalWorkplace):
    """So many commands at once."""

    def __init__(self, count: int) -> None:
        self.at_once = count

    def run(self, work: Work) -> Ended:
        return dataclasses.replace(super().run(work), where="a seat")


class Pair(Cluster):
    """Runs work on seats."""

    name = "pair"
    summary = "seats"
    address = "SEATS"

    @contextlib.contextmanager
    def open(
        self, address: str | None, sent: Sent, need: Demand, *, tell: Tell, verbose: bool
    ) -> Iterator[Workplace]:
        yield Seats(int(address or 2))


CLUSTER = Pair()
