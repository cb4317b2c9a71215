"""`choose` against an exhaustive table of ten networks, and against what people run without choosing.

    python -m tests.benchmarks.bench_choose [--folder FOLDER] [--networks a,b|all] [--batches 1]
    python -m tests.benchmarks.bench_choose --networks all
    python -m tests.benchmarks.bench_choose --networks all --batches 1,32 --points 0,0.5,2 --within

Two networks are measured unless others are named. All ten take over half an hour on 2 cores, and with every
budget and batch, as in the third line, some hours.
Networks are trained for some minutes each on Fashion-MNIST (once; FOLDER keeps them). For each of them:

- the table: every entry of CONFIGURATIONS in SETS sets of fresh processes, in turn, its answers on all
  validation pictures; its time is printed
- `choose` for each of the points, and what its pick costs beside the table's best (with --within under three
  latency budgets), ONNX Runtime's defaults, OpenVINO's latency and throughput hints and eager PyTorch,
  measured again in turn in fresh processes
- wanted: the pick within 5 % of the table's best in 95 % of the cases, at most a quarter of the table's time
  and 90 s a network, no budget broken, never over 3 % slower than the best of the four
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from exporters.run.export import export
from toolkit.artifacts import CHECKPOINT, Artifact, artifact_name, open_artifact
from toolkit.backends import BACKENDS
from toolkit.choices import Budget
from toolkit.choosing import Candidate, ChooseSettings
from toolkit.choosing.bays import Bay, close_all, open_bays
from toolkit.choosing.candidates import FileFinder
from toolkit.choosing.choose import choose
from toolkit.choosing.judging import ChoiceJudge, ChoicePictures, Ruling, pictures_for
from toolkit.choosing.measuring import Timekeeper, Track
from toolkit.choosing.requests import OpenEngine
from toolkit.errors import CnnkitError, GateError
from toolkit.exporting import ExportOptions
from toolkit.machine.cpu import cpu
from toolkit.opening import Selection, as_asked, open_model
from toolkit.passports import SYMMETRIC, UNSIGNED, Dialect, Precision
from toolkit.profiling.measuring.yardstick import Yardstick


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A network of the table: how it is called, its side in pixels and how long it is trained."""

    name: str
    size: int | None = None
    epochs: int = 2
    images: int = 12_000


NETWORKS = (
    Trained(name="lenet-maxpool", epochs=8),
    Trained(name="alexnet28", epochs=3),
    Trained(name="cifarnet-bn", epochs=6),
    Trained(name="resnet18", epochs=3),
    Trained(name="timm:resnet10t", size=64),
    Trained(name="torchvision:squeezenet1_1", size=64, epochs=3),
    Trained(name="torchvision:mobilenet_v3_small", size=64, epochs=3),
    Trained(name="torchvision:shufflenet_v2_x0_5", size=96, epochs=3),
    Trained(name="timm:lcnet_050", size=96, epochs=3),
    Trained(name="timm:regnetx_002", size=48, epochs=2),
)
# measured where none are named
USUAL = ("lenet-maxpool", "resnet18")
# held out for choosing: half a point is told from 0 with 4,000 pictures
HELD_OUT = "0.34"


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """One row of the exhaustive table."""

    backend: str
    precision: Precision
    dialect: Dialect | None = None
    threads: int | None = None
    settings: Mapping[str, str]


def configurations() -> Iterator[Configuration]:
    """Yield the table: three runtimes' settings × their precisions."""
    graphs: tuple[tuple[Precision, Dialect | None], ...] = (
        *(("fp32", None), ("fp16", None), ("int8", UNSIGNED), ("int8", SYMMETRIC)),
    )
    for precision, dialect in graphs:
        for level in ({}, {"level": "extended"}):
            for threads, spinning in ((None, {}), (None, {"spinning": "off"}), (1, {})):
                yield Configuration(
                    backend="ort",
                    precision=precision,
                    dialect=dialect,
                    threads=threads,
                    settings={**level, **spinning},
                )
    for precision, dialect in (("bf16", None), *graphs):
        for threads, streams in ((None, {}), (None, {"streams": "2"}), (1, {})):
            yield Configuration(
                backend="openvino", precision=precision, dialect=dialect, threads=threads, settings=streams
            )
    for laid_out in ({}, {"channels_last": "yes"}):
        for threads in (None, 1):
            yield Configuration(backend="pytorch", precision="fp32", threads=threads, settings=laid_out)


