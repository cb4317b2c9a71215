"""A sweep of eight small cells on a Ray cluster of two nodes of this machine, against the sweep without it.

python -m tests.benchmarks.bench_sweep              # one thread a cell, one CPU a node
python -m tests.benchmarks.bench_sweep --rounds 5

Both are whole commands, run in turn; the cluster is up before. Ray runs as many cells at once as its nodes
have CPUs, and this machine alone one after another.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from toolkit.artifacts import hash_file
from toolkit.clusters.ray import hushed

CELLS = 8


def swept(on: str, epochs: int) -> tuple[float, dict[str, str]]:
    """Sweep; return the seconds it took and each cell's hash of weights."""
    with tempfile.TemporaryDirectory() as root:
        seeds = ",".join(str(seed) for seed in range(CELLS))
        command = [sys.executable, "-m", "cnnkit", "sweep", "lenet-relu", "--seed", seeds, "--threads", "1"]
        command += ["--dataset", "fashion-mnist-sample", "--epochs", str(epochs), "--on", on]
        began = time.perf_counter()
        ran = subprocess.run(
            [*command, "--json", "--artifacts", root],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        seconds = time.perf_counter() - began
        cells = json.loads(ran.stdout)["cells"]
        return seconds, {cell["seed"]: hash_file(Path(cell["checkpoint"])) for cell in cells}


@click.command()
@click.option("--rounds", default=3, show_default=True)
@click.option("--epochs", default=4, show_default=True)
def main(rounds: int, epochs: int) -> None:
    hushed(verbose=False)
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
    # a socket's path may have 107 letters
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as temp:
        cluster = Cluster(initialize_head=True, head_node_args={**node, "temp_dir": str(Path(temp))})
        cluster.add_node(**node)
        try:
            ratios, alone, there = [], [], []
            for _ in range(rounds):
                local_s, local_hashes = swept("local", epochs)
                ray_s, ray_hashes = swept(f"ray:{cluster.address}", epochs)
                if ray_hashes != local_hashes:
                    raise SystemExit("the cells' weights differ")
                alone.append(local_s)
                there.append(ray_s)
                ratios.append(ray_s / local_s)
        finally:
            cluster.shutdown()
    print(
        f"{CELLS} cells of lenet-relu, {epochs} epochs, to equal weights: this machine "
        f"{statistics.median(alone):.1f} s, two nodes {statistics.median(there):.1f} s, "
        f"ratio {statistics.median(ratios):.2f}"
    )


if __name__ == "__main__":
    main()
