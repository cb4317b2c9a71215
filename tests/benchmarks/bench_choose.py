"""`choose` against an exhaustive table of ten networks, and against what people run without choosing.

    python -m tests.benchmarks.bench_choose [--folder FOLDER] [--cifar DIR] [--networks a,b|all] [--batches 1]
    python -m tests.benchmarks.bench_choose --networks all --batches 1,32 --points 0,0.5,2 --within
    python -m tests.benchmarks.bench_choose --networks all --batches 1,32 --report --plots FOLDER

Two networks are measured unless others are named; a network at a batch takes about four minutes on 2 cores.
All that was trained and measured is kept in FOLDER and not done again: a run that was stopped goes on, and
--report prints what is there without measuring. DIR holds CIFAR-10 as `train/<class>/…` and
`test/<class>/…`. For each network at each batch:

- the table: every entry of `configurations` in SETS sets of fresh processes, all of them in turn, its answers
  on all validation pictures; its time is printed, and so is that of the judging
- `choose` for each of the points, and what its pick costs beside the table's best (with --within under three
  latency budgets, too), ONNX Runtime's defaults, OpenVINO's latency and throughput hints and eager PyTorch,
  measured again in turn, in SETS sets of fresh processes
- with --cold, a choosing that has its fp16 and int8 files still to make and nothing compiled, once a network
- wanted: the pick within 5 % of the table's best in 95 % of the cases, at most a quarter of the table's time
  and 90 s a network, no budget broken in any of the sets, never over 3 % slower than the best of the four
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporters.run.export import export
from tests.benchmarks.openvino_hints import QUEUE, beside_hints
from toolkit.artifacts import CHECKPOINT, Artifact, artifact_name, open_artifact
from toolkit.backends import BACKENDS
from toolkit.choices import Budget
from toolkit.choosing import Candidate, ChooseSettings
from toolkit.choosing.bays import Bay, close_all, open_bays
from toolkit.choosing.candidates import FileFinder
from toolkit.choosing.choose import choose
from toolkit.choosing.judging import ChoiceJudge, ChoicePictures, Ruling, pictures_for
from toolkit.choosing.measuring import Timekeeper, Track
from toolkit.choosing.page import plot
from toolkit.choosing.requests import OpenEngine
from toolkit.errors import CnnkitError, GateError
from toolkit.exporting import ExportOptions
from toolkit.machine.cpu import cpu
from toolkit.opening import Selection, as_asked, open_model
from toolkit.passports import SYMMETRIC, UNSIGNED, Dialect, Precision
from toolkit.profiling.measuring.yardstick import Yardstick


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A network of the table: its side in pixels, its pictures and how long it is trained."""

    name: str
    size: int | None = None
    epochs: int = 2
    images: int = 12_000
    grey: bool = False


# ten of 32 to 96 pixels, after one of 28 whose calls are shorter than a thread takes to wake up
NETWORKS = (
    Trained(name="lenet-maxpool", epochs=3, images=20_000, grey=True),
    Trained(name="cifarnet-bn", epochs=4),
    Trained(name="timm:mobilenetv3_small_075", size=64, epochs=4),
    Trained(name="torchvision:squeezenet1_1", size=64),
    Trained(name="timm:regnetx_002", size=48),
    Trained(name="timm:lcnet_050", size=96),
    Trained(name="torchvision:resnet18", size=48, images=8_000),
    Trained(name="torchvision:shufflenet_v2_x0_5", size=96),
    Trained(name="timm:resnet10t", size=64, images=8_000),
    Trained(name="timm:mnasnet_small", size=64, epochs=4),
    Trained(name="timm:tinynet_e", size=64),
)
# measured where none are named
USUAL = ("lenet-maxpool", "cifarnet-bn")
# held out for choosing: half a point is told from 0 with 6,000 pictures where some answers change either way
HELD_OUT = "0.5"
# points of accuracy: whatever int8 loses
ANY = 100.0


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """One row of the exhaustive table."""

    backend: str
    precision: Precision
    dialect: Dialect | None = None
    threads: int | None = None
    settings: Mapping[str, str]


def configurations(batch: int) -> Iterator[Configuration]:
    """Yield the table at a batch: three runtimes' settings × their precisions."""
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
        # two streams take at least two rows each: of fewer there is one, which is the default
        divided: tuple[tuple[int | None, dict[str, str]], ...] = ((None, {"streams": "2"}),)
        for threads, streams in ((None, {}), *(divided if batch >= 4 else ()), (1, {})):
            yield Configuration(
                backend="openvino", precision=precision, dialect=dialect, threads=threads, settings=streams
            )
    for laid_out in ({}, {"channels_last": "yes"}):
        for threads in (None, 1):
            yield Configuration(backend="pytorch", precision="fp32", threads=threads, settings=laid_out)


