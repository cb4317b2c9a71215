"""What a network's layers say to people: the table of them, and what weighs, holds and computes most."""

from __future__ import annotations

from toolkit.figures import UNKNOWN, bytes_text, count_text
from toolkit.inspection.layers import Layers
from toolkit.tables import TextTable


def table(found: Layers) -> TextTable:
    """Return a row for each layer, and the sums below them."""
    held = found.training
    rows = []
    for index, row in enumerate(found.rows):
        figures = _figures(row.parameters, row.macs, row.weights_bytes, row.activation_bytes)
        kept = (_size(held.saved_by_row[index]),) if held else ()
        rows.append((row.name, row.type, str(list(row.output_shape)), *figures, *kept))
    sums = _figures(found.parameters, found.macs, found.weights_bytes, found.activation_bytes)
    numbers = ("parameters", "mult-adds", "weights", "output", *(["kept"] if held else []))
    return TextTable(
        title=f"{found.model}, input {list(found.input_shape)}",
        head=("layer", "type", "output shape", *numbers),
        rows=tuple(rows),
        foot=("all", "", "", *sums, *([_size(held.saved_bytes)] if held else [])),
        figures=len(numbers),
    )


def sentences(found: Layers) -> list[str]:
    """Say which layers weigh, hold and compute most, and what a training step holds."""
    held, heavy, hungry, weighty = found.training, found.heaviest(), found.hungriest(), found.weightiest()
    holds = f"{_size(heavy.weights_bytes)} weights, {_size(heavy.activation_bytes)} output"
    if held:
        total, kept = max(zip(found.held_bytes(), held.saved_by_row, strict=True))
        holds = (
            f"{_size(total)}: {_size(heavy.weights_bytes)} weights, "
            f"{_size(total - heavy.weights_bytes - kept)} gradients and optimizer, {_size(kept)} kept"
        )
    lines = [
        f"most weights: {weighty.name} ({_size(weighty.weights_bytes)})",
        f"most memory: {heavy.name} ({holds})",
        f"most compute: {hungry.name} ({_count(hungry.macs)} multiply-adds, "
        f"{hungry.macs / max(1, found.macs):.0%} of all)",
    ]
    if held:
        lines.append(
            f"a training step ({held.recipe}, {held.optimizer}, fp32): weights {_size(found.weights_bytes)} "
            f"+ gradients {_size(held.gradient_bytes)} + optimizer {_size(held.optimizer_bytes)} + kept for "
            f"the backward pass {_size(held.saved_bytes)} = {_size(found.step_bytes)}"
        )
    return lines


def _figures(parameters: int, macs: int, weights_bytes: int, activation_bytes: int) -> tuple[str, ...]:
    return _count(parameters), count_text(macs or None), _size(weights_bytes), _size(activation_bytes)


def _count(number: int) -> str:
    return f"{number:,}" if number else UNKNOWN


def _size(number: int | None) -> str:
    return bytes_text(number or None)
