"""An imported network is judged: its preprocessing is looked for, its accuracy measured on test pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from toolkit.backends import Engine
from toolkit.errors import CnnkitError
from toolkit.grounds import ground_of
from toolkit.importing import ImportRequest, Tried
from toolkit.importing.finding.pictures import searchable
from toolkit.importing.finding.search import Found, search
from toolkit.importing.inputs import PictureInput
from toolkit.importing.pixels import SettledPixels, in_words
from toolkit.importing.samples import Samples, samples_of
from toolkit.passports import DatasetRef, Metrics, Passport
from toolkit.telling import Tell

# hears what is going on, and which share of it is done
Progress = Callable[[str, float], None]
# opens the network as a passport says
Opening = Callable[[Passport], Engine]

# seconds for a look at whether an assumed scaling is right, and for a search that was asked for
LOOK_SECONDS, SEARCH_SECONDS = 4.0, 40.0


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A passport with preprocessing, pictures and accuracy; `tried` is what a search tried, best first."""

    passport: Passport
    accuracy: float | None = None
    accuracy_ci95: tuple[float, float] | None = None
    images: int | None = None
    tried: tuple[Tried, ...] = ()


def judge_import(
    request: ImportRequest,
    drafted: Passport,
    taken: PictureInput,
    settled: SettledPixels,
    opening: Opening,
    *,
    tell: Tell,
    progress: Progress,
) -> Judged:
    """Find the preprocessing where that is asked for, and measure accuracy where there are pictures.

    Where a scaling was only assumed, the pictures are asked whether another is clearly better.
    """
    if request.dataset is None:
        if request.find:
            raise CnnkitError(
                "--find-preprocessing looks on labelled pictures: add --dataset NAME, or folder:PATH with "
                "one folder a class"
            )
        return Judged(passport=drafted)
    if request.find:
        return _found(request, drafted, taken, settled, opening, tell=tell, progress=progress)
    if settled.assumed:
        drafted = _looked(request, drafted, taken, settled, opening, tell=tell, progress=progress)
    assert drafted.preprocessing is not None
    pictures = samples_of(request, drafted.preprocessing, drafted.classes, tell)
    return _measured(with_pictures(drafted, pictures), pictures, opening, progress)


def with_pictures(drafted: Passport, pictures: Samples) -> Passport:
    """Return a passport that names its pictures, and on which ground those of one channel are."""
    prepared, images = drafted.preprocessing, pictures.split.images
    grey = prepared is not None and prepared.channels == 1 and images.shape[1] == 1
    if prepared is not None and grey and prepared.ground in (None, "mixed"):
        prepared = dataclasses.replace(prepared, ground=ground_of(np.asarray(images)))
    reference = DatasetRef(name=pictures.name, fingerprint=pictures.fingerprint, named=True)
    return dataclasses.replace(drafted, dataset=reference, preprocessing=prepared)


def _measured(drafted: Passport, pictures: Samples, opening: Opening, progress: Progress) -> Judged:
    from toolkit.inspection.evaluation import evaluate

    split, done = pictures.split, 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress("measuring accuracy", done / len(split))

    with opening(drafted) as engine:
        score = evaluate(engine, split, on_batch=advance).score
    metrics = Metrics(
        test_accuracy=score.accuracy, test_images=score.images, test_accuracy_ci95=score.interval
    )
    return Judged(
        passport=dataclasses.replace(drafted, metrics=metrics),
        accuracy=score.accuracy,
        accuracy_ci95=score.interval,
        images=score.images,
    )


def _search(
    request: ImportRequest,
    drafted: Passport,
    taken: PictureInput,
    settled: SettledPixels,
    opening: Opening,
    *,
    progress: Progress,
) -> tuple[Found, int, bool]:
    assert request.dataset is not None
    look = not request.find
    doing = "checking the preprocessing" if look else "looking for the preprocessing"
    progress(f"{doing}: reading pictures", 0.0)
    at_hand = searchable(
        request.dataset, request.data_dir, settled.preprocessing, drafted.classes, request.seed
    )
    with opening(drafted) as engine:
        found = search(
            engine,
            at_hand.pool,
            taken,
            base=settled.preprocessing,
            wishes=request.pixels,
            own=at_hand.own,
            probabilities=drafted.softmax,
            seconds=LOOK_SECONDS if look else SEARCH_SECONDS,
            base_first=look,
            tell_share=lambda share: progress(doing, share),
        )
    return found, at_hand.pool.searched, at_hand.pool.all_tested