SETS, ROUNDS, WINDOW_S = 3, 4, 0.06
NEAR, SLOWER, SHARE, LONGEST_S = 1.05, 1.03, 0.25, 90.0


def main() -> None:
    asked = arguments()
    store = Store(folder=asked.folder, ends=time.monotonic() + asked.seconds, report=asked.report)
    rows: list[dict[str, Any]] = []
    chosen = [one for one in NETWORKS if asked.networks == ["all"] or one.name in asked.networks]
    for network, batch in itertools.product(chosen, asked.batches):
        try:
            trained(network, asked, store)
            compared(network, batch, asked, store, rows)
        except NotMeasuredError:
            continue
        except TimeUpError as error:
            print(f"\n{error}", flush=True)
            break
        except Exception as error:  # minutes of the other networks are not thrown away for one
            print(f"\n== {network.name}, batch {batch}, is left out: {error!r}", flush=True)
    summary(rows)
    if asked.plots:
        draw(rows, asked.plots)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("build/choose"))
    parser.add_argument("--cifar", type=Path, help="CIFAR-10 as folders of its classes")
    parser.add_argument("--networks", type=lambda text: text.split(","), default=list(USUAL))
    parser.add_argument("--batches", type=lambda text: [int(n) for n in text.split(",")], default=[1])
    parser.add_argument("--points", type=lambda text: [float(n) for n in text.split(",")], default=[0.5])
    parser.add_argument("--within", action="store_true", help="under three latency budgets each, too")
    parser.add_argument("--cold", action="store_true", help="time one choosing with nothing made, too")
    parser.add_argument("--plots", type=Path, help="write each choice's plot as SVG into a folder")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin nothing new after so many")
    parser.add_argument("--report", action="store_true", help="measure nothing: print what is in FOLDER")
    return parser.parse_args()


class NotMeasuredError(Exception):
    """What a report asks for was not measured."""


class TimeUpError(Exception):
    """Nothing new begins."""


def trained(network: Trained, asked: argparse.Namespace, store: Store) -> None:
    """Train a network and export it, unless that was done. Raises what `Store.insist` does."""
    name, root = artifact_name(network.name), asked.folder / "artifacts"
    if not (root / name / f"{name}.safetensors").exists():
        store.insist(f"the training of {network.name}")
        if asked.cifar is None and not network.grey:
            raise SystemExit(f"{network.name} is trained on CIFAR-10: name its folder with --cifar")
        dataset = "fashion-mnist" if network.grey else f"folder:{asked.cifar}"
        words = ["--dataset", dataset, "--epochs", str(network.epochs), "--images", str(network.images)]
        words += ["--validation-fraction", HELD_OUT, "--artifacts", str(root)]
        words += ["--size", str(network.size)] if network.size else []
        subprocess.run([sys.executable, "-m", "cnnkit", "train", network.name, *words], check=True)
    if not (root / name / f"{name}.int8-trt.onnx").exists():
        store.insist(f"the export of {network.name}")
        # whole int8 files: a search for layers to leave in float takes minutes, and choose judges them itself
        options = ExportOptions(root=root, images=64, max_accuracy_drop=ANY)
        export(network.name, formats=["onnx"], precisions=["fp32", "fp16", "int8"], options=options)
        source, budget = source_of(network, root), Budget(max_accuracy_drop=ANY)
        finder = FileFinder(source, root, ChooseSettings(), budget, print, judged=True)
        finder.file("onnx", "int8", SYMMETRIC)


@dataclass(frozen=True, kw_only=True)
class Store:
    """What was measured, as JSON in a folder; nothing new begins after `ends`, nor with a `report`."""

    folder: Path
    ends: float
    report: bool

    def insist(self, what: str) -> None:
        """Raise NotMeasuredError where this is a report, TimeUpError where the time is up."""
        if self.report:
            raise NotMeasuredError(what)
        if time.monotonic() > self.ends:
            raise TimeUpError(f"the time is up before {what}: the same command goes on")

    def kept(self, name: str, measure: Callable[[], Any]) -> Any:
        """Return what a file holds, measured now where it is not there. Raises what `insist` does."""
        path = self.folder / name
        if not path.exists():
            self.insist(name)
            print(f"  {name} …", flush=True)
            path.write_text(json.dumps(measure(), indent=1))
        return json.loads(path.read_text())


def source_of(network: Trained, root: Path) -> Artifact:
    return open_model(network.name, Selection(root=root, formats=(CHECKPOINT,)))


