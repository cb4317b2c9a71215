"""Weights from elsewhere → a checkpoint with a passport. Opening them never runs code."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.artifacts import Artifact, hash_file, read_passport, sidecar
from toolkit.checkpoints import new_passport, save_checkpoint
from toolkit.datasets import dataset_of
from toolkit.errors import CnnkitError, CorruptError, NotFoundError, ShapeError
from toolkit.importing import ImportRequest, KnownFacts
from toolkit.importing.classes import classes_of, settle_classes
from toolkit.importing.facts import facts_of_passport
from toolkit.importing.pixels import refuse_unscaled, replaced
from toolkit.inspection.layers import shadow
from toolkit.models import ModelSpec
from toolkit.modules import walk
from toolkit.passports import DatasetRef
from toolkit.preprocessing import CHANNELS, Preprocessing
from toolkit.presence import is_there
from toolkit.transfer import as_built
from toolkit.weights import few, give, read_weights, unwrap, without_prefix

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class WeightsImport:
    """An import of weights as those of `model`, into the checkpoint `path`.

    `renames` maps old names, or beginnings of names, to new ones; one that ends in a dot is taken off where
    its new one is empty. `key` is the part of the file that holds the weights.
    """

    request: ImportRequest
    model: ModelSpec
    path: Path
    renames: Mapping[str, str] = dataclasses.field(default_factory=dict)
    key: str | None = None

    @property
    def file(self) -> Path:
        """The file of weights."""
        return self.request.source


def import_weights(job: WeightsImport) -> tuple[Artifact, list[str]]:
    """Write the checkpoint; return it and, in words, everything that was assumed.

    Raises NotFoundError, CorruptError, ShapeError with the keys that do not fit.
    """
    said: list[str] = []
    weights = unwrap(read_weights(job.file), said, key=job.key)
    state = _renamed(weights, job.renames)
    own = _own_weights(job.model)
    state = without_prefix(state, own, said)
    _say_published(job.model, state, said)
    state = as_built(job.model, state, own)
    channels, columns = _inputs_and_outputs(job.model, state)
    if channels not in CHANNELS:
        raise CnnkitError(
            f"{job.model.name} takes {channels} channels (its input_shape), and pictures have "
            f"{' or '.join(map(str, CHANNELS))}: import weights of such a network"
        )
    module = _fit(job, state, channels, columns)
    if job.request.pixels.size:
        walk(module, (1, channels, *job.request.pixels.size))
    known = _passport_facts(job, said)
    classes, dataset = _classes(job, columns, known, said)
    passport = dataclasses.replace(
        new_passport(
            job.model,
            preprocessing=_preprocessing(job, channels, known, said),
            classes=classes,
            columns=columns,
            trained=known is None or known.trained is not False,
        ),
        dataset=dataset,
        source_sha256=hash_file(job.file),
        imported_from=job.file.name,
        imported_sha256=hash_file(job.file),
    )
    return save_checkpoint(job.path, module.state_dict(), passport), said


def _say_published(spec: ModelSpec, state: Mapping[str, Tensor], said: list[str]) -> None:
    """Say what is known beside a published network, and which heads of its weights it is built without."""
    published = spec.published
    idle = published.training_only if published else ()
    heads = sorted({key.partition(".")[0] for key in state if key.startswith(idle)})
    if heads:
        said.append(f"left out, as only training uses it: {', '.join(heads)}")
    if published and published.note:
        said.append(f"{spec.name}: {published.note}")


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
    other = 3 if channels == 1 else 1
    found_channels = channels
    with contextlib.suppress(RuntimeError, ValueError, AssertionError):  # not every network can be of both
        found_channels = _read_off(
            state, own, dict(shadow(spec, other, classes).state_dict()), channels, other
        )
    return found_channels if found_channels in CHANNELS else channels, max(1, found_classes)


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


def _fit(job: WeightsImport, state: dict[str, Tensor], channels: int, classes: int) -> nn.Module:
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


def _passport_facts(job: WeightsImport, said: list[str]) -> KnownFacts | None:
    """Return what the passport beside the weights says, where cnnkit itself wrote them."""
    beside = sidecar(job.file)
    if not is_there(beside):
        return None
    try:
        passport = read_passport(job.file)
    except CorruptError as error:
        said.append(f"the passport beside the weights is not used: {error}")
        return None
    if passport.sha256 != hash_file(job.file):
        said.append(f"{beside} is not used: it is the passport of other weights")
        return None
    return facts_of_passport(passport, f"its passport, {beside}")


def _classes(
    job: WeightsImport, columns: int, known: KnownFacts | None, said: list[str]
) -> tuple[tuple[str, ...], DatasetRef | None]:
    """Return class names and their data set; where nobody says them, those of the network's own data set."""
    request, facts = job.request, known or _published_classes(job, columns)
    name = job.model.dataset
    if facts is None and name is not None and request.classes is None and request.dataset is None:
        usual = dataset_of(name).classes
        if usual is not None and len(usual) == max(2, columns):
            said.append(f"classes are taken to be those of {name} (--dataset or --classes says otherwise)")
            return usual, DatasetRef(name=name)
    classes = settle_classes(request, facts, columns, said.append)
    if request.dataset is not None:
        return classes, DatasetRef(name=request.dataset)
    return classes, known.dataset if known is not None and known.classes == classes else None


