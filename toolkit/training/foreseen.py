"""What would fail in every cell of a sweep, told before the first one. Imports torch for GPUs alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from toolkit.clusters import Cluster, Workplace
from toolkit.errors import CnnkitError, NotFoundError, UnavailableError
from toolkit.models import Recipe
from toolkit.training import Job, recipes
from toolkit.training.axes import recipe_fields
from toolkit.training.data.prepare import NAMED_PART, insist_on_data, insist_that_no_epoch_is_chosen
from toolkit.training.sending import as_absolute
from toolkit.training.sweep_plan import SweepPlan
from toolkit.transfer import pretrained_file

Axes = Mapping[str, tuple[str, ...]]


def insist_on_what_cells_share(job: Job, axes: Axes) -> bool:
    """Raise CnnkitError where the data, or the weights to start from, of every cell are not to be had.

    `job` is any cell's: all read the same pictures alike, and start from the same weights. One fold that
    would be empty spoils the table, too, and so do several shares where a fold or a part of the source is
    held out: their cells would be equal. Return whether one of these is, as far as that is told before a
    picture is read.
    """
    if job.pretrained is not None:
        pretrained_file(job.model.name, job.pretrained)
    folds, shares = axes.get("fold", ()), axes.get("validation-fraction", ())
    named = insist_on_data(job, () if "images" in axes else folds)
    if not folds and not named:
        return False
    if len(shares) > 1:
        raise CnnkitError(recipes.idle_share(",".join(shares), "a fold" if folds else NAMED_PART))
    return True


def of_a_cell(found: Mapping[str, Recipe], axes: Axes, *, freeze: bool) -> dict[str, Any]:
    """Return what jobs.make_job takes of some cell: a recipe with fields that make sense of it, and a fold.

    Where none do, a recipe alone. Of several shares to hold out none is told.
    """
    fields = recipe_fields(axes)
    if len(fields.get("validation-fraction", ())) > 1:
        del fields["validation-fraction"]
    each = ((name, recipes.first_that_makes_sense(recipe, fields)) for name, recipe in found.items())
    name, values = next((one for one in each if one[1] is not None), (next(iter(found)), None))
    known = {} if values is None else recipes.heeded(found[name], values, freeze=freeze)
    told = {word: None if text == "none" else text for word, text in known.items()}
    return {"recipe": name, **told, **({"fold": axes["fold"][0]} if "fold" in axes else {})}


def insist_on_a_cell(plan: SweepPlan, *, holds_out: bool) -> None:
    """Raise CnnkitError where no combination is a recipe whose class weights are there and whose body thaws.

    Where nothing beside a share `holds_out` pictures, it must hold out what its epoch is chosen on.
    """
    drawn = {one.word: one.samples[0] for one in plan.search.ranges} if plan.search is not None else {}
    refused: CnnkitError | None = None
    for values in plan.cells():
        try:
            recipe = plan.recipe_of({**drawn, **values})
            if recipe is None:
                return
            if recipe.class_weights is not None:
                _insist_on_class_weights(recipe.class_weights)
            recipes.insist_that_layers_thaw(recipe, freeze=plan.freeze)
            if not recipe.validation_fraction and not holds_out:
                insist_that_no_epoch_is_chosen(recipe)
            return
        except CnnkitError as error:
            refused = refused or error
    if refused is not None:
        raise refused


def _insist_on_class_weights(named: str) -> None:
    """Raise NotFoundError for a file of weights that is not there; what it holds is for a cell to say."""
    path = Path(str(as_absolute("--class-weights", named)))
    if path.is_absolute() and not path.is_file():
        raise NotFoundError(
            f"--class-weights {named} cannot be read: no such file; it takes balanced, effective or a JSON "
            'file such as {"cat": 1, "dog": 2.5}'
        )


def refuse_limits(cluster: Cluster, *, timeout_s: float | None, memory_bytes: int | None) -> None:
    """Raise CnnkitError for limits that no cell keeps to, and for memory where cells run on this machine."""
    for option, limit in (("--cell-timeout", timeout_s), ("--cell-memory", memory_bytes)):
        is_number = isinstance(limit, int | float) and not isinstance(limit, bool)
        if limit is not None and not (is_number and 0 < limit < math.inf):
            raise CnnkitError(f"{option} cannot be {limit!r}: name a number above 0, or leave it out")
    if memory_bytes is not None and cluster.address is None:
        raise CnnkitError(
            "--cell-memory goes with --on CLUSTER: it is what a machine of one must have for a cell; leave "
            "it out to run cells here"
        )


def insist_on_one_format(place: Workplace, typed: Sequence[str]) -> None:
    """Raise CnnkitError where machines that compute in different formats would choose one for each cell."""
    told = [value for word, value in itertools.pairwise((*typed, "")) if word == "--precision"]
    devices = [value for word, value in itertools.pairwise((*typed, "")) if word == "--device"]
    chosen = {"auto", "measured"} & set(told or ["auto"])
    if place.unlike and chosen and "cpu" in (devices or ["cpu"]):
        raise CnnkitError(
            f"{place.unlike}, so that cells of one table would be computed in different number formats; "
            "`--precision fp32` or bf16 is the same for all"
        )


def insist_on_devices(names: Sequence[str], cluster: Cluster) -> None:
    """Raise UnavailableError where none of the devices is here, CnnkitError for GPUs that a cluster lacks."""
    if cluster.address is None:
        _insist_on_one_here(names)
    elif any(":" in name for name in names):
        raise CnnkitError(f"--device {','.join(names)} names GPUs of one machine; --device cuda takes any")


def _insist_on_one_here(names: Sequence[str]) -> None:
    if any(name.startswith("cpu") for name in names):
        return
    from toolkit.opening import require_torch
    from toolkit.training.compute.format import find_device

    require_torch()
    absent = []
    for name in names:
        try:
            find_device(name)
            return
        except UnavailableError as error:
            absent.append(error)
    raise absent[0]
