"""Why a pick wins, by the rows of a profile, and what OpenVINO's own `benchmark_app` tells beside it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np

from tests.benchmarks.choose_networks import row_key
from tests.benchmarks.choose_picks import Chooser, candidate_of, contender_of
from tests.benchmarks.choose_store import whereabouts
from tests.benchmarks.choose_table import SETS, timed_set
from tests.benchmarks.openvino_hints import APP_S, HINTS, benchmark_app
from toolkit.choosing import Candidate
from toolkit.choosing.explaining import columns_of
from toolkit.errors import CnnkitError
from toolkit.profiling.bench import run_batch
from toolkit.profiling.result import Row, Run
from toolkit.profiling.settings import ProfileSettings

BASELINE, PICK = "baseline", "pick"
OVERHEAD = "overhead"
# seconds of each column's clean calls, the rows that are told, and rounds beside benchmark_app
DURATION_S, ROWS, APP_ROUNDS = 1.0, 8, 12


def explained(stem: str, row: Mapping[str, Any], chooser: Chooser) -> dict[str, Any]:
    """Return the baseline and a row's pick by the rows of their profiles, the greatest difference first."""
    base, pick = (candidate_of(contender_of(row[name]), chooser.root) for name in ("baseline", "chosen"))
    identity = {
        "machine": whereabouts(),
        "batch": row["batch"],
        "baseline": row_key(base),
        "pick": row_key(pick),
        "duration_s": DURATION_S,
    }

    def measure() -> dict[str, Any]:
        # torch knows threads of the whole process only, and a runtime's workers outlive their engine
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            found = fresh.submit(profiled, base, pick, row["batch"]).result()
        names = {name: row[name] for name in ("network", "batch", "points", "pick", "pick_ms")}
        return {**names, "baseline": contender_of(row["baseline"]).label, **found}

    told: dict[str, Any] = chooser.store.kept(f"{stem}.rows.json", identity, measure)
    return told


def profiled(base: Candidate, pick: Candidate, batch: int) -> dict[str, Any]:
    """Profile two ways to run a network: in one profile where their settings are the same, else in two.

    Raises CnnkitError where a runtime tells no times of layers.
    """
    ones = {BASELINE: base, PICK: pick}
    alike = (base.threads, dict(base.settings)) == (pick.threads, dict(pick.settings))
    groups = [ones] if alike else [{name: one} for name, one in ones.items()]
    calls: dict[str, Any] = {}
    parts: list[RowPart] = []
    for group in groups:
        run = _run(group, batch)
        for name in group:
            column = run.backends[name]
            if column.latency_ms is None or not column.timed:
                raise CnnkitError(f"{name}: {column.why_not or 'its runtime tells no time of a layer'}")
            calls[name] = {"ms": column.latency_ms.median, "layers_ms": column.layer_sum_ms}
            # between the nodes lies mostly what tracing them costs
            parts += [RowPart.of(row, name) for row in run.rows if name in row.cells and row.type != OVERHEAD]
    return {"profiles": len(groups), "calls": calls, "rows": joined(parts)}


def _run(ones: Mapping[str, Candidate], batch: int) -> Run:
    first = next(iter(ones.values()))
    settings = ProfileSettings(
        threads=first.threads, chosen=dict(first.settings), duration_s=DURATION_S, walks=False
    )
    found = run_batch(columns_of(ones), settings, batch)
    if found is None or found.partial:
        raise KeyboardInterrupt
    return found


@dataclass(frozen=True, kw_only=True)
class RowPart:
    """One row of one column: the modules that it computes, or what else it is, and its milliseconds."""

    modules: tuple[str, ...]
    label: str
    column: str
    ms: float

    @classmethod
    def of(cls, row: Row, column: str) -> RowPart:
        ms = row.cells[column].latency_ms or 0.0
        return cls(modules=row.modules, label=row.label, column=column, ms=ms)


def joined(parts: Iterable[RowPart]) -> list[dict[str, Any]]:
    """Return rows with the time of either column; what one runtime computes in one piece is one row.

    Rows without a module, as what moves data, are one where they are called the same.
    """
    groups: list[list[RowPart]] = []
    for part in parts:
        own = set(part.modules) or {part.label}
        near = [group for group in groups if any(own & (set(one.modules) or {one.label}) for one in group)]
        place = groups.index(near[0]) if near else len(groups)  # in the network's order
        groups = [group for group in groups if group not in near]
        groups.insert(place, [*(one for group in near for one in group), part])
    rows = []
    for group in groups:
        modules = list(dict.fromkeys(name for one in group for name in one.modules))
        times = {name: sum(one.ms for one in group if one.column == name) for name in (BASELINE, PICK)}
        rows.append({"row": _row_name(modules) or group[0].label, **times})
    return sorted(rows, key=lambda row: -abs(row[BASELINE] - row[PICK]))


