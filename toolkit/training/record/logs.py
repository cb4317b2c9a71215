"""A run's figures, epoch by epoch: CSV and TensorBoard files in its folder."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path

from toolkit.artifacts import write_bytes
from toolkit.training import EpochRecord
from toolkit.training.record import lacks

CSV, TENSORBOARD = "epochs.csv", "tensorboard"


def write_csv(folder: Path, records: Sequence[EpochRecord], name: str = CSV) -> None:
    """Write all epochs so far; whole, so that a resumed run leaves no row twice."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in dataclasses.fields(EpochRecord)], lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow(dataclasses.asdict(record))
    write_bytes(folder / name, text.getvalue().encode())


def write_tensorboard(folder: Path, records: Sequence[EpochRecord]) -> None:
    """Write the epochs as TensorBoard scalars; anew, for event files cannot be taken back.

    Nothing without TensorBoard, as `left_out` says.
    """
    if lacks("tensorboard"):
        return
    from torch.utils.tensorboard import SummaryWriter

    target = folder / TENSORBOARD
    for old in target.glob("events.*") if target.is_dir() else ():
        old.unlink()
    with SummaryWriter(str(target)) as writer:
        for record in records:
            for tag, value in (
                ("loss/train", record.train_loss),
                ("loss/validation", record.val_loss),
                ("accuracy/train", record.train_accuracy),
                ("accuracy/validation", record.val_accuracy),
                ("rate", record.rate),
            ):
                if value is not None:
                    writer.add_scalar(tag, value, record.epoch)
