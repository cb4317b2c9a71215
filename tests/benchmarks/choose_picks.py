"""What `choose` picks under one budget, judged and measured again beside the best of the table."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.choose_networks import ARTIFACTS, Trained, has_defaults, row_key
from tests.benchmarks.choose_store import Store, whereabouts
from tests.benchmarks.choose_table import (
    SETS,
    WINDOW_S,
    Table,
    TableEntry,
    WholeJudge,
    keeps,
    timed_set,
    told,
)
from tests.benchmarks.openvino_hints import QUEUE, beside_hints
from toolkit import schema
from toolkit.artifacts import Artifact, cache_root, open_artifact
from toolkit.backends import BACKENDS
from toolkit.choices import Budget, Contender
from toolkit.choosing import Candidate, ChooseSettings
from toolkit.choosing.candidates import find_files
from toolkit.choosing.choose import choose
from toolkit.errors import CnnkitError, GateError
from toolkit.opening import Selection, as_asked

# rounds of each set in which a pick is measured again, and how many of the table's best are beside it: the
# least of some forty noisy medians is lower than any of them would be again
ROUNDS, RIVALS = 6, 3
# within so much of the table's best, a pick is right
NEAR = 1.05
# backends whose defaults in fp32 are what people run without choosing, beside OpenVINO's hints
USUAL = ("ort", "pytorch")


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is chosen, and under which budget: the `place`-th latency of the table's, None for no latency."""

    network: Trained
    batch: int
    points: float
    place: int = 0
    within: float | None = None

    @property
    def file(self) -> str:
        """Where it is kept."""
        return f"{self.network.file}.b{self.batch}.{self.points:g}.{self.place}.pick.json"

    @property
    def words(self) -> str:
        """What it is called."""
        latency = f", latency {self.place} of 3" if self.place else ""
        return f"{self.network.name}, batch {self.batch}, {self.points:g} points{latency}"


@dataclass(frozen=True, kw_only=True)
class Chooser:
    """A network at a batch, with all that its cases are measured by; `ones` are the rows of the table."""

    source: Artifact
    root: Path
    table: Table
    ones: Mapping[str, Candidate]
    judge: WholeJudge
    store: Store

    @property
    def plain(self) -> Candidate:
        """ONNX Runtime with its defaults, in fp32."""
        return next(one for one in self.ones.values() if has_defaults(one, "ort"))

    def row(self, case: Case) -> dict[str, Any]:
        """Return what a case came to; one that failed is chosen again. Raises what `Store.kept` does."""
        identity = {
            "machine": whereabouts(),
            "table": self.table.digest,
            "within_ms": case.within,
            "times": [SETS, ROUNDS, WINDOW_S, RIVALS],
        }
        found: dict[str, Any] = self.store.kept(
            case.file, identity, lambda: self._row(case), again=lambda row: "failed" in row
        )
        return found

    def _row(self, case: Case) -> dict[str, Any]:
        """Choose, and measure the pick again. Raises KeyboardInterrupt where the choosing was interrupted."""
        table = self.table
        row: dict[str, Any] = {
            "network": case.network.name,
            "batch": case.batch,
            "points": case.points,
            "within_ms": case.within,
            "table_seconds": table.seconds,
            "table_compiling_s": table.compiling_s,
            "table_rows": len(table.entries),
            "machine": whereabouts(),
        }
        rivals = self._rivals(case)
        budget = Budget(max_accuracy_drop=case.points, within_ms=case.within)
        row["making_s"] = self._make_files(budget)
        start = time.monotonic()
        try:
            found = choose(
                case.network.name,
                budget=budget,
                settings=ChooseSettings(batches=(case.batch,)),
                root=self.root,
            )
        except GateError as error:
            return {**row, "refused": str(error), "right": not rivals, "seconds": time.monotonic() - start}
        except CnnkitError as error:
            return {**row, "failed": str(error), "right": False, "seconds": time.monotonic() - start}
        row["seconds"] = time.monotonic() - start
        if found.partial or found.chosen is None:
            raise KeyboardInterrupt
        row |= {"stages": found.stages, "disturbed": found.disturbed, "why": found.why, "notes": found.notes}
        row |= {"chosen": schema.plain(found.chosen), "baseline": schema.plain(found.baseline)}
        row |= {"pick": found.chosen.label, "gain": found.chosen.gain}
        return row | self._again(case, candidate_of(found.chosen, self.root), rivals)

    def _make_files(self, budget: Budget) -> float:
        """Have all files lie there that `choose` would make, as those of the table do; return the seconds."""
        start = time.monotonic()
        found = find_files(self.source, self.root, ChooseSettings(), budget, print, judged=True)
        for late in found.later:
            late.make()
        return time.monotonic() - start

    def _rivals(self, case: Case) -> list[TableEntry]:
        """Return the table's best under a budget, the fastest first."""
        able = [
            one
            for one in self.table.entries
            if one.allowed(case.points) and (case.within is None or one.p95_ms <= case.within)
        ]
        return sorted(able, key=lambda one: one.median_ms)[:RIVALS]

    def _again(self, case: Case, pick: Candidate, rivals: Sequence[TableEntry]) -> dict[str, Any]:
        """Judge a pick on every picture, and time it beside its rivals, all in fresh processes."""
        ones, within = self.ones, case.within
        own, lost = row_key(pick), told(self.judge.ruling(pick))
        usual = {name: key for name in USUAL for key, one in ones.items() if has_defaults(one, name)}
        everyone = {own: pick} | {key: ones[key] for key in (*(one.key for one in rivals), *usual.values())}
        beside = self._beside(case, own, everyone)
        times = {key: ms for key, (ms, _) in beside["times"].items()}
        worst = {key: p95 for key, (_, p95) in beside["times"].items()}
        row: dict[str, Any] = {
            "pick_key": own,
            "pick_ms": times[own],
            "pick_p95_ms": worst[own],
            "lost": lost,
            "kept": keeps(lost, case.points) and (within is None or worst[own] <= within),
        }
        # a rival that does not keep to the latency when it is measured again is none
        left = [one.key for one in rivals if within is None or worst[one.key] <= within]
        row["right"] = row["kept"]
        if left:
            best = min(left, key=times.__getitem__)
            row |= {"best": ones[best].contender(case.batch).label, "best_ms": times[best]}
            row["over_best"] = times[own] / times[best]
            row["right"] = row["over_best"] <= NEAR
        row["usual"] = {name: times[own] / times[key] for name, key in usual.items()} | beside["hints"]
        row["queue"] = row["usual"].pop(QUEUE, None)
        return row

    def _beside(self, case: Case, own: str, everyone: Mapping[str, Candidate]) -> dict[str, Any]:
        """Return the times of everyone and the pick's shares of OpenVINO's hints; of the same ones once."""
        identity = {
            "machine": whereabouts(),
            "batch": case.batch,
            "table": self.table.digest,
            "pick": own,
            "everyone": sorted(everyone),
            "times": [SETS, ROUNDS, WINDOW_S],
        }
        digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:8]
        name = f"{case.network.file}.b{case.batch}.beside-{digest}.json"

        def measure() -> dict[str, Any]:
            times = times_of(everyone, self.judge, case.batch)
            hints: list[dict[str, float]] = []
            if BACKENDS.load("openvino").availability().available:
                hints = [beside_hints(everyone[own], self.plain.artifact, case.batch) for _ in range(SETS)]
            middle = {name: statistics.median(one[name] for one in hints) for name in (hints or [{}])[0]}
            return {"times": times, "hints": middle}

        found: dict[str, Any] = self.store.kept(name, identity, measure, begun=True)
        return found


