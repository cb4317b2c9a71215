"""Weights from elsewhere → a checkpoint with a passport. Opening them never runs code."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.artifacts import (
    Artifact,
    artifact_name,
    artifact_path,
    hash_file,
    read_passport,
    sidecar,
)
from toolkit.checkpoints import new_passport, save_checkpoint
from toolkit.datasets import dataset_of
from toolkit.errors import CnnkitError, CorruptError, NotFoundError, ShapeError
from toolkit.inspection.layers import shadow
from toolkit.models import ModelSpec
from toolkit.modules import walk
from toolkit.passports import DatasetRef, Passport
from toolkit.preprocessing import Preprocessing
from toolkit.transfer import as_built
from toolkit.weights import few, give, read_weights, unwrap, without_prefix

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Import:
    """What is imported, as which network; None is inferred from the weights or the model's own.

    `mean` and `std` are in 0–1 units, one figure or one a channel. `renames` maps old names, or
    beginnings of names, to new ones; one that ends in a dot is taken off where its new one is empty. `key`
    is the part of the file that holds the weights, `size` the (height, width) that they were trained at.
    """

    file: Path
    model: ModelSpec
    root: Path
    name: str | None = None
    renames: Mapping[str, str] = dataclasses.field(default_factory=dict)
    classes: tuple[str, ...] | None = None
    dataset: str | None = None
    preprocessing: Preprocessing | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    key: str | None = None
    size: tuple[int, int] | None = None


def import_weights(job: Import) -> tuple[Artifact, list[str]]:
    """Write the checkpoint; return it and, in words, everything that was assumed.

    Raises NotFoundError, CorruptError, ShapeError with the keys that do not fit.
    """
    path = artifact_path(job.root, job.name or artifact_name(job.model.name))
    said: list[str] = []
    weights = unwrap(read_weights(job.file), said, key=job.key)
    state = _renamed(weights, job.renames)
    own = _own_weights(job.model)
    state = as_built(job.model, without_prefix(state, own, said), own)
    channels, count = _inputs_and_outputs(job.model, state)
    module = _fit(job, state, channels, count)
    if job.size:
        walk(module, (1, channels, *job.size))
    known = _passport_of(job, said)
    classes, dataset = _classes(job, count, known, said)
    passport = dataclasses.replace(
        new_passport(
            job.model,
            preprocessing=_preprocessing(job, channels, known, said),
            classes=classes,
            trained=not known or known.trained is not False,
        ),
        dataset=dataset,
        source_sha256=hash_file(job.file),
        imported_from=job.file.name,
        imported_sha256=hash_file(job.file),
    )
    return save_checkpoint(path, module.state_dict(), passport), said


def _renamed(state: dict[str, Tensor], renames: Mapping[str, str]) -> dict[str, Tensor]:
    made: dict[str, Tensor] = {}
    used: set[str | None] = set()
    for key, value in state.items():
        old = next((name for name in renames if key == name or key.startswith(_beginning(name))), None)
        new = key if old is None else renames[old] + key[len(old) :]
        if new in made:
            raise CnnkitError(f"--rename gives two weights the name {new!r}")
        made[new] = value
        used.add(old)
    unused = [old for old in renames if old not in used]
    if unused:
        raise NotFoundError(f"--rename names what the file has not: {few(unused)}; it has {few(list(state))}")
    return made


def _beginning(name: str) -> str:
    """Return what names begin with that lie under `name`: `fc` and `fc.` both mean `fc.…`."""
    return name if name.endswith(".") else f"{name}."


def _inputs_and_outputs(spec: ModelSpec, state: Mapping[str, Tensor]) -> tuple[int, int]:
    """Read channels and classes off the first and the last layer's weights where they are there."""
    channels, classes = spec.input_shape[0], spec.classes
    own = _own_weights(spec)
    wider = dict(shadow(spec, channels, classes + 1).state_dict())
    found_classes = _read_off(state, own, wider, classes)
    other = 4 - channels  # of 1 and 3
    found_channels = channels
    with contextlib.suppress(RuntimeError, ValueError, AssertionError):  # not every network can be of both
        found_channels = _read_off(
            state, own, dict(shadow(spec, other, classes).state_dict()), channels, other
        )
    return found_channels if found_channels in (1, 3) else channels, max(1, found_classes)


def _read_off(
    state: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    changed: Mapping[str, Tensor],
    count: int,
    changed_to: int | None = None,
) -> int:
    """Return the count with which a network has the weights of a file, from two builds with known counts.

    What differs between the builds tells which extents follow the count, and how.
    """
    step = (count + 1 if changed_to is None else changed_to) - count
    for key, value in own.items():
        other, given = changed.get(key), state.get(key)
        if other is None or given is None or not value.ndim == other.ndim == given.ndim:
            continue
        for old, new, there in zip(value.shape, other.shape, given.shape, strict=True):
            if old != new:
                return count + round((there - old) * step / (new - old))
    return count


def _own_weights(spec: ModelSpec) -> dict[str, Tensor]:
    """Return a network's own weights by name: their shapes, with no memory behind them."""
    return dict(shadow(spec, spec.input_shape[0], spec.classes).state_dict())


