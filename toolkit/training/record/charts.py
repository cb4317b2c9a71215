"""A run's pictures: its curves, and the confusion matrix of the test set; none without matplotlib."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np
from numpy.typing import NDArray

from toolkit.artifacts import writing
from toolkit.training import EpochRecord
from toolkit.training.record import lacks
from toolkit.training.scoring import confused

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TRAIN, _VALIDATION = "#0072b2", "#d55e00"  # told apart with any colour vision
_DPI = 120
_MATRIX_CLASSES = 30  # beyond this many the figures of a matrix overlap, and its picture grows without end
_PAIRS = 40
_NAME_LETTERS = 24

Arguments = ParamSpec("Arguments")


def _with_matplotlib(draw: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Let a function draw nothing where matplotlib is missing, as `left_out` says beforehand."""

    @functools.wraps(draw)
    def drawn(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        if lacks("matplotlib"):
            return
        from matplotlib import rc_context

        with rc_context({"text.parse_math": False}):  # a class may be called $5_$10
            draw(*args, **kwargs)

    return drawn


@_with_matplotlib
def draw_curves(path: Path, records: Sequence[EpochRecord], title: str, test_accuracy: float) -> None:
    """Draw loss and accuracy by epoch, the test accuracy as a level line."""
    figure = _figure(9.6, 4.2)
    loss, accuracy = figure.subplots(1, 2)
    epochs = [record.epoch for record in records]
    for axes, kind, rows in (
        (loss, "loss", [(r.train_loss, r.val_loss) for r in records]),
        (accuracy, "accuracy", [(r.train_accuracy, r.val_accuracy) for r in records]),
    ):
        axes.plot(epochs, [row[0] for row in rows], "o-", ms=3, color=_TRAIN, label="training")
        if any(row[1] is not None for row in rows):
            held = [np.nan if row[1] is None else row[1] for row in rows]
            axes.plot(epochs, held, "s-", ms=3, color=_VALIDATION, label="validation")
        _dress(axes, kind)
    accuracy.axhline(test_accuracy, color="0.3", lw=1, ls=":", label=f"test {test_accuracy:.4f}")
    accuracy.legend(frameon=False)
    figure.suptitle(title)
    _save(figure, path)


@_with_matplotlib
def draw_confusion(
    path: Path, confusion: Sequence[Sequence[int]], classes: Sequence[str], title: str
) -> None:
    """Draw how often each class (rows) was given each answer (columns), in shares of the class.

    Of more classes than can be told apart, the pairs that are confused most often are drawn instead.
    """
    counts, names = np.array(confusion, dtype=np.int64), [_drawable(name) for name in classes]
    if len(names) > _MATRIX_CLASSES:
        _draw_pairs(path, counts, names, title)
    else:
        _draw_matrix(path, counts, names, title)


def _drawable(name: str) -> str:
    """Return a name as a font takes it: bytes that are no text as question marks, cut where it is long."""
    text = name.encode("utf-8", "replace").decode()
    return text if len(text) <= _NAME_LETTERS else f"{text[: _NAME_LETTERS - 1]}…"


def _draw_matrix(path: Path, counts: NDArray[np.int64], names: Sequence[str], title: str) -> None:
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = max(4.0, 1.8 + 0.52 * len(names))
    figure = _figure(side + 0.6, side)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            ink = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=ink, fontsize=8)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="answer", ylabel="true class", title=title)
    _save(figure, path)


def _draw_pairs(path: Path, counts: NDArray[np.int64], names: Sequence[str], title: str) -> None:
    pairs = confused(counts, _PAIRS)
    figure = _figure(9.6, 1.6 + 0.24 * max(1, len(pairs)))
    axes = figure.subplots()
    shares = [count / counts[true].sum() for true, _, count in pairs]
    bars = axes.barh(range(len(pairs)), shares, color=_TRAIN)
    told = [f"{count} of {counts[true].sum()}" for true, _, count in pairs]
    axes.bar_label(bars, told, padding=3, fontsize=8)
    axes.set_yticks(range(len(pairs)), [f"{names[true]} → {names[answer]}" for true, answer, _ in pairs])
    axes.tick_params(axis="y", labelsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.15, y=0.01)
    axes.spines[["top", "right"]].set_visible(False)
    wrong = int(counts.sum() - np.trace(counts))
    shown = sum(count for _, _, count in pairs)
    what = f"the most frequent mistakes: {shown:,} of {wrong:,}" if pairs else "no mistakes"
    axes.set(xlabel="share of the true class", title=f"{title}\n{what}, {len(names)} classes")
    _save(figure, path)


