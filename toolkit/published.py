"""Published weights, from a file or this machine's caches → a checkpoint with the preparation they came with.

Nothing is fetched. Opening the files never runs code.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit import zoo
from toolkit.artifacts import Artifact, artifact_name, artifact_path, find_artifacts, hash_file, open_artifact
from toolkit.checkpoints import new_passport, save_checkpoint
from toolkit.errors import CnnkitError, CorruptError, NotFoundError, ShapeError, needs_extra
from toolkit.models import ModelSpec, Published
from toolkit.presence import is_file
from toolkit.telling import Tell, silent
from toolkit.transfer import is_as_named
from toolkit.weights import few, give, read_weights, unwrap, without_prefix

if TYPE_CHECKING:
    from torch import Tensor, nn


def cached(spec: ModelSpec) -> Path | None:
    """Return the file of a network's published weights in this machine's caches; None where there is none.

    Raises CorruptError for one that is not what was published.
    """
    for path in spec.published.files() if spec.published else ():
        if is_file(path):
            if not is_as_named(path):
                raise CorruptError(f"{path} is not the published file (its SHA-256 differs); delete it")
            return path
    return None


def weights_of(model: str, file: Path | None = None) -> Path:
    """Return the file of a network's published weights, as given or from this machine's caches.

    Raises NotFoundError where none is here, CnnkitError where nothing was published.
    """
    spec = zoo.model(model)
    if spec.published is None:
        raise CnnkitError(f"nothing was published with {spec.name}; `cnnkit import FILE --model {spec.name}`")
    found = file or cached(spec)
    if found is None:
        raise NotFoundError(where_to_bring(spec))
    return found


def where_to_bring(spec: ModelSpec) -> str:
    """Say which file of published weights is missing, and what else is possible."""
    places = spec.published.files() if spec.published else ()
    looked = (
        f"its published weights are not in this machine's cache ({places[0]})"
        if places
        else (f"no weights of {spec.name} are published")
    )
    return f"{looked}; `--pretrained FILE` takes them from a file, nothing is fetched"


def import_published(
    model: str,
    file: Path | None = None,
    *,
    root: Path,
    name: str | None = None,
    replace: bool = False,
    tell: Tell = silent,
) -> Artifact:
    """Make a checkpoint of a network's published weights, with the preparation and classes they came with.

    `file` None takes them from this machine's caches. `name` is the artifact's; None is the model's. An
    artifact of the same weights is opened as it is. Raises NotFoundError where no weights are here,
    ShapeError where they do not fit, CnnkitError where the name is taken by others and `replace` does not say
    so.
    """
    spec = zoo.model(model)
    source = weights_of(model, file)
    assert spec.published is not None  # or there would be no weights
    named = name or artifact_name(spec.name)
    path = artifact_path(root, named)
    said: list[str] = []
    weights = unwrap(read_weights(source), said)
    digest = hash_file(source)
    for made, passport in find_artifacts(root, named):
        if made == path and passport.source_sha256 == digest and passport.model == spec.name:
            return open_artifact(made)
    if path.exists() and not replace:
        raise CnnkitError(
            f"{path} is there already, of other weights; `cnnkit import {source} --model {spec.name} "
            f"--name OTHER` keeps both"
        )
    module = fitted(spec, spec.published, weights, source, said)
    tell(f"weights of {spec.name} from {source}" + "".join(f"; {one}" for one in said))
    if spec.published.note:
        tell(f"{spec.name}: {spec.published.note}")
    classes = spec.published.classes or tuple(str(index) for index in range(spec.classes))
    passport = dataclasses.replace(
        new_passport(spec, preprocessing=spec.published.preprocessing, classes=classes, trained=True),
        source_sha256=digest,
        imported_from=source.name,
        pretrained=str(source),
    )
    return save_checkpoint(path, module.state_dict(), passport)


def fitted(
    spec: ModelSpec, published: Published, weights: dict[str, Tensor], source: Path, said: list[str]
) -> nn.Module:
    """Return a network of its published channels and classes with these weights. Raises ShapeError."""
    with needs_extra("train"):
        import torch  # noqa: F401  (only to name the extra when it is missing)
    try:
        return published.load(weights)
    except (RuntimeError, KeyError, AttributeError, TypeError, ValueError):
        pass  # told below, in the words of both sides
    module = spec.build(spec.input_shape[0], spec.classes)
    wanted = module.state_dict()
    given = without_prefix(weights, wanted, said)
    wrong = [key for key in {**wanted, **given} if _shape(wanted, key) != _shape(given, key)]
    if wrong:
        raise ShapeError(
            f"{source} does not hold the weights of {spec.name}; keys that do not fit: {few(wrong)}; weights "
            f"of other classes come in by `cnnkit import {source} --model {spec.name}`"
        )
    give(module, given)
    return module


def _shape(state: dict[str, Tensor], key: str) -> tuple[int, ...] | None:
    value = state.get(key)
    return None if value is None else tuple(value.shape)
