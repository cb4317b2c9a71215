"""The figures of the benchmark of choosing: a line for each case, what was wanted, a table and plots."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks.choose_networks import Trained
from tests.benchmarks.choose_picks import NEAR, contender_of
from tests.benchmarks.choose_table import Table, measured
from toolkit.artifacts import artifact_name, write_bytes
from toolkit.choices import ALLOWED_POINTS, Contender
from toolkit.choosing.page import Plotted, svg
from toolkit.choosing.result import frontier

# wanted: such a share of the picks within NEAR of the table's best, none slower than the best of the usual
# ways by more, each in such a share of the table's time and in so many seconds
RIGHT, SLOWER, SHARE, LONGEST_S = 0.95, 1.03, 0.25, 90.0
HINTS = ("openvino latency hint", "openvino throughput hint")
# what a column of the table is called, by what the pick is held against
COLUMNS = {
    "ort": "times as fast as ONNX Runtime's defaults",
    "pytorch": "PyTorch",
    HINTS[0]: "OpenVINO's latency hint",
    HINTS[1]: "throughput hint",
}

Case = Mapping[str, Any]


@dataclass(kw_only=True)
class Outcome:
    """What a run of the benchmark came to: how many cases were `planned`, and the rows of those chosen.

    `failed` and `waiting` (not measured yet) hold what it is and why, and of how many cases: none where it is
    something beside the cases. `cold` are the choosings with nothing made, by network.
    """

    planned: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    failed: list[tuple[str, int]] = field(default_factory=list)
    waiting: list[tuple[str, int]] = field(default_factory=list)
    cold: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """The exit status: 1 where something failed; what was wanted and is missed is no failure."""
        return int(bool(self.failed) or any("failed" in row for row in self.rows))

    @property
    def lost(self) -> int:
        """How many cases failed without a row."""
        return sum(count for _, count in self.failed)


def lossy_hints(table: Table, points: float) -> list[str]:
    """Return OpenVINO's hints where they do not keep the points: in bf16, where a processor has it."""
    unasked = [
        one
        for one in table.entries
        if (one.contender.backend, one.contender.precision) == ("openvino", "bf16")
    ]
    return list(HINTS) if unasked and not any(one.allowed(points) for one in unasked) else []


def said(row: Case) -> str:
    """Say what one case came to."""
    within = f" within {row['within_ms']:.3g} ms" if row["within_ms"] else ""
    asked, took = f"{row['points']:g} points{within}", taken(row)
    if "pick" not in row:
        return f"{asked}: {row.get('refused') or row.get('failed')}; {took}"
    beside = f", {row['over_best']:.2f} of the table's best ({row['best']})" if "over_best" in row else ""
    broken = "" if row["kept"] else "; BROKEN: " + lost_words(row)
    return (
        f"{asked}: {row['pick']}, {row['pick_ms']:.4g} ms{beside}; "
        f"{1 / row['usual']['ort']:.2f} times as fast as ONNX Runtime's defaults; {took}{broken}"
    )


def taken(row: Case) -> str:
    """Say how long a choosing took, and in which share of its table's time."""
    whole, alone = share(row), share(row, compiled=False)
    return (
        f"choose {row['seconds']:.0f} s, table {row['table_seconds']:.0f} s, {whole:.0%} of it ({alone:.0%} "
        f"without what torch.compile took); files {row['making_s']:.0f} s before"
    )


def lost_words(row: Case) -> str:
    """Say what a pick loses on every picture, and its p95 measured again."""
    lost = row["lost"]
    if lost["ci95"] is None:
        return f"{lost['why']}"
    low, high = lost["ci95"]
    return (
        f"{lost['points']:+.2f} points ({low:+.2f} to {high:+.2f}) on {lost['images']:,} images, "
        f"p95 {row['pick_p95_ms']:.4g} ms"
    )


def share(row: Case, *, compiled: bool = True) -> float:
    """Return the seconds of a choosing over those of its table, with or without what compiling took there."""
    return float(row["seconds"] / (row["table_seconds"] - (0.0 if compiled else row["table_compiling_s"])))


def summary(found: Outcome) -> None:
    """Print what was wanted beside what was found, and what was not."""
    rows = found.rows
    failed = found.lost + sum("failed" in row for row in rows)
    chosen = sum("failed" not in row for row in rows)
    waiting = found.planned - chosen - failed  # with those that an interruption left
    print(
        f"\ncases: {found.planned} planned, {chosen} measured, {failed} failed, {waiting} not measured",
        flush=True,
    )
    for what, _ in found.failed:
        print(f"  failed: {what}")
    for what, _ in found.waiting:
        print(f"  not measured: {what}")
    for name, cold in found.cold.items():
        print(f"  with nothing made before, {name}: {cold['seconds']:.0f} s, {cold['pick']}")
    if not rows:
        return
    for machine in dict.fromkeys(machine_words(row) for row in rows):
        print(machine)
    print(per_network(rows))
    wanted(rows, found.lost)
    print(markdown(rows))


def machine_words(row: Case) -> str:
    """Say on which machine a row was measured."""
    where = row["machine"]
    versions = ", ".join(f"{name} {text}" for name, text in where["versions"].items())
    sets = ", ".join(where["instruction_sets"])
    return f"{where['processor']}, {where['cores']} cores, {sets}; {where['system']}; {versions}"


def per_network(rows: Sequence[Case]) -> str:
    """Return the seconds of choosing and of the table, and their ratio, of each network at each batch."""
    lines = []
    for name, batch in dict.fromkeys((row["network"], row["batch"]) for row in rows):
        own = [row for row in rows if (row["network"], row["batch"]) == (name, batch)]
        middle, most = (of([row["seconds"] for row in own]) for of in (statistics.median, max))
        whole, count = own[0]["table_seconds"], own[0]["table_rows"]
        lines.append(
            f"  {name}, batch {batch}: choose {middle:.0f} s (at most {most:.0f}), table {whole:.0f} s of "
            f"{count} rows, {middle / whole:.0%}"
        )
    return "\n".join(lines)


