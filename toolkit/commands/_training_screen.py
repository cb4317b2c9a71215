"""What a training shows to people while it runs, on stderr, and at its end."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from toolkit.cli import printing
from toolkit.figures import UNKNOWN, duration_text, mebibytes_text
from toolkit.training import EpochRecord, Outcome, Watcher

_REFRESH_S = 0.25
_UNEVEN = 0.005  # with classes so uneven that both accuracies differ by more, both are told


class Screen(Watcher):
    """A progress bar with images a second and time left; on no terminal, a line for each epoch."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=printing.stderr,
            transient=True,
            auto_refresh=False,  # a thread that redraws would take time from small steps
            disable=not printing.stderr.is_terminal,
        )
        self._task: TaskID | None = None
        self._reading: TaskID | None = None
        self._began = 0.0
        self._epochs = 0
        self._images = 0
        self._done = 0
        self._pending = 0
        self._shown = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """Print a sentence above the bar."""
        printing.say(text)

    def read(self, done: int, total: int) -> None:
        """Show how many pictures are read; nothing where that is over within moments."""
        if self._reading is None:
            self._began = time.perf_counter()
            self._reading = self._bar.add_task("reading pictures", total=total, rate="", visible=False)
        now = time.perf_counter()
        if now - self._shown < _REFRESH_S and done < total:
            return
        self._shown = now
        slow = now - self._began > 1
        if slow:
            self._bar.start()
        rate = f"{done / max(now - self._began, 1e-9):,.0f} images/s"
        self._bar.update(self._reading, completed=done, total=total, rate=rate, visible=slow)
        self._bar.refresh()
        if done >= total:
            self._bar.remove_task(self._reading)
            self._reading = None

    def start(self, *, epochs: int, images: int, done: int) -> None:
        """Begin the bar."""
        self._bar.start()
        self._epochs, self._images, self._done = epochs, images, done
        self._task = self._bar.add_task("", total=epochs * images, completed=done, rate="")
        self._shown = time.perf_counter()
        self._describe()

    def images(self, count: int) -> None:
        """Move the bar, but redraw it only a few times a second: drawing costs more than a small step."""
        self._pending += count
        now = time.perf_counter()
        if self._task is None or now - self._shown < _REFRESH_S:
            return
        rate = f"{self._pending / (now - self._shown):,.0f} images/s"
        self._done += self._pending
        self._bar.update(self._task, completed=self._done, rate=rate)
        self._bar.refresh()
        self._pending, self._shown = 0, now

    def epoch(self, record: EpochRecord) -> None:
        """Print an epoch's figures."""
        parts = [
            f"epoch {record.epoch:>{len(str(self._epochs))}} of {self._epochs}",
            f"loss {_loss(record.train_loss)}",
            f"train {record.train_accuracy:.4f}",
        ]
        if record.val_accuracy is not None:
            parts.append(f"validation {record.val_accuracy:.4f}")
            balanced = record.val_balanced_accuracy
            if balanced is not None and abs(balanced - record.val_accuracy) > _UNEVEN:
                parts.append(f"balanced {balanced:.4f}")
        rate = f"{self._images / record.seconds:,.0f} images/s" if record.seconds else ""
        printing.say("  ".join([*parts, duration_text(record.seconds), rate]))
        # also right after going back to an earlier epoch
        self._done, self._pending, self._shown = record.epoch * self._images, 0, time.perf_counter()
        self._describe()

    def _describe(self) -> None:
        if self._task is not None and self._images:
            current = min(self._epochs, self._done // self._images + 1)
            self._bar.update(self._task, description=f"epoch {current} of {self._epochs}")


def _loss(value: float | None) -> str:
    """Return a loss in four places, a diverging one as a power of ten."""
    if value is None:
        return UNKNOWN
    return f"{value:.4e}" if value >= 1e4 else f"{value:.4f}"


def show_outcome(outcome: Outcome) -> None:
    """Print what came of a training."""
    low, high = outcome.test_accuracy_ci95
    figures = [
        f"test accuracy {outcome.test_accuracy:.4f} (95 % interval {low:.4f} to {high:.4f}, "
        f"{outcome.test_images:,} images), weights of epoch {outcome.selected_epoch}"
    ]
    balanced = outcome.balanced_accuracy
    if balanced is not None and abs(balanced - outcome.test_accuracy) > 5e-5:
        figures.append(f"balanced accuracy {balanced:.4f}, macro F1 {outcome.macro_f1:.4f}")
    if outcome.flip_test_accuracy is not None:
        figures.append(f"with mirror images averaged in: {outcome.flip_test_accuracy:.4f}")
    rate = f", {outcome.images_per_second:,.0f} images/s" if outcome.images_per_second else ""
    peak = outcome.peak_memory_bytes
    memory = f", peak memory {mebibytes_text(peak)}" if peak else ""
    figures.append(f"{duration_text(outcome.seconds)}{rate}{memory}")
    figures.append(f"checkpoint {outcome.checkpoint.path}")
    figures.append(f"logs, curves and confusion matrix in {outcome.folder}")
    printing.stdout.print("\n".join(figures), markup=False, soft_wrap=True)
