"""A sweep's table: a row for each cell, as JSON, CSV, curves, a heat map and for people."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from toolkit.artifacts import write_bytes
from toolkit.errors import CnnkitError, DivergedError, UnavailableError
from toolkit.figures import UNKNOWN, duration_text, mebibytes_text
from toolkit.recipes import Metric
from toolkit.tables import TextTable
from toolkit.training.cell_results import CellResult
from toolkit.training.record import lacks
from toolkit.training.record.charts import draw_heat_map, draw_overlay, draw_search

_FIGURES = (
    "test_accuracy",
    "val_accuracy",
    "seconds",
    "images_per_second",
    "peak_memory_bytes",
    "device_peak_memory_bytes",
)

# axes that repeat a setting and are no choice of it, with what people call several of them
_REPEATS = {"fold": "folds", "seed": "seeds"}

Axes = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Values by axis, without fold and seed, which repeat a setting, and its cells' held-out figures.

    They are in a metric, greater being better; of the `cells` those have one that were trained.
    """

    values: Mapping[str, str]
    figures: tuple[float, ...]
    cells: int
    metric: Metric = "accuracy"

    @property
    def mean(self) -> float:
        """Return the mean over folds and seeds."""
        return statistics.mean(self.figures)

    @property
    def deviation(self) -> float | None:
        """Return the standard deviation over folds and seeds; None for a single figure."""
        return statistics.stdev(self.figures) if len(self.figures) > 1 else None

    @property
    def whole(self) -> bool:
        """Tell whether each of its cells has a figure: the mean of some may be that of easy folds."""
        return len(self.figures) == self.cells

    def sentence(self, varied: Axes) -> str:
        """Say the figure, over how many folds and seeds, and the options that tell it from the others."""
        named = " ".join(f"--{axis} {value}" for axis, value in self.values.items() if axis in varied)
        what = "" if self.metric == "accuracy" else f"{self.metric.replace('-', ' ')} "
        return f"{what}{abs(self.mean):.4f}{self._spread(varied)}{f': {named}' if named else ''}"

    def _spread(self, varied: Axes) -> str:
        repeats = [f"{len(varied[axis])} {word}" for axis, word in _REPEATS.items() if axis in varied]
        if not repeats:  # a search may have tried a setting twice
            return ""
        over = " × ".join(repeats)
        if not self.whole:
            few = f"{len(self.figures)} of"
            over = f"{few} {over}" if len(repeats) == 1 else f"{few} {self.cells} cells ({over})"
        return f"{'' if self.deviation is None else f' ± {self.deviation:.4f}'} over {over}"


