"""An outcome as a small piece of HTML, for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from toolkit.figures import UNKNOWN, duration_text, mebibytes_text
from toolkit.tables import TextTable

if TYPE_CHECKING:
    from toolkit.training import EpochRecord, Outcome

_WIDE, _HIGH = 320, 120


def outcome_html(outcome: Outcome) -> str:
    """Return what a training came to, with its accuracies by epoch as a curve; every text escaped."""
    low, high = outcome.test_accuracy_ci95
    rate, held = outcome.images_per_second, outcome.val_accuracy
    rows = (
        ("test accuracy", f"{outcome.test_accuracy:.4f} (95 % interval {low:.4f} to {high:.4f})"),
        ("test images", f"{outcome.test_images:,}"),
        ("validation accuracy", f"{held:.4f}" if held is not None else UNKNOWN),
        ("weights of epoch", f"{outcome.selected_epoch} of {len(outcome.records)}"),
        ("time", duration_text(outcome.seconds) + (f", {rate:,.0f} images/s" if rate else "")),
        ("peak memory", mebibytes_text(outcome.peak_memory_bytes)),
        ("checkpoint", str(outcome.checkpoint.path)),
        *(("event", event) for event in outcome.events),
    )
    name = f"{outcome.job.model.name} on {outcome.job.dataset_name}, recipe {outcome.job.recipe.name}"
    return TextTable(rows=rows, title=name).html() + _curves(outcome.records)


def _curves(records: Sequence[EpochRecord]) -> str:
    """Return training (blue) and validation accuracy (orange) by epoch, from 0 at the bottom to 1, as SVG."""
    lines = ""
    for colour, shares in (
        ("#0072b2", [record.train_accuracy for record in records]),
        ("#d55e00", [record.val_accuracy for record in records]),
    ):
        step = _WIDE / max(1, len(shares) - 1)
        places = [(n * step, _HIGH * (1 - share)) for n, share in enumerate(shares) if share is not None]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        lines += f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
    return (
        f'<svg viewBox="-4 -4 {_WIDE + 8} {_HIGH + 8}" width="{_WIDE}" height="{_HIGH}" role="img">'
        f"<title>training and validation accuracy by epoch</title>{lines}</svg>"
    )
