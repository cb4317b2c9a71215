"""What a run leaves of pictures of one's own: what each was used for, and what was left out, with reasons."""

from __future__ import annotations

from pathlib import Path

from toolkit.training.data.own import write_lines
from toolkit.training.data.prepare import PreparedData
from toolkit.training.record.folder import LEFT_OUT, PICTURES


def note_pictures(folder: Path, prepared: PreparedData) -> None:
    """Write both lists into a run's folder; nothing for a data set that is the same for everybody."""
    if prepared.record is None:
        return
    prepared.record.write(folder / PICTURES)
    listing = prepared.dataset.listing
    left = (*(listing.left_out if listing else ()), *prepared.dataset.damaged)
    if left:
        write_lines(folder / LEFT_OUT, tuple(f"{one.name}\t{one.why}" for one in left))
