"""Where a run stands, and what its epochs came to: written down for resuming."""

from __future__ import annotations

from dataclasses import dataclass, field

from toolkit.errors import CnnkitError
from toolkit.recipes import Metric
from toolkit.schema import Count, Magnitude, Positive
from toolkit.training import EpochRecord
from toolkit.training.guard import GuardState


@dataclass(kw_only=True)
class Progress:
    """Where a run stands; all of it is written down for resuming.

    `ticks` counts every step ever made, also those that a return to an earlier state undid.
    """

    epoch: Count = 0
    step: Count = 0
    ticks: Count = 0
    attempt: Count = 0
    rate_scale: Magnitude = 1.0
    loss_sum: float = 0.0
    right: Magnitude = 0
    seen: Count = 0
    trained_images: Count = 0
    trained_seconds: Magnitude = 0.0
    busy_seconds: Magnitude = 0.0
    seconds: Magnitude = 0.0
    best_epoch: Positive | None = None
    stopped: bool = False
    epoch_began_s: Magnitude = 0.0
    unjudged: list[float] = field(default_factory=list)
    # by class, of the steps that the guard has not looked at yet
    unjudged_seen: dict[str, Count] = field(default_factory=dict)
    unjudged_right: dict[str, Count] = field(default_factory=dict)
    watch: GuardState = field(default_factory=GuardState)
    records: list[EpochRecord] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    def take(self, record: EpochRecord, metric: Metric) -> bool:
        """Take in what an epoch came to; tell whether it is the best one yet."""
        best_yet = next((one for one in self.records if one.epoch == self.best_epoch), None)
        self.records.append(record)
        if best_yet is not None and not record.better_than(best_yet, metric):
            return False
        self.best_epoch = record.epoch
        return True

    def selected(self, select: str) -> EpochRecord:
        """Return the epoch whose weights are kept, "best" or "last". Raises CnnkitError."""
        if not self.records:
            raise CnnkitError("no epoch was finished, so there are no weights to keep; lower --lr")
        number = self.best_epoch if select == "best" else self.records[-1].epoch
        return next(record for record in self.records if record.epoch == number)
