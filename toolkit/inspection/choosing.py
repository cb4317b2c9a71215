"""Which file answers, and by which backend, when the user names neither."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from toolkit import catalog
from toolkit.artifacts import Artifact, Precision, find_artifacts
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
        return _for_file(
            text, backend, selection, {kind: n for n, kinds in formats.items() for kind in kinds}
        )
    if backend is not None:
        opener = catalog.backend(backend)
        opener.require()
        return Choice(artifact=open_model(text, replace(selection, formats=opener.formats)), backend=backend)
    usual = tuple(kind for name in DEFAULT_BACKENDS for kind in formats[name])
    artifact = open_model(text, replace(selection, formats=usual))
    if artifact.passport.format not in formats["ort"]:
        artifact = _exported(artifact, replace(selection, formats=formats["ort"])) or artifact
    return _said(artifact, selection)


def _for_file(text: str, backend: str | None, selection: Selection, openers: dict[str, str]) -> Choice:
    artifact = open_model(text, selection)
    own = openers.get(artifact.passport.format)
    if own is None:
        raise CnnkitError(f"{text} is {artifact.passport.format}, which no backend here opens")
    if backend not in (None, own):
        catalog.backend(str(backend))  # an unknown word gets its nearest match
        raise CnnkitError(f"backend {backend!r} cannot open {text}; `--backend {own}` does")
    return Choice(artifact=artifact, backend=own)


def _exported(artifact: Artifact, selection: Selection) -> Artifact | None:
    """Return the newest finished ONNX file of a checkpoint's name; None where there is none."""
    for path, passport in find_artifacts(selection.root, artifact.name):
        wanted = passport.format in selection.formats and passport.precision == selection.precision
        seeded = selection.untrained and passport.extra.get("seed") == selection.seed
        if wanted and (passport.trained is not False or seeded):
            return open_model(str(path), selection)
    return None


def _said(artifact: Artifact, selection: Selection) -> Choice:
    """Choose the backend of an artifact and say why, and whether its source has changed since."""
    name = artifact.name
    if artifact.passport.format == "safetensors":
        why = f"backend pytorch: no ONNX of {name} {artifact.passport.precision} is here"
        return Choice(artifact=artifact, backend="pytorch", why=why)
    why = "backend ort: an ONNX is here (`--backend pytorch` asks the checkpoint)"
    for _, passport in find_artifacts(selection.root, name):
        if passport.format == "safetensors" and passport.created > artifact.passport.created:
            why += f"; the checkpoint is newer than it: `cnnkit export {name}` makes it anew"
            break
    return Choice(artifact=artifact, backend="ort", why=why)
