"""What a job trains on: loaded, limited, brought to size, with the validation split held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from toolkit.datasets import Dataset, Split, dataset_of, splits_of, without_rows
from toolkit.errors import CnnkitError
from toolkit.flattening import Levels
from toolkit.grounds import AGREEING, ground_from
from toolkit.listings import MOST_PIXELS, Listing
from toolkit.listings.excluding import read_exclusions
from toolkit.listings.parts import Member, named_members
from toolkit.listings.records import Record
from toolkit.models import Published, Recipe
from toolkit.modules import shadow
from toolkit.preprocessing import Preprocessing, fit_batch
from toolkit.splits import Fold, evenly, folded_together, held_out
from toolkit.training import Job, Watcher
from toolkit.training.data.own import (
    insist_that_pictures_have_its_channels,
    listed_members,
    load_own,
    record_uses,
)
from toolkit.training.data.statistics import pixel_figures
from toolkit.training.recipes import insist_that_a_share_is_held_out
from toolkit.transfer import KnownInput, figures_of, known_input, knows_stem

NAMED_PART = "the source's validation part"


@dataclass(frozen=True, kw_only=True)
class PreparedData:
    """A job's data: `learned` is trained on, `held` chooses the epoch, `dataset.test` is read once.

    `wanted` is how many training images were asked for; None for all. `record` lists pictures of one's own
    and what each is used for.
    """

    dataset: Dataset
    learned: Split
    held: Split | None
    preprocessing: Preprocessing
    wanted: int | None = None
    record: Record | None = None


def prepare(job: Job, watcher: Watcher | None = None) -> PreparedData:
    """Load a job's data set. Raises NotFoundError, or CnnkitError where it cannot be trained on."""
    watcher = watcher or Watcher()
    if job.fold is not None:
        insist_that_a_share_is_held_out(job.recipe, f"fold {job.fold}")
    height, width = job.model.input_shape[1:]
    known = known_input(job.pretrained) if job.pretrained else None
    size = job.size or (known.size if known and _takes_known_size(job) else (height, width))
    data, held, levels = _loaded(job, size, watcher)
    if data.validation is not None:
        insist_that_a_share_is_held_out(job.recipe, NAMED_PART)
    _insist_on_both_parts(data.name, len(data.train), len(data.test), len(data.classes), job.group)
    data = _proportioned(data, size)
    _insist_that_augmentation_fits(job.recipe, data)
    pool = evenly(data.train, job.images) if job.images else data.train
    learned, chose = held_out(pool, data.validation, fold=job.fold, fraction=job.recipe.validation_fraction)
    if chose is None:
        insist_that_no_epoch_is_chosen(job.recipe)
    data = _unlearned(data, (learned, chose), watcher)
    preprocessing = preprocessing_for(job.recipe, learned, size, job.model.published)
    return PreparedData(
        dataset=data,
        learned=learned,
        held=chose,
        preprocessing=replace(_as_known(preprocessing, known, job.recipe), levels=levels),
        wanted=job.images,
        record=record_uses(held, learned, chose, data) if held else None,
    )


def insist_on_data(job: Job, folds: Sequence[str] = ()) -> bool:
    """Raise what `prepare` would for a job's data, as far as that is told before a picture is read.

    Options that this data lacks, a place or a list that is not there, a source without pictures; a part, or
    one of `folds` of all pictures, that would be empty, where each picture has a group; a share where a fold
    or a part of the source is held out. Return whether the source names such a part.
    """
    if job.fold is not None:
        insist_that_a_share_is_held_out(job.recipe, f"fold {job.fold}")
    spec = dataset_of(job.dataset_name)
    if spec.listing is None:
        _refuse_options_of_own(job)
        if job.exclude:
            read_exclusions(job.exclude)
        return spec.has_validation
    _refuse_data_dir(job)
    insist_that_pictures_have_its_channels(job)
    listing = spec.listed(job.dataset_name, job.reading)
    if len(listing.classes) < 2 or not listing.entries:
        held = f"{len(listing.entries)} pictures of {len(listing.classes)} classes"
        raise CnnkitError(f"{listing.word} holds {held}; training needs images of two classes or more")
    _insist_on_parts_of_groups(job, listing, folds)
    named = any(entry.part == "validation" for entry in listing.entries)
    if named and job.fold is None:
        insist_that_a_share_is_held_out(job.recipe, NAMED_PART)
    return named


def _insist_on_parts_of_groups(job: Job, listing: Listing, folds: Sequence[str]) -> None:
    """Raise what `prepare` would for empty parts and folds, where the names of groups alone tell them."""
    members = named_members(listing)
    if members is None:
        return
    pool = [one for one in members if one.part == "train" or (folds and one.part == "validation")]
    tested = sum(one.part == "test" for one in members)
    _insist_on_both_parts(listing.word, len(pool), tested, len(listing.classes), job.group)
    labels = np.array([one.entry.label for one in pool], dtype=np.int64)
    split = Split(images=np.empty((len(pool), 0, 0, 0), np.uint8), labels=labels, members=tuple(pool))
    for fold in folds:
        Fold.parse(fold).split(split)


