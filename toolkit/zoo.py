"""The networks that can be named: the zoo's, other packages', and those of a user's own Python file."""

from __future__ import annotations

import fnmatch
import importlib.util
import sys
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from toolkit.artifacts import check_name
from toolkit.errors import CnnkitError, MissingExtraError, NotFoundError, unknown_name
from toolkit.models import FAMILIES, Library, ModelSpec
from toolkit.outputs import build_answering
from toolkit.presence import is_file


@cache
def models() -> dict[str, ModelSpec]:
    """Return every model of the zoo by name, in the order of its file. Imports no torch."""
    families = (family for family in FAMILIES.all() if not isinstance(family, Library))
    return {spec.name: spec for family in families for spec in family}


@cache
def libraries() -> dict[str, Library]:
    """Return the packages whose networks can be named, by their scheme. Imports none of them."""
    return {family.scheme: family for family in FAMILIES.all() if isinstance(family, Library)}


def library_of(text: str) -> Library | None:
    """Return the package that a text `<scheme>:NAME` names a network of; None for any other text."""
    scheme, colon, name = text.partition(":")
    return libraries().get(scheme) if colon and name else None


def is_built_in(name: str) -> bool:
    """Tell whether a network is of the zoo or of a package, and not of somebody's own file."""
    return name in models() or library_of(name) is not None


def matching(pattern: str) -> list[str]:
    """Return the names that a pattern with * and ? fits, of a package where it begins with its scheme.

    Raises NotFoundError where none does, MissingExtraError where the package is not here.
    """
    library = library_of(pattern)
    if library:
        inner = pattern.partition(":")[2]
        found = [f"{library.scheme}:{name}" for name in library.names(inner)]
    else:
        found = fnmatch.filter(models(), pattern)
    if not found:
        raise NotFoundError(
            f"no model is called {pattern!r}; `cnnkit models` lists the zoo, "
            + ", ".join(f"`cnnkit models '{scheme}:*'` {one.summary}" for scheme, one in libraries().items())
        )
    return found


def known(name: str, *, model_file: Path | str | None = None) -> ModelSpec | None:
    """Return the model of that name, as far as it can be told of what is given; None where it cannot."""
    try:
        return model(name, model_file=model_file)
    except (NotFoundError, MissingExtraError):
        return None


def model(name: str, *, model_file: Path | str | None = None) -> ModelSpec:
    """Return the model of that name, from the user's own `model_file` first when one is given.

    Raises NotFoundError, MissingExtraError for one of a package that is not installed.
    """
    known = {**models(), **(models_of_file(model_file) if model_file else {})}
    if name in known:
        return known[name]
    library = library_of(name)
    if library:
        return _of_library(library, name)
    error = unknown_name("model", name, known)
    # an artifact of a net of one's own names it, but not the file it came from: that file is run
    if model_file is None:
        error = NotFoundError(f"{error}; a net of your own needs --model-file FILE.py")
    raise error


@cache
def _of_library(library: Library, name: str) -> ModelSpec:
    found = library.find(name.partition(":")[2])
    # some of them return more than logits while they are trained
    return replace(found, build=partial(build_answering, found.build))


def models_of_file(path: Path | str) -> dict[str, ModelSpec]:
    """Run a user's own Python file and return the models of its `MODELS` constant by name.

    The file is code that its user named: it runs with the user's rights.
    """
    path = Path(path)
    if not is_file(path):
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
    if not all(isinstance(entry, ModelSpec) for entry in declared):
        raise CnnkitError(f"MODELS in {path} holds something that is no toolkit.models.ModelSpec")
    for entry in declared:
        if check_name(entry.name) in models():
            raise CnnkitError(
                f"{path} calls a network {entry.name!r}, as one of the zoo is called: its artifacts would be "
                "taken for that one's; give it a name of its own"
            )
    return {entry.name: replace(entry, build=partial(build_answering, entry.build)) for entry in declared}
