"""Plug-in files, found by listing folders: models, datasets, backends and exporters.

A plug-in is one file that declares one typed constant. Its word on the command line is the file's
stem (underscores become dashes); a file of models declares several, each with its own name.
Nothing here imports a plug-in before it is asked for by name.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import re
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from toolkit.errors import CnnkitError, NotFoundError, unknown_name

if TYPE_CHECKING:
    from toolkit.backends import Backend
    from toolkit.datasets import DatasetSpec
    from toolkit.models import ModelSpec

Kind = Literal["dataset", "backend", "exporter"]

_FOLDERS: dict[str, tuple[str, str]] = {
    "model": ("toolkit.models", "MODELS"),
    "dataset": ("toolkit.datasets", "DATASET"),
    "backend": ("toolkit.backends", "BACKEND"),
    "exporter": ("exporters", "EXPORTER"),
}


# The data set that people call `folder:PATH`: its file's own word would name no folder.
_PICTURES = "image-folder"

_LONGEST_NAME = 100
_NAME = re.compile(rf"\w([\w -]{{,{_LONGEST_NAME - 2}}}[\w-])?")


def _stems(package: str) -> list[str]:
    """Names of the plug-in files of a package; private files and its commands are none."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        return []
    found = pkgutil.iter_modules(spec.submodule_search_locations)
    return sorted(m.name for m in found if not m.ispkg and not m.name.startswith("_"))


def names(kind: Kind) -> list[str]:
    """Return the words that the command line knows for a kind, sorted; imports none of them.

    A data set's other form, `folder:PATH`, is not among them.
    """
    return [word for word in _words(kind) if word != _PICTURES]


def _words(kind: Kind) -> list[str]:
    package, _ = _FOLDERS[kind]
    return [stem.replace("_", "-") for stem in _stems(package)]


def load(kind: Kind, name: str) -> Any:
    """Import one plug-in and return its constant. Raises NotFoundError with the nearest match."""
    package, constant = _FOLDERS[kind]
    if name not in _words(kind):
        raise unknown_name(kind, name, names(kind))
    module = importlib.import_module(f"{package}.{name.replace('-', '_')}")
    return getattr(module, constant)


def backend(name: str) -> Backend:
    """Return the backend of that name."""
    found: Backend = load("backend", name)
    return found


def dataset(name: str) -> DatasetSpec:
    """Return the data set of that name, or the one of pictures for `folder:PATH`. Raises NotFoundError."""
    prefix, colon, path = name.partition(":")
    in_folder = prefix == "folder" and bool(colon)
    if in_folder and not path.strip():
        raise NotFoundError(
            f"{name!r} names no folder; your own pictures are `folder:PATH`, those right here `folder:.`"
        )
    if not in_folder and name not in names("dataset"):
        raise unknown_name("dataset", name, [*names("dataset"), "folder:PATH"])
    found: DatasetSpec = load("dataset", _PICTURES if in_folder else name)
    return found


@cache
def models() -> dict[str, ModelSpec]:
    """Return every model of the zoo by name, in the order of its file. Imports no torch."""
    package, constant = _FOLDERS["model"]
    found: dict[str, ModelSpec] = {}
    for stem in _stems(package):
        for spec in getattr(importlib.import_module(f"{package}.{stem}"), constant):
            found[spec.name] = spec
    return found


def model(name: str, *, model_file: Path | None = None) -> ModelSpec:
    """Return the model of that name, from the user's own `model_file` first when one is given."""
    own = models_of_file(model_file) if model_file else {}
    known = {**models(), **own}
    if name in known:
        return known[name]
    error = unknown_name("model", name, known)
    # an artifact of a net of one's own names it, but not the file it came from: that file is run
    if model_file is None:
        error = NotFoundError(f"{error}; a net of your own needs --model-file FILE.py")
    raise error


def models_of_file(path: Path) -> dict[str, ModelSpec]:
    """Run a user's own Python file and return the models of its `MODELS` constant by name.

    The file is code that its user named: it runs with the user's rights.
    """
    if not path.is_file():
        raise NotFoundError(f"no model file {path}; --model-file takes a Python file with MODELS")
    spec = importlib.util.spec_from_file_location(f"cnnkit_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise CnnkitError(f"{path} is no Python file; --model-file takes one with MODELS = (…,)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's code may raise anything; the file is what to look at
        raise CnnkitError(f"{path} failed to import: {type(error).__name__}: {error}") from error
    declared = getattr(module, "MODELS", None)
    if declared is None:
        raise CnnkitError(f"{path} declares no MODELS; see `MODELS` in toolkit/models/lenet.py")
    declared = tuple(declared) if isinstance(declared, (list, tuple)) else (declared,)
    # the class itself lives above this file, so its shape is what is looked at
    if not all(hasattr(entry, "name") and callable(entry.build) for entry in declared):
        raise CnnkitError(f"MODELS in {path} holds something that is no toolkit.models.ModelSpec")
    for entry in declared:
        if check_name(entry.name) in models():
            raise CnnkitError(
                f"{path} calls a network {entry.name!r}, as one of the zoo is called: its artifacts would be "
                "taken for that one's; give it a name of its own"
            )
    return {entry.name: entry for entry in declared}


def check_name(name: str) -> str:
    """Return a chosen name if an artifact can have it: it is a folder's and begins its files, up to the dot.

    Raises CnnkitError.
    """
    if not _NAME.fullmatch(name):
        raise CnnkitError(
            f"{name!r} cannot name an artifact: take letters, digits, spaces, - and _, "
            f"at most {_LONGEST_NAME} of them"
        )
    return name