def _insist_on_both_parts(word: str, trained: int, tested: int, classes: int, group: str | None) -> None:
    if classes >= 2 and trained and tested:
        return
    advice = "" if dataset_of(word).listing is None else ": add some, or name the parts (folders train, test)"
    if group:
        advice += f", or take a --group that finds more groups than {group!r} does"
    raise CnnkitError(
        f"data set {word} has {trained} training and {tested} test images of {classes} classes; training "
        f"needs images of two classes or more in both{advice}"
    )


def _loaded(
    job: Job, size: tuple[int, int], watcher: Watcher
) -> tuple[Dataset, tuple[Member, ...], Levels | None]:
    """Return a job's data set, with its members and levels where it is of one's own pictures.

    For folds a validation part that the source names is in the training part.
    """
    spec = dataset_of(job.dataset_name)
    if spec.listing is None:
        _refuse_options_of_own(job)
        data = spec.load(job.dataset_name, job.data_dir, True, (job.model.input_shape[0], *size))
        data = _without_rows(data, job.exclude, watcher) if job.exclude else data
        if job.fold is not None and data.validation is not None:
            watcher.say(_named_part_is_folded(len(data.validation)))
            data = folded_together(data)
        return data, (), None
    _refuse_data_dir(job)
    insist_that_pictures_have_its_channels(job)
    listing = spec.listed(job.dataset_name, job.reading)
    held = listed_members(listing, watcher)
    if job.fold is not None:
        held = _folded_together(held, watcher)
    data, levels = load_own(listing, held, job, size, watcher)
    return data, held, levels


def _refuse_options_of_own(job: Job) -> None:
    """Raise CnnkitError for options that only pictures of one's own have."""
    typed = {
        "--group": job.group,
        "--columns": job.columns,
        "--skip-damaged": job.skip_damaged,
        "--max-pixels": job.max_pixels != MOST_PIXELS,
        "--levels": job.levels,
        "--grey": job.grey,
    }
    for option, given in typed.items():
        if given:
            raise CnnkitError(
                f"{option} goes with pictures of your own (`--dataset folder:PATH`); {job.dataset_name} is "
                "the same for everybody"
            )


def _refuse_data_dir(job: Job) -> None:
    """Raise CnnkitError for a folder to look in, where the data set is a place itself."""
    if job.data_dir is not None:
        raise CnnkitError(
            "--data-dir goes with data sets that are the same for everybody (`cnnkit datasets`); "
            f"{job.dataset_name} says where its pictures are: leave it out"
        )


def _without_rows(data: Dataset, exclude: Path, watcher: Watcher) -> Dataset:
    data, absent = without_rows(data, exclude)
    if absent:
        watcher.say(f"note: {exclude} names {len(absent):,} pictures that are not there, as {absent[0].name}")
    return data


def _folded_together(held: tuple[Member, ...], watcher: Watcher) -> tuple[Member, ...]:
    """Return members of which those that the source holds out for validation are folded, too."""
    named = sum(member.part == "validation" for member in held)
    if not named:
        return held
    watcher.say(_named_part_is_folded(named))
    return tuple(replace(one, part="train") if one.part == "validation" else one for one in held)


def _named_part_is_folded(count: int) -> str:
    return f"--fold: the {count:,} pictures of the source's validation part are in the folds, too"


def _unlearned(data: Dataset, learned: tuple[Split | None, ...], watcher: Watcher) -> Dataset:
    """Leave test pictures out that are copies of what is learned from: they would measure memory.

    Raises CnnkitError where no test picture is left.
    """
    if data.test.members is None:
        return data
    known = {one.sha256 for split in learned if split for one in split.members or ()}
    kept = [at for at, one in enumerate(data.test.members) if one.sha256 not in known]
    copies = len(data.test) - len(kept)
    if not copies:
        return data
    if not kept:
        raise CnnkitError(f"every test picture of {data.name} is a copy of one that is trained on")
    watcher.say(f"note: test pictures left out that are copies of ones trained on: {copies:,}")
    return replace(data, test=data.test.take(np.array(kept, dtype=np.int64)))


def _takes_known_size(job: Job) -> bool:
    """Tell whether the size of the pictures that a job's pretrained weights know suits its network."""
    module = shadow(job.model.build, job.model.input_shape[0], job.model.classes)
    return job.pretrained is None or knows_stem(job.model.name, module, job.pretrained)


