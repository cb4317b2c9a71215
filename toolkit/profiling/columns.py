"""What one profile compares: artifacts on backends, found, made or listed as skipped with a reason."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from toolkit.artifacts import CHECKPOINT, Artifact, find_artifacts, open_artifact
from toolkit.backends import ALL, BACKENDS, Backend, backend_names
from toolkit.choices import find_choosable, first_source, origin_among
from toolkit.errors import CnnkitError, NotFoundError, OtherPrecisionError, UnavailableError, unknown_name
from toolkit.exporting import EXPORTERS, ExportOptions, Need, reaches
from toolkit.exporting.advising import advising
from toolkit.exporting.making import make, make_need
from toolkit.exporting.placing import refuse_another_network
from toolkit.graphs import GRAPH
from toolkit.graphs.source import graph_of, is_bare_graph
from toolkit.opening import Selection, as_asked, in_precision, is_path, newest_name, open_model
from toolkit.passports import Passport, Precision, TensorSpec
from toolkit.presence import is_there
from toolkit.profiling.result import SkippedColumn
from toolkit.resolving import outdated
from toolkit.telling import Tell

# pictures on which an ONNX that is made in passing is held against its checkpoint
PARITY_IMAGES = 64


@dataclass(frozen=True, kw_only=True)
class ColumnSource:
    """One column to be: an artifact on a backend. `static_why` says why it cannot be timed here."""

    key: str
    backend: str
    artifact: Artifact
    static_why: str | None = None
    graph: Path | None = None


@dataclass(frozen=True, kw_only=True)
class ColumnsWanted:
    """What was asked for. `named` tells whether the backends were typed, or are all.

    No `precisions` are fp32 of names, and what files have; without `insists` files have their own beside
    some, too.
    """

    models: tuple[str, ...]
    backends: tuple[str, ...]
    named: bool = False
    precisions: tuple[Precision, ...] = ()
    insists: bool = True
    root: Path = Path("artifacts")
    untrained: bool = False
    seed: int = 0
    model_file: Path | None = None

    def selection(self, backend: Backend, precision: Precision) -> Selection:
        """Return what a backend can open of what was asked for, at a precision."""
        return backend.opens(
            Selection(
                root=self.root,
                precision=precision,
                insists=self.insists and bool(self.precisions),
                untrained=self.untrained,
                seed=self.seed,
                model_file=self.model_file,
            )
        )

    def export_options(self, precision: Precision) -> ExportOptions:
        """Return the options of an export in passing."""
        return ExportOptions(
            root=self.root,
            precision=precision,
            images=PARITY_IMAGES,
            seed=self.seed,
            model_file=self.model_file,
        )


@dataclass(kw_only=True)
class ColumnSources:
    """The columns, and what was skipped; `named` tells whether their backends were typed one by one."""

    named: bool = False
    targets: list[ColumnSource] = field(default_factory=list)
    skipped: list[SkippedColumn] = field(default_factory=list)


def backends_of(names: Sequence[str] | None) -> tuple[tuple[str, ...], bool]:
    """Return the backends, all for None or `all`, and whether they were named one by one."""
    if names is None or list(names) == [ALL]:
        return tuple(backend_names()), False
    for name in names:
        if name not in BACKENDS.names():
            raise unknown_name("backend", name, [*BACKENDS.names(), ALL])
    return tuple(dict.fromkeys(names)), True


def find_columns(wanted: ColumnsWanted, tell: Tell) -> ColumnSources:
    """Find or make the artifact of every column. Raises what opening a named file raises.

    A backend that was named and has no file at all raises UnavailableError; else it is listed as skipped.
    """
    finder = _Finder(wanted, tell)
    for model in wanted.models or (None,):
        for precision in wanted.precisions or ("fp32",):
            for name in wanted.backends:
                finder.add(model, BACKENDS.load(name), precision)
    found = finder.found
    timed = {target.backend for target in found.targets}
    for name, why in finder.lacking.items():
        if wanted.named and name not in timed:
            raise UnavailableError(f"backend {name!r} was named and has nothing to run: {why}")
    if not found.targets:
        reasons = "; ".join(f"{entry.backend}: {entry.reason}" for entry in found.skipped)
        raise CnnkitError(f"nothing can be profiled: {reasons}")
    return found


class _Finder:
    """Looks for one column after the other."""

    def __init__(self, wanted: ColumnsWanted, tell: Tell) -> None:
        self.wanted, self.tell, self.found = wanted, tell, ColumnSources(named=wanted.named)
        self.lacking: dict[str, str] = {}  # backend → why it has no file of a MODEL

    def add(self, model: str | None, backend: Backend, precision: Precision) -> None:
        """Add the column of a backend, or note why it is skipped."""
        state = backend.availability()
        if not state.available and not (self.wanted.named and backend.tells_static):
            reason = f"{state.why_not}; {state.how_to_get}"
            if self.wanted.named:
                raise UnavailableError(f"backend {backend.name!r} cannot run here: {reason}")
            self._skip(backend, precision, reason)
            return
        if model is not None and is_path(model):
            artifact = self._file(Path(model), backend, precision)
        elif precision != "fp32" and not any(backend.formats.values()):
            self._skip(
                backend, precision, f"{backend.title} runs the fp32 checkpoint; {precision} is an export"
            )
            return
        else:
            artifact = self._named(model, backend, precision)
        if artifact is not None:
            self._append(backend, artifact)

    def _skip(self, backend: Backend, precision: str, reason: str) -> None:
        self.found.skipped.append(SkippedColumn(backend=backend.name, precision=precision, reason=reason))

    def _lacks(self, backend: Backend, precision: str, reason: str) -> None:
        self.lacking.setdefault(backend.name, reason)
        self._skip(backend, precision, reason)

    def _file(self, path: Path, backend: Backend, precision: Precision) -> Artifact | None:
        """Open a named file, or make of it what the backend runs; None where that cannot be (noted)."""
        selection = self.wanted.selection(backend, precision)
        artifact = as_asked(open_any(path), selection)
        kind, known = artifact.passport.format, artifact.passport
        exported = kind not in backend.formats and bool(known.sha256) and known.precision == "fp32"
        if not exported:  # an export may have a lower precision, a file has its own
            try:
                with advising(str(path), selection):
                    in_precision(artifact, selection)
            except OtherPrecisionError as error:
                self._skip(backend, precision, str(error))
                return None
        if kind in backend.formats:
            return artifact
        # a graph from elsewhere has no passport on disk, and its engine nothing to descend from
        if not artifact.passport.sha256 and backend.tells_static:
            return artifact
        made = self._made(artifact, backend, precision if exported else known.precision)
        if made is None:
            formats = " or ".join(backend.formats)
            self._lacks(backend, precision, f"{path.name} is {kind}, and it opens {formats}")
        return made

    def _named(self, model: str | None, backend: Backend, precision: Precision) -> Artifact | None:
        """Open an artifact by name; make the export that is not there, from the checkpoint."""
        selection = self.wanted.selection(backend, precision)
        checkpoint = None if CHECKPOINT in backend.formats else _checkpoint(model, selection)
        try:
            artifact = open_model(model, selection)
            own = backend.computes.get(precision, precision)
            why = _stale(artifact, checkpoint, own, self.wanted.root) if checkpoint else None
            if why is None:
                if checkpoint is None and (warning := outdated(artifact, backend.name, self.wanted.root)):
                    self.tell(warning)
                return artifact
            self.tell(f"{artifact.path.name} {why}: exporting anew")
        except NotFoundError as error:
            if checkpoint is None:
                if not self._is_here(model, selection):
                    raise
                self._lacks(backend, precision, str(error))
                return None
        assert checkpoint is not None  # an artifact without one was returned above
        made = self._made(checkpoint, backend, precision)
        if made is None:
            self._lacks(backend, precision, f"nothing that {backend.title} opens is made in {precision}")
        return made

    def _made(self, source: Artifact, backend: Backend, precision: Precision) -> Artifact | None:
        """Make of a source the first format that the backend opens; None where no way leads to one.

        Where that fails and the backend can tell something without it, what it is made of stands for it.
        """
        stored = backend.computes.get(precision, precision)
        options, asked = self.wanted.export_options(stored), self.wanted.selection(backend, precision)
        words = [word for word in backend.formats.values() if word and _makes(word, source, options)]
        if not words:
            return None

        refuse_another_network(source, options)

        def find(need: Need) -> Artifact | None:
            return self._needed(source, need)

        try:
            return as_asked(make(source, words[0], options, self.tell, find), asked)
        except CnnkitError as error:
            if not backend.tells_static:
                raise
            graph = make_need(source, words[0], options, self.tell, find)
            self.tell(f"no engine could be built of {graph.path.name}: {error}")
            return graph

    def _needed(self, source: Artifact, need: Need) -> Artifact | None:
        """Return what is needed on the way from a source where it is here already, of the same weights."""
        selection = Selection(
            root=self.wanted.root,
            formats=(EXPORTERS.load(need.exporter).format,),
            precision=need.precision,
            untrained=self.wanted.untrained,
            seed=self.wanted.seed,
            model_file=self.wanted.model_file,
        )
        try:
            found = open_model(source.name, selection)
        except CnnkitError:
            return None
        same = _stale(found, source, need.precision, self.wanted.root) is None
        fits = need.dialect in (None, found.passport.int8_dialect) and same
        return found if fits else None

    def _is_here(self, model: str | None, selection: Selection) -> bool:
        """Tell whether another backend may open what was named: a file of that precision is here."""
        if self.wanted.untrained:
            return False  # its checkpoint is always made: the error is of another kind
        known = find_artifacts(selection.root, model or newest_name(selection))
        return any(p.precision == selection.precision and p.trained is not False for _, p in known)

    def _append(self, backend: Backend, artifact: Artifact) -> None:
        taken = {target.key for target in self.found.targets}
        keys = _keys(backend.name, artifact, self.found.targets)
        self.found.targets.append(
            ColumnSource(
                key=next(key for key in keys if key not in taken),
                backend=backend.name,
                artifact=artifact,
                static_why=_why_static(backend, artifact),
                graph=source.path if (source := graph_of(artifact)) else None,
            )
        )


def _keys(backend: str, artifact: Artifact, others: Sequence[ColumnSource]) -> Iterator[str]:
    """Yield what a column may be called: its backend, and what tells it from the other columns."""
    yield backend
    known = artifact.passport
    if any(other.artifact.passport.model != known.model for other in others):
        yield f"{backend}:{known.model}"
        yield f"{backend}:{known.model}:{known.precision}"
    yield f"{backend}:{known.precision}"
    for number in itertools.count(2):
        yield f"{backend}:{known.precision}#{number}"


def _checkpoint(model: str | None, selection: Selection) -> Artifact | None:
    source = dataclasses.replace(selection, formats=(CHECKPOINT,), precision="fp32")
    try:
        return open_model(model, source)
    except NotFoundError:
        return None


def _makes(word: str, source: Artifact, options: ExportOptions) -> bool:
    """Tell whether an exporter makes its format of a source at a precision."""
    return options.precision in EXPORTERS.load(word).precisions and reaches(source, word, options)


def _stale(artifact: Artifact, source: Artifact, precision: Precision, root: Path) -> str | None:
    """Say why an export may not stand beside its source, as far as passports tell; None where it may.

    `precision` is the file's own. Both must descend from the same weights, by whatever was made in between.
    """
    known = artifact.passport
    maker = next((one for one in EXPORTERS.all() if one.format == known.format), None)
    need = maker.needs(ExportOptions(root=Path(), precision=precision)) if maker else None
    if maker and need and need.exporter != maker.name and graph_of(artifact) is None:
        return "was built of a graph that is not beside it any more"
    first = first_source(root, artifact)
    if first.format != CHECKPOINT and first.source_sha256 is None:
        return None  # nobody noted what it was made of
    here = [source.passport, *(passport for _, passport in find_choosable(root, artifact.name))]
    if origin_among(known, here) != origin_among(source.passport, here):
        return f"is not, or not surely, of the weights of {source.path.name}"
    return None


def _why_static(backend: Backend, artifact: Artifact) -> str | None:
    """Return why a backend cannot run an artifact here, None where it can."""
    state = backend.availability()
    if not state.available:
        return state.why_not or "it is not available"
    if artifact.passport.format not in backend.formats:
        return "no engine of it is here; `cnnkit export` builds one"
    return None


def open_any(path: Path) -> Artifact:
    """Open a file with or without a passport: an ONNX file from anywhere gets one in memory."""
    if not is_there(path) or not is_bare_graph(path):
        return open_artifact(path)
    from toolkit.graphs.counting import count_graph

    graph = count_graph(path, batch=1)
    if not graph.inputs:
        raise CnnkitError(f"{path} takes no input; there is nothing to feed")
    name, (dtype, shape) = next(iter(graph.inputs.items()))
    spec = TensorSpec(name=name, shape=shape, dtype=dtype)
    passport = Passport(
        format=GRAPH,
        model=path.stem,
        precision=graph.precision,
        trained=None,
        input=spec,
        output=TensorSpec(name=graph.outputs[0], shape=(None,)),
        classes=(),
        preprocessing=None,
    )
    return Artifact(path=path, passport=passport)
