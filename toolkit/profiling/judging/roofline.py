"""Each row against the machine: work and bytes a second, and the share of what is attainable.

Williams, Waterman, Patterson, "Roofline: an insightful visual performance model" (2009): attainable =
min(peak, bandwidth × FLOPs / bytes), with the bandwidth of the cache level that the row's data fit.
"""

from __future__ import annotations

from dataclasses import replace

from toolkit.profiling.machine import NUMBER_BYTES, Peaks, computed_in
from toolkit.profiling.result import Cell, Profile, Row, Run

# of what is attainable: a row above it was held against peaks that others held down
MOST = 1.1


def exceeded(profile: Profile) -> bool:
    """Tell whether a row did more than the measured peaks allow."""
    cells = (cell for run in profile.runs for row in run.rows for cell in row.cells.values())
    return any((cell.attainable or 0) > MOST for cell in cells)


def with_roofline(profile: Profile, machine: Peaks) -> Profile:
    """Return the profile with each timed cell's rates and bound filled in, of columns that ran on the CPU.

    The peaks are the CPU's: what another device did is held against none.
    """
    runs = tuple(
        replace(run, rows=tuple(_row(row, run, machine) for row in run.rows)) for run in profile.runs
    )
    notes = profile.notes
    if machine.busy:
        said = f"others took {machine.others_cores:.1f} of {machine.cores} cores, {machine.threads} measured"
        notes = (*notes, f"the machine was busy ({said}): its true peaks are higher than those measured now")
    if exceeded(replace(profile, runs=runs)):
        said = "a kernel that saves products (Winograd), or others used the machine while they were measured"
        notes = (*notes, f"rows reach more than 100% of the measured peaks: {said}")
    return replace(profile, runs=runs, notes=notes, machine=replace(profile.machine, peaks=machine))


def _row(row: Row, run: Run, machine: Peaks) -> Row:
    columns = run.backends
    own = {key: cell for key, cell in row.cells.items() if columns[key].device == "cpu"}
    rated = {key: _cell(cell, columns[key].precision, machine) for key, cell in own.items()}
    return replace(row, cells={**row.cells, **rated})


def _cell(cell: Cell, precision: str, machine: Peaks) -> Cell:
    if not cell.latency_ms or cell.macs is None or not cell.ideal_bytes:
        return cell
    seconds = cell.latency_ms / 1e3
    kind = computed_in(precision)
    # bytes are counted in fp32
    moved = cell.ideal_bytes * NUMBER_BYTES[kind] / NUMBER_BYTES["fp32"]
    gflops, gbytes = 2 * cell.macs / seconds / 1e9, moved / seconds / 1e9
    peak = machine.gflops.get(kind)
    bandwidth = machine.bandwidth(int(moved))
    rated = replace(cell, gflops=gflops, gbytes_s=gbytes)
    if not peak or not bandwidth:
        return rated
    by_compute, by_memory = 2 * cell.macs / (peak * 1e9), moved / (bandwidth * 1e9)
    least = max(by_compute, by_memory)
    return replace(
        rated, attainable=least / seconds, bound="compute" if by_compute >= by_memory else "memory"
    )
