"""Ray's clusters (https://ray.io): work on their machines, with what it reads sent there and back.

What it takes to reach a cluster stands in `_ray_connection`, and is offered here to others who speak to Ray.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from toolkit.clusters import Cluster, Demand, Sent, Workplace
from toolkit.clusters._ray_connection import (
    RayMachine,
    began_here,
    connected,
    hushed,
    insist_on_one_release,
    last_line,
    nodes,
    resolved,
    runs_here,
)
from toolkit.clusters._ray_workplace import RayWorkplace
from toolkit.telling import Tell

__all__ = [
    "CLUSTER",
    "RayMachine",
    "began_here",
    "connected",
    "hushed",
    "insist_on_one_release",
    "last_line",
    "nodes",
    "resolved",
    "runs_here",
]


class RayCluster(Cluster):
    """Runs work on the machines of a cluster, or of a Ray that is started on this one."""

    name = "ray"
    summary = "the machines of a Ray cluster"
    address = "ADDRESS"

    @contextlib.contextmanager
    def open(
        self, address: str | None, sent: Sent, need: Demand, *, tell: Tell, verbose: bool
    ) -> Iterator[Workplace]:
        with connected(address, tell=tell, verbose=verbose) as reached:
            workplace = RayWorkplace(reached, sent(), need, tell)
            try:
                yield workplace
            finally:
                workplace.close()


CLUSTER = RayCluster()