@dataclass(frozen=True, kw_only=True)
class Table:
    """What a sweep came to. `axes` maps an option's word to its values; `files` were written beside it.

    `metric` is what a search went by, None for a sweep of every combination.
    """

    model: str
    folder: Path
    axes: Axes
    results: tuple[CellResult, ...]
    files: Mapping[str, Path] = field(default_factory=dict)
    metric: Metric | None = None

    @property
    def varied(self) -> Axes:
        """Return the axes that have more than one value."""
        return varied(self.axes)

    @property
    def compares(self) -> bool:
        """Tell whether there are several settings, and not one alone with several folds or seeds."""
        return any(axis not in _REPEATS for axis in self.varied)

    @property
    def settings(self) -> tuple[Setting, ...]:
        """Return what was held against each other on held-out images: cells, those of all repeats as one."""
        metric = self._compared
        found: dict[tuple[tuple[str, str], ...], list[float | None]] = {}
        for result in self.results:
            key = tuple((axis, result.values[axis]) for axis in self.axes if axis not in _REPEATS)
            found.setdefault(key, []).append(result.report.figure(metric) if result.report else None)
        return tuple(
            Setting(values=dict(key), figures=trained, cells=len(figures), metric=metric)
            for key, figures in found.items()
            if (trained := tuple(figure for figure in figures if figure is not None))
        )

    @property
    def _compared(self) -> Metric:
        """Return what cells are compared in: what chose their epochs, or accuracy where that differs."""
        metrics = {result.report.settings.metric for result in self.results if result.report}
        return self.metric or (metrics.pop() if len(metrics) == 1 else "accuracy")

    @property
    def best(self) -> Setting | None:
        """Return the setting that is best on held-out images; None where none was trained or held any out.

        One that lacks folds or seeds is no rival of those that have them all.
        """
        whole = [setting for setting in self.settings if setting.whole]
        return max(whole or self.settings, key=lambda setting: setting.mean, default=None)

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each cell, with None for what a failed cell did not measure."""
        return [
            {
                **{axis: result.values[axis] for axis in self.axes},
                "status": result.status,
                **{key: getattr(result.report, key, None) for key in _FIGURES},
                "where": result.where,
                "error": result.error,
                "checkpoint": getattr(result.report, "checkpoint", None),
            }
            for result in self.results
        ]

    def to_json(self) -> dict[str, Any]:
        """Return what `cnnkit sweep --json` prints."""
        head = {"model": self.model, "folder": self.folder, "axes": self.axes, "files": self.files}
        told: dict[str, Any] = {"best": None, "best_held_out": None}
        best = self.best
        if best is not None:
            figures = {"metric": best.metric, "mean": abs(best.mean), "deviation": best.deviation}
            counts = {"trained": len(best.figures), "cells": best.cells}
            told = {"best": best.values, "best_held_out": {**figures, **counts}}
        settings = ({axis: result.values[axis] for axis in self.axes} for result in self.results)
        cells = [{"settings": own, **row} for own, row in zip(settings, self.rows(), strict=True)]
        return {**head, "cells": cells, **told}

    def text(self) -> TextTable:
        """Return the first write-up's table: what varied, time, images a second, accuracy and peak memory."""
        figures = ["time", "images/s", "test accuracy", "validation", "peak memory"]
        if any(result.report and result.report.device_peak_memory_bytes for result in self.results):
            figures.append("GPU memory")
        return TextTable(
            head=(*self.varied, *figures),
            rows=tuple(
                (*(result.values[axis] for axis in self.varied), *_figures(result)[: len(figures)])
                for result in self.results
            ),
        )

    def require(self) -> Self:
        """Return the table where every cell was trained: one with holes must not pass for a whole one.

        A search may give trials up, and learns from one that diverged, unless all of them did. Raises
        DivergedError then, UnavailableError where the devices of all cells that failed are not here, else
        CnnkitError.
        """
        failed = [result for result in self.results if result.status in ("failed", "timeout")]
        if not failed and all(result.status == "diverged" for result in self.results):
            raise DivergedError(
                f"all {len(self.results)} trials diverged; search around a lower rate: a recipe file with "
                "a lower lr, or several values, --lr 0.001,0.01"
            )
        if not failed:
            return self
        absent = all(result.exit_status == UnavailableError.exit_status for result in failed)
        raise (UnavailableError if absent else CnnkitError)(
            f"{len(failed)} of {len(self.results)} cells not trained; the first said: {failed[0].error}; "
            "--resume tries again what failed"
        )

    def _repr_html_(self) -> str:
        return replace(self.text(), title=f"{self.model}: {len(self.results)} cells").html()

    def write(self) -> dict[str, Path]:
        """Write the table as CSV, the curves and, for two axes, a heat map; return where.

        Without matplotlib it is the CSV alone.
        """
        text = io.StringIO()
        rows = self.rows()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        files = {"csv": self.folder / "cells.csv"}
        write_bytes(files["csv"], text.getvalue().encode())
        return files if lacks("matplotlib") else files | self._draw()

    def _draw(self) -> dict[str, Path]:
        files: dict[str, Path] = {}
        done = {cell_label(r.values, self.axes): r.report.history for r in self.results if r.report}
        if done:
            files["curves"] = self.folder / "curves.png"
            draw_overlay(files["curves"], done, f"{self.model}: {len(done)} of {len(self.results)} cells")
        if self.metric is not None:
            files["history"] = self.folder / "history.png"
            given_up = [r.status == "pruned" for r in self.results]
            title = f"{self.model}: {self.metric} by trial"
            draw_search(files["history"], self.history(), given_up, title, falls=self.metric == "loss")
        elif len(self.varied) == 2 and done:
            files["heat_map"] = self.folder / "heat_map.png"
            self._draw_heat_map(files["heat_map"])
        return files

    def history(self) -> list[float | None]:
        """Return what each trial of a search came to, as people read it.

        None for one that diverged, failed or took too long: it came to no end of its own, nor was it given
        up for what it had reached.
        """
        return [
            None if figure is None else abs(figure)  # a loss has its sign changed
            for figure in (self._figure(result) for result in self.results)
        ]

    def _figure(self, result: CellResult) -> float | None:
        if result.report:
            return result.report.figure(self._compared)
        return max(result.by_epoch, default=None) if result.status == "pruned" else None

    def _draw_heat_map(self, path: Path) -> None:
        (down, row_values), (across, column_values) = self.varied.items()
        found = {(row[down], row[across]): row["test_accuracy"] for row in self.rows()}
        draw_heat_map(
            path,
            [[found[row, column] for column in column_values] for row in row_values],
            row_values,
            column_values,
            title=f"{self.model}: test accuracy",
            xlabel=across,
            ylabel=down,
        )


def _figures(result: CellResult) -> tuple[str, ...]:
    """Return a cell's figures for people; one without any has its status in the place of the first."""
    found = result.report
    if found is None:
        return (result.status, "", "", "", "", "")
    rate, held = found.images_per_second, found.val_accuracy
    return (
        duration_text(found.seconds),
        f"{rate:,.0f}" if rate else UNKNOWN,
        f"{found.test_accuracy:.4f}",
        f"{held:.4f}" if held is not None else UNKNOWN,
        mebibytes_text(found.peak_memory_bytes),
        mebibytes_text(found.device_peak_memory_bytes),
    )


def varied(axes: Axes) -> Axes:
    """Return the axes that have more than one value."""
    return {axis: values for axis, values in axes.items() if len(values) > 1}


def cell_label(values: Mapping[str, str], axes: Axes) -> str:
    """Return what tells a cell from the others."""
    return ", ".join(f"{axis} {values[axis]}" for axis in varied(axes)) or "the only cell"
