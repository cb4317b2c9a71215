"""Which file answers, and by which backend, when the user names neither."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from toolkit.artifacts import (
    CHECKPOINT,
    Artifact,
    artifact_name,
    find_artifacts,
    is_shipped,
    open_artifact,
)
from toolkit.backends import (
    BACKENDS,
    DEFAULT_BACKEND,
    Backend,
    Engine,
    EngineOptions,
    backend_names,
    opener,
    openers,
)
from toolkit.choices import ChoiceFile, chosen_path, find_choice, first_source, origin_of, weights_of
from toolkit.errors import CnnkitError
from toolkit.graphs import GRAPH
from toolkit.opening import (
    Selection,
    as_asked,
    in_precision,
    is_path,
    newest_name,
    open_model,
    refuse_newer_damaged,
)
from toolkit.telling import Tell


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """An artifact, the backend that opens it, and what people are told of it.

    `why` says why it is this one, or that its weights are not the newest; None where nothing is to be said.
    `choice` is the one of `cnnkit choose` that it was taken by.
    """

    artifact: Artifact
    backend: str
    why: str | None = None
    choice: ChoiceFile | None = None

    def open(self, options: EngineOptions) -> Engine:
        """Open the artifact, as it was chosen. Raises UnavailableError when backend or device is not here."""
        if self.choice is not None:
            chosen = self.choice.chosen
            options = replace(
                options,
                threads=options.threads or chosen.threads,
                chosen=settings_of(self.choice, options.chosen),
            )
        return BACKENDS.load(self.backend).open(self.artifact, options)


def settings_of(choice: ChoiceFile, given: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """Return every setting of a choice's backend as it was measured, but for those that were given.

    Defaults are among them: a server has its own.
    """
    chosen = choice.chosen
    known = BACKENDS.load(chosen.backend).settings
    return {**{name: one.default for name, one in known.items()}, **chosen.settings, **given}


def release_of(backend: str) -> str | None:
    """Return the release of a backend's runtime on this machine; None where it is not here, or unknown."""
    return BACKENDS.load(backend).release() if backend in BACKENDS.names() else None


def resolve_choice(text: str | None, selection: Selection, tell: Tell) -> Resolved | None:
    """Open what was chosen for a name; None where nothing was, or where that does not hold (told).

    Raises CorruptError where the passport of a newer checkpoint cannot be read.
    """
    if (text is not None and is_path(text)) or selection.untrained:
        return None
    name = artifact_name(newest_name(selection) if text is None else text)
    found = find_choice(selection.root, name, release_of)
    if found is None:
        return None
    path = chosen_path(found.file, selection.root) if found.file else None
    if found.file is None or path is None:
        tell(
            f"{found.path} is not taken: {found.why_not}; `cnnkit choose {name}` chooses again, and "
            "until then the usual file is opened"
        )
        return None
    chosen = found.file.chosen
    asked = BACKENDS.load(chosen.backend).opens(replace(selection, precision=chosen.precision))
    artifact = as_asked(open_artifact(path), asked)
    refuse_newer_damaged(name, asked, artifact.passport)
    return Resolved(
        artifact=artifact,
        backend=chosen.backend,
        why=f"as chosen: {said_choice(found.file)}",
        choice=found.file,
    )


def said_choice(file: ChoiceFile) -> str:
    """Say a choice in words: what it runs with, what that gains, and how to overrule it."""
    one = file.chosen
    gain = f", {one.gain:.2f} times the baseline's speed" if one.gain_ci95 and one.gain else ""
    return f"{one.label}{gain}, {file.created[:10] or 'undated'} (`--backend` or `--precision` overrules it)"


