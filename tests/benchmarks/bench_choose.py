"""`choose` against an exhaustive table of ten networks, and against what people run without choosing.

    python -m tests.benchmarks.bench_choose [--folder FOLDER] [--cifar DIR] [--networks a,b|all] [--batches 1]
    python -m tests.benchmarks.bench_choose --networks all --batches 1,32 --points 0,0.5,2 --within
    python -m tests.benchmarks.bench_choose --networks a --explain a --benchmark-app a
    python -m tests.benchmarks.bench_choose --networks all --batches 1,32 --report --plots docs/images

A network is one of the ten, or any `NAME` or `NAME:PIXELS` that `cnnkit train` knows. At one batch it takes
some five minutes on 2 cores, and about another for each further budget. DIR holds CIFAR-10 as
`train/<class>/…` and `test/<class>/…`; $CIFAR_FOLDER is taken where none is named, and without either the
networks that need it fail. All that was trained and measured is kept in FOLDER with what it holds for
(machine, releases, files' hashes, rows) and not done again; what holds for something else is measured anew,
and that is said. A run that was stopped goes on; --report prints what is there without measuring. What fails
is told, the other cases go on, and the exit status is 1. For each network at each batch:

- the table: every entry of `configurations` in SETS sets of fresh processes, all of them in turn, each file's
  answers on all validation pictures; its int8 files are its own, and whole
- `choose` for each of the points (with --within under three latency budgets, too), its files made before. Its
  pick is judged on every picture and timed beside the table's best three, ONNX Runtime's defaults, OpenVINO's
  latency and throughput hints and eager PyTorch, in turn, in SETS sets of fresh processes; cases that come to
  the same pick and the same best share those
- with --cold, a choosing that has its fp16 and int8 files still to make and nothing compiled, once a network
- with --explain, the rows of a profile by which the pick wins; with --benchmark-app OpenVINO's own tool
- wanted: the pick within 5 % of the table's best in 95 % of the cases, at most a quarter of the table's time
  and 90 s a network, no budget broken in any of the sets, never over 3 % slower than the best of the four
  (of OpenVINO's hints where they keep the points, too: where a processor has bf16 they compute in it unasked)
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.choose_explained import app_table, beside_app, explained, explanation
from tests.benchmarks.choose_networks import (
    ARTIFACTS,
    NETWORKS,
    UNASKED,
    UNASKED_COLOURED,
    Trained,
    candidates,
    has_defaults,
    network_of,
    train,
)
from tests.benchmarks.choose_picks import Case, Chooser, chosen_cold, contender_of, latencies
from tests.benchmarks.choose_report import Outcome, draw, lossy_hints, said, summary
from tests.benchmarks.choose_store import NotMeasuredError, Store, TimeUpError, whereabouts
from tests.benchmarks.choose_table import Table, WholeJudge, table
from toolkit.artifacts import Artifact
from toolkit.choices import ALLOWED_POINTS
from toolkit.choosing import ChooseSettings
from toolkit.choosing.pictures import pictures_for
from toolkit.errors import CnnkitError
from toolkit.processes import stopped_as_by_ctrl_c

# budgets of a latency in a table, and none
PLACES = 4
# the exit status of Ctrl-C
INTERRUPTED = 130


def main() -> int:
    asked = arguments()
    found = Outcome(
        planned=len(asked.networks) * len(asked.batches) * len(asked.points) * (PLACES if asked.within else 1)
    )
    store = Store(folder=asked.folder, ends=time.monotonic() + asked.seconds, report=asked.report)
    status = 0
    try:
        with stopped_as_by_ctrl_c():
            for network in asked.networks:
                for batch in asked.batches:
                    OneTable(network=network, batch=batch, asked=asked, store=store, found=found).run()
    except KeyboardInterrupt:
        print("\ninterrupted: the same command goes on", flush=True)
        status = INTERRUPTED
    summary(found)
    return status or found.status


def arguments() -> argparse.Namespace:
    """Return what was typed; a network that is not known ends it with the nearest match."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    cifar = os.environ.get("CIFAR_FOLDER")
    parser.add_argument("--folder", type=Path, default=Path("build/choose"))
    parser.add_argument("--cifar", type=Path, default=Path(cifar) if cifar else None)
    parser.add_argument("--networks", type=_words, help="names, by commas, or `all`")
    parser.add_argument("--batches", type=_listed(int), default=[1])
    parser.add_argument("--points", type=_listed(float), default=[ALLOWED_POINTS])
    parser.add_argument("--within", action="store_true", help="under three latency budgets each, too")
    parser.add_argument("--cold", action="store_true", help="time one choosing with nothing made, too")
    parser.add_argument("--explain", type=_words, default=[], metavar="NETWORK,…")
    parser.add_argument("--benchmark-app", type=_words, default=[], metavar="NETWORK,…")
    parser.add_argument("--plots", type=Path, help="draw each table with its pick as SVG into a folder")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin nothing new after so many")
    parser.add_argument("--report", action="store_true", help="measure nothing: print what is in FOLDER")
    asked = parser.parse_args()
    unasked = [*UNASKED, *(UNASKED_COLOURED if asked.cifar else ())]
    named = unasked if asked.networks is None else asked.networks
    if named == ["all"]:
        named = [one.name for one in NETWORKS]
    try:
        chosen, told, timed = (
            {(one := network_of(word)).name: one for word in words}
            for words in (named, asked.explain, asked.benchmark_app)
        )
    except CnnkitError as error:
        parser.error(str(error))
    asked.explain, asked.benchmark_app = set(told), set(timed)
    # what is to be explained is measured, too
    asked.networks = [*chosen.values(), *(one for name, one in (told | timed).items() if name not in chosen)]
    return asked


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _listed(kind: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    def listed(text: str) -> list[Any]:
        return [kind(word) for word in text.split(",")]

    return listed


@dataclass(frozen=True, kw_only=True)
class OneTable:
    """A network at a batch: its table, its cases, and what is asked beside them."""

    network: Trained
    batch: int
    asked: argparse.Namespace
    store: Store
    found: Outcome

    @property
    def stem(self) -> str:
        return f"{self.network.file}.b{self.batch}"

    @property
    def places(self) -> range:
        return range(PLACES if self.asked.within else 1)

    def run(self) -> None:
        """Measure what is missing, or read what is there; note what fails, and go on."""
        cases = len(self.asked.points) * len(self.places)
        print(f"\n== {self.network.name}, batch {self.batch}", flush=True)
        before = len(self.found.rows)
        if self.store.report:
            self._report()
        else:
            with self._noted(f"{self.network.name}, batch {self.batch}", cases):
                source = train(self.network, self.asked.folder, self.asked.cifar, self.store)
                with self._chooser(source) as chooser:
                    self._cases(chooser)
                    self._beside(chooser, self.found.rows[before:])
                    if self.asked.cold:
                        self._cold(source)
        self._draw(self.found.rows[before:])

    @contextlib.contextmanager
    def _chooser(self, source: Artifact) -> Iterator[Chooser]:
        """Yield what the cases are chosen by, the table measured."""
        if not (self.asked.folder / f"{self.stem}.table.json").exists():
            self.store.insist(f"the table of {self.network.name} at batch {self.batch}")
        with pictures_for(source, ChooseSettings(), None) as pictures:
            ones = candidates(self.network, self.asked.folder, source, self.batch)
            base = next((one for one in ones.values() if has_defaults(one, "ort")), None)
            if base is None:
                raise CnnkitError("ONNX Runtime's fp32 is missing, and nothing can be held against it")
            judge = WholeJudge(base=base, pictures=pictures)
            made = table(self.network, self.batch, ones, judge, self.store)
            print(
                f"    {len(made.entries)} rows: {made.timing_s:.0f} s of timing, of which torch.compile took "
                f"{made.compiling_s:.0f}, and {made.judging_s:.0f} s of judging on {pictures.source}",
                flush=True,
            )
            root = self.asked.folder / ARTIFACTS
            yield Chooser(source=source, root=root, table=made, ones=ones, judge=judge, store=self.store)

    def _cases(self, chooser: Chooser) -> None:
        for points in self.asked.points:
            with self._noted(f"{self.network.name}, batch {self.batch}, {points:g} points", len(self.places)):
                within = latencies(chooser.table, points)
                for place in self.places:
                    case = self._case(points, place, within[place])
                    with self._noted(case.words, 1):
                        self._add(chooser.row(case))

    def _case(self, points: float, place: int, within: float | None = None) -> Case:
        return Case(network=self.network, batch=self.batch, points=points, place=place, within=within)

    def _add(self, row: dict[str, Any]) -> None:
        whole = Table.of(self.store.measured(f"{self.stem}.table.json"))
        row = {**row, "lossy": lossy_hints(whole, row["points"])}
        self.found.rows.append(row)
        print("   ", said(row), flush=True)

    def _report(self) -> None:
        """Read every case that is there, whatever else is missing."""
        whole = self.store.identity(f"{self.stem}.table.json")
        for points in self.asked.points:
            for place in self.places:
                case = self._case(points, place)
                with self._noted(case.words, 1):
                    row = self.store.measured(case.file)
                    # of the same numbers as the table that is here now
                    if self.store.identity(case.file).get("table") != whole.get("table"):
                        raise NotMeasuredError(f"{case.file} of this table")
                    self._add(row)
        for name, names, shown in (
            (f"{self.stem}.rows.json", self.asked.explain, explanation),
            (f"{self.stem}.benchmark_app.json", self.asked.benchmark_app, app_table),
        ):
            if self.network.name in names:
                with self._noted(name, 0):
                    print(f"\n{shown(self.store.measured(name))}\n")
        if self.asked.cold:
            with self._noted(f"{self.network.file}.cold.json", 0):
                self.found.cold[self.network.name] = self.store.measured(f"{self.network.file}.cold.json")

    def _beside(self, chooser: Chooser, rows: Sequence[dict[str, Any]]) -> None:
        """Explain a pick that is not the baseline, and hold one against benchmark_app, where it is asked."""
        picks = [row for row in rows if "pick" in row and row["within_ms"] is None]
        if self.network.name in self.asked.explain:
            others = [row for row in picks if not _same(row)]
            if not others:
                print(f"    {self.network.name}, batch {self.batch}: no pick is another than the baseline")
            for row in others[:1]:
                with self._noted(f"{self.stem}.rows.json", 0):
                    print(f"\n{explanation(explained(self.stem, row, chooser))}\n", flush=True)
        if self.network.name in self.asked.benchmark_app:
            for row in picks[:1]:
                with self._noted(f"{self.stem}.benchmark_app.json", 0):
                    print(f"\n{app_table(beside_app(self.stem, row, chooser))}\n", flush=True)

    def _cold(self, source: Artifact) -> None:
        name = f"{self.network.file}.cold.json"
        identity = {"machine": whereabouts(), "weights": source.passport.sha256}
        with self._noted(name, 0):
            cold = self.store.kept(name, identity, lambda: chosen_cold(source, self.asked.folder))
            self.found.cold[self.network.name] = cold

    def _draw(self, rows: Sequence[dict[str, Any]]) -> None:
        if self.asked.plots and rows:
            with self._noted(f"the plot of {self.network.name}, batch {self.batch}", 0):
                drawn = Table.of(self.store.measured(f"{self.stem}.table.json"))
                path = draw(self.network, self.batch, drawn, rows, self.asked.plots)
                print(f"    {path or 'nothing to draw'}", flush=True)

    @contextlib.contextmanager
    def _noted(self, what: str, cases: int) -> Iterator[None]:
        """Note what is not measured or fails in the block, of so many cases, and go on."""
        before = len(self.found.rows)
        noted = sum(count for _, count in (*self.found.failed, *self.found.waiting))
        try:
            yield
        except (NotMeasuredError, TimeUpError) as error:
            why = str(error) if isinstance(error, TimeUpError) else f"{error} is not there"
            place = self.found.waiting
        except CnnkitError as error:
            why, place = str(error), self.found.failed
        except Exception as error:  # minutes of the other cases are not thrown away for one
            traceback.print_exc()
            why, place = repr(error), self.found.failed
        else:
            return
        done = len(self.found.rows) - before
        done += sum(count for _, count in (*self.found.failed, *self.found.waiting)) - noted
        place.append((f"{what}: {why}", max(0, cases - done)))
        print(f"    {what}: {why}", flush=True)


def _same(row: dict[str, Any]) -> bool:
    """Tell whether a row's pick is the baseline."""
    first, second = (contender_of(row[name]) for name in ("chosen", "baseline"))
    return (first.label, first.artifact) == (second.label, second.artifact)


if __name__ == "__main__":
    sys.exit(main())