def wanted(rows: Sequence[Case], lost: int) -> None:
    """Print the figures that were asked for; cases that were `lost` are no right picks."""
    picks = [row for row in rows if "pick" in row]
    right, every = sum(bool(row["right"]) for row in rows), len(rows) + lost
    shares, alone = [share(row) for row in rows], [share(row, compiled=False) for row in rows]
    print(
        f"within {NEAR - 1:.0%} of the table's best: {right} of {every} ({right / every:.0%}; wanted "
        f"{RIGHT:.0%})"
    )
    print(
        f"time of the table's: {statistics.median(shares):.0%} in the middle, at most {max(shares):.0%} "
        f"(wanted {SHARE:.0%}); without what torch.compile took there, {statistics.median(alone):.0%} and "
        f"{max(alone):.0%}"
    )
    print(f"longest choosing: {max(row['seconds'] for row in rows):.0f} s (wanted {LONGEST_S:.0f})")
    print(f"budgets broken: {sum(not row['kept'] for row in picks)} of {len(picks)} (wanted 0)")
    four = [
        max(row["usual"][name] for name in COLUMNS if name in row["usual"] and name not in row["lossy"])
        for row in picks
    ]
    if not four:
        return
    lossy = sum(bool(row["lossy"]) for row in picks)
    print(f"OpenVINO's hints are no rivals in {lossy} of {len(picks)}: in bf16 they do not keep the points")
    print(
        f"against the best of the usual ways ({', '.join(COLUMNS)}): at most {max(four):.2f} of its time "
        f"(wanted {SLOWER:g}), over in {sum(one > SLOWER for one in four)} of {len(four)}"
    )
    queues = [row["queue"] for row in picks if row["queue"] is not None]
    if queues:
        print(
            "by the picture, one call after another, beside a full queue of OpenVINO's throughput hint: "
            f"{min(queues):.2f} to {max(queues):.2f} of its time"
        )
    gains = [
        1 / row["usual"]["ort"]
        for row in picks
        if row["points"] == ALLOWED_POINTS and row["within_ms"] is None
    ]
    if gains:
        mean = math.exp(statistics.fmean(map(math.log, gains)))
        print(
            f"gain over ONNX Runtime's defaults at {ALLOWED_POINTS:g} points: {mean:.2f} (geometric mean of "
            f"{len(gains)}, {min(gains):.2f} to {max(gains):.2f})"
        )


def markdown(rows: Iterable[Case]) -> str:
    """Return the table of the docs: each pick beside the exhaustive table's best and the usual ways."""
    head = ("network", "batch", "points", "within ms", "pick", "ms", "points lost", "table's best", "ms")
    head = (*head, *COLUMNS.values(), "s", "table's s", "share")
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows:
        within = f"{row['within_ms']:.3g}" if row["within_ms"] else ""
        asked = (f"`{row['network']}`", row["batch"], f"{row['points']:g}", within)
        took = (f"{row['seconds']:.0f}", f"{row['table_seconds']:.0f}", f"{share(row):.0%}")
        if "pick" not in row:
            why = row.get("refused") or row.get("failed")
            empty = [""] * (len(head) - len(asked) - len(took) - 1)
            cells: tuple[Any, ...] = (*asked, why, *empty, *took)
        else:
            lost = row["lost"]
            drop = f"{lost['points']:+.2f} (to {lost['ci95'][1]:+.2f})" if lost["ci95"] else "–"
            best = (row.get("best", "–"), f"{row['best_ms']:.4g}" if "best_ms" in row else "–")
            beside = [beside_words(row, name) for name in COLUMNS]
            cells = (*asked, row["pick"], f"{row['pick_ms']:.4g}", drop, *best, *beside, *took)
        lines.append(f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |")
    return "\n".join(lines)


def beside_words(row: Case, name: str) -> str:
    """Say how many times as fast as a usual way a pick is, and where that does not keep the points."""
    if name not in row["usual"]:
        return "–"
    return f"{1 / row['usual'][name]:.2f}{' (loses more)' if name in row['lossy'] else ''}"


def draw(network: Trained, batch: int, table: Table, rows: Sequence[Case], folder: Path) -> Path | None:
    """Write a table as SVG: each row's median against what it loses, the frontier, and one pick of its rows.

    The pick is that of half a point without a latency where there is one. None where there is no pick.
    """
    picks = [row for row in rows if "pick" in row and row["within_ms"] is None]
    if not picks:
        return None
    row = min(picks, key=lambda one: abs(one["points"] - ALLOWED_POINTS))
    chosen = measured(contender_of(row["chosen"]), row["pick_ms"], row["pick_p95_ms"], row["lost"])
    every: list[tuple[Contender, str | None]] = [
        (
            one.contender,
            None if one.allowed(row["points"]) else f"over the {row['points']:g} points that are allowed",
        )
        for one in table.entries
    ]
    plain = [one for one, _ in every if one.label == "ort fp32"]
    drawn = svg(
        Plotted(
            contenders=[*every, (chosen, None if row["kept"] else "it does not keep the budget")],
            frontier=frontier([one for one, _ in every]),
            baseline=next(iter(plain), None),
            chosen=chosen,
        )
    )
    if drawn is None:
        return None
    path = folder / f"choose-{artifact_name(network.name)}-b{batch}.svg"
    write_bytes(path, drawn.encode())
    return path