def _published_classes(job: WeightsImport, columns: int) -> KnownFacts | None:
    """Return the classes that were published with the network, where these weights may be of them.

    They are not where there are other many, nor where labelled pictures are of any other class.
    """
    published, word = job.model.published, job.request.dataset
    if published is None or published.classes is None or len(published.classes) != columns:
        return None
    if word is not None and not set(classes_of(word, job.request.data_dir)) <= set(published.classes):
        return None
    return KnownFacts(origin=f"the published weights of {job.model.name}", classes=published.classes)


def _preprocessing(
    job: WeightsImport, channels: int, known: KnownFacts | None, said: list[str]
) -> Preprocessing:
    """Return how pixels become the input: what is typed, on top of what is known or assumed."""
    wishes = job.request.pixels
    if wishes.whole is not None:
        if wishes.whole.channels != channels:
            raise ShapeError(f"the weights take {channels} channels, preprocessing {wishes.whole.channels}")
        return dataclasses.replace(wishes.whole, size=wishes.size or wishes.whole.size)
    refuse_unscaled(wishes)
    typed = {name: value for name, value in wishes.said.items() if name != "size"}
    prepared, words = _known_pixels(job, channels, known) or _pixels_of_write_up(job, channels)
    if words:
        kept = " and ".join(f"--{name.replace('_', '-')}" for name in typed)
        said.append(f"{words}{f', but for {kept}' if kept else ''} (--mean and --std say otherwise)")
    return replaced(dataclasses.replace(prepared, size=wishes.size or prepared.size), typed)


def _known_pixels(
    job: WeightsImport, channels: int, known: KnownFacts | None
) -> tuple[Preprocessing, str] | None:
    """Return the preprocessing of the weights' passport, else the published one, and that in words."""
    if known and known.preprocessing and known.preprocessing.channels == channels:
        return known.preprocessing, f"pixels are prepared as its passport says, {sidecar(job.file)}"
    published = job.model.published
    if published and published.preprocessing.channels == channels:
        words = f"pixels are prepared as for the published weights of {job.model.name}"
        return published.preprocessing, words
    return None


def _pixels_of_write_up(job: WeightsImport, channels: int) -> tuple[Preprocessing, str]:
    """Return the preprocessing that the network's write-up has; no words where nothing of it is assumed."""
    wishes, recipe = job.request.pixels, job.model.recipes.get("textbook")
    assumed = {"unit": (0.0, 1.0), "half": (0.5, 0.5)}.get(recipe.pixels if recipe else "unit")
    typed = wishes.mean is not None and wishes.std is not None
    if assumed is None and not typed:
        raise CnnkitError(f"how {job.file} was normalised is not known: add --mean and --std (in 0–1 units)")
    mean, std = assumed or (0.0, 1.0)
    height, width = job.model.input_shape[1:]
    prepared = Preprocessing(
        size=(height, width),
        channels=channels,
        mean=(mean,) * channels,
        std=(std,) * channels,
        formula="divide",
    )
    words = f"pixels are taken to be (x / 255 − {mean:g}) / {std:g}, as in the write-up"
    return prepared, "" if typed else words


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "one figure"
