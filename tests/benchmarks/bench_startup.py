"""Start-up: `import cnnkit` and `cnnkit --help` as multiples of `import click`, each a process of its own.

Wanted: at most 1.5 times for `import cnnkit`, at most 3 times for `cnnkit --help`.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

ROUNDS = 15
REFERENCE = "import click"
CASES = {
    REFERENCE: ("-c", "import click"),
    "import cnnkit": ("-c", "import cnnkit"),
    "cnnkit --help": ("-m", "cnnkit", "--help"),
}


def seconds(arguments: tuple[str, ...]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    taken: dict[str, list[float]] = {name: [] for name in CASES}
    for index in range(ROUNDS + 1):
        for name, arguments in CASES.items():
            found = seconds(arguments)
            if index:  # the first round writes byte code
                taken[name].append(found)
    for name, times in taken.items():
        ratios = [own / other for own, other in zip(times, taken[REFERENCE], strict=True)]
        print(
            f"{name}: median {1e3 * statistics.median(times):.0f} ms, "
            f"{statistics.median(ratios):.2f} times {REFERENCE}"
        )


if __name__ == "__main__":
    main()
