"""A job's own pictures: listed, read with progress, and noted one by one for the record."""

from __future__ import annotations

from pathlib import Path

from toolkit.artifacts import artifact_path, check_name, writing
from toolkit.datasets import Dataset, Split, dataset_of
from toolkit.errors import CnnkitError, DamagedError
from toolkit.flattening import Levels
from toolkit.listings import Listing
from toolkit.listings.parts import Member, members
from toolkit.listings.records import Record, Use, record_of
from toolkit.preprocessing import CHANNELS
from toolkit.training import Job, Watcher
from toolkit.training.data.looks import look, measured_levels, typed_levels

DAMAGED = "damaged.txt"


def insist_that_pictures_have_its_channels(job: Job) -> None:
    """Raise CnnkitError where a job's network takes other channels than pictures of one's own have."""
    model, channels = job.model, job.model.input_shape[0]
    if channels in CHANNELS or job.grey:
        return
    raise CnnkitError(
        f"{model.name} takes {channels} channels (its input_shape), and pictures have "
        f"{' or '.join(map(str, CHANNELS))}: give it such an input_shape, or add --grey, for which it is "
        "built with one channel"
    )


def load_own(
    listing: Listing, held: tuple[Member, ...], job: Job, size: tuple[int, int], watcher: Watcher
) -> tuple[Dataset, Levels | None]:
    """Decode a listing in the data's colours; return the values that become black and white, too.

    Raises DamagedError, with all that is damaged in a file beside the artifact.
    """
    looks = look(held, job.reading)
    channels = job.model.input_shape[0]
    if job.grey:
        channels = 1
    elif channels == 1 and looks.coloured:
        channels = 3
        watcher.say(f"the pictures have colours, and {job.model.name} gets them; --grey keeps one channel")
    levels = typed_levels(job.levels) if job.levels else measured_levels(held, job.reading, looks)
    if levels:
        watcher.say(f"pixels of more than 8 bits: {levels[0]:g} becomes black and {levels[1]:g} white")
    fit = (channels, *size)
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        watcher.read(done, len(held))

    try:
        spec = dataset_of(job.dataset_name)
        return spec.decoded(listing, held, fit, job.reading, levels=levels, on_decoded=advance), levels
    except DamagedError as error:
        path = artifact_path(job.root, check_name(job.artifact_name)).with_name(DAMAGED)
        write_lines(path, error.lines)
        raise DamagedError(
            f"{error}, or go on with --skip-damaged; all are listed in {path}", error.lines
        ) from None


def listed_members(listing: Listing, watcher: Watcher) -> tuple[Member, ...]:
    """Return a listing's members, with progress: files that were never seen are read for their hashes."""
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        watcher.read(done, len(listing.entries))

    return members(listing, advance)


def record_uses(held: tuple[Member, ...], learned: Split, chose: Split | None, data: Dataset) -> Record:
    """Return what each picture of a listing is used for; those of `--images` and damaged ones for nothing."""
    uses: dict[tuple[str, str], Use] = {}
    named: tuple[tuple[Use, Split | None], ...] = (
        ("train", learned),
        ("validation", chose),
        ("test", data.test),
    )
    for use, split in named:
        for one in (split.members if split else None) or ():
            uses[one.sha256, one.entry.name] = use
    met = ((m, uses.get((m.sha256, m.entry.name), "unused")) for m in held)
    return record_of(met, data.classes, data.listing.excluded if data.listing else ())


def write_lines(path: Path, lines: tuple[str, ...]) -> None:
    """Write one line after the other, whole or not at all."""
    with writing(path) as part:
        part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", errors="backslashreplace")
