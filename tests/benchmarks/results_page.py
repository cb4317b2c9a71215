"""docs/results.md out of the recorded runs: tables, and the pictures beside them."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tests.benchmarks.experiments import CIFAR, EXPERIMENTS, LENET5, Experiment
from toolkit import catalog
from toolkit.training.pictures import draw_confusion

HEAD = """# Results: the write-ups' experiments, measured here

Every row is one command; *published* is the write-up's own figure, *here* the mean test accuracy over the
seeds (± their standard deviation, where there are several), over all test images. Textbook recipes report
the last epoch, as the write-ups do; all others choose their epoch on images held out from the training set,
or take the last one. *Asked* is what this project asks of itself, and a miss is printed as one.

*Wall* is the time of one run beside other work on a shared machine; *processor* is the processor time of the
whole command (loading, training, testing), which sharing changes less; – where a run was resumed.

CIFAR-10-JPEG75 is CIFAR-10 with every picture saved as JPEG of quality 75: figures on it are not CIFAR-10's.
Give its folder as `--dataset folder:cifar10-jpeg75`.

Where a write-up prints what its last epoch of training came to, a second table holds that against the same
epoch here: the middle of the seeds, and in brackets the lowest and the highest. Images a second are a GPU's
there; here they are one or two CPU cores', beside other work.