@dataclass(frozen=True, kw_only=True)
class TableEntry:
    """One configuration as it was measured: the middle of its sets' medians, the worst of their p95.

    `lost` is its drop on every picture and the upper end of that one's interval, in points.
    """

    key: str
    median_ms: float
    p95_ms: float
    lost: tuple[float, float] | None

    def allowed(self, points: float) -> bool:
        return self.lost is not None and self.lost[1] <= Budget(max_accuracy_drop=points).points


def candidates(network: Trained, root: Path, source: Artifact, batch: int) -> list[Candidate]:
    finder = FileFinder(source, root, ChooseSettings(), Budget(), print, judged=True)
    found = []
    for one in configurations(batch):
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


def timed_in_set(
    ones: Sequence[Candidate], pictures: ChoicePictures, batch: int, *, rounds: int = ROUNDS
) -> dict[str, Track]:
    """Time candidates in turn in one set of fresh processes; disturbed rounds are left out."""
    tracks = {one.key: Track(key=one.key, batch=batch) for one in ones}
    keeper = Timekeeper(yardstick=Yardstick(None))
    bays = open_bays([opening(one, pictures) for one in ones], {}, at_once=cpu().cores, limit_s=120)
    try:
        keeper.run([tracks[key] for key in bays], bays, rounds=rounds, window_s=WINDOW_S)
    finally:
        close_all(bays)
    return {key: track.undisturbed(keeper.disturbed) for key, track in tracks.items()}


def one_set(ones: Sequence[Candidate], pictures: ChoicePictures, batch: int) -> dict[str, Any]:
    """Return each configuration's median and 95 % quantile in one set of fresh processes."""
    start = time.monotonic()
    found = {
        key: track.latency(0.95)
        for key, track in timed_in_set(ones, pictures, batch).items()
        if track.windows
    }
    times = {key: (one.median, one.p95) for key, one in found.items() if one}
    return {"seconds": time.monotonic() - start, "times": times}


def judged(ones: Sequence[Candidate], pictures: ChoicePictures) -> dict[str, Any]:
    """Return each file's drop on every picture, in points, with its upper end; None without answers."""
    start, base = time.monotonic(), ones[0]
    lost: dict[str, tuple[float, float] | None] = {}
    with contextlib.closing(Bay(base, 300)) as baseline:
        baseline.get(opening(base, pictures))
        # every picture counts here: the interval is as narrow as it can be
        judge = ChoiceJudge(baseline=baseline, pictures=pictures, budget=Budget(), first=pictures.count)
        for one in ones:
            if one.file_key not in lost:
                drop = whole(judge, one, pictures).drop
                lost[one.file_key] = (drop.points, drop.high) if drop else None
    return {"seconds": time.monotonic() - start, "lost": lost}


def table(
    ones: Sequence[Candidate], pictures: ChoicePictures, network: Trained, batch: int, store: Store
) -> tuple[list[TableEntry], dict[str, float]]:
    """Return every configuration judged and timed, and the seconds of both, whenever that was.

    The answers are those of no batch, and are asked for once a network.
    """
    name = artifact_name(network.name)
    sets = [
        store.kept(f"{name}.b{batch}.set{number}.json", lambda: one_set(ones, pictures, batch))
        for number in range(1, SETS + 1)
    ]
    answers = store.kept(f"{name}.judged.json", lambda: judged(ones, pictures))
    entries = []
    for one in ones:
        found = [each["times"][one.key] for each in sets if one.key in each["times"]]
        if len(found) == SETS:
            median_ms, p95_ms = statistics.median(ms for ms, _ in found), max(p95 for _, p95 in found)
            lost = answers["lost"][one.file_key]
            entries.append(TableEntry(key=one.key, median_ms=median_ms, p95_ms=p95_ms, lost=lost))
    return entries, {"timing": sum(each["seconds"] for each in sets), "judging": answers["seconds"]}


def whole(judge: ChoiceJudge, one: Candidate, pictures: ChoicePictures) -> Ruling:
    """Judge a candidate on every picture."""
    try:
        with contextlib.closing(Bay(one, 300)) as bay:
            bay.get(opening(one, pictures))
            return judge.judge(bay)
    except CnnkitError as error:
        return Ruling(why_not=str(error))