def _fit(job: Import, state: dict[str, Tensor], channels: int, classes: int) -> nn.Module:
    module = job.model.build(channels, classes)
    wanted = module.state_dict()
    for key, value in wanted.items():
        if key.endswith("num_batches_tracked"):  # older files lack it, and only training reads it
            state.setdefault(key, value)
    missing = [key for key in wanted if key not in state]
    extra = [key for key in state if key not in wanted]
    shapes = [
        f"{key} is {_shape(state[key])} and should be {_shape(wanted[key])}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    codes = [key for key in wanted if key in state and _is_code(state[key], wanted[key])]
    if codes:
        raise ShapeError(
            f"{job.file} holds whole numbers where {job.model.name} has floats: {few(codes)}; those are "
            "codes of quantised weights: give the float weights that they were made of"
        )
    faults = {"missing": missing, "left over": extra, "other shapes": shapes}
    if any(faults.values()):
        told = "; ".join(f"{what}: {few(names)}" for what, names in faults.items() if names)
        raise ShapeError(
            f"{job.file} does not hold the weights of {job.model.name}; {told}"
            f"{_hint(missing, extra, state, wanted)}"
        )
    give(module, state)
    return module


def _is_code(given: Tensor, wanted: Tensor) -> bool:
    return wanted.is_floating_point() and not given.is_floating_point()


def _hint(
    missing: Sequence[str], extra: Sequence[str], state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> str:
    """Suggest renames where what is left over has, in order, the shapes of what is missing."""
    same = len(missing) == len(extra) and all(
        wanted[a].shape == state[b].shape for a, b in zip(missing, extra, strict=True)
    )
    if not same or not missing:
        return ""
    pairs = {b.rpartition(".")[0]: a.rpartition(".")[0] for a, b in zip(missing, extra, strict=True)}
    return "; the shapes agree, so try " + " ".join(f"--rename {old}={new}" for old, new in pairs.items())


def _passport_of(job: Import, said: list[str]) -> Passport | None:
    """Return the passport beside the weights, where cnnkit itself wrote them."""
    if not sidecar(job.file).exists():
        return None
    try:
        passport = read_passport(job.file)
    except CorruptError as error:
        said.append(f"the passport beside the weights is not used: {error}")
        return None
    if passport.sha256 != hash_file(job.file):
        said.append(f"{sidecar(job.file)} is not used: it is the passport of other weights")
        return None
    return passport


def _classes(
    job: Import, count: int, known: Passport | None, said: list[str]
) -> tuple[tuple[str, ...], DatasetRef | None]:
    """Return class names and their data set: as given, as the passport says, the data set's, else numbers."""
    if known and len(known.classes) == count and job.classes is None and job.dataset is None:
        said.append(f"classes and data set are those of its passport, {sidecar(job.file)}")
        return known.classes, known.dataset
    if job.classes is not None:
        if len(job.classes) != count:
            raise ShapeError(f"--classes names {len(job.classes)} and the weights answer with {count}")
        return job.classes, DatasetRef(name=job.dataset) if job.dataset else None
    name = job.dataset or job.model.dataset
    if name is None:
        return _published_classes(job, count, said), None
    own = dataset_of(name).classes
    if job.dataset and own is None:
        own = dataset_of(name).load(name, None, False, None).classes
    if own is not None and len(own) == count:
        if not job.dataset:
            said.append(f"classes are taken to be those of {name} (--dataset or --classes says otherwise)")
        return own, DatasetRef(name=name)
    if job.dataset:
        raise ShapeError(f"{name} has {len(own or ())} classes and the weights answer with {count}")
    return _numbered(count, said), None


def _published_classes(job: Import, count: int, said: list[str]) -> tuple[str, ...]:
    """Return the classes that were published with the network where there are as many, else numbers."""
    published = job.model.published.classes if job.model.published else None
    if published is None or len(published) != count:
        return _numbered(count, said)
    said.append(f"classes are taken to be those that {job.model.name} was published with (or --classes)")
    return published


def _numbered(count: int, said: list[str]) -> tuple[str, ...]:
    said.append(f"its {count} classes are called by their numbers (--classes a,b,… names them)")
    return tuple(str(index) for index in range(count))


def _preprocessing(job: Import, channels: int, known: Passport | None, said: list[str]) -> Preprocessing:
    if job.preprocessing is not None:
        if job.preprocessing.channels != channels:
            raise ShapeError(
                f"the weights take {channels} channels, preprocessing {job.preprocessing.channels}"
            )
        return dataclasses.replace(job.preprocessing, size=job.size or job.preprocessing.size)
    if known and known.preprocessing and job.mean is None and job.std is None:
        said.append(f"pixels are prepared as its passport says, {sidecar(job.file)}")
        return dataclasses.replace(known.preprocessing, size=job.size or known.preprocessing.size)
    published = job.model.published
    if published and published.preprocessing.channels == channels and job.mean is None and job.std is None:
        said.append(
            f"pixels are prepared as for the published weights of {job.model.name} (--mean and --std say "
            "otherwise)"
        )
        return dataclasses.replace(published.preprocessing, size=job.size or published.preprocessing.size)
    recipe = job.model.recipes.get("textbook")
    assumed = {"unit": (0.0, 1.0), "half": (0.5, 0.5)}.get(recipe.pixels if recipe else "unit")
    if assumed is None and (job.mean is None or job.std is None):
        raise CnnkitError(f"how {job.file} was normalised is not known: add --mean and --std (in 0–1 units)")
    mean, std = job.mean or ((assumed or (0, 1))[0],), job.std or ((assumed or (0, 1))[1],)
    if job.mean is None or job.std is None:
        said.append(
            f"pixels are taken to be (x / 255 − {mean[0]:g}) / {std[0]:g}, as in the write-up "
            "(--mean and --std say otherwise)"
        )
    if 0 in std or any(len(values) not in (1, channels) for values in (mean, std)):
        raise CnnkitError(f"--mean and --std take one figure or {channels}, and no deviation of 0")
    height, width = job.size or job.model.input_shape[1:]
    return Preprocessing(
        size=(height, width),
        channels=channels,
        mean=mean if len(mean) == channels else mean * channels,
        std=std if len(std) == channels else std * channels,
        formula="divide",
    )


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "one figure"
