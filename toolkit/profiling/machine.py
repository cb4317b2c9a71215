"""The machine that a profile was taken on, and what it can do at most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from toolkit.schema import Amount, Count, Positive, Rate

# smaller caches than these are left out: calling numpy costs more than a pass over an L1
LEVELS = ("L2", "L3", "memory")
# of a number in memory; a CPU's fp16 graph runs as fp32
NUMBER_BYTES = {"fp32": 4, "bf16": 2, "int8": 1}
BUSY_CORES = 0.25  # of others, beyond the cores that a measurement left free: a system is never idle


def computed_in(precision: str) -> str:
    """Return what a CPU computes a column of some precision in: `bf16`, `int8`, or fp32 for any other."""
    return precision if precision in NUMBER_BYTES else "fp32"


@dataclass(frozen=True, kw_only=True)
class Peaks:
    """A machine's peaks at a number of threads: GFLOP/s (2 per multiply-add) and GB/s by cache level.

    `gflops` is by precision, None where there is no such product. `others_cores` is how many of this
    process's `cores` others kept busy meanwhile; None off Linux.
    """

    threads: Positive
    gflops: Mapping[str, Rate | None] = field(default_factory=dict)
    gbytes_s: Mapping[str, Rate] = field(default_factory=dict)
    cache_bytes: Mapping[str, Count] = field(default_factory=dict)
    cores: Positive = 1
    others_cores: Amount | None = None

    @property
    def busy(self) -> bool:
        """Whether others wanted the cores that the measurement ran on, so that the true peaks are higher."""
        free = max(0, self.cores - self.threads)
        return self.others_cores is not None and self.others_cores > free + BUSY_CORES

    def bandwidth(self, working_set_bytes: int) -> float | None:
        """Return the GB/s of the smallest level that a working set fits into."""
        for level in LEVELS[:-1]:
            if level in self.gbytes_s and working_set_bytes <= self.cache_bytes.get(level, 0):
                return self.gbytes_s[level]
        return self.gbytes_s.get(LEVELS[-1])


@dataclass(frozen=True, kw_only=True)
class MachineFacts:
    """The machine that a profile was taken on; `affinity` lists the cores that the process might use."""

    processor: str | None = None
    cores: Positive | None = None
    threads: Positive | None = None
    threads_say: str | None = None
    affinity: tuple[Count, ...] | None = None
    system: str | None = None
    python: str | None = None
    load_average: tuple[Amount, ...] | None = None
    gpus: tuple[str, ...] | None = None
    peaks: Peaks | None = None

    @property
    def usable_cores(self) -> int | None:
        """How many cores the process might use."""
        return len(self.affinity) if self.affinity else self.cores