SETS, ROUNDS, WINDOW_S = 3, 10, 0.1
AT_ONCE = 12  # processes that are alive together
NEAR, SLOWER, SHARE, LONGEST_S = 1.05, 1.03, 0.25, 90.0


def main() -> None:
    asked = arguments()
    root = asked.folder / "artifacts"
    rows = []
    for network in NETWORKS:
        if asked.networks != ["all"] and network.name not in asked.networks:
            continue
        start = time.monotonic()
        trained(network, root)
        print(f"\n== {network.name} (there after {time.monotonic() - start:.0f} s)", flush=True)
        for batch in asked.batches:
            rows += compared(network, root, batch, asked)
            (asked.folder / "results.json").write_text(json.dumps(rows, indent=1))
    summary(rows)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("build/choose"))
    parser.add_argument("--networks", type=lambda text: text.split(","), default=list(USUAL))
    parser.add_argument("--batches", type=lambda text: [int(n) for n in text.split(",")], default=[1])
    parser.add_argument("--points", type=lambda text: [float(n) for n in text.split(",")], default=[0.5])
    parser.add_argument("--within", action="store_true", help="under three latency budgets each, too")
    parser.add_argument("--sets", type=int, default=SETS, help="of fresh processes, for the table")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of windows in each set")
    return parser.parse_args()


def trained(network: Trained, root: Path) -> None:
    """Train a network, unless that was done."""
    name = artifact_name(network.name)
    if (root / name / f"{name}.safetensors").exists():
        return
    words = ["--dataset", "fashion-mnist", "--epochs", str(network.epochs), "--images", str(network.images)]
    words += ["--validation-fraction", HELD_OUT, "--artifacts", str(root)]
    words += ["--size", str(network.size)] if network.size else []
    subprocess.run([sys.executable, "-m", "cnnkit", "train", network.name, *words], check=True)


def source_of(network: Trained, root: Path) -> Artifact:
    return open_model(network.name, Selection(root=root, formats=(CHECKPOINT,)))


@dataclass(kw_only=True)
class TableEntry:
    """One configuration as it was measured."""

    candidate: Candidate
    ruling: Ruling | None
    median_ms: float
    p95_ms: float

    def allowed(self, points: float) -> bool:
        drop = self.ruling.drop if self.ruling else None
        return drop is not None and drop.high <= max(points, 0.3)


def candidates(network: Trained, root: Path, source: Artifact) -> list[Candidate]:
    finder = FileFinder(source, root, ChooseSettings(), Budget(), print, judged=True)
    found = []
    for one in configurations():
        backend = BACKENDS.load(one.backend)
        if not backend.availability().available or backend.lacks(one.precision):
            continue
        stored = backend.computes.get(one.precision, one.precision)
        file = source if CHECKPOINT in backend.formats else finder.file("onnx", stored, one.dialect)
        if isinstance(file, str):
            print(f"  no {one.backend} {one.precision}: {file}")
            continue
        asked = as_asked(file, backend.opens(Selection(root=root, precision=one.precision)))
        found.append(
            Candidate(backend=one.backend, artifact=asked, settings=dict(one.settings), threads=one.threads)
        )
    return found


def opening(one: Candidate, pictures: ChoicePictures) -> OpenEngine:
    return OpenEngine(candidate=one, pictures=pictures.file, ready=pictures.ready, seed=0, model_file=None)


def timed_in_sets(
    ones: Sequence[Candidate], pictures: ChoicePictures, batch: int, *, sets: int, rounds: int = ROUNDS
) -> dict[str, Track]:
    """Time candidates in turn in sets of fresh processes, some at a time."""
    tracks = {one.key: Track(key=one.key, batch=batch) for one in ones}
    for number in range(1, sets + 1):
        for first in range(0, len(ones), AT_ONCE):
            some = ones[first : first + AT_ONCE]
            keeper = Timekeeper(yardstick=Yardstick(None), generation=number)
            bays = open_bays([opening(one, pictures) for one in some], {}, at_once=cpu().cores, limit_s=120)
            try:
                alive = [tracks[key] for key in bays]
                keeper.run(alive, bays, rounds=rounds, window_s=WINDOW_S)
            finally:
                close_all(bays)
    return tracks