def pretrained_input(job: Job, prepared: PreparedData) -> str | None:
    """Say what pictures become where pretrained weights know them: what of that is theirs, and what not."""
    known = known_input(job.pretrained) if job.pretrained else None
    if known is None:
        return None
    height, width = prepared.preprocessing.size
    own = f"pixels as --pixels {job.recipe.pixels} has them"
    figures = "pixels with the pretrained network's mean and deviation"
    stem = (
        ""
        if job.size or known.size == (height, width)
        else " (its own size, as its first convolution is its own)"
    )
    advice = "" if job.size else "; --size N takes other pictures, fewer pixels being faster"
    return f"input: {height}×{width}{stem} {own if job.recipe.keeps_pixels else figures}{advice}"


def _as_known(preprocessing: Preprocessing, known: KnownInput | None, recipe: Recipe) -> Preprocessing:
    if known is None or recipe.keeps_pixels:
        return preprocessing
    same = known.of_channels(preprocessing.channels)
    return replace(preprocessing, mean=same.mean, std=same.std)


def _proportioned(data: Dataset, size: tuple[int, int]) -> Dataset:
    """Pad pictures of other proportions than the network's, once; equal ones are resized in batches."""
    fitted = {part: _padded(split, size) for part, split in splits_of(data).items()}
    return replace(data, train=fitted["train"], validation=fitted.get("validation"), test=fitted["test"])


def _padded(split: Split, size: tuple[int, int]) -> Split:
    channels, height, width = split.images.shape[1:]
    if height * size[1] == width * size[0]:
        return split
    target = Preprocessing(size=size, channels=channels)
    return replace(split, images=fit_batch(np.asarray(split.images), target))


def _insist_that_augmentation_fits(recipe: Recipe, data: Dataset) -> None:
    """Raise CnnkitError where the recipe would move a picture out of sight or blank more than all of it."""
    height, width = data.train.images.shape[2:]
    side = min(height, width)
    pictures = f"the pictures of {data.name}, as they lie in memory, have {height}×{width} pixels"
    if recipe.shift_pixels + recipe.crop_padding >= side:
        moves = {"shift-pixels": recipe.shift_pixels, "crop-padding": recipe.crop_padding}
        asked = " and ".join(f"--{word} {pixels}" for word, pixels in moves.items() if pixels)
        raise CnnkitError(f"{asked} would move a picture out of sight: {pictures}, so {side - 1} is the most")
    if recipe.cutout_pixels > side:
        raise CnnkitError(f"--cutout-pixels {recipe.cutout_pixels} is more than a picture: {pictures}")


def insist_that_no_epoch_is_chosen(recipe: Recipe) -> None:
    """Raise CnnkitError for what was asked for and needs pictures that choose the epoch, where none do."""
    if recipe.select == "best":
        raise CnnkitError(
            "the best epoch is chosen on held-out images and none are held out: --validation-fraction 0.1, "
            "or --select last"
        )
    if recipe.patience_epochs is not None:
        raise CnnkitError(
            "early stopping needs held-out images and none are held out: --validation-fraction 0.1, or leave "
            "--patience-epochs out"
        )
    if "metric" in recipe.changed:
        raise CnnkitError(
            f"--metric {recipe.metric} chooses epochs and compares cells on held-out images, and none are "
            "held out: --validation-fraction 0.1, or leave it out"
        )


def preprocessing_for(
    recipe: Recipe, data: Split, size: tuple[int, int], published: Published | None = None
) -> Preprocessing:
    """Return how pixels become input under a recipe; `standardise` and the ground look at the pictures."""
    channels = data.images.shape[1]
    looked = recipe.pixels == "standardise" or channels == 1
    figures = pixel_figures(data.images) if looked else None
    if recipe.pixels == "standardise" and figures:
        levels = np.arange(256) / 255
        shares = figures.shares()
        means = [float(levels @ share) for share in shares]
        deviations = [
            float(np.sqrt((levels - mean) ** 2 @ share)) for mean, share in zip(means, shares, strict=True)
        ]
        # pictures of one single colour have no deviation to divide by
        safe = tuple(deviation or 1.0 for deviation in deviations)
        mean, std = tuple(means), safe
    elif recipe.pixels == "published":
        mean, std = _published_figures(published, channels)
    else:
        offset, width = (0.5, 0.5) if recipe.pixels == "half" else (0.0, 1.0)
        mean, std = (offset,) * channels, (width,) * channels
    # colour pictures are never inverted, so what they have at their border decides nothing
    light = figures.light if figures else None
    agreeing = AGREEING if data.members is None else 1.0
    ground = None if light is None else ground_from(light, len(data), agreeing)
    return Preprocessing(size=size, channels=channels, mean=mean, std=std, ground=ground, formula="divide")


def _published_figures(
    published: Published | None, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of published weights; of another number of channels the mean of them."""
    if published is None:
        raise CnnkitError("nothing was published with this network: --pixels standardise, unit or half")
    known = published.preprocessing
    return figures_of(known.mean, channels), figures_of(known.std, channels)
