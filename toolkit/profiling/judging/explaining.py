"""Why the costliest rows cost what they do and what to try, in words: only what the figures carry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, prod

from toolkit.figures import bytes_text, ms_text, percent_text
from toolkit.graphs.counting import CONVERSIONS
from toolkit.profiling.machine import Peaks
from toolkit.profiling.result import Cell, Column, Explanation, Profile, Row, Run

COSTLIEST = 3
# what lies beside a row, or what fusing it would save, is a reason from this share of its time on
BESIDE = 0.2
# a kernel that is done sooner, and that its work explains less than half of, is mostly its start
SHORT_MS, EXPLAINED = 0.02, 0.5
# a kernel that reaches so much of what is attainable leaves nothing to a better one
WELL, POORLY = 0.6, 0.4
FEW_PRODUCTS = 49  # an output of a 7×7 depthwise convolution
FULL_VECTORS = 0.8
FASTER = 1.3

Told = tuple[str, str | None]  # why, and what to try


def with_explanations(profile: Profile, *, lanes: int | None) -> Profile:
    """Return the profile with a sentence for each timed column's costliest rows, where figures carry one.

    `lanes` is how many fp32 numbers a vector of this machine's processor holds; None where it is not known.
    """
    peaks = profile.machine.peaks
    runs = tuple(
        replace(
            run,
            explanations={
                key: tuple(_of(run, key, peaks, lanes)) for key, c in run.backends.items() if c.timed
            },
        )
        for run in profile.runs
    )
    return replace(profile, runs=runs)


def _of(run: Run, key: str, peaks: Peaks | None, lanes: int | None) -> Iterator[Explanation]:
    placed = [(row, row.cells[key]) for row in run.rows if key in row.cells and row.cells[key].latency_ms]
    placed.sort(key=lambda entry: entry[1].latency_ms or 0.0, reverse=True)
    for row, cell in placed[:COSTLIEST]:
        on_cpu = run.backends[key].device == "cpu"
        seen = _Seen(run, key, row, cell, peaks if on_cpu else None, lanes if on_cpu else None)
        told = next((found for rule in RULES if (found := rule(seen))), None)
        if told:
            yield Explanation(
                row=row.label, latency_ms=seen.ms, share=cell.share, why=told[0], advice=told[1]
            )


@dataclass(frozen=True)
class _Seen:
    """One costly row in one column, with what stands around it."""

    run: Run
    key: str
    row: Row
    cell: Cell
    peaks: Peaks | None
    lanes: int | None

    @property
    def column(self) -> Column:
        return self.run.backends[self.key]

    @property
    def ms(self) -> float:
        return self.cell.latency_ms or 0.0

    @cached_property
    def rivals(self) -> set[str]:
        """The other columns of its network."""
        return {*self.run.beside(self.key)} - {self.key}

    @cached_property
    def elsewhere(self) -> str | None:
        """The column that runs the row in least time, where that is much less."""
        others = {
            key: cell.latency_ms
            for key, cell in self.row.cells.items()
            if key in self.rivals and cell.latency_ms and self.run.backends[key].measured
        }
        best = min(others, key=others.__getitem__, default=None)
        if best is None or not self.row.modules or self.ms < FASTER * others[best]:
            return None
        return f"{best} runs it in {ms_text(others[best])} ms ({self.ms / others[best]:.1f} times as fast)"

    def beside(self, wanted: Callable[[str], bool]) -> tuple[float, list[str]]:
        """Return what moving data for the row takes, in milliseconds, and by which operators."""
        cells = [
            row.cells[self.key]
            for row in self.run.rows
            if row.type == "layout" and row.caused_by in self.row.modules and self.key in row.cells
        ]
        own = [cell for cell in cells if any(map(wanted, cell.ops))]
        return sum(cell.latency_ms or 0.0 for cell in own), [op for cell in own for op in cell.ops]


def _between(seen: _Seen) -> Told | None:
    if seen.row.type != "overhead":
        return None
    own = seen.column.distortion_ms or 0.0
    if own >= seen.ms / 2:
        return f"mostly the profiler's own cost: it made the run {ms_text(own)} ms slower", None
    count = sum(len(row.cells[seen.key].nodes) for row in seen.run.rows if seen.key in row.cells)
    if not count:
        return None
    each = 1e3 * seen.ms / count
    why = f"the runtime's own work between {count} kernels, {each:.1f} µs for each, and not the network's"
    return why, "a larger batch shares it among more pictures; a runtime that fuses more starts fewer kernels"


def _movement(seen: _Seen) -> Told | None:
    if seen.row.type != "layout":
        return None
    ops = ", ".join(dict.fromkeys(seen.cell.ops))
    moved = seen.cell.memory.activation_bytes
    size = f" {bytes_text(moved)}" if moved else ""
    cause = f" for `{seen.row.caused_by}`" if seen.row.caused_by else ""
    if CONVERSIONS & set(seen.cell.ops):
        return f"{ops} converts{size}{cause} and computes nothing", "give its neighbours one number format"
    return f"{ops} moves{size}{cause} and computes nothing", "let its neighbours compute in one layout"


def _conversions(seen: _Seen) -> Told | None:
    cost, ops = seen.beside(lambda op: op in CONVERSIONS)
    if not seen.row.modules or cost < BESIDE * seen.ms:
        return None
    named = ", ".join(dict.fromkeys(ops))
    why = f"{named} beside it cost another {ms_text(cost)} ms ({cost / seen.ms:.0%} of its own time)"
    return why, "give its neighbours its number format, or keep it in theirs"


def _layout(seen: _Seen) -> Told | None:
    cost, ops = seen.beside(lambda op: op not in CONVERSIONS)
    if not seen.row.modules or cost < BESIDE * seen.ms:
        return None
    named = ", ".join(dict.fromkeys(ops))
    why = f"{named} for its layout cost another {ms_text(cost)} ms ({cost / seen.ms:.0%} of its own time)"
    return why, _channels(seen) or "let its neighbours compute in its layout"


def _channels(seen: _Seen) -> str | None:
    shape, lanes = seen.row.output_shape, seen.lanes
    if not lanes or not shape or len(shape) < 4 or not shape[1] % lanes:
        return None
    return f"channels in multiples of {lanes} (it has {shape[1]}) keep convolutions in the blocked layout"


def _unfused(seen: _Seen) -> Told | None:
    own = len(seen.cell.nodes)
    fused = [
        (cell.latency_ms, key)
        for key, cell in seen.row.cells.items()
        if key in seen.rivals and len(cell.nodes) == 1 and cell.latency_ms
    ]
    saved = seen.row.saved_bytes
    if own < 2 or not fused or not saved or not seen.peaks:
        return None
    bandwidth = seen.peaks.bandwidth(saved)
    if not bandwidth or saved / bandwidth / 1e6 < BESIDE * seen.ms:
        return None
    ms, key = min(fused)
    why = f"no fused kernel: {own} kernels pass up to {bytes_text(saved)} on to each other"
    return why, f"{key} runs them as one, in {ms_text(ms)} ms"


def _short(seen: _Seen) -> Told | None:
    reached = seen.cell.attainable
    if seen.ms >= SHORT_MS or reached is None or reached >= EXPLAINED or not seen.row.modules:
        return None
    kernels = len(seen.cell.nodes)
    what = "kernel" if kernels == 1 else f"{kernels} kernels"
    took = f"{1e3 * seen.ms:.1f} µs, of which its work explains {percent_text(reached)}"
    return f"too little work: {took}; the rest is mostly the start of the {what}", seen.elsewhere or _batch(
        seen
    )


def _batch(seen: _Seen) -> str | None:
    return "a larger batch gives each start more work" if seen.run.batch == 1 else None


def _padding(seen: _Seen) -> Told | None:
    shape, lanes = seen.row.output_shape, seen.lanes
    if seen.cell.bound != "compute" or not lanes or not shape or len(shape) not in (2, 4):
        return None
    if (
        seen.column.precision != "fp32"
    ):  # vectors of bf16 and int8 hold more numbers, and not all kernels fill them
        return None
    whole = ceil(shape[1] / lanes) * lanes
    full = shape[1] / whole
    if full > FULL_VECTORS or (seen.cell.attainable or 0.0) > full:
        return None
    why = (
        f"padding: {shape[1]} output channels fill {full:.0%} of whole vectors of {lanes}, and it reaches "
        f"{percent_text(seen.cell.attainable)} of the arithmetic that is attainable"
    )
    return why, f"{whole} channels may cost little more"


def _few_products(seen: _Seen) -> Told | None:
    shape, macs = seen.row.output_shape, seen.cell.macs
    if seen.cell.bound != "compute" or not shape or not macs or (seen.cell.attainable or 1.0) > POORLY:
        return None
    products = macs / prod(shape)
    if products > FEW_PRODUCTS:
        return None
    why = f"each output is a sum of only {products:.0f} products, which leaves vector units waiting"
    return f"{why} ({_rate(seen)})", seen.elsewhere


def _slow(seen: _Seen) -> Told | None:
    reached, bound = seen.cell.attainable, seen.cell.bound
    if not bound or reached is None or reached >= POORLY or not seen.row.modules:
        return None
    work = "arithmetic" if bound == "compute" else "bytes"
    why = f"a slow kernel: its {work} would take {ms_text(reached * seen.ms)} ms here ({_rate(seen)})"
    return why, seen.elsewhere


def _rate(seen: _Seen) -> str:
    cell = seen.cell
    rate = f"{cell.gflops:.0f} GFLOP/s" if cell.bound == "compute" else f"{cell.gbytes_s:.1f} GB/s"
    if (cell.attainable or 0.0) > 1:
        return f"{rate}, as much as was measured to be attainable"
    return f"{rate}, {percent_text(cell.attainable)} of what is attainable"


def _compute(seen: _Seen) -> Told | None:
    if seen.cell.bound != "compute":
        return None
    well = (seen.cell.attainable or 0.0) >= WELL
    return f"compute-bound ({_rate(seen)})", (_cheaper(seen) if well else seen.elsewhere) or seen.elsewhere


def _cheaper(seen: _Seen) -> str:
    """Say which number format has a much higher peak here than fp32, and that else only less work helps."""
    gflops = seen.peaks.gflops if seen.peaks else {}
    fp32 = gflops.get("fp32")
    peaks = {name: rate / fp32 for name in ("bf16", "int8") if fp32 and (rate := gflops.get(name))}
    faster = [f"{name} has {ratio:.1f} times the peak" for name, ratio in peaks.items() if ratio > FASTER]
    told = ["less arithmetic (channels, pixels)", *(faster if seen.column.precision == "fp32" else [])]
    return "; ".join(told)


def _memory(seen: _Seen) -> Told | None:
    cell = seen.cell
    if cell.bound != "memory" or not cell.gbytes_s or not seen.row.modules:
        return None
    moved = seen.ms * cell.gbytes_s * 1e6  # bytes in the column's own precision
    weights = cell.memory.weights_bytes or 0
    if weights >= moved / 2:
        share = f"{bytes_text(weights)} of the {bytes_text(moved)} that it moves are weights"
        few = "; smaller numbers are fewer bytes" if seen.column.precision == "fp32" else ""
        return (
            f"memory-bound: {share} ({_rate(seen)})",
            f"a larger batch reads them once for all pictures{few}",
        )
    why = f"memory-bound: it moves {bytes_text(moved)} ({_rate(seen)})"
    return why, seen.elsewhere or "fuse it with a neighbour, or move less: smaller numbers, fewer pixels"


RULES: tuple[Callable[[_Seen], Told | None], ...] = (
    *(_between, _movement, _conversions, _layout, _unfused, _short, _padding, _few_products),
    *(_slow, _compute, _memory),
)


def sentence(told: Explanation) -> str:
    """Return an explanation as one sentence."""
    share = f"{percent_text(told.share)}, " if told.share is not None else ""
    advice = f"; try: {told.advice}" if told.advice else ""
    return f"`{told.row}` ({share}{ms_text(told.latency_ms)} ms): {told.why}{advice}"


def marked(column: Column) -> str:
    """Say what a column's figures are to be taken with."""
    return f" (red: {'; '.join(column.flags)})" if column.flags else ""
