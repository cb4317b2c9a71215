"""A cluster of two nodes on this machine, for all tests here."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from toolkit.clusters.ray import hushed


class TwoNodes:
    """A head node, and another one, `second`."""

    def __init__(self, temp: Path, head_cpus: int, second_cpus: int) -> None:
        from ray._common.utils import get_default_ray_temp_dir
        from ray.cluster_utils import Cluster

        # the head notes its address there, too, and never makes the folder when it has one of its own
        Path(get_default_ray_temp_dir()).mkdir(parents=True, exist_ok=True)
        # a lost node is noticed within two seconds rather than fifteen
        noticing = {
            "health_check_initial_delay_ms": 1000,
            "health_check_period_ms": 500,
            "health_check_timeout_ms": 1000,
            "health_check_failure_threshold": 3,
        }
        self._cpus = second_cpus
        self._small = {"object_store_memory": 80 << 20, "include_dashboard": False}
        head = {"num_cpus": head_cpus, "_system_config": noticing, "temp_dir": str(temp), **self._small}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.second = self.add()

    def add(self) -> Any:
        """Add a node like the second, and return it."""
        return self.cluster.add_node(num_cpus=self._cpus, **self._small)

    @property
    def address(self) -> str:
        return str(self.cluster.address)


@contextlib.contextmanager
def started(head_cpus: int = 1, second_cpus: int = 2) -> Iterator[TwoNodes]:
    """Start a cluster; nothing of it is left behind."""
    pytest.importorskip("ray", reason="ray is not installed (extra ray)")
    hushed(verbose=False)
    # a socket's path may have 107 letters, which pytest's own folders leave too few of
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as temp:
        made = TwoNodes(Path(temp), head_cpus, second_cpus)
        try:
            yield made
        finally:
            made.cluster.shutdown()


@pytest.fixture(scope="package")
def two_nodes() -> Iterator[TwoNodes]:
    """Start the cluster once for all tests here."""
    with started() as made:
        yield made
