"""What one process counted, as it travels to another: figures of several processes add up."""

from __future__ import annotations

from msgspec import Struct, field

from serve.tally import ModelStatistics

# a metric's name and the values of its labels
Key = tuple[str, ...]


class Counts(Struct, tag=True):
    """Everything that was counted.

    `totals` only ever grow; `levels` are of now; `spreads` are how many fell into each bucket, and their sum
    at the end; `models` are a version's statistics by model and version. `parts` is what each replica of a
    cluster counted, by its name, where they are told apart.
    """

    totals: dict[Key, float] = field(default_factory=dict)
    levels: dict[Key, float] = field(default_factory=dict)
    spreads: dict[Key, list[float]] = field(default_factory=dict)
    models: dict[tuple[str, str], ModelStatistics] = field(default_factory=dict)
    parts: dict[str, Counts] = field(default_factory=dict)

    def add(self, other: Counts) -> None:
        """Add what another process counted."""
        for mine, theirs in ((self.totals, other.totals), (self.levels, other.levels)):
            for key, value in theirs.items():
                mine[key] = mine.get(key, 0.0) + value
        for key, spread in other.spreads.items():
            own = self.spreads.get(key)
            self.spreads[key] = (
                list(spread) if own is None else [a + b for a, b in zip(own, spread, strict=True)]
            )
        for version, tally in other.models.items():
            self.models.setdefault(version, ModelStatistics.none_yet(*version)).add(tally)

    def remains(self) -> Counts:
        """Return what still counts of a process that is gone: all but its levels."""
        return Counts(totals=self.totals, spreads=self.spreads, models=self.models)