def compared(
    network: Trained, batch: int, asked: argparse.Namespace, store: Store, rows: list[dict[str, Any]]
) -> None:
    """Make the table of a network at a batch, choose, and add the picks, held against it, to the rows."""
    root, stem = asked.folder / "artifacts", f"{artifact_name(network.name)}.b{batch}"
    source = source_of(network, root)
    with pictures_for(source, ChooseSettings(), None) as pictures:
        ones = {one.key: one for one in candidates(network, root, source, batch)}
        entries, taken = table([*ones.values()], pictures, network, batch, store)
        table_s = sum(taken.values())
        parts = f"{taken['timing']:.0f} s and {taken['judging']:.0f} s of judging on {pictures.source}"
        print(f"\n== {network.name}, batch {batch}: {len(entries)} rows in {parts}", flush=True)
        if asked.cold:
            cold = store.kept(f"{artifact_name(network.name)}.cold.json", lambda: chosen_cold(source, root))
            print(f"    with nothing made before: {cold['seconds']:.0f} s, {cold['pick']}", flush=True)
        for points in asked.points:
            ok = [one for one in entries if one.allowed(points)]
            for place, within in enumerate(latencies(ok) if asked.within else (None,)):
                case = Case(network=network, batch=batch, points=points, within=within)
                measure_pick = functools.partial(picked, case, root, ones, entries, pictures)
                row = store.kept(f"{stem}.{points:g}.{place}.pick.json", measure_pick)
                rows.append({**row, "table_seconds": table_s})
                print("   ", said(rows[-1]), flush=True)


def chosen_cold(source: Artifact, root: Path) -> dict[str, Any]:
    """Choose where only the weights are, with a cache of its own; return the seconds and the pick."""
    name = source.name
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "artifacts" / name
        home.mkdir(parents=True)
        for path in (root / name).iterdir():
            if ".onnx" not in path.name and ".choice" not in path.name:
                (shutil.copytree if path.is_dir() else shutil.copy2)(path, home / path.name)
        words = ["choose", name, "--artifacts", str(home.parent), "--json", "--allow-noise"]
        start = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "cnnkit", *words],
            capture_output=True,
            text=True,
            env={**os.environ, "XDG_CACHE_HOME": str(Path(folder) / "cache")},
            check=False,
        )
        seconds = time.monotonic() - start
    if done.returncode:
        return {"seconds": seconds, "pick": f"none: {done.stderr.strip()[-200:]}"}
    found = json.loads(done.stdout)
    return {"seconds": seconds, "pick": found["chosen"]["backend"], "stages": found["stages"]}


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is chosen, under which budget."""

    network: Trained
    batch: int
    points: float
    within: float | None


def latencies(ok: Sequence[TableEntry]) -> tuple[float | None, ...]:
    """Return None and three budgets of the p95: what half of the table keeps, a quarter, and hardly any."""
    if not ok:
        return (None,)
    times = sorted(one.p95_ms for one in ok)
    return None, 1.1 * times[len(times) // 2], 1.1 * times[len(times) // 4], 1.4 * times[0]


def picked(
    case: Case,
    root: Path,
    ones: Mapping[str, Candidate],
    entries: Sequence[TableEntry],
    pictures: ChoicePictures,
) -> dict[str, Any]:
    """Choose, and measure the pick again beside the table's best and what people run without choosing."""
    name, batch, within = case.network.name, case.batch, case.within
    row: dict[str, Any] = {"network": name, "batch": batch, "points": case.points, "within_ms": within}
    able = [one for one in entries if one.allowed(case.points) and (within is None or one.p95_ms <= within)]
    best = min(able, key=lambda one: one.median_ms, default=None)
    budget = Budget(max_accuracy_drop=case.points, within_ms=within)
    start = time.monotonic()
    try:
        found = choose(name, budget=budget, settings=ChooseSettings(batches=(batch,)), root=root)
    except GateError as error:
        return {**row, "refused": str(error), "right": best is None, "seconds": time.monotonic() - start}
    except CnnkitError as error:
        return {**row, "failed": str(error), "right": False, "seconds": time.monotonic() - start}
    chosen = found.chosen
    assert chosen is not None
    row |= {"seconds": time.monotonic() - start, "pick": chosen.label, "gain": chosen.gain}
    row |= {"gain_ci95": chosen.gain_ci95, "stages": found.stages, "disturbed": found.disturbed}
    row |= {"why": found.why, "notes": found.notes, "accuracy": chosen.accuracy, "svg": plot(found)}
    backend, file = BACKENDS.load(chosen.backend), open_artifact(Path(chosen.artifact))
    pick = Candidate(
        backend=chosen.backend,
        artifact=as_asked(file, backend.opens(Selection(root=root, precision=chosen.precision))),
        settings=dict(chosen.settings),
        threads=chosen.threads,
    )
    plain = [one for one in ones.values() if not one.settings and one.threads is None]
    usual = [one for one in plain if one.artifact.passport.precision == "fp32"]
    everyone = {one.key: one for one in (pick, *([ones[best.key]] if best else []), *usual)}
    sets = [timed_in_set([*everyone.values()], pictures, batch, rounds=6) for _ in range(SETS)]
    times = {key: statistics.median(each[key].median_ms for each in sets) for key in everyone}
    row["pick_ms"] = times[pick.key]
    row["pick_p95_ms"] = max(known.p95 for each in sets if (known := each[pick.key].latency(0.95)))
    # on every picture: what `choose` told of as many as it took
    lost = next((one.lost for one in entries if ones[one.key].file_key == pick.file_key), None)
    accurate = lost is not None and lost[0] <= budget.points
    row["kept"] = accurate and (within is None or row["pick_p95_ms"] <= within)
    if best is not None:
        row["best"] = ones[best.key].contender(batch).label
        row["best_ms"] = times[best.key]
        row["over_best"] = row["pick_ms"] / row["best_ms"]
    row["usual"] = {one.backend: row["pick_ms"] / times[one.key] for one in usual}
    graph = open_artifact(root / file.name / f"{file.name}.onnx")
    hinted = [beside_hints(pick, graph, batch) for _ in range(SETS)]
    row["usual"] |= {name: statistics.median(each[name] for each in hinted) for name in hinted[0]}
    row["queue"] = row["usual"].pop(QUEUE)
    row["right"] = best is not None and row["over_best"] <= NEAR
    return row


