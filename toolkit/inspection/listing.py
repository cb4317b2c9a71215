"""What there is: the networks of the zoo with their figures, the data sets and whether they are at hand."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit import schema, zoo
from toolkit.artifacts import path_of
from toolkit.datasets import DatasetSpec, dataset_names, dataset_of, own_sources
from toolkit.errors import CnnkitError, MissingExtraError
from toolkit.figures import UNKNOWN, count_text, shape_text
from toolkit.inspection.layers import dissect, shadow
from toolkit.models import ModelSpec
from toolkit.tables import TextTable
from toolkit.telling import Tell, silent

# counting builds each network, which takes a package's up to a second or two
MOST_COUNTED = 10


@dataclass(frozen=True, kw_only=True)
class ModelFigures:
    """One network with its own channels and classes; `parameters` and `macs` None were not counted."""

    name: str
    family: str
    input_shape: tuple[int, int, int]
    classes: int
    parameters: int | None
    macs: int | None
    dataset: str | None
    source: str
    summary: str
    recipes: tuple[str, ...]


class Models(tuple[ModelFigures, ...]):
    """The networks that can be named, in the order of the zoo."""

    def table(self) -> TextTable:
        """Return a row of texts for each network."""
        rows = tuple(
            (
                one.name,
                shape_text(one.input_shape),
                count_text(one.parameters, exact=1_000_000),
                count_text(one.macs, exact=1_000_000),
                one.dataset or UNKNOWN,
                one.summary,
            )
            for one in self
        )
        return TextTable(head=("model", "input", "parameters", "mult-adds", "data set", "what"), rows=rows)

    def _repr_html_(self) -> str:
        return self.table().html()


def models(
    pattern: str | None = None, *, model_file: Path | str | None = None, tell: Tell = silent
) -> Models:
    """Return the networks of the zoo, and of a Python file of one's own, which is run.

    `pattern` with * and ? chooses among them, or, as in `timm:mobilenet*`, among a package's. Of more than
    ten of a package's, and without PyTorch, nothing is counted, which `tell` hears. Raises
    CnnkitError for a file without networks, NotFoundError where a pattern fits none.
    """
    own = zoo.models_of_file(Path(model_file)) if model_file else {}
    if pattern is None:
        specs = list({**zoo.models(), **own}.values())
    elif fitting := fnmatch.filter(own, pattern):
        specs = [own[name] for name in fitting]
    else:
        specs = [zoo.model(name) for name in zoo.matching(pattern)]
    if pattern is not None and zoo.library_of(pattern) and len(specs) > MOST_COUNTED:
        tell(
            f"{len(specs)} networks fit; parameters and multiply-adds are counted for up to {MOST_COUNTED}: "
            "name fewer"
        )
        return Models(_figures(spec, counted=False) for spec in specs)
    try:
        return Models(_figures(spec, counted=True) for spec in specs)
    except MissingExtraError as error:
        # a serving box has no torch to count with; the list itself needs none
        tell(f"parameters and multiply-adds were not counted: {error}")
        return Models(_figures(spec, counted=False) for spec in specs)


def _figures(spec: ModelSpec, *, counted: bool) -> ModelFigures:
    module = shadow(spec, spec.input_shape[0], spec.classes) if counted else None
    found = dissect(module, (1, *spec.input_shape)) if module else None
    return ModelFigures(
        name=spec.name,
        family=spec.family,
        input_shape=spec.input_shape,
        classes=spec.classes,
        parameters=found.parameters if found else None,
        macs=found.macs if found else None,
        dataset=spec.dataset,
        source=spec.source,
        summary=spec.summary,
        recipes=tuple(spec.recipes),
    )


@dataclass(frozen=True, kw_only=True)
class DatasetState:
    """A data set, and where it was found; `source` None where it was not, and `why_not` says why."""

    name: str
    summary: str
    licence: str
    source: str | None = None
    fingerprint: str | None = None
    why_not: str | None = None

    @property
    def how_to_get(self) -> str | None:
        """The command that fetches it; None where it is at hand."""
        return None if self.source else f"cnnkit datasets --fetch {self.name}"


@dataclass(frozen=True, kw_only=True)
class Datasets:
    """The data sets that are the same for everybody, and the sources of people's own pictures."""

    named: tuple[DatasetState, ...]
    own: tuple[DatasetSpec, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        facts = ("scheme", "example", "summary", "layout")
        own = [{fact: getattr(spec, fact) for fact in facts} for spec in self.own]
        return {"datasets": schema.plain(self.named), "own": own}

    def table(self) -> TextTable:
        """Return a row of texts for each data set and source."""
        rows = [(d.name, d.summary, d.licence, d.source or f"not here: --fetch {d.name}") for d in self.named]
        rows += [(spec.example or "", spec.summary, spec.licence, spec.layout or "") for spec in self.own]
        return TextTable(head=("data set", "pictures", "licence", "where"), rows=tuple(rows))

    def _repr_html_(self) -> str:
        return self.table().html()


def datasets(*, fetch: str | None = None, data_dir: Path | str | None = None) -> Datasets:
    """Return every data set and whether it is at hand; `fetch` is the only one that is looked for, and got.

    `data_dir` is searched first. Raises NotFoundError for an unknown one, or one that cannot be got.
    """
    folder = path_of(data_dir)
    if fetch:
        return Datasets(named=(_state(fetch, folder, fetch=True),), own=())
    named = tuple(_state(name, folder, fetch=False) for name in dataset_names())
    return Datasets(named=named, own=tuple(own_sources()))


def _state(name: str, data_dir: Path | None, *, fetch: bool) -> DatasetState:
    spec = dataset_of(name)
    source = fingerprint = why_not = None
    try:
        data = spec.load(name, data_dir, fetch, None)
        source, fingerprint = data.source, data.fingerprint
    except CnnkitError as error:
        if fetch:
            raise
        why_not = str(error)
    return DatasetState(
        name=name,
        summary=spec.summary,
        licence=spec.licence,
        source=source,
        fingerprint=fingerprint,
        why_not=why_not,
    )