def table(ones: Sequence[Candidate], pictures: ChoicePictures, batch: int, asked: Any) -> list[TableEntry]:
    """Judge and time every configuration."""
    base = ones[0]
    tracks = timed_in_sets(ones, pictures, batch, sets=asked.sets, rounds=asked.rounds)
    entries = []
    rulings: dict[str, Ruling] = {}
    with Bay(base, 300) as baseline:
        baseline.get(opening(base, pictures))
        # every picture counts here: the interval is as narrow as it can be
        judge = ChoiceJudge(baseline=baseline, pictures=pictures, budget=Budget(), first=pictures.count)
        for one in ones:
            if one.file_key not in rulings:
                rulings[one.file_key] = whole(judge, one, pictures)
    for one in ones:
        track = tracks[one.key]
        if track.windows:
            every = np.concatenate([np.array(window.ms) for window in track.windows])
            entries.append(
                TableEntry(
                    candidate=one,
                    ruling=rulings[one.file_key],
                    median_ms=float(np.median(every)),
                    p95_ms=float(np.percentile(every, 95)),
                )
            )
    return entries


def whole(judge: ChoiceJudge, one: Candidate, pictures: ChoicePictures) -> Ruling:
    """Judge a candidate on every picture."""
    try:
        with Bay(one, 300) as bay:
            bay.get(opening(one, pictures))
            return judge.judge(bay)
    except CnnkitError as error:
        return Ruling(why_not=str(error))


def hints(graph: Artifact, batch: int) -> dict[str, Callable[[], object]]:
    """Return OpenVINO's own calls with its two hints, all else its defaults."""
    from openvino import Core, Tensor

    shape = (batch, *(extent or 1 for extent in graph.passport.input.shape[1:]))
    given = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    found = {}
    for hint in ("LATENCY", "THROUGHPUT"):
        model = Core().read_model(graph.path)
        model.reshape(list(shape))
        request = Core().compile_model(model, "CPU", {"PERFORMANCE_HINT": hint}).create_infer_request()
        request.set_input_tensor(Tensor(given, shared_memory=True))
        found[f"openvino {hint.lower()} hint"] = request.infer
    return found


def compared(network: Trained, root: Path, batch: int, asked: Any) -> list[dict[str, Any]]:
    """Make the table of a network at a batch, choose, and hold the picks against it."""
    from toolkit.profiling.measuring.latency import measure

    source = source_of(network, root)
    options = ExportOptions(root=root, images=64)
    export(network.name, formats=["onnx"], precisions=["fp32", "fp16", "int8"], options=options)
    ones = candidates(network, root, source)
    rows = []
    with pictures_for(source, ChooseSettings(), None) as pictures:
        start = time.monotonic()
        entries = table(ones, pictures, batch, asked)
        table_s = time.monotonic() - start
        print(f"  batch {batch}: {len(entries)} rows in {table_s:.0f} s on {pictures.source}", flush=True)
        graph = open_artifact(root / source.name / f"{source.name}.onnx")
        calls = hints(graph, batch)
        for points in asked.points:
            ok = [one for one in entries if one.allowed(points)]
            for within in latencies(ok) if asked.within else (None,):
                row = picked(network, root, batch, points, within, ok, pictures)
                own, _ = measure(calls, duration_s=1.0)
                row["hints_ms"] = {name: found.median for name, found in own.items() if found}
                row["table_seconds"] = table_s
                rows.append(row)
                print("   ", said(row), flush=True)
    return rows


