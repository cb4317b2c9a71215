"""Two source trees in turn: training, profiles, an export, serving and start-up, before and after a change.

    git worktree add --detach ../before COMMIT
    python -m tests.benchmarks.pairs ../before [--rounds 12] [--case training:lenet --case serving]

Both trees run in this environment's Python, a process each, first one and then the other, with the order
turned every round; every figure is the after's over the before's: the geometric mean of the rounds' ratios
with its 95 % interval (bootstrap over rounds), because a shared machine's own speed changes by a
third. Below 1 is less time; of images and answers a second above 1 is faster. Data sets are read from where
`CNNKIT_DATA` says; the trees share nothing else, neither artifacts nor caches.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.benchmarks import wrk
from tests.benchmarks.bench_serving import MODEL, answers, binary_request, free_port, json_request

HERE = Path(__file__).parents[2]
ROUNDS = 12


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A source tree, and a folder of its own for what it keeps."""

    source: Path
    kept: Path

    @property
    def settings(self) -> dict[str, str]:
        """Return the environment in which this tree's `python -m cnnkit` runs."""
        return {
            **os.environ,
            "PYTHONPATH": str(self.source),
            "CNNKIT_ARTIFACTS": str(self.kept / "artifacts"),
            "XDG_CACHE_HOME": str(self.kept / "cache"),
        }

    def run(self, *arguments: str) -> dict[str, float | str]:
        """Run `cnnkit ARGUMENTS`: its seconds on the wall and of CPU, and what it tells as JSON."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "cnnkit", *arguments],
            cwd=self.kept,
            env=self.settings,
            capture_output=True,
            text=True,
            check=False,
        )
        wall = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            raise RuntimeError(f"{self.source}: cnnkit {' '.join(arguments)}: {done.stderr[-500:]}")
        told = json.loads(done.stdout) if "--json" in arguments else {}
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {**told, "wall_s": wall, "cpu_s": cpu}


@dataclass(kw_only=True)
class Ratios:
    """One figure's ratios, a round each."""

    what: str
    before: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)

    def line(self) -> str:
        """Say the mean ratio, its interval and the medians on both sides."""
        logs = [math.log(a / b) for a, b in zip(self.after, self.before, strict=True)]
        drawn = np.random.default_rng(0).choice(logs, size=(10_000, len(logs)))
        low, high = np.exp(np.quantile(drawn.mean(axis=1), (0.025, 0.975)))
        return (
            f"{self.what:36} {math.exp(statistics.fmean(logs)):5.2f}  [{low:.2f}, {high:.2f}]"
            f"  before {statistics.median(self.before):,.4g}  after {statistics.median(self.after):,.4g}"
            f"  ({len(logs)} rounds)"
        )


Measure = Callable[[Tree], Mapping[str, float]]


def training(model: str, images: int, batch: int) -> Measure:
    """Return the measure of one epoch of the textbook recipe in fp32: images a second, and CPU seconds."""
    options = ["--recipe", "textbook", "--epochs", "1", "--batch", str(batch), "--images", str(images)]

    def measure(tree: Tree) -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            told = tree.run(
                "train", model, *options, "--dataset", "fashion-mnist", "--artifacts", folder, "--json"
            )
        name = f"training {model} ({told['arithmetic']})"
        return {f"{name}, images/s": float(told["images_per_second"]), f"{name}, CPU s": float(told["cpu_s"])}

    return measure


def profile(model: str) -> Measure:
    """Return the measure of `cnnkit profile` over PyTorch and ONNX Runtime, once exported."""

    def measure(tree: Tree) -> dict[str, float]:
        told = tree.run("profile", model, "--untrained", "--backend", "pytorch,ort", "--json")
        return {f"profile {model}, s": float(told["wall_s"]), f"profile {model}, CPU s": float(told["cpu_s"])}

    return measure


