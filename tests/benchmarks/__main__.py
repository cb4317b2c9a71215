"""`make bench`: run every benchmark of this folder, one after the other, each in a process of its own.

A benchmark is one file `bench_<subject>.py` with a `main()` that prints its ratios against a reference
measured in the same run. `python -m tests.benchmarks train export` runs those whose name contains a word.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def main() -> int:
    words = sys.argv[1:]
    subjects = sorted(path.stem for path in FOLDER.glob("bench_*.py"))
    chosen = [s for s in subjects if not words or any(word in s for word in words)]
    if not chosen:
        print(f"no benchmark matches {' '.join(words)}; known: {', '.join(subjects)}")
        return 1
    # these two pin numpy to old kernels where they are set, which would flatter every ratio
    settings = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
    failed = []
    for subject in chosen:
        print(f"\n== {subject.removeprefix('bench_')}", flush=True)
        command = [sys.executable, "-m", f"tests.benchmarks.{subject}"]
        if subprocess.run(command, env=settings, check=False, cwd=FOLDER.parents[1]).returncode:
            failed.append(subject)
    if failed:
        print(f"\ndid not finish: {', '.join(failed)}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
