"""Which file answers, and by which backend, when the user names neither."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from toolkit import catalog
from toolkit.artifacts import Artifact, Format, Precision, find_artifacts, is_shipped
from toolkit.backends import Engine, EngineOptions
from toolkit.errors import CnnkitError
from toolkit.opening import Selection, is_path, open_model

# The first that has a file for the name is taken: exports answer without torch.
DEFAULT_BACKENDS = ("ort", "pytorch")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """An artifact, the backend that opens it, and in words why this one; None where it was named."""

    artifact: Artifact
    backend: str
    why: str | None = None

    def open(self, options: EngineOptions) -> Engine:
        """Open the artifact. Raises UnavailableError when backend or device is not here."""
        return catalog.backend(self.backend).open(self.artifact, options)


def choose(
    text: str | None,
    *,
    backend: str | None,
    root: Path,
    precision: Precision = "fp32",
    untrained: bool = False,
    seed: int = 0,
    model_file: Path | None = None,
) -> Choice:
    """Open what MODEL names for `backend`; None is ONNX Runtime when an ONNX file is there, else PyTorch.

    Raises NotFoundError with what to type next, UnavailableError for a named backend that is not here.
    """
    formats = {name: catalog.backend(name).formats for name in catalog.names("backend")}
    selection = Selection(
        root=root,
        formats=tuple(kind for kinds in formats.values() for kind in kinds),
        precision=precision,
        untrained=untrained,
        seed=seed,
        model_file=model_file,
    )
    if text is not None and is_path(text):
        return _for_file(text, backend, selection, formats)
    if backend is not None:
        opener = catalog.backend(backend)
        opener.require()
        return Choice(artifact=open_model(text, replace(selection, formats=opener.formats)), backend=backend)
    usual = tuple(kind for name in DEFAULT_BACKENDS for kind in formats[name])
    artifact = open_model(text, replace(selection, formats=usual))
    if artifact.passport.format not in formats["ort"]:
        return _for_checkpoint(artifact, replace(selection, formats=formats["ort"]))
    return Choice(
        artifact=artifact,
        backend="ort",
        why="backend ort: an ONNX is here (`--backend pytorch` asks the checkpoint)",
    )


def _for_file(
    text: str, backend: str | None, selection: Selection, formats: Mapping[str, tuple[Format, ...]]
) -> Choice:
    artifact = open_model(text, selection)
    kind = artifact.passport.format
    order = dict.fromkeys((*DEFAULT_BACKENDS, *formats))  # a backend that was added is asked by its name
    openers = [name for name in order if kind in formats[name]]
    if not openers:
        raise CnnkitError(f"{text} is {kind}, which no backend here opens")
    if backend is None:
        return Choice(artifact=artifact, backend=openers[0])
    if kind not in catalog.backend(backend).formats:  # an unknown word gets its nearest match
        raise CnnkitError(f"backend {backend!r} cannot open {text}; `--backend {openers[0]}` does")
    return Choice(artifact=artifact, backend=backend)


def _for_checkpoint(artifact: Artifact, exports: Selection) -> Choice:
    """Choose an ONNX file that was made of this checkpoint; else the checkpoint itself, and say why."""
    name, precision = artifact.name, artifact.passport.precision
    stale = False
    for path, passport in find_artifacts(exports.root, name):
        if passport.format not in exports.formats or passport.precision != precision:
            continue
        if passport.source_sha256 == artifact.passport.sha256:
            why = "backend ort: an ONNX of it is here (`--backend pytorch` asks the checkpoint)"
            return Choice(artifact=open_model(str(path), exports), backend="ort", why=why)
        stale = stale or not is_shipped(path)
    have = "the ONNX here is of other weights" if stale else f"no ONNX of {name} {precision} is here"
    again = f": `cnnkit export {name}` makes it anew" if stale else ""
    return Choice(artifact=artifact, backend="pytorch", why=f"backend pytorch: {have}{again}")