Machine: {machine}. {torch}. {dates}.
Written by `python -m tests.benchmarks.results page` from [results/runs.jsonl](results/runs.jsonl).
What these figures teach is in [lessons](lessons.md).
"""

Line = dict[str, Any]


def write_page(lines: Sequence[Line], docs: Path) -> None:
    """Write docs/results.md and docs/results/*.png.

    Args:
        lines: runs, as `tests.benchmarks.results` records them.
        docs: folder of the documentation.
    """
    by_key: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        by_key[line["experiment"]].append(line)
    dates = [line["date"] for line in lines]
    parts = [
        HEAD.format(
            machine="; ".join(sorted({line["machine"] for line in lines})),
            torch=_versions(lines),
            dates=" to ".join(dict.fromkeys((min(dates), max(dates)))),
        )
    ]
    for group in dict.fromkeys(experiment.group for experiment in EXPERIMENTS):
        rows = [e for e in EXPERIMENTS if e.group == group]
        parts.append(f"## {group}\n\n{_table(rows, by_key)}")
        parts += _last_epochs(rows, by_key)
        parts += [f"![{alt}](results/{name})\n" for name, alt in _pictures(group, by_key, docs / "results")]
    (docs / "results.md").write_text("\n".join(parts))


def _table(rows: Sequence[Experiment], by_key: dict[str, list[Line]]) -> str:
    text = [
        "| experiment | published | here | asked | seeds | wall | processor | command |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        runs = by_key.get(row.key, [])
        wall, processor = _middle(runs, "seconds"), _middle(runs, "processor_seconds")
        text.append(
            f"| {row.what} | {row.published} | {_figure_of(runs)} | {_asked(row, runs)} | {len(runs) or '–'} "
            f"| {wall} | {processor} | `{row.command}` |"
        )
    return "\n".join(text) + "\n"


def _versions(lines: Sequence[Line]) -> str:
    """Say which torch made the runs, the usual one first; of any other, which rows."""
    rows: dict[str, list[str]] = defaultdict(list)
    for line in lines:
        rows[line["torch"]].append(line["experiment"])
    usual, *others = sorted(rows, key=lambda torch: len(rows[torch]), reverse=True)
    what = {e.key: f"{e.model}, {e.what}" for e in EXPERIMENTS}
    exceptions = (f"; {v} for {'; '.join(what[key] for key in dict.fromkeys(rows[v]))}" for v in others)
    return f"torch {usual}{''.join(exceptions)}"


@dataclass(frozen=True, kw_only=True)
class _Measure:
    """One thing that write-ups print of their last epoch: where it stands in LastEpoch and in our runs."""

    field: str
    title: str
    form: str
    read: Callable[[Line], float]


_MEASURES = (
    _Measure(
        field="loss", title="loss", form=".3f", read=lambda run: float(run["history"][-1]["train_loss"])
    ),
    _Measure(
        field="accuracy",
        title="accuracy",
        form=".3f",
        read=lambda run: float(run["history"][-1]["train_accuracy"]),
    ),
    _Measure(
        field="images_per_second",
        title="images/s",
        form=",.0f",
        read=lambda run: float(run["images_per_second"]),
    ),
)


def _last_epochs(rows: Sequence[Experiment], by_key: dict[str, list[Line]]) -> list[str]:
    """Hold what write-ups print of their last epoch against ours; nothing where none of them does."""
    printed = [(row.what, row.last_epoch, by_key.get(row.key, [])) for row in rows if row.last_epoch]
    if not printed:
        return []
    shown = [m for m in _MEASURES if any(getattr(last, m.field) is not None for _, last, _ in printed)]
    head = ["last epoch of training", *(cell for m in shown for cell in (f"{m.title}, published", "here"))]
    text = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for what, last, runs in printed:
        cells = [what]
        for measure in shown:
            figure = getattr(last, measure.field)
            cells.append("–" if figure is None else format(figure, measure.form))
            cells.append(_middle_of([measure.read(run) for run in runs], measure.form))
        text.append(f"| {' | '.join(cells)} |")
    return ["\n".join(text) + "\n"]


def _middle_of(figures: Sequence[float], form: str) -> str:
    if not figures:
        return "not run yet"
    middle = format(statistics.median(figures), form)
    if len(figures) == 1:
        return middle
    return f"{middle} ({min(figures):{form}} to {max(figures):{form}})"


def _figure_of(runs: Sequence[Line]) -> str:
    if not runs:
        return "not run yet"
    accuracies = [run["test_accuracy"] for run in runs]
    mean = f"{statistics.mean(accuracies):.4f}"
    if len(runs) == 1:
        low, high = runs[0]["test_accuracy_ci95"]
        return f"{mean} ({low:.4f} to {high:.4f})"
    spread = f"{mean} ± {statistics.stdev(accuracies):.4f}"
    stuck = sum(accuracy < 0.2 for accuracy in accuracies)
    return f"{spread}; {stuck} of {len(runs)} stuck at chance" if stuck else spread


def _asked(row: Experiment, runs: Sequence[Line]) -> str:
    if row.wanted is None:
        return "–"
    if not runs:
        return f"{row.wanted}"
    reached = statistics.mean(run["test_accuracy"] for run in runs) >= row.wanted
    return f"{row.wanted}, {'reached' if reached else 'missed'}"


def _middle(runs: Sequence[Line], key: str) -> str:
    known = [run[key] for run in runs if run[key] is not None]
    if not known:
        return "–"
    seconds = statistics.median(known)
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def _pictures(group: str, by_key: dict[str, list[Line]], folder: Path) -> list[tuple[str, str]]:
    """Draw a group's pictures; return file names and alternative texts."""
    made = []
    slug = group.lower().replace(" ", "-")
    titles = {e.key: e.what for e in EXPERIMENTS}
    family = [e.key for e in EXPERIMENTS if e.group == group and by_key.get(e.key)]
    curves = [key for key in family if not key.startswith("lenet-b")]
    if curves:
        name = f"{slug}-loss.png"
        _draw_curves(folder / name, [(titles[key], by_key[key][0]["history"]) for key in curves], group)
        made.append((name, f"Training loss by epoch of each experiment: {group}"))
    if group == CIFAR or any(key.startswith("lenet-b") for key in family):
        batches = [key for key in family if "-b" in key and key.split("-b")[1].isdigit()]
        if len(batches) > 1:
            name = f"{slug}-batch.png"
            base = next(key for key in family if key in ("lenet-textbook", "cifarnet-textbook"))
            points = sorted(
                (run["settings"]["batch"], run["test_accuracy"])
                for key in [*batches, base]
                for run in by_key[key]
            )
            _draw_batches(folder / name, points, group)
            made.append((name, f"Test accuracy by batch size, every seed a point: {group}"))
    best = max(
        family,
        key=lambda key: statistics.mean(run["test_accuracy"] for run in by_key[key]),
        default=None,
    )
    for key in family:
        run = by_key[key][0]
        if key != best and not _lost_classes(run):
            continue
        name = f"{slug}-confusion.png" if key == best else f"{slug}-confusion-{key}.png"
        title = f"{next(e.model for e in EXPERIMENTS if e.key == key)}, {titles[key]}"
        draw_confusion(
            folder / name, run["confusion"], _classes(group), f"{title}: {run['test_accuracy']:.4f}"
        )
        made.append((name, f"Confusion matrix of {title}"))
    return made


def _lost_classes(run: Line) -> bool:
    """Return whether a net that did learn, judged by its accuracy, never answers with some class."""
    answered = [sum(column) for column in zip(*run["confusion"], strict=True)]
    accuracy: float = run["test_accuracy"]
    return min(answered) == 0 and accuracy > 1.5 / len(answered)


def _classes(group: str) -> Sequence[str]:
    names = catalog.dataset({CIFAR: "cifar10", LENET5: "mnist"}.get(group, "fashion-mnist")).classes
    assert names is not None, group
    return names


def _draw_curves(path: Path, series: Sequence[tuple[str, Sequence[Line]]], title: str) -> None:
    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        styles = ("-", "--", ":", "-.")
        for index, (label, history) in enumerate(series):
            epochs = [row["epoch"] for row in history]
            losses = [row["train_loss"] for row in history]
            axes.plot(epochs, losses, styles[index // 10 % 4], marker="o", ms=2.5, lw=1.2, label=label)
        last = max(row["epoch"] for _, history in series for row in history)
        if last > 30:  # a long run beside short ones
            axes.set_xscale("log", base=2)
            ticks = [epoch for epoch in (1, 2, 5, 10, 20, 50, 100) if epoch <= last]
            axes.set_xticks(ticks, [str(epoch) for epoch in ticks])
        axes.set(xlabel="epoch", ylabel="training loss", title=title)
        axes.legend(frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))

    _save(path, draw)


def _draw_batches(path: Path, points: Sequence[tuple[int, float]], title: str) -> None:
    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.semilogx([p[0] for p in points], [p[1] for p in points], "o", ms=5, base=2, alpha=0.6)
        sizes = sorted({p[0] for p in points})
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.set(xlabel="batch size (same rate, same epochs)", ylabel="test accuracy", title=title)

    _save(path, draw)


def _save(path: Path, draw: Callable[[Figure], None]) -> None:
    figure = Figure(figsize=(9, 4.5), dpi=110, layout="constrained")
    draw(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
