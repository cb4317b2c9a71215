"""What a choosing came to: the choice, the baseline, the frontier and everything rejected with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolkit import schema
from toolkit.choices import Budget, ChoiceFile, ChoiceMachine, Contender
from toolkit.choosing import Rejection
from toolkit.figures import UNKNOWN, bytes_text, ms_text
from toolkit.tables import TextTable


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was chosen for a model on this machine, and all that it was chosen from.

    `stages` are the seconds of each stage, `others_cores` how many cores others kept busy meanwhile.
    `partial` tells that it was interrupted: `chosen` is then None and nothing was written. `why` says why it
    was chosen, `pictures` what answers were judged on, `disturbed` the share of rounds that others disturbed;
    `notes` say what stands out, as an int8 file that is slower, by its rows.
    """

    model: str
    machine: ChoiceMachine
    budget: Budget
    baseline: Contender | None
    chosen: Contender | None
    frontier: tuple[Contender, ...]
    measured: tuple[Contender, ...]
    rejected: tuple[Rejection, ...]
    seconds: float
    why: str
    pictures: str
    disturbed: float = 0.0
    others_cores: float = 0.0
    stages: Mapping[str, float] = field(default_factory=dict)
    choice_file: Path | None = None
    file: ChoiceFile | None = None
    partial: bool = False
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values; a rejected one's reason stands beside its figures."""
        data: dict[str, Any] = schema.plain(self)
        data["rejected"] = [{**entry["contender"], "why": entry["why"]} for entry in data["rejected"]]
        file = data.pop("file")
        data["curve"] = file["curve"] if file else []
        return data

    def table(self) -> TextTable:
        """Return what was measured and may be chosen, the fastest first, as texts."""
        rows = []
        for one in self.measured:
            mark = "chosen" if one == self.chosen else "baseline" if one == self.baseline else ""
            if one == self.chosen and one == self.baseline:
                mark = "chosen, the baseline"
            rows.append(
                (
                    one.label + (f", batch {one.batch}" if one.batch > 1 else ""),
                    mark,
                    ms_text(one.latency_ms.median) if one.latency_ms else UNKNOWN,
                    ms_text(one.latency_ms.p95) if one.latency_ms else UNKNOWN,
                    f"{one.images_per_second:,.0f}" if one.images_per_second else UNKNOWN,
                    f"{one.accuracy:.4f} of {one.images:,}" if one.accuracy is not None else UNKNOWN,
                    _drop_text(one),
                    bytes_text(one.memory_bytes),
                    _gain_text(one),
                )
            )
        head = (
            "",
            "",
            "median ms",
            "p95 ms",
            "images/s",
            "accuracy (pictures)",
            "points lost (95 %)",
            "memory",
            "times as fast",
        )
        return TextTable(head=head, rows=tuple(rows), title=f"{self.model}: {self.why}", figures=7)

    def rejected_table(self) -> TextTable:
        """Return what was rejected, with its reason, as texts."""
        rows = tuple(
            (
                entry.contender.label,
                ms_text(entry.contender.latency_ms.median) if entry.contender.latency_ms else UNKNOWN,
                entry.why,
            )
            for entry in self.rejected
        )
        return TextTable(head=("rejected", "median ms", "why"), rows=rows)

    def html(self) -> str:
        """Return one page that opens offline: the plot, what was measured and what was rejected."""
        from toolkit.choosing.page import choice_page

        return choice_page(self)

    def _repr_html_(self) -> str:
        from toolkit.choosing.page import plot

        return plot(self) + self.table().html() + self.rejected_table().html()


def frontier(contenders: list[Contender]) -> tuple[Contender, ...]:
    """Return those that no other one is both faster and more accurate than, the fastest first.

    Accuracies are compared by the points lost beside the baseline, on the same pictures as it: some were
    decided on more pictures than others.
    """
    known = [one for one in contenders if one.latency_ms and one.accuracy_drop is not None]
    found: list[Contender] = []
    for one in sorted(known, key=lambda each: (each.picture_ms, each.accuracy_drop or 0.0)):
        if not found or (one.accuracy_drop or 0.0) < (found[-1].accuracy_drop or 0.0):
            found.append(one)
    return tuple(found)


def _drop_text(one: Contender) -> str:
    if one.accuracy_drop is None or one.accuracy_drop_ci95 is None:
        return UNKNOWN
    low, high = one.accuracy_drop_ci95
    return f"{one.accuracy_drop:+.2f} ({low:+.2f} to {high:+.2f})"


def _gain_text(one: Contender) -> str:
    if one.gain is None:
        return UNKNOWN
    if one.gain_ci95 is None:
        return f"{one.gain:.2f}"
    return f"{one.gain:.2f} ({one.gain_ci95[0]:.2f} to {one.gain_ci95[1]:.2f})"