def times_of(
    everyone: Mapping[str, Candidate], judge: WholeJudge, batch: int
) -> dict[str, tuple[float, float]]:
    """Return the middle of the medians and the worst p95 over sets of fresh processes, in turn.

    Raises CnnkitError where one does not run in each of them.
    """
    sets = []
    for _ in range(SETS):
        found = timed_set(everyone, judge.pictures, batch, rounds=ROUNDS)
        times = found.times()
        for key in everyone:
            if key not in times:
                why = found.lost.get(key, "it was not timed")
                raise CnnkitError(f"{everyone[key].contender(batch).label} does not run again: {why}")
        sets.append(times)
    return {
        key: (statistics.median(one[key][0] for one in sets), max(one[key][1] for one in sets))
        for key in everyone
    }


def candidate_of(one: Contender, root: Path) -> Candidate:
    """Return a contender as a candidate. Raises CnnkitError where its file is gone or damaged."""
    backend, file = BACKENDS.load(one.backend), open_artifact(Path(one.artifact))
    return Candidate(
        backend=one.backend,
        artifact=as_asked(file, backend.opens(Selection(root=root, precision=one.precision))),
        settings=dict(one.settings),
        threads=one.threads,
    )


def contender_of(data: Mapping[str, Any]) -> Contender:
    """Return a contender as a row holds it."""
    return schema.convert(Contender, data, what="a contender of a row")


def latencies(table: Table, points: float) -> tuple[float | None, ...]:
    """Return None and three budgets of the p95: what half of the table keeps, a quarter, and hardly any."""
    times = sorted(one.p95_ms for one in table.entries if one.allowed(points))
    if not times:
        raise CnnkitError(f"nothing in the table keeps {points:g} points, not even ONNX Runtime's fp32")
    return None, 1.1 * times[len(times) // 2], 1.1 * times[len(times) // 4], 1.4 * times[0]


def chosen_cold(source: Artifact, folder: Path) -> dict[str, Any]:
    """Choose where only the weights are, with a cache of its own; return the seconds and the pick."""
    name = source.name
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary) / ARTIFACTS / name
        home.mkdir(parents=True)
        for path in (folder / ARTIFACTS / name).glob(f"{name}.safetensors*"):
            shutil.copy2(path, home / path.name)
        for path in (folder / ARTIFACTS / name).glob("*.trained-on.txt"):
            shutil.copy2(path, home / path.name)
        # but for data sets that were fetched
        cache, data = Path(temporary) / "cache" / cache_root().name, cache_root().absolute() / "data"
        cache.mkdir(parents=True)
        if data.exists():
            (cache / "data").symlink_to(data)
        words = ["choose", name, "--artifacts", str(home.parent), "--json", "--allow-noise"]
        start = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "cnnkit", *words],
            capture_output=True,
            text=True,
            env={
                **os.environ,
                "XDG_CACHE_HOME": str(cache.parent),
                "TORCHINDUCTOR_CACHE_DIR": f"{cache}/torch",
            },
            check=False,
        )
        seconds = time.monotonic() - start
    if done.returncode:
        raise CnnkitError(f"choosing with nothing made ended with {done.returncode}: {done.stderr[-300:]}")
    found = json.loads(done.stdout)
    label = contender_of(found["chosen"]).label
    return {"seconds": seconds, "pick": label, "stages": found["stages"]}
