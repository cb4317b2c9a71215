"""What this machine can do at most: multiply-adds a second by precision, bytes a second by cache level.

Measured with torch's products (numpy's where torch is missing) and numpy's sums, at the same number of
threads as the profile, and kept on disk for a day: a laptop on battery is another machine.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit import schema
from toolkit.artifacts import cache_root, write_json
from toolkit.errors import CnnkitError
from toolkit.machine.cpu import cpu
from toolkit.profiling.machine import LEVELS, Peaks
from toolkit.schema import Positive

KEEP_S = 24 * 3600
KEEP_BUSY_S = 300  # a peak that others may have held down must not be believed for a day
SIZE = 768  # of the square matrices: 2.4 MB each, three of them fit an L2 or L3


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What kept peaks must agree in: processor, threads, cores and what makes the products."""

    processor: str
    threads: Positive
    cores: Positive
    means: str


@dataclass(frozen=True, kw_only=True)
class KeptPeaks:
    """Peaks on disk; `measured` is in seconds since 1970."""

    identity: Circumstances
    measured: float
    peaks: Peaks


def peaks(threads: int | None, *, folder: Path | None = None, anew: bool = False) -> Peaks:
    """Return this machine's peaks, measured now (about two seconds) or within the last day.

    `anew` measures again unless that was just done, for peaks that a network exceeded: others held
    them down. The larger of both counts, since nothing but the machine can make a peak higher.
    """
    count = threads or cpu().cores
    path = (folder or cache_root()) / f"peaks-{count}.json"
    identity = identity_of(count)
    kept, now = _kept(path), time.time()
    known, age_s = (kept.peaks, now - kept.measured) if kept and kept.identity == identity else (None, 0.0)
    if known and age_s < (KEEP_BUSY_S if known.busy or anew else KEEP_S):
        return known
    found = _measure(count)
    if known and age_s < KEEP_S:
        found = _larger(found, known)
    with contextlib.suppress(CnnkitError):  # peaks that cannot be kept are measured again
        write_json(path, asdict(KeptPeaks(identity=identity, measured=time.time(), peaks=found)))
    return found


def identity_of(threads: int) -> Circumstances:
    """Return the circumstances of peaks that are measured here and now."""
    here = cpu()
    try:
        means = f"torch {importlib.metadata.version('torch')}"
    except importlib.metadata.PackageNotFoundError:
        means = f"numpy {np.__version__}"
    return Circumstances(processor=here.name, threads=threads, cores=here.cores, means=means)


def _kept(path: Path) -> KeptPeaks | None:
    """Return what is on disk; None where there is nothing, or what another release wrote."""
    try:
        return schema.convert(KeptPeaks, schema.read_json(path), what=str(path))
    except (FileNotFoundError, CnnkitError):
        return None  # measured anew by the caller


def _larger(found: Peaks, known: Peaks) -> Peaks:
    gflops = {
        key: max(found.gflops.get(key) or 0, known.gflops.get(key) or 0) or None for key in found.gflops
    }
    gbytes = {key: max(value, known.gbytes_s.get(key, 0)) for key, value in found.gbytes_s.items()}
    return replace(found, gflops=gflops, gbytes_s=gbytes)