def _found(
    request: ImportRequest,
    drafted: Passport,
    taken: PictureInput,
    settled: SettledPixels,
    opening: Opening,
    *,
    tell: Tell,
    progress: Progress,
) -> Judged:
    found, searched, all_tested = _search(request, drafted, taken, settled, opening, progress=progress)
    best = found.best
    accuracy, interval, images = best.held_accuracy, best.held_accuracy_ci95, best.held_images
    passport = _taking(drafted, best, f"found on {searched} pictures of {request.dataset}")
    if all_tested:
        metrics = Metrics(test_accuracy=accuracy, test_images=images, test_accuracy_ci95=interval)
        passport = dataclasses.replace(passport, metrics=metrics)
    _say_found(found.tried, searched, tell)
    assert passport.preprocessing is not None
    pictures = samples_of(request, passport.preprocessing, passport.classes, tell)
    return Judged(
        passport=with_pictures(passport, pictures),
        accuracy=accuracy,
        accuracy_ci95=interval,
        images=images,
        tried=found.tried,
    )


def _looked(
    request: ImportRequest,
    drafted: Passport,
    taken: PictureInput,
    settled: SettledPixels,
    opening: Opening,
    *,
    tell: Tell,
    progress: Progress,
) -> Passport:
    """Return a passport with what is clearly better on these pictures than what was assumed, if any."""
    try:
        found, searched, _ = _search(request, drafted, taken, settled, opening, progress=progress)
    except CnnkitError as error:
        tell(f"what is assumed of the pixels could not be checked: {error}")
        return drafted
    layout = drafted.input.layout
    assumed = next((o for o in found.tried if o.layout == layout and _same(o, settled)), None)
    best = found.best
    if assumed is None or not assumed.told_apart:
        tell("the pictures do not say otherwise: nothing in use is clearly better")
        return drafted
    tell(
        f"the pictures say otherwise, and that is taken: {in_words(best.preprocessing)}, {best.layout}: "
        f"right on {_share(best)}, where what was assumed was right on {assumed.accuracy:.1%} of "
        f"{assumed.images} (--find-preprocessing looks longer; --scale, --mean, --std and --resize decide)"
    )
    return _taking(drafted, best, f"clearly better than pixels / 255 on {searched} pictures")


def _same(one: Tried, settled: SettledPixels) -> bool:
    own, other = one.preprocessing, settled.preprocessing
    alike = ("scale", "mean", "std", "order")
    return own.geometry == other.geometry and all(getattr(own, n) == getattr(other, n) for n in alike)


def _taking(drafted: Passport, best: Tried, origin: str) -> Passport:
    return dataclasses.replace(
        drafted,
        preprocessing=best.preprocessing,
        preprocessing_from=origin,
        input=dataclasses.replace(drafted.input, layout=best.layout),
    )


def _say_found(tried: tuple[Tried, ...], searched: int, tell: Tell) -> None:
    best = tried[0]
    equal = [one for one in tried[1:] if one.told_apart is False]
    unnamed = sum(one.told_apart is None for one in tried)
    state = f"not told apart from {len(equal) + unnamed} more" if equal or unnamed else "clearly the best"
    tell(
        f"preprocessing found: {in_words(best.preprocessing)}, {best.layout}: {state} of {len(tried)} "
        f"combinations tried on up to {searched} pictures; right on {_share(best)} others"
    )
    for one in equal:
        tell(f"not told apart: {in_words(one.preprocessing)}, {one.layout}: right on {_share(one)} others")
    if unnamed:
        tell(f"{unnamed} more are not told apart on as many pictures as there was time for")


def _share(one: Tried) -> str:
    low, high = one.held_accuracy_ci95 or (0.0, 1.0)
    return f"{one.held_accuracy or 0:.1%} ({low:.1%} to {high:.1%}) of {one.held_images}"
