"""`make gpu`: tests, training, exports, proofs and profiles on the NVIDIA GPU that is here, and a page of it.

Exits with 0 when PyTorch trained, verified and profiled every network on the GPU, whatever came of the steps
around that; with 4 when it did not; with 3 where there is no GPU; with 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.gpu.plan import NETWORKS
from tests.gpu.running import without_core_files
from tests.gpu.visit import Visit

BUDGET_S = 450.0


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__)
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="packages that this Python lacks")
    parser.add_argument("--page", type=Path, help="where the page goes (default: ./gpu.md)")
    parser.add_argument("--device", default="cuda", help="cpu lets a machine without a GPU try the script")
    parser.add_argument("--budget", type=float, default=BUDGET_S, metavar="SECONDS", help="for all steps")
    parser.add_argument("--quick", action="store_true", help="one epoch of few pictures, short profiles")
    names = [network.name for network in NETWORKS]
    parser.add_argument("--networks", default=",".join(names), metavar="NAME,…")
    parser.add_argument("--only", default="", metavar="WORD,…", help="steps whose name begins with a word")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep artifacts and logs there")
    asked = parser.parse_args(words)
    if unknown := sorted(set(asked.networks.split(",")) - set(names)):
        parser.error(f"no network {', '.join(unknown)}; known: {', '.join(names)}")
    if asked.wheels is not None and not asked.wheels.is_dir():
        parser.error(f"--wheels {asked.wheels} is no folder")
    return asked


def main(words: Sequence[str] | None = None) -> int:
    asked = arguments(words)
    page = asked.page or Path("gpu.md")
    without_core_files()
    # a polite kill ends the step in progress, too
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="cnnkit-gpu-") as folder:
        if asked.keep:
            asked.keep.mkdir(parents=True, exist_ok=True)
        status = Visit(asked, (asked.keep or Path(folder)).absolute(), page.absolute()).run()
    print(f"{page} says what ran; exit status {status}")
    return status


if __name__ == "__main__":
    sys.exit(main())