@_with_matplotlib
def draw_overlay(path: Path, runs: Mapping[str, Sequence[EpochRecord]], title: str) -> None:
    """Draw several runs' training losses and validation (else training) accuracies over each other."""
    figure = _figure(10.5, 4.6)
    loss, accuracy = figure.subplots(1, 2)
    for index, (name, records) in enumerate(runs.items()):
        epochs = [record.epoch for record in records]
        style: dict[str, Any] = {"color": f"C{index % 10}", "ls": ("-", "--", ":", "-.")[index // 10 % 4]}
        loss.plot(epochs, [r.train_loss for r in records], marker="o", ms=3, label=name, **style)
        held = [r.train_accuracy if r.val_accuracy is None else r.val_accuracy for r in records]
        accuracy.plot(epochs, held, marker="o", ms=3, label=name, **style)
    measured = any(r.val_accuracy is not None for records in runs.values() for r in records)
    _dress(loss, "training loss", legend=False)
    _dress(accuracy, "validation accuracy" if measured else "training accuracy", legend=False)
    accuracy.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.suptitle(title)
    _save(figure, path)


@_with_matplotlib
def draw_heat_map(
    path: Path,
    values: Sequence[Sequence[float | None]],
    rows: Sequence[str],
    columns: Sequence[str],
    **words: str,
) -> None:
    """Draw a table of accuracies; `words` are the title, xlabel and ylabel. None is a cell that failed."""
    table = np.array([[np.nan if v is None else v for v in row] for row in values], dtype=np.float64)
    figure = _figure(2.2 + 0.9 * len(columns), 1.8 + 0.55 * len(rows))
    axes = figure.subplots()
    axes.imshow(table, cmap="viridis", aspect="auto")
    middle = np.nanmean(table) if np.isfinite(table).any() else 0.0
    for (row, column), value in np.ndenumerate(table):
        text = f"{value:.3f}" if np.isfinite(value) else "failed"
        ink = "white" if not np.isfinite(value) or value < middle else "black"
        axes.text(
            column,
            row,
            text,
            ha="center",
            va="center",
            fontsize=8,
            color=ink if np.isfinite(value) else "red",
        )
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set(**words)
    _save(figure, path)


@_with_matplotlib
def draw_search(
    path: Path,
    figures: Sequence[float | None],
    given_up: Sequence[bool],
    title: str,
    *,
    falls: bool = False,
) -> None:
    """Draw a search's figures trial by trial, those given up hollow, and the best so far as a line.

    `falls` tells that less is better.
    """
    numbers = np.arange(1, len(figures) + 1)
    values = np.array([np.nan if figure is None else figure for figure in figures])
    pruned = np.array(given_up)
    figure = _figure(7.2, 4.2)
    axes = figure.subplots()
    axes.plot(numbers[~pruned], values[~pruned], "o", ms=5, color=_TRAIN, label="trained to its end")
    axes.plot(numbers[pruned], values[pruned], "o", ms=5, mfc="none", color=_TRAIN, label="given up")
    best = best_so_far(np.where(pruned, np.nan, values), falls=falls)
    axes.plot(numbers[np.isfinite(best)], best[np.isfinite(best)], color=_VALIDATION, label="best so far")
    _dress(axes, "on held-out images")
    axes.set(xlabel="trial", title=title)
    _save(figure, path)


def best_so_far(values: NDArray[np.float64], *, falls: bool) -> NDArray[np.float64]:
    """Return the best of the values up to each, the least where less is better; none of them is NaN's.

    It is infinite before the first one.
    """
    worst, best = (np.inf, np.minimum) if falls else (-np.inf, np.maximum)
    found: NDArray[np.float64] = best.accumulate(np.where(np.isnan(values), worst, values))
    return found


@_with_matplotlib
def draw_rates(
    path: Path,
    rates: Sequence[float],
    losses: Sequence[float],
    suggested: float | None,
    title: str,
    *,
    start: float,
) -> None:
    """Draw the loss against the rate, with what is suggested and the loss that it is to fall from."""
    figure = _figure(7.2, 4.2)
    axes = figure.subplots()
    axes.plot(rates, losses, color=_TRAIN)
    axes.axhline(start, color=_TRAIN, lw=1, ls=":", label=f"at the start: {start:.3g}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss, averaged", title=title)
    # a logarithmic axis' own labels are formulas, which are not read here
    axes.xaxis.set_major_formatter(lambda rate, _place: f"{rate:g}")
    if suggested is not None:
        axes.axvline(suggested, color=_VALIDATION, lw=1, label=f"suggested: {suggested:.2g}")
    axes.legend(frameon=False)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def _figure(width: float, height: float) -> Figure:
    # Figure and not pyplot: nothing global, and no window toolkit is looked for
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _dress(axes: Any, kind: str, *, legend: bool = True) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set(xlabel="epoch", ylabel=kind)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if legend:
        axes.legend(frameon=False)


def _save(figure: Figure, path: Path) -> None:
    with writing(path) as part, warnings.catch_warnings():
        # class names in any script: letters that the font lacks are drawn as boxes
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(part, format="png", dpi=_DPI)