def export(tree: Tree) -> dict[str, float]:
    """Measure an export of AlexNet, and one that finds it stored."""
    with tempfile.TemporaryDirectory() as folder:
        asked = ("export", "alexnet", "--untrained", "--artifacts", folder)
        first, again = tree.run(*asked), tree.run(*asked)
    return {
        "export alexnet, s": float(first["wall_s"]),
        "export alexnet, CPU s": float(first["cpu_s"]),
        "export alexnet again, s": float(again["wall_s"]),
        "export alexnet again, CPU s": float(again["cpu_s"]),
    }


def startup(tree: Tree) -> dict[str, float]:
    """Measure `cnnkit --help`."""
    return {"--help, s": float(tree.run("--help")["wall_s"])}


CASES: dict[str, Measure] = {
    "startup": startup,
    "training:lenet": training("lenet", 30_000, 64),
    "training:alexnet28": training("alexnet28", 10_000, 128),
    "profile:lenet": profile("lenet"),
    "profile:alexnet": profile("alexnet"),
    "export": export,
}
SERVING = "serving"


def in_turn(case: Measure, before: Tree, after: Tree, rounds: int) -> list[Ratios]:
    """Measure both trees so many times after a first time that counts for nothing."""
    case(before), case(after)
    found: dict[str, Ratios] = {}
    for index in range(rounds):
        sides = [(before, "before"), (after, "after")]
        for tree, side in sides if index % 2 else sides[::-1]:
            for what, value in case(tree).items():
                getattr(found.setdefault(what, Ratios(what=what)), side).append(value)
    return list(found.values())


def serving(before: Tree, after: Tree, rounds: int) -> list[Ratios]:
    """Ask both trees' servers in turn, at 16 connections: answers a second in JSON and in binary."""
    rows = np.random.default_rng(0).random((1, 1, 28, 28), dtype=np.float32)
    path = f"/v2/models/{MODEL}/infer"
    found = []
    with contextlib.ExitStack() as stack:
        ports = {
            side: stack.enter_context(served(tree)) for side, tree in (("before", before), ("after", after))
        }
        for what, request in (("JSON", json_request), ("binary", binary_request)):
            ratios = Ratios(what=f"serving {what}, answers/s")
            for index in range(rounds + 1):
                for side in list(ports) if index % 2 else list(ports)[::-1]:
                    driven = wrk.drive(request(ports[side], path, rows), requests=2000, connections=16)
                    if driven.failures:
                        raise RuntimeError(f"{what}, {side}: {driven.failures} requests failed")
                    if index:  # the first round warms both up
                        getattr(ratios, side).append(driven.rate)
            found.append(ratios)
    return found


@contextlib.contextmanager
def served(tree: Tree) -> Iterator[int]:
    """Run this tree's server on its shipped weights until the block ends; yield its port."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "cnnkit", "serve", MODEL, "--port", str(port), "--no-page"],
        cwd=tree.kept,
        env=tree.settings,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        ready, end = answers(port, "/v2/health/ready"), time.monotonic() + 120
        while not ready():
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{tree.source}: the server did not get ready")
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def main() -> None:
    """Print a line a figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("before", type=Path, help="the tree of the commit before")
    parser.add_argument("--after", type=Path, default=HERE, help="the tree after (default: this one)")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--case", action="append", choices=[*CASES, SERVING])
    asked = parser.parse_args()
    # these two pin numpy to old kernels where they are set, which would flatter every ratio
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory() as folder:
        before, after = (
            Tree(source=source.resolve(), kept=Path(tempfile.mkdtemp(dir=folder)))
            for source in (asked.before, asked.after)
        )
        for name in asked.case or [*CASES, SERVING]:
            if name == SERVING:
                found = serving(before, after, asked.rounds)
            else:
                found = in_turn(CASES[name], before, after, asked.rounds)
            for ratios in found:
                print(ratios.line(), flush=True)


if __name__ == "__main__":
    main()