def said(row: Mapping[str, Any]) -> str:
    within = f" within {row['within_ms']:.3g} ms" if row["within_ms"] else ""
    asked = f"{row['points']:g} points{within}"
    if "pick" not in row:  # refused, or failed
        return f"{asked}: {row.get('refused') or row.get('failed')} ({row['seconds']:.0f} s)"
    beside = f", {row['over_best']:.2f} of the table's best ({row['best']})" if "over_best" in row else ""
    return (
        f"{asked}: {row['pick']}, {row['pick_ms']:.4g} ms{beside}; {row['gain']:.2f} times the baseline; "
        f"{row['seconds']:.0f} s, {row['seconds'] / row['table_seconds']:.0%} of the table's"
    )


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of the docs: the picks without a latency budget, beside the exhaustive table."""
    lines = [
        "| network | batch | points | within ms | pick | ms | table's best | ms | times as fast as "
        "ONNX Runtime's defaults | PyTorch | OpenVINO's latency hint | throughput hint | s | table's s |",
        f"|{'---|' * 14}",
    ]
    for row in rows:
        within = f"{row['within_ms']:.3g}" if row["within_ms"] else ""
        asked = (row["network"], row["batch"], f"{row['points']:g}", within)
        taken = (f"{row['seconds']:.0f}", f"{row['table_seconds']:.0f}")
        if "pick" not in row:
            told = row.get("refused") or row.get("failed")
            lines.append(f"| {' | '.join(map(str, (*asked, told, *[''] * 7, *taken)))} |")
            continue
        best = (row.get("best", "–"), f"{row['best_ms']:.4g}" if "best_ms" in row else "–")
        names = ("ort", "pytorch", "openvino latency hint", "openvino throughput hint")
        beside = [f"{1 / row['usual'][name]:.2f}" if name in row["usual"] else "–" for name in names]
        cells = (*asked, row["pick"], f"{row['pick_ms']:.4g}", *best, *beside, *taken)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def summary(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print what was wanted beside what was found."""
    if not rows:
        return
    picks = [row for row in rows if "pick" in row]
    right = sum(bool(row["right"]) for row in rows)
    shares = [row["seconds"] / row["table_seconds"] for row in rows]
    usual = [max(row["usual"].values()) for row in picks]
    gains = [1 / row["usual"]["ort"] for row in picks if row["points"] == 0.5 and row["within_ms"] is None]
    queues = [row["queue"] for row in picks]
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
    if queues:
        print(
            "by the picture, one call after another, beside a full queue of OpenVINO's throughput hint: "
            f"{min(queues):.2f} to {max(queues):.2f} of its time"
        )
    print(markdown(rows))
    if gains:
        mean = math.exp(statistics.fmean(map(math.log, gains)))
        print(f"gain over ONNX Runtime's defaults at 0.5 points: {mean:.2f} (geometric mean of {len(gains)})")


def draw(rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Write the plot of each choice without a latency budget."""
    folder.mkdir(parents=True, exist_ok=True)
    for row in rows:
        if row.get("svg") and row["within_ms"] is None:
            name = f"{artifact_name(row['network'])}.b{row['batch']}.{row['points']:g}.svg"
            (folder / name).write_text(row["svg"])


if __name__ == "__main__":
    main()
