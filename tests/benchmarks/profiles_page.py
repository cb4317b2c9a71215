"""Write docs/profiles.md: a profile of every network of the zoo on this machine, with the commands.

python -m tests.benchmarks.profiles_page docs/profiles.md [ARTIFACTS]

Exports are made in a folder of their own, or taken from ARTIFACTS and made there where they are missing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from toolkit import zoo
from toolkit.profiling.measuring.machine import describe_machine

ATTEMPTS = 3
HEAD = """# A profile of every network

Each table was printed by the command above it: seeded, untrained weights (they cost what trained ones
do), batch 1, every backend that runs on a CPU. `none` is a module for which a backend runs nothing;
rows with an arrow only move or convert data. Read [profiling.md](profiling.md) for what each figure
means. A red figure is one that this run could not vouch for: the machine was shared. One thread keeps a
busy neighbour core out; of up to {attempts} profiles, the first with the fewest red figures is shown.

Machine: {machine}. Written by `python -m tests.benchmarks.profiles_page docs/profiles.md`.
"""


def main() -> None:
    """Profile every model and write the page named on the command line."""
    target = Path(sys.argv[1])
    machine = describe_machine(1)
    said = f"{machine.processor}, {machine.cores} cores, {machine.system}"
    parts = [HEAD.format(machine=said, attempts=ATTEMPTS)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = sys.argv[2] if len(sys.argv) > 2 else scratch
        for name in zoo.models():
            arguments = ["profile", name, "--untrained", "--backend", "pytorch,ort", "--threads", "1"]
            text = _best(arguments, folder)
            parts.append(f"## {name}\n\n`cnnkit {' '.join(arguments)}`\n\n```text\n{text}\n```\n")
            print(name, flush=True)
    target.write_text("\n".join(parts))


def _best(arguments: list[str], folder: str) -> str:
    """Return what the profile printed; the attempt with the fewest red figures."""
    environment = {**os.environ, "COLUMNS": "100", "CNNKIT_ARTIFACTS": folder, "NO_COLOR": "1"}
    found: list[str] = []
    while len(found) < ATTEMPTS and not (found and _reds(found[-1]) == 0):
        done = subprocess.run(
            [sys.executable, "-m", "cnnkit", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        found.append("\n".join(line.rstrip() for line in done.stdout.splitlines()).strip("\n"))
    return min(found, key=_reds)


def _reds(text: str) -> int:
    return sum(line.startswith("red: ") for line in text.splitlines())


if __name__ == "__main__":
    main()