def _measure(threads: int) -> Peaks:
    caches, others = cache_bytes(), Others()
    flops: dict[str, float | None] = {name: _products(name, threads) for name in ("fp32", "bf16", "int8")}
    bandwidth = {}
    for level in LEVELS:
        size = caches.get(level)
        if level == "memory":
            bandwidth[level] = _stream(4 * max([*caches.values(), 8_000_000]) // threads, threads)
        elif size:
            bandwidth[level] = _stream(size // (2 * threads if level == "L3" else 2), threads)
    return Peaks(
        threads=threads,
        gflops=flops,
        gbytes_s=bandwidth,
        cache_bytes=caches,
        cores=cpu().cores,
        others_cores=others.cores(),
    )


class Others:
    """How many of this process's cores others keep busy, from when it is made; a VM's lost time counts."""

    def __init__(self) -> None:
        self._start = self._now()

    def cores(self, children_s: float = 0.0) -> float | None:
        """Return the mean since then; None where the kernel does not tell.

        `children_s` are the processor seconds that this process's own children spent meanwhile.
        """
        end = self._now()
        if self._start is None or end is None:
            return None
        wall, busy, own = (b - a for a, b in zip(self._start, end, strict=True))
        return max(0.0, busy - own - children_s) / wall if wall > 0 else None

    @staticmethod
    def _now() -> tuple[float, float, float] | None:
        """Return the time, the busy seconds of these cores and those of this process."""
        try:
            lines = Path("/proc/stat").read_text().splitlines()
            ours = {f"cpu{core}" for core in os.sched_getaffinity(0)}
            tick = os.sysconf("SC_CLK_TCK")
        except (OSError, AttributeError):
            return None
        # user, nice, system, idle, iowait, irq, softirq, steal; what guests take is in user already
        ticks = [list(map(int, line.split()[1:9])) for line in lines if line.split(" ", 1)[0] in ours]
        busy = sum(sum(core) - core[3] - core[4] for core in ticks) / tick
        return time.perf_counter(), busy, time.process_time()


def cache_bytes() -> dict[str, int]:
    """Return the sizes of the data caches of core 0, as Linux tells them; empty elsewhere."""
    found: dict[str, int] = {}
    units = {"K": 1024, "M": 1024**2}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            kind, level = (folder / "type").read_text().strip(), (folder / "level").read_text().strip()
            text = (folder / "size").read_text().strip()
        except OSError:
            continue
        if kind != "Instruction":
            found["L1d" if level == "1" else f"L{level}"] = int(text[:-1]) * units.get(text[-1], 1)
    return found


def _best(call: Callable[[], Any], *, seconds: float = 0.25) -> float:
    """Return the shortest of the calls that fit the time: interruptions only ever lengthen one."""
    call()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def _stream(size: int, threads: int) -> float:
    """Return the GB/s of adding one array to another (two read, one written), each thread its own."""
    count = max(256, size // 12)
    repeat = max(1, 2_000_000 // count)
    arrays = [[np.ones(count, dtype=np.float32) for _ in range(3)] for _ in range(threads)]

    def passes(a: NDArray[np.float32], b: NDArray[np.float32], c: NDArray[np.float32]) -> None:
        for _ in range(repeat):
            np.add(a, b, out=c)

    with ThreadPoolExecutor(threads) as pool:
        seconds = _best(lambda: list(pool.map(lambda trio: passes(*trio), arrays)))
    return threads * repeat * 12 * count / seconds / 1e9


def _products(precision: str, threads: int) -> float | None:
    """Return the GFLOP/s of a square matrix product; None where it cannot be had on that many threads."""
    try:
        import torch
    except ImportError:
        # numpy's BLAS takes every core, and has no switch of its own
        return _numpy_products() if precision == "fp32" and threads == cpu().cores else None
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.int8}
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        if precision == "int8":
            a = torch.ones(SIZE, SIZE, dtype=torch.int8)
            b = torch.ones(SIZE, SIZE, dtype=torch.int8)
            seconds = _best(lambda: torch._int_mm(a, b))
        else:
            x = torch.ones(SIZE, SIZE, dtype=kinds[precision])
            y = torch.ones(SIZE, SIZE, dtype=kinds[precision])
            seconds = _best(lambda: torch.mm(x, y))
    except RuntimeError:  # no kernel of that type on this processor
        return None
    finally:
        torch.set_num_threads(before)
    return 2 * SIZE**3 / seconds / 1e9


def _numpy_products() -> float:
    x = np.ones((SIZE, SIZE), dtype=np.float32)
    return 2 * SIZE**3 / _best(lambda: x @ x) / 1e9
