"""docs/results.md out of the recorded runs: tables, and the pictures beside them."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tests.benchmarks.experiments import CIFAR, EXPERIMENTS, LENET5, Experiment
from tests.benchmarks.results_epochs import epochs_table
from toolkit.artifacts import write_bytes, writing
from toolkit.datasets import dataset_of
from toolkit.training.record.charts import draw_confusion

HEAD = """# Results: the write-ups' experiments, measured here

Every row is one command; *published* is the write-up's own figure, *here* the mean test accuracy over the
seeds (± their standard deviation, where there are several), over all test images. Textbook recipes report
the last epoch, as the write-ups do (LeNet-5's kept the epoch that was best on the test set); all others
choose their epoch on images held out from the training set, or take the last one. *Asked* is what this
project asks of itself, and a miss is printed as one.

*Wall* is the time of the middle run beside other work on a shared machine; *processor* is the processor
time of the whole command (loading, training, testing), which sharing changes less. Of a run that was stopped
and gone on with, wall leaves out what was lost in between, and processor is unknown: –. *Computed in* is
what each run chose by measuring, as `--precision measured` does today and the default did then;
`--precision`, `--layout` and `--threads` fix it, and a run that chooses otherwise ends at another figure.

CIFAR-10-JPEG75 is CIFAR-10 with every picture saved as JPEG of quality 75: figures on it are not CIFAR-10's.
Give its folder as `--dataset folder:cifar10-jpeg75`.

Where a write-up prints what its last epoch of training came to, a second table holds that against the same
epoch here: the middle of the seeds, and in brackets the lowest and the highest. Images a second are those of
the whole run: there a GPU's, here one or two CPU cores', beside other work.

Machine: {machine}. {torch}. {dates}.
Written by `python -m tests.benchmarks.results page` from [results/runs.jsonl](results/runs.jsonl).
What these figures teach, and what takes LeNet no further, is in [lessons](lessons.md); what class weights,
fine-tuning and a search bring is in [training](training.md#finding-settings).
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
        parts += epochs_table() if group == CIFAR else []
        parts += [f"![{alt}](results/{name})\n" for name, alt in _pictures(group, by_key, docs / "results")]
    write_bytes(docs / "results.md", "\n".join(parts).encode())


def _table(rows: Sequence[Experiment], by_key: dict[str, list[Line]]) -> str:
    head = (
        "experiment",
        "published",
        "here",
        "asked",
        "seeds",
        "computed in",
        "wall",
        "processor",
        "command",
    )
    text = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        runs = by_key.get(row.key, [])
        cells = (
            row.what,
            row.published,
            _figure_of(runs),
            _asked(row, runs),
            _seeds(row, runs),
            _computed(runs),
            _middle(runs, "seconds"),
            _middle(runs, "processor_seconds"),
            f"`{row.command}`",
        )
        text.append(f"| {' | '.join(cells)} |")
    return "\n".join(text) + "\n"


def _seeds(row: Experiment, runs: Sequence[Line]) -> str:
    if not runs:
        return "–"
    return f"{len(runs)}" if len(runs) >= row.seeds else f"{len(runs)} of {row.seeds}"


def _computed(runs: Sequence[Line]) -> str:
    """Say in what the runs computed, the most frequent first; with how often, where they differ."""
    if not runs:
        return "–"
    formats = Counter(run["arithmetic"] for run in runs).most_common()
    named = formats[0][0] if len(formats) == 1 else ", ".join(f"{name} ×{count}" for name, count in formats)
    threads = sorted({run["threads"] for run in runs})
    return f"{named}; {' or '.join(map(str, threads))} thread{'s' if threads[-1] > 1 else ''}"


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
    read: Callable[[Line], float | None]
    spread: bool = True  # whether the seeds' range says something of training, and not of the machine


_MEASURES = (
    _Measure(field="loss", title="loss", form=".3f", read=lambda run: run["history"][-1]["train_loss"]),
    _Measure(
        field="accuracy",
        title="accuracy",
        form=".3f",
        read=lambda run: run["history"][-1]["train_accuracy"],
    ),
    _Measure(
        field="images_per_second",
        title="images/s",
        form=",.0f",
        # a run whose time is unknown has no rate either
        read=lambda run: run["images_per_second"] if run["seconds"] is not None else None,
        spread=False,
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
            cells += ("–", "–") if figure is None else (f"{figure:{measure.form}}", _ours(measure, runs))
        text.append(f"| {' | '.join(cells)} |")
    return ["\n".join(text) + "\n"]


def _ours(measure: _Measure, runs: Sequence[Line]) -> str:
    if not runs:
        return "not run yet"
    figures = [figure for run in runs if (figure := measure.read(run)) is not None]
    if not figures:
        return "–"
    middle = format(statistics.median(figures), measure.form)
    if len(figures) == 1 or not measure.spread:
        return middle
    return f"{middle} ({min(figures):{measure.form}} to {max(figures):{measure.form}})"


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
    so_far = " so far" if len(runs) < row.seeds else ""
    return f"{row.wanted}, {'reached' if reached else 'missed'}{so_far}"


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
            base = [key for key in family if key in ("lenet-textbook", "cifarnet-textbook")]
            points = sorted(
                (run["settings"]["batch"], run["test_accuracy"])
                for key in [*batches, *base]
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
    names = dataset_of({CIFAR: "cifar10", LENET5: "mnist"}.get(group, "fashion-mnist")).classes
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
    with writing(path) as part:
        figure.savefig(part, format="png")