def resolve(text: str | None, *, backend: str | None, selection: Selection) -> Resolved:
    """Open what MODEL names for `backend`; None is the default one where it has a file, else the reference.

    The selection's formats are not looked at. Raises NotFoundError with what to type next,
    UnavailableError for a named backend that is not here.
    """
    if text is not None and is_path(text):
        return _for_file(text, backend, selection)
    if backend is not None:
        named = BACKENDS.load(backend)
        named.require()
        artifact = open_model(text, named.opens(selection))
        return Resolved(artifact=artifact, backend=backend, why=outdated(artifact, backend, selection.root))
    usual, reference = BACKENDS.load(DEFAULT_BACKEND), opener(CHECKPOINT)
    artifact = open_model(text, _formats(selection, usual, reference))
    if artifact.passport.format not in usual.formats:
        return _for_checkpoint(artifact, _formats(selection, usual), usual, reference)
    why = f"backend {usual.name}: an ONNX is here (`--backend {reference.name}` asks the checkpoint)"
    if artifact.passport.imported_sha256 is not None:  # it came as a graph: no checkpoint stands behind it
        return Resolved(artifact=artifact, backend=usual.name)
    return Resolved(
        artifact=artifact, backend=usual.name, why=outdated(artifact, usual.name, selection.root) or why
    )


def outdated(artifact: Artifact, backend: str, root: Path) -> str | None:
    """Say that what a name opens is not, or not surely, of the newest weights; None where it is.

    Where what it was made of is gone, nobody can tell: a graph that is exported again may have another hash.
    """
    known, name = artifact.passport, artifact.name
    if known.trained is False or origin_of(root, artifact) == weights_of(root, name):
        return None
    word = BACKENDS.load(backend).formats.get(known.format)
    form = f" --format {word}" if word and word != GRAPH else ""
    precision = f" --precision {known.precision}" if known.precision != "fp32" else ""
    first = first_source(root, artifact)
    is_other = f"is of other weights than the newest of {name}"
    if first.format != CHECKPOINT and (first.format, first.precision) != (GRAPH, "fp32"):
        is_other = f"cannot be traced to the newest weights of {name}, as what it was made of is gone"
    return f"warning: {artifact.path.name} {is_other}: `cnnkit export {name}{form}{precision}` makes it anew"


def _formats(selection: Selection, *backends: Backend) -> Selection:
    return replace(selection, formats=tuple(kind for one in backends for kind in one.formats))


def _for_file(text: str, backend: str | None, selection: Selection) -> Resolved:
    artifact = open_artifact(Path(text))
    kind = artifact.passport.format
    able = [one.name for one in openers(kind)]
    if not able:
        raise CnnkitError(f"{text} is {kind}, which no backend here opens")
    if backend is None:
        asked = _formats(selection, *map(BACKENDS.load, backend_names()))  # a file has its own backend
        return Resolved(artifact=in_precision(artifact, asked), backend=able[0])
    if kind not in BACKENDS.load(backend).formats:  # an unknown word gets its nearest match
        raise CnnkitError(f"backend {backend!r} cannot open {text}; `--backend {able[0]}` does")
    asked = BACKENDS.load(backend).opens(selection)
    return Resolved(artifact=in_precision(as_asked(artifact, asked), asked), backend=backend)


def _for_checkpoint(artifact: Artifact, exports: Selection, usual: Backend, reference: Backend) -> Resolved:
    """Resolve to an ONNX file that was made of this checkpoint; else the checkpoint itself, and say why."""
    name, precision = artifact.name, artifact.passport.precision
    stale = False
    for path, passport in find_artifacts(exports.root, name):
        if passport.format not in exports.formats or passport.precision != precision:
            continue
        if passport.source_sha256 == artifact.passport.sha256:
            asks = f"`--backend {reference.name}` asks the checkpoint"
            why = f"backend {usual.name}: an ONNX of it is here ({asks})"
            return Resolved(artifact=open_artifact(path), backend=usual.name, why=why)
        stale = stale or not is_shipped(path)
    have = "the ONNX here is of other weights" if stale else f"no ONNX of {name} {precision} is here"
    again = f": `cnnkit export {name}` makes it anew" if stale else ""
    return Resolved(artifact=artifact, backend=reference.name, why=f"backend {reference.name}: {have}{again}")