def _row_name(modules: Sequence[str]) -> str:
    if len(modules) > 3:
        return f"{modules[0]} … {modules[-1]} ({len(modules)} modules)"
    return " + ".join(modules)


def explanation(found: Mapping[str, Any]) -> str:
    """Return why a pick wins as a table: what differs most, the other rows, and the whole call, not traced.

    Tracing lengthens short rows: those of a call of some microseconds may be more than the call.
    """
    shown = found["rows"][:ROWS]
    calls = {name: found["calls"][name]["ms"] for name in (BASELINE, PICK)}
    rest = {name: sum(row[name] for row in found["rows"][ROWS:]) for name in calls}
    joint = "two profiles, joined by row" if found["profiles"] == 2 else "one profile, in turn"
    lines = [
        f"Why it wins: `{found['network']}` at batch {found['batch']}, {found['points']:g} points ({joint}).",
        "",
        f"| row | {found['baseline']}, ms | {found['pick']}, ms | saved, ms |",
        "|---|---|---|---|",
    ]
    named = [*((row["row"], row) for row in shown), ("other rows", rest), ("**the call, not traced**", calls)]
    for name, times in named:
        saved = times[BASELINE] - times[PICK]
        cells = (name.replace("|", "/"), *(f"{times[key]:.4f}" for key in (BASELINE, PICK)), f"{saved:+.4f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def beside_app(stem: str, row: Mapping[str, Any], chooser: Chooser) -> dict[str, Any]:
    """Return what OpenVINO's benchmark_app tells of either hint, in turn with a pick and ONNX Runtime."""
    pick = candidate_of(contender_of(row["chosen"]), chooser.root)
    plain, batch = chooser.plain, row["batch"]
    graph = plain.artifact
    ones = {row_key(pick): pick, row_key(plain): plain}
    identity = {
        "machine": whereabouts(),
        "batch": batch,
        "ways": list(ones),
        "graph": graph.passport.sha256,
        "times": [SETS, APP_S, APP_ROUNDS],
    }

    def measure() -> dict[str, Any]:
        apps: dict[str, list[dict[str, float]]] = {hint: [] for hint in HINTS}
        own: dict[str, list[tuple[float, float]]] = {key: [] for key in ones}
        for _ in range(SETS):
            for hint in HINTS:
                apps[hint].append(benchmark_app(graph, batch, hint))
            tracks = timed_set(ones, chooser.judge.pictures, batch, rounds=APP_ROUNDS).tracks
            for key, track in tracks.items():
                every = np.concatenate([np.array(one.ms) for one in track.windows])
                own[key].append((float(np.median(every)), float(every.mean())))
        return {
            **{name: row[name] for name in ("network", "batch", "points", "pick")},
            "pick_key": row_key(pick),
            "ort_key": row_key(plain),
            "own": own,
            "apps": apps,
        }

    told: dict[str, Any] = chooser.store.kept(f"{stem}.benchmark_app.json", identity, measure)
    return told


def app_table(found: Mapping[str, Any]) -> str:
    """Return a pick, ONNX Runtime's defaults and benchmark_app's two hints as a table."""
    batch = found["batch"]

    def middle(entries: Sequence[Any], of: Callable[[Any], float]) -> float:
        return statistics.median(map(of, entries))

    lines = [
        f"`{found['network']}` at batch {batch} ({found['points']:g} points) beside OpenVINO's "
        f"benchmark_app, the middle of {SETS} runs in turn:",
        "",
        "| | median of a call, ms | all time by the calls, ms | pictures/s |",
        "|---|---|---|---|",
    ]
    names = {f"the pick, {found['pick']}": found["pick_key"], "ONNX Runtime, defaults": found["ort_key"]}
    for name, key in names.items():
        median, mean = (middle(found["own"][key], lambda pair, at=at: pair[at]) for at in (0, 1))
        lines.append(f"| {name} | {median:.4f} | {mean:.4f} | {1e3 * batch / mean:,.0f} |")
    for hint, runs in found["apps"].items():
        median = middle(runs, lambda one: one["latency (ms)"])
        by_call = middle(runs, lambda one: one["by_call_ms"])
        rate = middle(runs, lambda one: one["throughput"])
        name = f"benchmark_app -hint {hint.lower()}"
        lines.append(f"| {name} | {median:.2f} | {by_call:.4f} | {rate:,.0f} |")
    return "\n".join(lines)