def latencies(ok: Sequence[TableEntry]) -> tuple[float | None, ...]:
    """Return three budgets of the p95: none, one that the middle of the table keeps, and a tight one."""
    if not ok:
        return (None,)
    times = sorted(one.p95_ms for one in ok)
    return None, 1.1 * times[len(times) // 2], 1.4 * times[0]


def picked(
    network: Trained,
    root: Path,
    batch: int,
    points: float,
    within: float | None,
    ok: Sequence[TableEntry],
    pictures: ChoicePictures,
) -> dict[str, Any]:
    """Choose, and measure the pick again beside the table's best and what people run without choosing."""
    row: dict[str, Any] = {"network": network.name, "batch": batch, "points": points, "within_ms": within}
    able = [one for one in ok if within is None or one.p95_ms <= within]
    best = min(able, key=lambda one: one.median_ms, default=None)
    budget = Budget(max_accuracy_drop=points, within_ms=within)
    start = time.monotonic()
    try:
        found = choose(network.name, budget=budget, settings=ChooseSettings(batches=(batch,)), root=root)
    except GateError as error:
        return {**row, "refused": str(error), "right": best is None, "seconds": time.monotonic() - start}
    except CnnkitError as error:
        return {**row, "failed": str(error), "right": False, "seconds": time.monotonic() - start}
    row |= {"seconds": time.monotonic() - start, "pick": found.chosen.label, "gain": found.chosen.gain}
    assert found.file is not None
    backend = BACKENDS.load(found.chosen.backend)
    file = open_artifact(Path(found.chosen.artifact))
    pick = Candidate(
        backend=found.chosen.backend,
        artifact=as_asked(file, backend.opens(Selection(root=root, precision=found.chosen.precision))),
        settings=dict(found.chosen.settings),
        threads=found.chosen.threads,
    )
    plain = [one.candidate for one in ok if not one.candidate.settings and one.candidate.threads is None]
    usual = [one for one in plain if one.artifact.passport.precision == "fp32"]
    everyone = {one.key: one for one in (pick, *([best.candidate] if best else []), *usual)}
    tracks = timed_in_sets([*everyone.values()], pictures, batch, sets=3, rounds=6)
    own = tracks[pick.key]
    row["pick_ms"], row["pick_p95_ms"] = own.median_ms, own.latency(0.95).p95 if own.windows else None
    row["kept"] = within is None or (row["pick_p95_ms"] or math.inf) <= within
    if best is not None:
        row["best"] = best.candidate.contender(batch).label
        row["best_ms"] = tracks[best.candidate.key].median_ms
        row["over_best"] = row["pick_ms"] / row["best_ms"]
    row["usual_ms"] = {one.backend: tracks[one.key].median_ms for one in usual}
    row["right"] = best is not None and row["over_best"] <= NEAR
    return row


def said(row: Mapping[str, Any]) -> str:
    within = f" within {row['within_ms']:.3g} ms" if row["within_ms"] else ""
    asked = f"{row['points']:g} points{within}"
    if "pick" not in row:
        return f"{asked}: {row.get('refused') or row.get('failed')} ({row['seconds']:.0f} s)"
    beside = f", {row['over_best']:.2f} of the table's best ({row['best']})" if "over_best" in row else ""
    return (
        f"{asked}: {row['pick']}, {row['pick_ms']:.4g} ms{beside}; {row['gain']:.2f} times the baseline; "
        f"{row['seconds']:.0f} s, {row['seconds'] / row['table_seconds']:.0%} of the table's"
    )


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of the docs: the picks without a latency budget, beside the exhaustive table."""
    lines = [
        "| network | batch | points | pick | ms | table's best | ms | times ONNX Runtime's defaults | s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "pick" not in row or row["within_ms"] is not None:
            continue
        best = (row.get("best", "–"), f"{row['best_ms']:.4g}" if "best_ms" in row else "–")
        cells = (
            *(row["network"], row["batch"], f"{row['points']:g}", row["pick"], f"{row['pick_ms']:.4g}"),
            *(*best, f"{row['gain']:.2f}", f"{row['seconds']:.0f}"),
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def summary(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print what was wanted beside what was found."""
    if not rows:
        return
    picks = [row for row in rows if "pick" in row]
    right = sum(bool(row["right"]) for row in rows)
    shares = [row["seconds"] / row["table_seconds"] for row in rows]
    usual = [row["pick_ms"] / min([*row["usual_ms"].values(), *row["hints_ms"].values()]) for row in picks]
    gains = [row["gain"] for row in picks if row["points"] == 0.5 and row["within_ms"] is None]
    print(f"\n{cpu().name}, {cpu().cores} cores, {', '.join(cpu().instruction_sets)}")
    print(f"within 5 % of the table's best: {right} of {len(rows)} ({right / len(rows):.0%}; wanted 95 %)")
    print(
        f"time: at most {max(shares):.0%} of the table's (wanted {SHARE:.0%}), at most "
        f"{max(row['seconds'] for row in rows):.0f} s a network (wanted {LONGEST_S:.0f})"
    )
    print(f"budgets broken: {sum(not row['kept'] for row in picks)} of {len(picks)} (wanted 0)")
    print(
        f"against the best of four usual ways: at most {max(usual, default=1):.2f} of its time "
        f"(wanted {SLOWER:g}), over in {sum(one > SLOWER for one in usual)} cases"
    )
    print(markdown(rows))
    if gains:
        mean = math.exp(statistics.fmean(map(math.log, gains)))
        print(f"gain over ONNX Runtime's defaults at 0.5 points: {mean:.2f} (geometric mean of {len(gains)})")


if __name__ == "__main__":
    main()
